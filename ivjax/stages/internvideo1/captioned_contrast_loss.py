"""The loss of contrast and captions."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.costs import with_backward
from ivjax.models.internvideo1.captioning import Captioned, CaptioningTower
from ivjax.ops.contrastive import contrastive_loss
from ivjax.ops.cut import Params
from ivjax.ops.randomness import drop_path, sample_keys
from ivjax.stages.internvideo1.captioned_contrast import CaptionedContrast
from ivjax.stages.objective import Batch, Joint, Medium, Metrics, Objective, PerClip, joint_loss


def build(stage: CaptionedContrast, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batches."""
    model = stage.model(compute)
    per_clip = functools.partial(_per_clip, stage, model, training=True)
    calm = functools.partial(_per_clip, stage, model, training=False)
    loss = functools.partial(compared, stage)
    lengths = {"video": stage.vision.frames} | ({"image": 1} if stage.vision.reads_images else {})
    return Objective(
        init=model.init,
        loss=joint_loss(Joint(per_clip, loss)),
        eval_loss=joint_loss(Joint(calm, loss)),
        media={name: _medium(stage, frames) for name, frames in lengths.items()},
        rules=stage.size.rules,
        frozen=() if stage.train_text else ("text",),
        unfreeze="stage.train_text=true",
        joint=Joint(per_clip, loss),
        grid=stage.vision.grid,
        vocabulary={stage.caption_field: stage.text.vocabulary},
    )


def _medium(stage: CaptionedContrast, frames: int) -> Medium:
    share = frames / stage.vision.frames
    tower = {name: share * cost for name, cost in stage.vision.flops().items()}
    words = stage.text.flops()
    cost = with_backward({**tower, "caption_decoder": stage.size.decoding_flops()})
    cost |= with_backward(words) if stage.train_text else words
    tokens = int(share * (stage.vision.class_tokens + stage.vision.patches))
    return Medium(_batch(stage, frames), tokens=tokens, flops=cost)


def _batch(stage: CaptionedContrast, frames: int) -> Mapping[str, jax.ShapeDtypeStruct]:
    struct = jax.ShapeDtypeStruct
    return {
        "index": struct((), jnp.uint32),
        # Positives are found by this number: one clip may stand in a batch with several captions.
        "sample": struct((), jnp.int32),
        "video": struct((frames, *stage.vision.image, 3), jnp.uint8),
        stage.caption_field: struct((stage.text.context,), jnp.int32),
    }


def _per_clip(
    stage: CaptionedContrast,
    model: CaptioningTower,
    params: Params,
    batch: Batch,
    key: jax.Array,
    training: bool,
) -> PerClip:
    keep = keys = None
    if training:
        keys = sample_keys(key, batch["index"], "dropout")
        paths = sample_keys(key, batch["index"], "drop_path")
        keep = drop_path(paths, stage.drop_path, stage.vision.depth)
    ids = batch[stage.caption_field]
    return rows_of(model.captioned(params, batch["video"], ids, keep, keys), ids)


def rows_of(found: Captioned, ids: jax.Array) -> PerClip:
    """Embeddings of clips and captions (B, L), the sum of each caption's word errors, and their number."""
    log_odds = jax.nn.log_softmax(found.logits)
    errors = -jnp.take_along_axis(log_odds, ids[:, 1:, None], axis=2)[..., 0]
    return {
        "video": found.video,
        "text": found.text,
        "error": jnp.sum(errors * found.counted, axis=1),
        "words": jnp.sum(found.counted, axis=1, dtype=jnp.float32),
    }


def compared(
    stage: CaptionedContrast, params: Params, rows: PerClip, batch: Batch, key: jax.Array
) -> tuple[jax.Array, Metrics]:
    """The weighted sum of both terms, and the terms: words count alike, whichever caption they are of."""
    scale = jnp.exp(params["logit_scale"])
    contrast = contrastive_loss(rows["video"], rows["text"], batch["sample"], scale, form=stage.form)
    caption = jnp.sum(rows["error"]) / jnp.maximum(jnp.sum(rows["words"]), 1.0)
    terms = {"contrast": contrast, "caption": caption, "temperature": 1.0 / scale}
    return stage.contrast * contrast + stage.caption * caption, terms
