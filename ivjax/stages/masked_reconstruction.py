"""Stage 1: a student that sees a fifth of the tokens predicts its teachers' features at them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.models import flops
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.internvideo2_student import FeatureHeads, PooledHead, Student, StudentOutput, init_student
from ivjax.ops.losses import alignment_loss
from ivjax.ops.masking import draw_tube, draw_visible, gather_tokens, visible_count
from ivjax.ops.randomness import drop_path, exponential, sample_keys
from ivjax.stages.objective import Batch, Compute, Medium, Metrics, Objective, Params


@dataclass(frozen=True)
class Mask:
    """Which patches the student does not see. `ratio` of every frame is masked.

    attention: patches that the batch's `attention` map favours tend to stay visible. random: every
    patch alike, per frame. tube: the same patches in every frame.
    """

    kind: Literal["attention", "random", "tube"] = "attention"
    ratio: float = 0.8


@dataclass(frozen=True)
class Weights:
    """Weights of the three loss terms."""

    clip: float = 1.0
    pooled: float = 1.0
    mae: float = 1.0


@dataclass(frozen=True)
class MaskedReconstruction:
    """The stage. Teacher features arrive with the batch, one feature vector per token."""

    student: EncoderSize
    clip: FeatureHeads | None = FeatureHeads(width=3200, layers=6)
    pooled: PooledHead | None = PooledHead(width=768)
    mae: FeatureHeads | None = FeatureHeads(width=1408, layers=4, head="mlp")
    mask: Mask = Mask()
    weights: Weights = Weights()
    drop_path: float = 0.25

    def build(self, compute: Compute) -> Objective:
        """The stage's parameters, loss and batch."""
        self._check()
        student = self.model(compute)

        def loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
            return self._loss(student, params, batch, key)

        return Objective(
            init=lambda key: init_student(student, key),
            loss=loss,
            media={
                "video": Medium(
                    self.batch(),
                    tokens=self.visible,
                    flops=flops.with_backward(flops.student_forward(student, self.visible)),
                )
            },
            grid=self.student.grid,
        )

    def model(self, compute: Compute) -> Student:
        """The student."""
        return Student(
            self.student,
            self.clip,
            self.pooled,
            self.mae,
            remat=compute.remat,
            scan=compute.scan,
            dtype=jnp.dtype(compute.dtype),
        )

    @property
    def visible(self) -> int:
        """Tokens that the student sees of each clip, class token included."""
        times, rows, columns = self.student.grid
        return 1 + times * visible_count(rows * columns, self.mask.ratio)

    def batch(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row of the batch."""
        size, struct = self.student, jax.ShapeDtypeStruct
        times, rows, columns = size.grid
        spec = {
            "index": struct((), jnp.uint32),
            "video": struct((size.frames, *size.image, 3), jnp.uint8),
        }
        if self.mask.kind == "attention":
            spec["attention"] = struct((times, rows * columns), jnp.float32)
        if self.clip:
            shape = (self.clip.layers, 1 + size.patches, self.clip.width)
            spec["clip"] = struct(shape, jnp.float32)
        if self.pooled:
            spec["pooled"] = struct((self.pooled.width,), jnp.float32)
        if self.mae:
            spec["mae"] = struct((self.mae.layers, size.patches, self.mae.width), jnp.float32)
        return spec

    def _check(self) -> None:
        size = self.student
        if size.frames % size.tubelet or any(side % size.patch for side in size.image):
            raise UserError(
                f"stage.student: {size.frames} frames of {size.image} do not divide into tubelets of "
                f"{size.tubelet} and patches of {size.patch}; change frames, image, tubelet or patch"
            )
        for count, what in ((size.heads, "heads"), (size.pool_heads, "pool_heads"), (16, "position codes")):
            if size.width % count:
                raise UserError(
                    f"stage.student.width={size.width} does not divide into {count} {what}; "
                    f"choose a multiple of {count}"
                )
        for name, heads in (("clip", self.clip), ("mae", self.mae)):
            try:
                _ = heads.taps(size.depth) if heads else ()
            except ValueError as error:
                raise UserError(f"stage.{name}: {error}; lower layers or interval") from None
        if not 0.0 <= self.mask.ratio < 1.0:
            raise UserError(f"stage.mask.ratio is {self.mask.ratio}; it must be at least 0 and below 1")

    def _visible(self, batch: Batch, key: jax.Array) -> jax.Array:
        times, rows, columns = self.student.grid
        keys = sample_keys(key, batch["index"], "mask")
        if self.mask.kind == "tube":
            return draw_tube(exponential(keys, (rows * columns,)), times, self.mask.ratio)
        noise = exponential(keys, (times, rows * columns))
        weights = batch["attention"] if self.mask.kind == "attention" else jnp.ones_like(noise)
        return draw_visible(weights, noise, self.mask.ratio)

    def _loss(
        self, student: Student, params: Params, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        visible = self._visible(batch, key)
        keys = sample_keys(key, batch["index"], "drop_path")
        keep = drop_path(keys, self.drop_path, self.student.depth)
        output = cast(StudentOutput, student.apply({"params": params}, batch["video"], visible, keep))
        at_visible = jax.vmap(gather_tokens, in_axes=(1, None), out_axes=0)
        terms: Metrics = {}
        if output.clip is not None:
            terms["clip"] = alignment_loss(output.clip, at_visible(batch["clip"], visible))
        if self.pooled:
            terms["pooled"] = alignment_loss(output.pooled, batch["pooled"])
        if output.mae is not None:
            terms["mae"] = alignment_loss(output.mae, at_visible(batch["mae"], visible[:, 1:] - 1))
        total = sum((getattr(self.weights, name) * term for name, term in terms.items()), jnp.float32(0))
        return total, terms
