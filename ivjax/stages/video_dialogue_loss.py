"""The loss of dialogue: cross entropy of the answers' tokens."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.bridge import Question
from ivjax.models.costs import with_backward
from ivjax.models.dialogue.model import DialogueModel
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain
from ivjax.ops.randomness import sample_keys, several
from ivjax.ops.word_losses import IGNORED, word_losses
from ivjax.stages.objective import Batch, Medium, Metrics, Objective, ParameterGroup
from ivjax.stages.video_dialogue import Bucket, VideoDialogue, Weighting
from ivjax.stages.visual_dropping import drop_visual_tokens


def build(stage: VideoDialogue, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batches."""
    model: DialogueModel = stage.model(compute)

    def loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return answer_loss(stage, model, params, batch, key)

    def eval_loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return answer_loss(stage, model, params, batch)

    return Objective(
        init=model.init,
        loss=loss,
        eval_loss=eval_loss,
        media={bucket.name: _medium(stage, bucket) for bucket in stage.buckets},
        rules=stage.size.rules,
        prepare=functools.partial(weighed, stage.weighting),
        grid=stage.size.grid,
        vocabulary={stage.dialogue_field: stage.size.language.vocabulary},
    )


def _medium(stage: VideoDialogue, bucket: Bucket) -> Medium:
    flops = with_backward(_flops(stage, bucket))
    language, bridge, vision = (ParameterGroup((name,)) for name in ("language", "bridge", "vision"))
    modules: dict[str, tuple[ParameterGroup, ...]] = dict.fromkeys(flops, (language, bridge, vision))
    modules |= {"bridge": (bridge, vision), "vision": (vision,)}
    return Medium(batch_of(stage, bucket), bucket.tokens, flops, modules=modules)


def batch_of(stage: VideoDialogue, bucket: Bucket) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of one row of the batch."""
    size, struct = stage.dialogue, jax.ShapeDtypeStruct
    image = (*size.vision.image, 3)
    words = struct((bucket.tokens,), jnp.int32)
    arrays = {
        "index": struct((), jnp.uint32),
        "ids": words,
        # What each token has to predict: shifted already, so that no label crosses a conversation.
        "targets": words,
        "answer_tokens": words,
        "segments": words,
    }
    if visual := stage.visual_tokens(bucket):
        arrays |= {"places": words, "visual_segments": struct((visual,), jnp.int32)}
    if bucket.clips:
        arrays["video"] = struct((bucket.clips, size.least_frames, *image), jnp.uint8)
    if bucket.images:
        arrays["images"] = struct((bucket.images, *image), jnp.uint8)
    seen = bucket.clips + bucket.images
    if seen and stage.question:
        # Those of the clips, then those of the images.
        arrays["question"] = struct((seen, stage.question), jnp.int32)
        arrays["question_mask"] = struct((seen, stage.question), jnp.bool_)
    return arrays


def _flops(stage: VideoDialogue, bucket: Bucket) -> dict[str, float]:
    """Forward FLOPs of a row, by layer."""
    size, frames = stage.dialogue, stage.dialogue.least_frames
    clip = size.flops(frames, 0)
    found = {name: bucket.clips * clip[name] for name in ("vision", "bridge")}
    if bucket.images:
        _, rows, columns = size.vision.grid
        found["vision"] += bucket.images * sum(size.vision.flops(rows * columns).values())
        found["bridge"] += bucket.images * size.bridge.flops(1, (1, rows, columns))
    return found | size.language.flops(bucket.tokens)


def weighed(weighting: Weighting, batch: Batch) -> Batch:
    """Returns the batch with `weights` (B, L): the mean over rows of the weighted sums of their tokens is the
    mean that `weighting` asks for."""
    tokens = jnp.maximum(batch["answer_tokens"], 1).astype(jnp.float32)
    power = {"token": 0.0, "square_root": -0.5, "sample": -1.0}[weighting]
    weights = jnp.where(batch["targets"] == IGNORED, 0.0, tokens**power)
    # By the sum over the whole batch: micro-batches hold different numbers of answers.
    return {**batch, "weights": weights * (len(weights) / jnp.maximum(weights.sum(), 1e-9))}


class _Answers(NamedTuple):
    """What is asked of a text's tokens.

    Attributes:
        states: (B, L, C), the last ones.
        targets: (B, L), what each token has to predict.
        weights: (B, L), what that counts.
    """

    states: jax.Array
    targets: jax.Array
    weights: jax.Array


def answer_loss(
    stage: VideoDialogue, model: DialogueModel, params: Params, batch: Batch, key: jax.Array | None = None
) -> tuple[jax.Array, Metrics]:
    """Returns the loss of a batch with weights, and the share of the tokens that would have been said.

    `key` is that of the step's dropout; None: nothing is dropped, as in evaluation.
    """
    return language_loss(stage, model, params, batch, visual_tokens(model, params, batch, key), key)


def language_loss(
    stage: VideoDialogue,
    model: DialogueModel,
    params: Params,
    batch: Batch,
    visual: jax.Array | None,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Metrics]:
    """As `answer_loss`, given the visual tokens (B, V, C)."""
    keys = None if key is None else sample_keys(key, batch["index"], "lora")
    x = model.embed(params, batch["ids"], visual, batch.get("places"))
    x = constrain(x, "batch", "tokens", None)
    answers = _answers(stage, model, params, x, batch, keys)
    language = params["language"]
    states, kernels = model.language.logit_products(language, answers.states, keys)
    found = word_losses(states, kernels, answers.targets)
    loss, right = (jnp.sum(y * answers.weights) / len(x) for y in (found.loss, found.right))
    return loss, {"right": right}


def visual_tokens(
    model: DialogueModel, params: Params, batch: Batch, key: jax.Array | None = None
) -> jax.Array | None:
    """Returns the visual tokens (B, V, C) of the clips of each row, and of its images behind them.

    `key` is that of the step's dropout, in training.
    """
    found, rows, before = [], len(batch["ids"]), 0
    keys = None if key is None else sample_keys(key, batch["index"], "bridge")
    for name in ("video", "images"):
        if name in batch:
            seen = batch[name] if name == "video" else batch[name][:, :, None]
            count = seen.shape[1]
            here = slice(before, before + count)
            own = None if keys is None else several(keys, here.stop)[:, here].reshape(-1)
            found.append(model.see(params, seen.reshape(-1, *seen.shape[2:]), _question(batch, here), own))
            before += count
    if not found:
        return None
    visual = [x.reshape(rows, -1, x.shape[-1]) for x in found]
    return constrain(jnp.concatenate(visual, axis=1), "batch", None, None)


def _question(batch: Batch, which: slice) -> Question | None:
    """What is asked about some of the clips and images of each row."""
    if "question" not in batch:
        return None
    parts = (batch[name][:, which] for name in ("question", "question_mask"))
    return Question(*(x.reshape(-1, x.shape[-1]) for x in parts))


def _answers(
    stage: VideoDialogue,
    model: DialogueModel,
    params: Params,
    x: jax.Array,
    batch: Batch,
    keys: jax.Array | None,
) -> _Answers:
    targets, weights = batch["targets"], batch["weights"]
    if stage.dropout is None or "places" not in batch:
        return _Answers(model.states(params, x, batch["segments"], keys), targets, weights)
    language, visual = model.language, batch["places"] >= 0
    states, left = drop_visual_tokens(
        stage.dropout,
        stage.visual_unit,
        language,
        params["language"],
        x,
        batch["segments"],
        visual,
        targets,
        keys,
    )
    # `left` says where each token that is left stood before.
    there, place = left >= 0, jnp.maximum(left, 0)
    targets = jnp.where(there, jnp.take_along_axis(targets, place, axis=1), IGNORED)
    weights = jnp.where(there, jnp.take_along_axis(weights, place, axis=1), 0.0)
    return _Answers(language.normed(params["language"], states), targets, weights)
