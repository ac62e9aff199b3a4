"""The loss of clips and captions."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.experiment.rules import Rule, stated_in
from ivjax.models.costs import with_backward
from ivjax.models.dual_tower import DualTower
from ivjax.ops.contrastive import contrastive_loss, scale_from_temperature, scale_gradient
from ivjax.ops.counting import visible_count
from ivjax.ops.cut import Params
from ivjax.ops.masking import draw_visible
from ivjax.ops.randomness import drop_path, exponential, sample_keys
from ivjax.stages.dual_encoder import DualEncoder
from ivjax.stages.objective import (
    Batch,
    Joint,
    Medium,
    Metrics,
    Objective,
    ParameterGroup,
    PerClip,
    joint_loss,
)
from ivjax.stages.tower_modules import tower_modules


def build(stage: DualEncoder, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batches."""
    model, contrast = stage.model(compute), stage.contrast

    def embed(params: Params, batch: Batch, key: jax.Array) -> PerClip:
        return _embed(stage, model, params, batch, key)

    def loss(params: Params, embedded: PerClip, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return _loss(stage, params, embedded, batch)

    undropped = dataclasses.replace(stage, drop_path=0.0)

    def eval_embed(params: Params, batch: Batch, key: jax.Array) -> PerClip:
        return _embed(undropped, model, params, batch, key)

    joint = Joint(embed, loss)
    # This rule goes first, so that it decides; the model's own knows no bounds.
    bounded = Rule("temperature", bounds=(contrast.least, contrast.most))
    return Objective(
        init=model.init,
        loss=joint_loss(joint),
        eval_loss=joint_loss(Joint(eval_embed, loss)),
        media=_media(stage),
        rules=(*stated_in(__name__, [bounded]), *model.size.rules),
        frozen=() if stage.train_text else ("text",),
        unfreeze="stage.train_text=true",
        joint=joint,
        grid=stage.vision.grid,
        vocabulary={stage.caption_field: stage.text.vocabulary},
    )


def _media(stage: DualEncoder) -> dict[str, Medium]:
    """Clips, and images where the tower can read them."""
    lengths = {"video": stage.size.clip_frames}
    if stage.vision.reads_images:
        lengths["image"] = 1
    return {name: _medium(stage, frames) for name, frames in lengths.items()}


def _medium(stage: DualEncoder, frames: int) -> Medium:
    """Batches of clips of `frames` frames: 1 is an image."""
    segments = stage.size.segments(frames)
    seen = visible_count(_patches(stage, frames), stage.mask)
    tower = {name: segments * cost for name, cost in stage.vision.flops(seen).items()}
    words = stage.text.flops()
    # Without gradients a frozen text tower costs its forward pass alone.
    cost = with_backward(tower) | (with_backward(words) if stage.train_text else words)
    modules = tower_modules(stage.vision, tower)
    modules |= dict.fromkeys(words, (ParameterGroup(("text",)),)) if stage.train_text else {}
    tokens = segments * (stage.vision.class_tokens + seen)
    return Medium(_batch(stage, frames), tokens=tokens, flops=cost, modules=modules)


def _patches(stage: DualEncoder, frames: int) -> int:
    """Patches of one segment of a clip of `frames` frames, which may be a single one."""
    size = stage.vision
    # An image has one temporal position, so an image and a clip need different numbers of visible patches.
    return min(frames, size.frames) * size.patches // size.frames


def _batch(stage: DualEncoder, frames: int) -> Mapping[str, jax.ShapeDtypeStruct]:
    struct = jax.ShapeDtypeStruct
    return {
        "index": struct((), jnp.uint32),
        # Positives are found by this number, not by the row: one clip may stand in a
        # batch with several captions.
        "sample": struct((), jnp.int32),
        "video": struct((frames, *stage.vision.image, 3), jnp.uint8),
        stage.caption_field: struct((stage.text.context,), jnp.int32),
    }


def _embed(stage: DualEncoder, model: DualTower, params: Params, batch: Batch, key: jax.Array) -> PerClip:
    video = batch["video"]
    segments, patches = stage.size.segments(video.shape[1]), _patches(stage, video.shape[1])
    visible = None
    if stage.mask:
        noise = exponential(sample_keys(key, batch["index"], "mask"), (segments, patches))
        # Drawn clip by clip and then taken apart, so that the draws depend on the clip
        # alone and not on how it is read.
        noise = noise.reshape(-1, 1, patches)
        visible = draw_visible(jnp.ones_like(noise), noise, stage.mask)[:, 1:] - 1
    keep = drop_path(sample_keys(key, batch["index"], "drop_path"), stage.drop_path, stage.vision.depth)
    if keep is not None:
        # All segments of a clip drop the same branches.
        keep = jnp.repeat(keep, segments, axis=-1)
    return {
        "video": model.video(params, video, visible, keep),
        "text": model.words(params, batch[stage.caption_field]),
    }


def _loss(stage: DualEncoder, params: Params, embedded: PerClip, batch: Batch) -> tuple[jax.Array, Metrics]:
    contrast = stage.contrast
    # The scale is put on the embeddings rather than on the loss, so that the
    # temperature keeps its whole gradient.
    video, text = (scale_gradient(embedded[name], contrast.gather_scale) for name in ("video", "text"))
    scale = scale_from_temperature(params["temperature"], contrast.least, contrast.most)
    loss = contrastive_loss(
        video, text, batch["sample"], scale, params.get("bias", 0.0), contrast.kind, contrast.form
    )
    return loss, {"temperature": 1.0 / scale}
