"""The loss of two joined classifiers: that of their combined score."""

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo1.joined import JoinedClassifier
from ivjax.ops.cut import Params
from ivjax.ops.randomness import sample_keys
from ivjax.stages.classification_loss import cross_entropy, smoothed
from ivjax.stages.internvideo1.joined_classification import JoinedClassification
from ivjax.stages.objective import Batch, Medium, Metrics, Objective


def build(stage: JoinedClassification, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batch."""
    model, size, struct = stage.model(compute), stage.joined, jax.ShapeDtypeStruct

    def loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return _loss(stage, model, params, batch, sample_keys(key, batch["index"], "dropout"))

    def eval_loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return _loss(stage, model, params, batch, None)

    clip = {
        "index": struct((), jnp.uint32),
        "video": struct((size.encoder.frames, *size.encoder.image, 3), jnp.uint8),
        **(
            {"targets": struct((size.classes,), jnp.float32)}
            if stage.mixed
            else {"label": struct((), jnp.int32)}
        ),
    }
    heads = () if stage.train_heads else ("masked/*", "multimodal/*")
    return Objective(
        init=model.init,
        loss=loss,
        eval_loss=eval_loss,
        media={"video": Medium(clip, size.encoder.class_tokens + size.encoder.patches, _flops(stage))},
        rules=size.rules,
        frozen=heads or ("masked/encoder", "multimodal/encoder"),
        unfreeze="" if stage.train_heads else "stage.train_heads=true",
        grid=size.grid,
        classes={"stage.joined.masked.classes": size.classes},
    )


def _flops(stage: JoinedClassification) -> dict[str, float]:
    # The first tower is frozen, but gradients pass through it to what joins both.
    times = {"masked": 2, "multimodal": 1, "cross": 3}
    return {name: times[name] * cost for name, cost in stage.joined.flops().items()}


def _loss(
    stage: JoinedClassification,
    model: JoinedClassifier,
    params: Params,
    batch: Batch,
    keys: jax.Array | None,
) -> tuple[jax.Array, Metrics]:
    first, second = model.scores(params, batch["video"], keys)
    logits = model.mixed(params, first, second)
    terms: Metrics = {"mix_masked": params["mix"][0], "mix_multimodal": params["mix"][1]}
    if stage.mixed:
        return cross_entropy(logits, batch["targets"]), terms
    label = batch["label"]
    right = {
        name: jnp.mean(score.argmax(-1) == label, dtype=jnp.float32)
        for name, score in (("top1", logits), ("top1_masked", first), ("top1_multimodal", second))
    }
    return cross_entropy(logits, smoothed(label, stage.joined.classes, stage.smoothing)), terms | right
