"""Stage 1: a student that sees a fifth of the tokens predicts its teachers' features at them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.rules import Rules, prefixed
from ivjax.models import flops
from ivjax.models.internvideo2.encoder import EncoderSize
from ivjax.models.internvideo2.rules import STUDENT
from ivjax.models.internvideo2.student import FeatureHeads, PooledHead, Student, StudentOutput, init_student
from ivjax.models.internvideo2.teachers import Taught, at_tokens, features_at, normalised
from ivjax.ops.losses import alignment_loss
from ivjax.ops.randomness import drop_path, sample_keys
from ivjax.stages.checks import check_encoder
from ivjax.stages.mask import Mask
from ivjax.stages.objective import Batch, Medium, Metrics, Objective, Params
from ivjax.stages.teachers import ClipTeacher, MaeTeacher

Targets = dict[str, jax.Array]


@dataclass(frozen=True)
class Weights:
    """Weights of the three loss terms."""

    clip: float = 1.0
    pooled: float = 1.0
    mae: float = 1.0


@dataclass(frozen=True)
class MaskedReconstruction:
    """The stage: heads, and for each kind of head a teacher, or None if its features arrive with the batch.

    `clip` and `pooled` predict the clip teacher's features, `mae` the other one's. `targets` says where
    teacher features are kept until the loss: at the visible tokens, or at all of them as in the originals,
    which is for comparison only.
    """

    student: EncoderSize
    clip: FeatureHeads | None = FeatureHeads(width=3200, layers=6)
    pooled: PooledHead | None = PooledHead(width=768)
    mae: FeatureHeads | None = FeatureHeads(width=1408, layers=4, head="mlp")
    clip_teacher: ClipTeacher | None = None
    mae_teacher: MaeTeacher | None = None
    mask: Mask = Mask()
    weights: Weights = Weights()
    drop_path: float = 0.25
    targets: Literal["visible", "all"] = "visible"

    def build(self, compute: Compute) -> Objective:
        """The stage's parameters, loss and batch."""
        self._check()
        student = self.model(compute)
        teachers = self.teachers(compute)

        def loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
            return self._loss(student, teachers, params, batch, key)

        return Objective(
            init=lambda key: self._init(student, key),
            loss=loss,
            media={"video": Medium(self.batch(), tokens=self.visible, flops=self._flops(student))},
            rules=self._rules(),
            frozen=tuple(teachers),
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

    def teachers(self, compute: Compute) -> Mapping[str, Any]:
        """The teachers' models by branch of the parameter tree."""
        models: dict[str, Any] = {}
        if self.clip_teacher:
            models["clip_teacher"] = self.clip_teacher.model(self.clip, compute)
        if self.mae_teacher:
            models["mae_teacher"] = self.mae_teacher.model(self.mae, compute)
        return models

    def _rules(self) -> Rules:
        teachers = {"clip_teacher": self.clip_teacher, "mae_teacher": self.mae_teacher}
        found = [rule for n, t in teachers.items() if t for rule in prefixed(n, t.size.rules)]
        return (*STUDENT, *found)

    def encoders(self) -> Mapping[str, Any]:
        """Sizes of the encoders by branch of the parameter tree."""
        teachers = {"clip_teacher": self.clip_teacher, "mae_teacher": self.mae_teacher}
        sizes: dict[str, Any] = {name: teacher.size for name, teacher in teachers.items() if teacher}
        return {"encoder": self.student} | sizes

    @property
    def visible(self) -> int:
        """Tokens that the student sees of each clip, class token included."""
        times, rows, columns = self.student.grid
        return self.mask.visible(times, rows * columns)

    @property
    def stride(self) -> int:
        """The student sees each so-many-th frame: one for each tubelet of the second teacher."""
        return self.mae_teacher.size.tubelet // self.student.tubelet if self.mae_teacher else 1

    def batch(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row of the batch."""
        size, struct = self.student, jax.ShapeDtypeStruct
        times, rows, columns = size.grid
        spec = {
            "index": struct((), jnp.uint32),
            "video": struct((size.frames * self.stride, *size.image, 3), jnp.uint8),
        }
        if self.mask.kind == "attention" and not self.clip_teacher:
            spec["attention"] = struct((times, rows * columns), jnp.float32)
        if self.clip and not self.clip_teacher:
            shape = (self.clip.layers, 1 + size.patches, self.clip.width)
            spec["clip"] = struct(shape, jnp.float32)
        if self.pooled and not self.clip_teacher:
            spec["pooled"] = struct((self.pooled.width,), jnp.float32)
        if self.mae and not self.mae_teacher:
            spec["mae"] = struct((self.mae.layers, size.patches, self.mae.width), jnp.float32)
        return spec

    def _init(self, student: Student, key: jax.Array) -> Params:
        teachers = {"clip_teacher": self.clip_teacher, "mae_teacher": self.mae_teacher}
        fresh = {
            name: teacher.init(jax.random.fold_in(key, number))
            for number, (name, teacher) in enumerate(teachers.items())
            if teacher
        }
        return init_student(student, key) | fresh

    def _flops(self, student: Student) -> dict[str, float]:
        parts = flops.with_backward(flops.student_forward(student, self.visible))
        if self.clip_teacher:
            parts["clip_teacher"] = self.clip_teacher.flops(self.student.frames)
        if self.mae_teacher:
            parts["mae_teacher"] = self.mae_teacher.flops()
        return parts

    def _check(self) -> None:
        size = self.student
        check_encoder("student", size)
        for name, heads in (("clip", self.clip), ("mae", self.mae)):
            try:
                _ = heads.taps(size.depth) if heads else ()
            except ValueError as error:
                raise UserError(f"stage.{name}: {error}; lower layers or interval") from None
        self.mask.check()
        if self.clip_teacher:
            self.clip_teacher.check(size, self.clip, self.pooled)
        if self.mae_teacher:
            self.mae_teacher.check(size, self.mae)

    def _loss(
        self, student: Student, teachers: Mapping[str, Any], params: Params, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        visible, targets = self.task(teachers, params, batch, key)
        keys = sample_keys(key, batch["index"], "drop_path")
        keep = drop_path(keys, self.drop_path, self.student.depth)
        video = batch["video"][:, :: self.stride]
        output = cast(StudentOutput, student.apply({"params": params}, video, visible, keep))
        if self.targets == "all":
            # Without a barrier the compiler would gather first, and store no more than the other form.
            output, targets = jax.lax.optimization_barrier((output, targets))
            tokens = {"clip": visible, "mae": visible[:, 1:] - 1}
            targets |= {name: at_tokens(targets[name], at) for name, at in tokens.items() if name in targets}
        terms: Metrics = {name: alignment_loss(getattr(output, name), t) for name, t in targets.items()}
        total = sum((getattr(self.weights, name) * term for name, term in terms.items()), jnp.float32(0))
        return total, terms

    def task(
        self, teachers: Mapping[str, Any], params: Params, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Targets]:
        """Visible tokens (B, 1 + n), and what is to be predicted there (at all tokens if `targets` is all).

        The clip teacher goes first, for its attention guides the mask. The barriers have its features
        gathered before anything else begins, so that those of all tokens are not in memory beside it.
        """
        taught = self.taught(teachers, params, batch, key)
        visible = self.draw(batch, key, taught)
        kept = visible if self.targets == "visible" else self._all(len(visible))
        targets: Targets = {}
        if self.clip:
            targets["clip"] = features_at(taught, kept, self.clip.norm)
        if self.pooled:
            targets["pooled"] = normalised(taught.pooled, self.pooled.norm)
        video, kept, targets = jax.lax.optimization_barrier((batch["video"], kept, targets))
        if self.mae:
            features = self._mae_features(teachers, params, {**batch, "video": video}, kept[:, 1:] - 1)
            targets["mae"] = normalised(features, self.mae.norm)
        return jax.lax.optimization_barrier((visible, targets))

    def _all(self, batch: int) -> jax.Array:
        tokens = 1 + self.student.patches
        return jnp.broadcast_to(jnp.arange(tokens), (batch, tokens))

    def taught(self, teachers: Mapping[str, Any], params: Params, batch: Batch, key: jax.Array) -> Taught:
        """What the clip teacher says of all tokens, or what the batch holds in its place."""
        if self.clip_teacher:
            frames, encoder = batch["video"][:, :: self.stride], teachers["clip_teacher"]
            return self.clip_teacher.teach(encoder, params["clip_teacher"], frames, batch["index"], key)
        clip = jnp.moveaxis(batch["clip"], 1, 0) if self.clip else None
        cls, streams = (None, None) if clip is None else (clip[:, :, :1], clip[:, :, None])
        return Taught(cls, streams, batch.get("pooled"), batch.get("attention"))

    def _mae_features(
        self, teachers: Mapping[str, Any], params: Params, batch: Batch, wanted: jax.Array
    ) -> jax.Array:
        if self.mae_teacher is None:
            return at_tokens(jnp.moveaxis(batch["mae"], 1, 0), wanted)
        return self.mae_teacher.teach(teachers["mae_teacher"], params["mae_teacher"], batch["video"], wanted)

    def draw(self, batch: Batch, key: jax.Array, taught: Taught) -> jax.Array:
        """Visible tokens (B, 1 + n), by the teacher's attention if the mask asks for it."""
        times, rows, columns = self.student.grid
        keys = sample_keys(key, batch["index"], "mask")
        attention = taught.attention if self.mask.kind == "attention" else None
        return self.mask.draw(keys, times, rows * columns, attention)
