"""The loss of VideoMAE's pre-training: masks, predictions and the pixels that they should be."""

import functools
from collections.abc import Mapping
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.experiment.computing import Compute
from ivjax.models.costs import with_backward
from ivjax.models.videomae.autoencoder import AutoencoderModel
from ivjax.ops.cut import Params
from ivjax.ops.masking import gather_tokens, hidden_from, places_of, running_cells
from ivjax.ops.randomness import drop_path, sample_keys
from ivjax.ops.video import IMAGENET_MEAN, IMAGENET_STD, patchify
from ivjax.stages.masked_pixels import MaskedPixels
from ivjax.stages.masking import draw_mask
from ivjax.stages.objective import Batch, Joint, Medium, Metrics, Objective, PerClip, joint_loss


class PatchRoles(NamedTuple):
    """Patches of each clip, ascending: which are seen, which are decoded, and which of these are hidden."""

    visible: jax.Array  # (B, n)
    decoded: jax.Array  # (B, m)
    hidden: jax.Array  # (B, m) bool


def build(stage: MaskedPixels, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batch."""
    model = stage.model(compute)

    def errors(params: Params, batch: Batch, key: jax.Array, rate: float = stage.drop_path) -> PerClip:
        index = batch["index"]
        keep = drop_path(sample_keys(key, index, "drop_path"), rate, stage.encoder.depth)
        decoder_keep = drop_path(sample_keys(key, index, "decoder_drop_path"), rate, stage.decoder.depth)
        roles = draw_roles(stage, index, key)
        return errors_of(stage, model, params, batch["video"], roles, keep, decoder_keep)

    joint, evaluated = Joint(errors, mean_error), Joint(functools.partial(errors, rate=0.0), mean_error)
    return Objective(
        init=model.init,
        loss=joint_loss(joint),
        eval_loss=joint_loss(evaluated),
        media={"video": Medium(batch_of(stage), tokens=stage.visible, flops=_flops(stage))},
        rules=stage.size.rules,
        # Where all clips count as many tokens, micro-batches can simply be averaged.
        joint=joint if stage.uneven else None,
        grid=stage.encoder.grid,
    )


def batch_of(stage: MaskedPixels) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of one row of the batch."""
    size, struct = stage.encoder, jax.ShapeDtypeStruct
    return {"index": struct((), jnp.uint32), "video": struct((size.frames, *size.image, 3), jnp.uint8)}


def draw_roles(stage: MaskedPixels, index: jax.Array, key: jax.Array) -> PatchRoles:
    """Draws the roles of the patches of clips, whose global numbers are `index` (B,)."""
    times, rows, columns = stage.encoder.grid
    keys = sample_keys(key, index, "mask")
    # The mask counts a class token, which there is not.
    visible = draw_mask(stage.mask, keys, times, rows * columns)[:, 1:] - 1
    hidden = hidden_from(visible, stage.encoder.patches)
    if stage.decode is None:
        decoded = places_of(hidden, stage.encoder.patches - stage.visible)
    else:
        # Four divides 2^32, so the remainder of random bits is uniform.
        starts = jax.vmap(jax.random.bits)(sample_keys(key, index, "decode")) % 4
        decoded = _decoded_cells(stage)[starts]
    return PatchRoles(visible, decoded, jnp.take_along_axis(hidden, decoded, axis=1))


def errors_of(
    stage: MaskedPixels,
    model: AutoencoderModel,
    params: Params,
    video: jax.Array,
    roles: PatchRoles,
    keep: jax.Array | None = None,
    decoder_keep: jax.Array | None = None,
) -> PerClip:
    """Returns for each clip the sum of its hidden tokens' mean squared errors, and their number."""
    predicted = model.predict(params, video, roles.visible, roles.decoded, keep, decoder_keep)
    # Only the patches that are decoded are made to targets.
    patches = gather_tokens(patchify(video, stage.encoder.tubelet, stage.encoder.patch), roles.decoded)
    wide = predicted.astype(jnp.float32)
    error = jnp.mean(jnp.square(wide - pixel_targets(patches, stage.normalised)), axis=-1)
    return {
        # Patches that are decoded although the encoder has seen them do not count, as in VideoMAE V2.
        "error": jnp.sum(error * roles.hidden, axis=1),
        "tokens": jnp.sum(roles.hidden, axis=1, dtype=jnp.float32),
    }


def _decoded_cells(stage: MaskedPixels) -> jax.Array:
    """The patches that are decoded (4, m), for each start of the running cell."""
    skipped = running_cells(*stage.encoder.grid, cast(float, stage.decode))
    return jnp.asarray(np.stack([np.flatnonzero(~row) for row in skipped]), jnp.int32)


def _flops(stage: MaskedPixels) -> dict[str, float]:
    patches = stage.encoder.patches
    decoded = patches - stage.visible if stage.decode is None else _decoded_cells(stage).shape[1]
    return with_backward(stage.size.flops(stage.visible, decoded))


def pixel_targets(patches: jax.Array, normalised: bool) -> jax.Array:
    """Float32 pixels of patches (B, m, K*3) between 0 and 1; if `normalised`, with mean 0 and (unbiased)
    deviation 1 over the K pixels of each patch and colour. Float patches are ImageNet-normalised."""
    colours = patches.reshape(*patches.shape[:2], -1, 3).astype(jnp.float32)
    if jnp.issubdtype(patches.dtype, jnp.integer):
        colours = colours / 255
    else:
        # The originals normalise their frames and undo it for the targets.
        colours = colours * IMAGENET_STD + IMAGENET_MEAN
    if normalised:
        mean = jnp.mean(colours, axis=2, keepdims=True)
        # torch's variance is the unbiased one, and the originals add 1e-6 to its root, not inside.
        deviation = jnp.std(colours, axis=2, ddof=1, keepdims=True)
        colours = (colours - mean) / (deviation + 1e-6)
    return colours.reshape(patches.shape)


def mean_error(params: Params, errors: PerClip, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """The mean error of all tokens of the batch that count."""
    return jnp.sum(errors["error"]) / jnp.maximum(jnp.sum(errors["tokens"]), 1.0), {}
