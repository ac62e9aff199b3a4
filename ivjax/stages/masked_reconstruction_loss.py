"""The loss of stage 1: teachers, mask, targets at the visible tokens, student."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2.student import StudentModel
from ivjax.models.sizes import VideoTowerSize
from ivjax.models.teaching import ClipFeatures, at_tokens, clip_features, features_at, normalised
from ivjax.models.tower import VideoTower
from ivjax.ops.cut import Params
from ivjax.ops.losses import alignment_loss
from ivjax.ops.randomness import drop_path, sample_keys
from ivjax.ops.video import resize_frames
from ivjax.stages.masked_reconstruction import MaskedReconstruction
from ivjax.stages.masking import draw_mask
from ivjax.stages.objective import Batch, Medium, Metrics, Objective

Targets = dict[str, jax.Array]

# Without a teacher its features are wanted in the batch, which only a field of one's own gives.
_REMEDIES = {
    "attention": "stage.mask.kind=random (or stage.clip_teacher, whose attention guides the mask)",
    "clip": "stage.clip=none",
    "pooled": "stage.pooled=none",
    "mae": "stage.mae=none",
}


def build(stage: MaskedReconstruction, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batch."""
    reconstruction = reconstruction_of(stage, compute)
    evaluated = dataclasses.replace(reconstruction, stage=_without_drops(stage))
    tokens = 1 + stage.visible
    return Objective(
        init=reconstruction.init,
        loss=reconstruction.loss,
        eval_loss=evaluated.loss,
        media={"video": Medium(batch_of(stage), tokens, stage.flops(), _REMEDIES)},
        rules=stage.rules,
        # By name of the branch, which covers all that lies below it.
        frozen=tuple(stage.teachers()),
        grid=stage.student.grid,
    )


def reconstruction_of(stage: MaskedReconstruction, compute: Compute) -> "Reconstruction":
    """Returns the stage with its models built."""
    teachers: dict[str, VideoTower] = {}
    if stage.clip_teacher:
        teachers["clip_teacher"] = stage.clip_teacher.model(stage.clip, compute)
    if stage.mae_teacher:
        teachers["mae_teacher"] = stage.mae_teacher.model(stage.mae, compute)
    return Reconstruction(stage, stage.model(compute), teachers)


def _without_drops(stage: MaskedReconstruction) -> MaskedReconstruction:
    """The stage in evaluation: neither student nor teacher drops paths."""
    teacher = stage.clip_teacher and dataclasses.replace(stage.clip_teacher, drop_path=0.0)
    return dataclasses.replace(stage, drop_path=0.0, clip_teacher=teacher)


def batch_of(stage: MaskedReconstruction) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of one row of the batch."""
    size, struct = stage.student, jax.ShapeDtypeStruct
    times, rows, columns = size.grid
    spec = {
        "index": struct((), jnp.uint32),
        "video": struct((size.frames * stage.stride, *size.image, 3), jnp.uint8),
    }
    # What a teacher would say may come with the batch instead, computed once and stored.
    if stage.mask.kind == "attention" and not stage.clip_teacher:
        spec["attention"] = struct((times, rows * columns), jnp.float32)
    if stage.clip and not stage.clip_teacher:
        # Clips lead in a batch, layers in the models: hence the moveaxis where these are read.
        shape = (stage.clip.layers, 1 + size.patches, stage.clip.width)
        spec["clip"] = struct(shape, jnp.float32)
    if stage.pooled and not stage.clip_teacher:
        spec["pooled"] = struct((stage.pooled.width,), jnp.float32)
    if stage.mae and not stage.mae_teacher:
        spec["mae"] = struct((stage.mae.layers, size.patches, stage.mae.width), jnp.float32)
    return spec


@dataclass(frozen=True)
class Reconstruction:
    """The stage with its models.

    Attributes:
        stage: the stage's options.
        student: the model that is trained.
        teachers: the frozen towers, by branch of the parameter tree.
    """

    stage: MaskedReconstruction
    student: StudentModel
    teachers: Mapping[str, VideoTower]

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters of student and teachers."""
        # A teacher's key goes by its place among both kinds of teachers, whether or not the other is there.
        numbers = {"clip_teacher": 0, "mae_teacher": 1}
        fresh = {n: t.init(jax.random.fold_in(key, numbers[n])) for n, t in self.teachers.items()}
        return self.student.init(key) | fresh

    def loss(self, params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        """The weighted sum of the terms, and the terms."""
        stage = self.stage
        # The targets come first, because the teacher's attention decides what the student sees.
        visible, targets = self.targets(params, batch, key)
        keys = sample_keys(key, batch["index"], "drop_path")
        keep = drop_path(keys, stage.drop_path, stage.student.depth)
        video = batch["video"][:, :: stage.stride]
        output = self.student.predict(params, video, visible, keep)
        if stage.targets == "all":
            # Without a barrier the compiler would gather first, and store no more than the other form.
            output, targets = jax.lax.optimization_barrier((output, targets))
            tokens = {"clip": visible, "mae": visible[:, 1:] - 1}
            targets |= {name: at_tokens(targets[name], at) for name, at in tokens.items() if name in targets}
        terms: Metrics = {name: alignment_loss(getattr(output, name), t) for name, t in targets.items()}
        # Starts from a float32 zero, because without any heads the sum would be
        # Python's 0, which has no gradient.
        total = sum((getattr(stage.weights, name) * term for name, term in terms.items()), jnp.float32(0))
        return total, terms

    def targets(self, params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Targets]:
        """Visible tokens (B, 1 + n), and what is to be predicted there (at all tokens if `targets` is all).

        The clip teacher goes first, for its attention guides the mask. The barriers have its features
        gathered before anything else begins, so that those of all tokens are not in memory beside it.
        """
        stage = self.stage
        features = self.clip_features(params, batch, key)
        visible = self.draw(batch, key, features)
        kept = visible if stage.targets == "visible" else self._all(len(visible))
        targets: Targets = {}
        if stage.clip:
            targets["clip"] = features_at(features, kept, stage.clip.norm)
        if stage.pooled:
            targets["pooled"] = normalised(features.pooled, stage.pooled.norm)
        video, kept, targets = jax.lax.optimization_barrier((batch["video"], kept, targets))
        if stage.mae:
            found = self._mae_features(params, {**batch, "video": video}, kept[:, 1:] - 1)
            targets["mae"] = normalised(found, stage.mae.norm)
        return jax.lax.optimization_barrier((visible, targets))

    def clip_features(self, params: Params, batch: Batch, key: jax.Array) -> ClipFeatures:
        """Returns the clip teacher's features of all tokens, or those that the batch holds instead."""
        stage, teacher = self.stage, self.stage.clip_teacher
        if teacher:
            video = _resized_for(teacher.size, batch["video"][:, :: stage.stride])
            keep = drop_path(
                sample_keys(key, batch["index"], "teacher"), teacher.drop_path, teacher.size.depth
            )
            if keep is not None:
                # All segments of a clip drop the same branches: the draw is one per clip.
                keep = jnp.repeat(keep, teacher.segments(video.shape[1]), axis=-1)
            return clip_features(self.teachers["clip_teacher"], params["clip_teacher"], video, keep)
        clip = jnp.moveaxis(batch["clip"], 1, 0) if stage.clip else None
        cls, streams = (None, None) if clip is None else (clip[:, :, :1], clip[:, :, None])
        return ClipFeatures(cls, streams, batch.get("pooled"), batch.get("attention"))

    def _mae_features(self, params: Params, batch: Batch, wanted: jax.Array) -> jax.Array:
        """Features (K, B, n, C) at the patches `wanted` (B, n)."""
        teacher = self.stage.mae_teacher
        if teacher is None:
            return at_tokens(jnp.moveaxis(batch["mae"], 1, 0), wanted)
        video = _resized_for(teacher.size, batch["video"])
        tower = self.teachers["mae_teacher"]
        # The whole clip is encoded, as in the originals; only the tokens that are compared leave the tower.
        taps = tower.encode(params["mae_teacher"], video, wanted=wanted).taps
        return cast(jax.Array, taps[:, :, teacher.size.class_tokens :])

    def draw(self, batch: Batch, key: jax.Array, features: ClipFeatures) -> jax.Array:
        """Draws visible tokens (B, 1 + n), by the teacher's attention if the mask asks for it."""
        times, rows, columns = self.stage.student.grid
        keys = sample_keys(key, batch["index"], "mask")
        attention = features.attention if self.stage.mask.kind == "attention" else None
        return draw_mask(self.stage.mask, keys, times, rows * columns, attention)

    def _all(self, batch: int) -> jax.Array:
        tokens = 1 + self.stage.student.patches
        return jnp.broadcast_to(jnp.arange(tokens), (batch, tokens))


def _resized_for(size: VideoTowerSize, video: jax.Array) -> jax.Array:
    """Clips (B, T, H, W, 3) at the height and width that a teacher reads; unchanged where they are these."""
    return video if video.shape[2:4] == size.image else resize_frames(video, size.image)
