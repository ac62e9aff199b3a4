"""Fine-tuning and probing: a classifier on an InternVideo2 encoder, all of it trained or only its top."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models import flops
from ivjax.models.internvideo2.classifier import (
    STATISTICS,
    Classifier,
    ClassifierSize,
    encode_above,
    init_classifier,
)
from ivjax.models.internvideo2.rules import CLASSIFIER
from ivjax.ops.randomness import drop_path, sample_keys
from ivjax.ops.trees import paths_of
from ivjax.stages.checks import check_encoder
from ivjax.stages.objective import Batch, Medium, Metrics, Objective, Params

_EMBEDDING = ("encoder/patch_embed", "encoder/pos_embed", "encoder/cls_token")
_BLOCKS, _POOL = "encoder/blocks", "encoder/clip_projector"


@dataclass(frozen=True)
class Probe:
    """A frozen encoder. Its last `open_blocks` blocks learn all the same, and its pooling if `open_pool`."""

    open_blocks: int = 0
    open_pool: bool = False

    PRESETS: ClassVar[dict[str, "Probe"]]


Probe.PRESETS = {"linear": Probe(), "attentive": Probe(open_pool=True)}


@dataclass(frozen=True)
class Classification:
    """The stage. Without `probe` everything is trained.

    mixed: the data mixes clips and gives soft `targets`; otherwise it gives a `label`, which `smoothing`
    spreads over all classes. dropout: of what the head sees. head_scale: the head starts so much smaller.
    """

    classifier: ClassifierSize
    mixed: bool = True
    smoothing: float = 0.1
    drop_path: float = 0.0
    dropout: float = 0.0
    head_scale: float = 1e-3
    probe: Probe | None = None

    def build(self, compute: Compute) -> Objective:
        """The stage's parameters, loss and batch."""
        self._check()
        model, encoder = self.model(compute), self.classifier.encoder

        def loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
            return self._loss(model, params, batch, key)

        return Objective(
            init=lambda key: init_classifier(model, key, self.head_scale),
            loss=loss,
            media={"video": Medium(self.batch(), tokens=1 + encoder.patches, flops=self._flops())},
            frozen=self.frozen(),
            rules=CLASSIFIER,
            frozen_layers={_BLOCKS: self.frozen_blocks} if self.frozen_blocks else {},
            running=self._running(),
            grid=encoder.grid,
        )

    def model(self, compute: Compute) -> Classifier:
        """The classifier."""
        dtype = jnp.dtype(compute.dtype)
        return Classifier(self.classifier, self.dropout, compute.remat, compute.scan, dtype)

    def encoders(self) -> Mapping[str, Any]:
        """The encoder can stand alone."""
        return {"encoder": self.classifier.encoder}

    def batch(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row of the batch."""
        size, struct = self.classifier.encoder, jax.ShapeDtypeStruct
        wanted = {"targets": struct((self.classifier.classes,), jnp.float32)}
        if not self.mixed:
            wanted = {"label": struct((), jnp.int32)}
        video = struct((size.frames, *size.image, 3), jnp.uint8)
        return {"index": struct((), jnp.uint32), "video": video} | wanted

    def frozen(self) -> tuple[str, ...]:
        """Branches of the parameters of which nothing is trained."""
        if self.probe is None:
            return ()
        blocks = () if self.probe.open_blocks else (_BLOCKS,)
        return (*_EMBEDDING, *blocks, *(() if self.probe.open_pool else (_POOL,)))

    @property
    def frozen_blocks(self) -> int:
        """How many of the first blocks are frozen while the others learn."""
        if self.probe is None or not self.probe.open_blocks:
            return 0
        return self.classifier.encoder.depth - self.probe.open_blocks

    def _running(self) -> tuple[str, ...]:
        if self.classifier.merge == "proj" or self.classifier.merge_norm == "layer":
            return ()
        return ("down_norm/mean", "down_norm/variance")

    def _loss(
        self, model: Classifier, params: Params, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        video, index = batch["video"], batch["index"]
        depth = self.classifier.encoder.depth
        keep = drop_path(sample_keys(key, index, "drop_path"), self.drop_path, depth)
        keys = sample_keys(key, index, "dropout")
        encoded = (
            encode_above(model, params["encoder"], video, keep, self.frozen_blocks)
            if self.frozen_blocks
            else None
        )
        logits, sown = model.apply({"params": params}, video, keep, keys, encoded, mutable=[STATISTICS])
        terms: Metrics = dict(paths_of(sown.get(STATISTICS, {})))
        if self.mixed:
            return cross_entropy(logits, batch["targets"]), terms
        targets = smoothed(batch["label"], self.classifier.classes, self.smoothing)
        top1 = jnp.mean(logits.argmax(-1) == batch["label"], dtype=jnp.float32)
        return cross_entropy(logits, targets), terms | {"top1": top1}

    def _flops(self) -> dict[str, float]:
        forward, probe = flops.classifier_forward(self.classifier), self.probe
        if probe is None:
            return flops.with_backward(forward)
        # Backward means a product for the kernels that learn, and one for the tokens if something below does.
        times = {
            "blocks": 1 + 2 * probe.open_blocks / self.classifier.encoder.depth,
            "pool": 1 + probe.open_pool + (probe.open_blocks > 0),
            "head": 3,
        }
        return {part: cost * times.get(part, 1) for part, cost in forward.items()}

    def _check(self) -> None:
        depth = self.classifier.encoder.depth
        check_encoder("classifier.encoder", self.classifier.encoder)
        if self.classifier.classes < 2:
            raise UserError(f"stage.classifier.classes={self.classifier.classes}; there must be at least 2")
        for name in ("smoothing", "drop_path", "dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"stage.{name}={getattr(self, name)}; it must be at least 0 and below 1")
        if self.probe and not 0 <= self.probe.open_blocks <= depth:
            raise UserError(
                f"stage.probe.open_blocks={self.probe.open_blocks}; the encoder has {depth} blocks"
            )


def smoothed(labels: jax.Array, classes: int, smoothing: float) -> jax.Array:
    """Labels (B,) as targets (B, classes) with a share `smoothing` spread evenly over all classes."""
    return (1 - smoothing) * jax.nn.one_hot(labels, classes) + smoothing / classes


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over clips of the cross-entropy with soft targets (B, classes)."""
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1))
