"""The loss of fine-tuning and probing."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.classifier import Classifier
from ivjax.models.tower import EncodedBatch
from ivjax.ops.cut import Params
from ivjax.ops.randomness import drop_path, sample_keys
from ivjax.stages.classification import Classification
from ivjax.stages.objective import Batch, Medium, Metrics, Objective

_STACK = "blocks"  # the branch of a tower that holds its blocks, one array per parameter


def build(stage: Classification, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batch."""
    model, encoder = stage.model(compute), stage.classifier.encoder

    def loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return _loss(stage, model, params, batch, key)

    def eval_loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return _loss(stage, model, params, batch, None)

    tokens = encoder.class_tokens + encoder.patches
    return Objective(
        init=lambda key: model.init(key, stage.head_scale),
        loss=loss,
        eval_loss=eval_loss,
        media={"video": Medium(batch_of(stage), tokens=tokens, flops=stage.flops())},
        rules=stage.classifier.rules,
        frozen=_frozen(stage, model),
        unfreeze="stage.probe=none",
        frozen_layers={f"encoder/{_STACK}": stage.frozen_blocks} if stage.frozen_blocks else {},
        running=_running(stage),
        grid=encoder.grid,
        classes={"stage.classifier.classes": stage.classifier.classes},
    )


def batch_of(stage: Classification) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of one row of the batch."""
    size, struct = stage.classifier.encoder, jax.ShapeDtypeStruct
    wanted = {"targets": struct((stage.classifier.classes,), jnp.float32)}
    if not stage.mixed:
        wanted = {"label": struct((), jnp.int32)}
    video = struct((size.frames, *size.image, 3), jnp.uint8)
    return {"index": struct((), jnp.uint32), "video": video} | wanted


def _frozen(stage: Classification, model: Classifier) -> tuple[str, ...]:
    """Branches of the parameters of which nothing is trained."""
    if stage.probe is None:
        return ()
    size = stage.classifier.encoder
    trained = (*([_STACK] if stage.probe.open_blocks else []), *_open_pool(stage))
    # Asked of the shapes, not of the rules: these also cover tables that a tower of this size may lack.
    branches = jax.eval_shape(model.tower.init, jax.random.key(0))
    assert set(size.pool_branches) <= set(branches)
    if stage.probe.open_blocks and _STACK not in branches:
        raise UserError(
            f"stage.probe.open_blocks={stage.probe.open_blocks} needs a tower with its blocks in one stack "
            f"`{_STACK}`, and that of {type(size).__name__} has {', '.join(branches)}; set it to 0"
        )
    return tuple(f"encoder/{branch}" for branch in branches if branch not in trained)


def _open_pool(stage: Classification) -> tuple[str, ...]:
    return stage.classifier.encoder.pool_branches if stage.probe and stage.probe.open_pool else ()


def _running(stage: Classification) -> tuple[str, ...]:
    classifier = stage.classifier
    # A probed encoder stays as it is, its statistics too.
    inside = () if stage.probe else tuple(f"encoder/{path}" for path in classifier.encoder.running)
    if classifier.merge == "proj" or classifier.merge_norm == "layer":
        return inside
    # Not trained, but not frozen either: frozen parameters are kept out of checkpoints.
    return (*inside, "down_norm/mean", "down_norm/variance")


def _loss(
    stage: Classification, model: Classifier, params: Params, batch: Batch, key: jax.Array | None
) -> tuple[jax.Array, Metrics]:
    """The loss; without a key that of evaluation, where nothing is dropped."""
    video, index, tower = batch["video"], batch["index"], model.tower
    keep = keys = None
    if key is not None:
        keep = drop_path(sample_keys(key, index, "drop_path"), stage.drop_path, tower.size.depth)
        # A key for each clip and purpose: no draw depends on the device, or on the
        # micro-batch, that a clip is in.
        keys = sample_keys(key, index, "dropout")
    # A stack is one array per parameter, so its first layers cannot be frozen by path.
    if stage.frozen_blocks:
        encoded = tower.encode_above(params["encoder"], video, keep, stage.frozen_blocks)
    else:
        # A frozen encoder drops nothing, but an open pooling may. Frozen batch norms stay as they are.
        opened = stage.probe is None or (stage.probe.open_pool and not tower.size.running)
        inside = keys if opened else None
        encoded = tower.encode(params["encoder"], video, keep=keep, keys=inside)
    logits, statistics = model.classify(params, encoded, keys)
    terms: Metrics = dict(statistics)
    sown: Mapping[str, jax.Array] = encoded.statistics if isinstance(encoded, EncodedBatch) else {}
    terms |= {f"encoder/{path}": value for path, value in sown.items()}
    if stage.mixed:
        return cross_entropy(logits, batch["targets"]), terms
    targets = smoothed(batch["label"], stage.classifier.classes, stage.smoothing)
    # Of the training batch, and only without mixing: a mixed clip has no one label.
    top1 = jnp.mean(logits.argmax(-1) == batch["label"], dtype=jnp.float32)
    return cross_entropy(logits, targets), terms | {"top1": top1}


def smoothed(labels: jax.Array, classes: int, smoothing: float) -> jax.Array:
    """Labels (B,) as targets (B, classes) with a share `smoothing` spread evenly over all classes."""
    return (1 - smoothing) * jax.nn.one_hot(labels, classes) + smoothing / classes


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over clips of the cross-entropy with soft targets (B, classes)."""
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1))
