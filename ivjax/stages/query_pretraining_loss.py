"""The losses of a Q-Former's first training."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.experiment.rules import Rule, stated_in
from ivjax.models.costs import with_backward
from ivjax.models.qformer.pretraining import PAD, QueryPretrainModel
from ivjax.ops.contrastive import product_loss, scale_from_temperature, scale_gradient
from ivjax.ops.cut import Params
from ivjax.ops.negatives import drawn, negative_weights, take_rows
from ivjax.ops.randomness import sample_keys, several
from ivjax.ops.slices import in_chunks
from ivjax.ops.word_losses import IGNORED, word_losses
from ivjax.stages.objective import Batch, Joint, Medium, Metrics, Objective, PerClip, joint_loss
from ivjax.stages.query_pretraining import QueryPretraining


def build(stage: QueryPretraining, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batches."""
    contrast, joint = stage.contrast, _joint(stage, compute)
    bridge = dataclasses.replace(stage.size.bridge, dropout=0.0, drop_path=0.0)
    undropped = dataclasses.replace(stage, model_size=dataclasses.replace(stage.size, bridge=bridge))
    # This rule goes first, so that it decides; the model's own knows no bounds.
    bounded = Rule("temperature", bounds=(contrast.least, contrast.most))
    lengths = {"video": stage.size.vision.frames} | ({"image": 1} if stage.size.vision.reads_images else {})
    return Objective(
        init=stage.model(compute).init,
        loss=joint_loss(joint),
        eval_loss=joint_loss(_joint(undropped, compute)),
        media={name: _medium(stage, frames) for name, frames in lengths.items()},
        rules=(*stated_in(__name__, [bounded]), *stage.size.rules),
        joint=joint,
        grid=stage.size.grid,
        vocabulary={stage.caption_field: stage.size.bridge.vocabulary},
    )


def _joint(stage: QueryPretraining, compute: Compute) -> Joint:
    model = stage.model(compute)

    def read(params: Params, batch: Batch, key: jax.Array) -> PerClip:
        return read_clips(stage, model, params, batch, key)

    def loss(params: Params, read: PerClip, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return losses_of(stage, model, params, read, batch, key)

    return Joint(read, loss)


def _medium(stage: QueryPretraining, frames: int) -> Medium:
    size = stage.size
    patches = min(frames, size.vision.frames) * size.vision.patches // size.vision.frames
    cost = with_backward(size.flops(frames, stage.words))
    return Medium(_batch(stage, frames), size.vision.class_tokens + patches, cost)


def _batch(stage: QueryPretraining, frames: int) -> Mapping[str, jax.ShapeDtypeStruct]:
    struct = jax.ShapeDtypeStruct
    return {
        "index": struct((), jnp.uint32),
        # By this number captions of one clip are known: they are no negatives of each other.
        "sample": struct((), jnp.int32),
        "video": struct((frames, *stage.size.vision.image, 3), jnp.uint8),
        stage.caption_field: struct((stage.words,), jnp.int32),
    }


def read_clips(
    stage: QueryPretraining, model: QueryPretrainModel, params: Params, batch: Batch, key: jax.Array
) -> PerClip:
    """Returns what each clip and its caption give alone: tokens, embeddings, and losses of words."""
    ids = batch[stage.caption_field]
    seen = model.see(params, batch["video"])
    first = jnp.arange(stage.words) == 0
    said_keys, text_keys = (sample_keys(key, batch["index"], f"{name} dropout") for name in ("said", "text"))
    reading = model.read(params, seen, jnp.where(first, stage.start, ids), said_keys)
    # The last token has nothing behind it. [SEP] is to be said, padding is not.
    following = jnp.pad(ids[:, 1:], ((0, 0), (0, 1)), constant_values=PAD)
    targets = jnp.where(following == PAD, IGNORED, following)
    said = word_losses(*model.word_products(params, reading.said), targets)
    return {
        "seen": seen,
        "video": reading.video,
        "text": model.text(params, ids, text_keys),
        "said": said.loss.sum(1),
        "words": jnp.sum(targets != IGNORED, axis=1, dtype=jnp.float32),
    }


def losses_of(
    stage: QueryPretraining,
    model: QueryPretrainModel,
    params: Params,
    read: PerClip,
    batch: Batch,
    key: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """Returns the sum of the three losses, and each of them, from what `read_clips` gives of all clips."""
    contrast, ids = stage.contrast, batch["sample"]
    scale = scale_from_temperature(params["temperature"], contrast.least, contrast.most)
    video, text = (scale_gradient(read[name], contrast.gather_scale) for name in ("video", "text"))
    vtc = product_loss(video, text, ids, scale, form=contrast.form)
    keys = sample_keys(key, batch["index"], "negatives")
    dropping = sample_keys(key, batch["index"], "matching dropout")
    vtm = _matching(stage, model, params, read, batch, scale, keys, dropping)
    caption = read["said"].sum() / jnp.maximum(read["words"].sum(), 1.0)
    terms = {"vtc": vtc, "vtm": vtm, "caption": caption}
    total = sum(weight * term for weight, term in zip(stage.weights, terms.values(), strict=True))
    return jnp.asarray(total), {**terms, "temperature": 1.0 / scale}


def _matching(
    stage: QueryPretraining,
    model: QueryPretrainModel,
    params: Params,
    read: PerClip,
    batch: Batch,
    scale: jax.Array,
    keys: jax.Array,
    dropping: jax.Array,
) -> jax.Array:
    """Cross entropy of whether clip and caption belong together: each pair, and two that are hard to tell."""
    ids, words, seen = batch["sample"], batch[stage.caption_field], read["seen"]
    logits = jax.lax.stop_gradient(scale * (read["video"] @ read["text"].T))[None]
    other_text = drawn(negative_weights(logits, ids[None]), keys[None], "right")
    other_clip = drawn(negative_weights(logits.swapaxes(1, 2), ids[None]), keys[None], "left")
    # A batch of captions of one clip has no negatives.
    found = jnp.any(ids[:, None] != ids[None, :], axis=1).astype(jnp.float32)
    rows = len(ids)
    # Side by side for each clip, so that what lies on a device stays there.
    clips = jnp.stack([seen, seen, take_rows(seen, other_clip)], axis=1).reshape(-1, *seen.shape[1:])
    texts = jnp.stack([words, take_rows(words, other_text), words], axis=1).reshape(-1, words.shape[1])
    thrice = several(dropping, 3).reshape(-1)
    scores = in_chunks(lambda pair: model.matched(params, *pair), (clips, texts, thrice), stage.pairs)
    likely = jax.nn.log_softmax(scores).reshape(rows, 3, 2)
    weights = jnp.stack([jnp.ones_like(found), found, found], axis=1)
    right = jnp.stack([likely[:, 0, 1], likely[:, 1, 0], likely[:, 2, 0]], axis=1)
    return -jnp.sum(right * weights) / jnp.sum(weights)
