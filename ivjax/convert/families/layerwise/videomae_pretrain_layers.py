"""The layers of VideoMAE's pre-training under the names, and in the layout, of the originals' fixtures."""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.experiment.computing import Compute
from ivjax.models.layers import PatchEmbed
from ivjax.models.videomae.autoencoder import with_blanks
from ivjax.models.videomae.encoder import VideoMaeBlock
from ivjax.ops.masking import gather_tokens
from ivjax.ops.positions import sinusoid_interleaved
from ivjax.ops.video import patchify
from ivjax.stages.masked_pixels_loss import pixel_targets

Params = Mapping[str, Any]
Inputs = Mapping[str, Any]


def run(size: Any, params: Params, inputs: Inputs, dtype: Any) -> dict[str, jax.Array]:
    """Patches, positions, encoder, decoder, predictions and targets of clips under the fixture's masks."""
    video = jnp.asarray(inputs["images"].transpose(0, 2, 3, 4, 1))
    visible, decoded = tokens_of(inputs)
    encoder, decoder = size.encoder, size.decoder
    patches = patchify(video, encoder.tubelet, encoder.patch)
    embed = PatchEmbed(encoder.tubelet, encoder.patch, encoder.width, dtype=dtype)
    embedded = embed.apply({"params": params["encoder"]["patch_embed"]}, patches)
    table = jnp.asarray(sinusoid_interleaved(encoder.patches, encoder.width))
    entering = gather_tokens(cast(jax.Array, embedded), visible) + table[visible].astype(dtype)
    compute = Compute(dtype)
    seen = encoder.build(compute).encode(params["encoder"], video, visible).tokens
    bridged = seen @ params["encoder_to_decoder"]["kernel"].astype(seen.dtype)
    mixed = with_blanks(bridged, params["mask_token"], visible, decoded, encoder.patches)
    found = {
        "patch_embed": embedded,
        "pos_embed_encoder": table[None],
        "pos_embed_decoder": jnp.asarray(sinusoid_interleaved(encoder.patches, decoder.width))[None],
        "encoder_after_block0": _after_first(size, "encoder", params, entering),
        "encoder_out": seen,
        "encoder_to_decoder": bridged,
        "decoder_in": mixed,
        "decoder_after_block0": _after_first(size, "decoder", params, mixed),
        "pred": size.build(compute).predict(params, video, visible, decoded),
        "labels": pixel_targets(gather_tokens(patches, decoded), normalised=True),
        "labels_all_tokens_normalised": pixel_targets(patches[:, :4], normalised=True),
        "labels_all_tokens_unnormalised": pixel_targets(patches[:, :4], normalised=False),
    }
    return cast(dict[str, jax.Array], found)


def _after_first(size: Any, branch: str, params: Params, x: jax.Array) -> Any:
    """The stream after the first block of the encoder or of the decoder."""
    part, encoder = getattr(size, branch), size.encoder
    first = jax.tree.map(lambda leaf: leaf[0], params[branch]["blocks"])
    block = VideoMaeBlock(part.heads, part.mlp_width, encoder.layer_scale, encoder.attention, x.dtype)
    return block.apply({"params": first}, x)


def tokens_of(inputs: Inputs) -> tuple[jax.Array, jax.Array]:
    """Patches that are seen and that are decoded, (B, n) and (B, m), by a fixture's masks (B, N): `mask`, and
    in version 2 `decode_mask`, which is 1 where a patch is not decoded."""
    seen = np.asarray(inputs["mask"]) == 0
    skipped = np.asarray(inputs["decode_mask"]) != 0 if "decode_mask" in inputs else seen

    def places(mask: np.ndarray) -> jax.Array:
        return jnp.asarray(np.stack([np.flatnonzero(row) for row in mask]), jnp.int32)

    return places(seen), places(~skipped)
