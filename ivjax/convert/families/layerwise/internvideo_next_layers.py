"""InternVideo-Next's layers under the names, and in the layout, of the originals' fixtures."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.convert.families.layerwise.watch import watch
from ivjax.experiment.computing import Compute
from ivjax.models.internvideo_next import LatentPredictorSize, NextSize, NextStudentSize
from ivjax.models.internvideo_next.encoder import clip_table
from ivjax.models.internvideo_next.student import NoisyPatches
from ivjax.models.modernbert import ModernBertSize
from ivjax.models.modernbert.network import ModernBertLayers
from ivjax.ops.diffusion import denoising_terms, noisy
from ivjax.ops.losses import l2_normalise
from ivjax.ops.masking import gather_tokens, hidden_from, places_of
from ivjax.stages.internvideo_next.masked_diffusion_loss import HiddenPixels, pixels_at

Params = Mapping[str, Any]
Inputs = Mapping[str, Any]


def run_student(size: NextStudentSize, params: Params, inputs: Inputs, dtype: Any) -> dict[str, jax.Array]:
    """Encoder, heads, predictor, and the decoder of pixels with its loss token by token."""
    video, visible, hidden = student_inputs(size.encoder, inputs)
    model = size.build(Compute(dtype))
    x_t = noisy(hidden.pixels, hidden.noise, hidden.times)
    patches = NoisyPatches(hidden.places, x_t, hidden.times)
    out, layers = watch(lambda: model.predict(dict(params), video, visible, patches))
    error, bits = denoising_terms(hidden.pixels, hidden.noise, hidden.times, out.noise)
    rows = {
        "diffusion_condition": layers["diffusion/condition"][0],
        "diffusion_target": hidden.pixels,
        "diffusion_x_t": x_t,
        "diffusion_net_out": out.noise,
        "diffusion_mse_per_token": error,
        "diffusion_vb_per_token": bits,
        "diffusion_loss_per_token": error + bits,
    }
    return {
        **_encoder_layers(size.encoder, params["encoder"], video, visible, dtype),
        **_predictor_layers(size.predictor, params["predictor"], layers, dtype),
        # Fixtures have the hidden patches of all clips in one row.
        **{name: x.reshape(-1, *x.shape[2:]) for name, x in rows.items()},
        "student_middle": out.clip,
        "student_final": out.pooled,
    }


def student_inputs(size: NextSize, inputs: Inputs) -> tuple[jax.Array, jax.Array, HiddenPixels]:
    """Clips, visible patches (B, n) and hidden ones with the fixture's noise."""
    video = jnp.asarray(inputs["video"].transpose(0, 2, 3, 4, 1))
    visible = jnp.asarray(np.stack([np.flatnonzero(row == 0) for row in inputs["mask"]]), jnp.int32)
    count = size.patches - visible.shape[1]
    places = places_of(hidden_from(visible, size.patches), count)
    pixels = pixels_at(video, places, size.tubelet, size.patch)
    times = jnp.asarray(inputs["diffusion_t"], jnp.int32).reshape(len(video), count)
    noise = jnp.asarray(inputs["diffusion_noise"]).reshape(pixels.shape)
    return video, visible, HiddenPixels(places, pixels, noise, times)


def _encoder_layers(
    size: NextSize, params: Params, video: jax.Array, visible: jax.Array | None, dtype: Any
) -> dict[str, jax.Array]:
    tower = size.build(Compute(dtype), (0,))
    whole, layers = watch(lambda: tower.encode(dict(params), video))
    patches = layers["norm_patches"][1]
    seen = whole if visible is None else tower.encode(dict(params), video, visible)
    return {
        "patch_embed": patches.reshape(len(video), size.grid[0], -1, size.width),
        "encoder_in": _entering(size, params, patches, visible),
        "after_block0": seen.taps[0],
        "encoder_out": seen.tokens,
        "attn_pool": seen.pooled,
    }


def _entering(size: NextSize, params: Params, patches: jax.Array, visible: jax.Array | None) -> jax.Array:
    """The tokens before the first block, of patches (B, N, C) that are embedded."""
    table, count = clip_table(jnp.asarray(params["pos_embed"]), size)[0], size.class_tokens
    places = table[count:]
    if visible is None:
        places = jnp.broadcast_to(places, patches.shape)
    else:
        patches, places = gather_tokens(patches, visible), places[visible]
    cls = jnp.asarray(params["cls_token"]) + table[:count]
    cls = jnp.broadcast_to(cls, (len(patches), *cls.shape[1:])).astype(patches.dtype)
    return jnp.concatenate([cls, patches + places.astype(patches.dtype)], axis=1)


def _predictor_layers(
    size: ModernBertSize, params: Params, layers: Mapping[str, Any], dtype: Any
) -> dict[str, jax.Array]:
    """What enters the predictor and what each layer makes of it, with the tokens of all clips in one row."""
    entering = layers["predictor"][0]
    found = {"predictor_in": entering}
    for depth in range(1, size.depth + 1):
        first = ModernBertLayers(replace(size, depth=depth), Compute(dtype))
        cut = jax.tree.map(lambda leaf, n=depth: leaf[:n], dict(params))
        found[f"predictor_after_layer{depth - 1}"] = cast(jax.Array, first.apply({"params": cut}, entering))
    return {name: x.reshape(-1, x.shape[-1]) for name, x in found.items()}


def run_latent(size: LatentPredictorSize, params: Params, inputs: Inputs, dtype: Any) -> dict[str, jax.Array]:
    """Encoder and predictor under both masks of a fixture."""
    video = jnp.asarray(inputs["video"].transpose(0, 2, 3, 4, 1))
    model, found = size.build(Compute(dtype)), {}
    encoder = params["encoder"]
    found["pos_embed_interpolated"] = clip_table(jnp.asarray(encoder["pos_embed"]), size.encoder)
    for name in ("v1", "v2"):
        mask = np.asarray(inputs[f"mask_{name}"]) != 0
        visible = jnp.asarray(np.stack([np.flatnonzero(~row) for row in mask]), jnp.int32)
        places = jnp.asarray(np.stack([np.flatnonzero(row) for row in mask]), jnp.int32)
        predict = functools.partial(model.predict, dict(params), video, visible)
        out, layers = watch(predict)
        found[f"pred_{name}"] = gather_tokens(out, places)
        inner = _encoder_layers(size.encoder, encoder, video, visible, dtype)
        inner |= _predictor_layers(size.predictor, params["predictor"], layers, dtype)
        found["patch_embed"] = inner["patch_embed"]
        found |= {f"{layer}_{name}": inner[layer] for layer in ("encoder_in", "encoder_out", "predictor_in")}
    return found


def target_features(size: NextSize, params: Params, inputs: Inputs, dtype: Any) -> dict[str, jax.Array]:
    """The target's tokens of whole clips, the pooled feature, and unit features under the first mask."""
    video = jnp.asarray(inputs["video"].transpose(0, 2, 3, 4, 1))
    encoded = size.build(Compute(dtype)).encode(dict(params), video)
    tokens = encoded.tokens[:, size.class_tokens :]
    places = jnp.asarray(np.stack([np.flatnonzero(row) for row in inputs["mask_v1"]]), jnp.int32)
    unit = l2_normalise(gather_tokens(tokens, places))
    return {"teacher_tokens": tokens, "teacher_pooled": encoded.pooled, "target_v1": unit}
