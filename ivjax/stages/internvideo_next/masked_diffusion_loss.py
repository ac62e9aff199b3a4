"""The loss of InternVideo-Next's stage 1: teacher, mask, its features where it sees, noise where not."""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo_next.student import NextModel, NextStudentOutput, NoisyPatches
from ivjax.models.segments import encode_segments
from ivjax.models.teaching import at_tokens
from ivjax.models.tower import VideoTower
from ivjax.ops.cut import Params
from ivjax.ops.diffusion import STEPS, denoising_terms, noisy
from ivjax.ops.losses import alignment_loss, l2_normalise
from ivjax.ops.masking import gather_tokens, hidden_from, places_of
from ivjax.ops.randomness import drop_path, sample_keys
from ivjax.ops.video import patchify, resize_frames, standardise
from ivjax.stages.internvideo_next.masked_diffusion import MaskedDiffusion
from ivjax.stages.masking import draw_mask
from ivjax.stages.objective import Batch, Medium, Metrics, Objective


class TeacherFeatures(NamedTuple):
    """What the teacher says of clips of T times with L patches."""

    streams: jax.Array  # (K, B, T*L, C), the inputs of its layers
    pooled: jax.Array  # (B, D), the mean over segments of unit vectors, not of unit length itself
    attention: jax.Array  # (B, T, L) float32, the weight of each patch in the pooling


class HiddenPixels(NamedTuple):
    """The hidden patches (B, m), their pixels (B, m, D), and the noise (B, m, D) of timesteps (B, m)."""

    places: jax.Array
    pixels: jax.Array
    noise: jax.Array
    times: jax.Array


def build(stage: MaskedDiffusion, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batch."""
    # Nothing of a teacher is differentiated, so nothing of it is computed again.
    teacher = stage.teacher.size.build(
        Compute(compute.dtype, scan=compute.scan), stage.teacher.taps(stage.clip.layers)
    )
    parts = DiffusionObjective(stage, stage.model(compute), teacher)
    undropped = dataclasses.replace(parts, stage=dataclasses.replace(stage, drop_path=0.0))
    size, struct = stage.student, jax.ShapeDtypeStruct
    clip = {"index": struct((), jnp.uint32), "video": struct((size.frames, *size.image, 3), jnp.uint8)}
    return Objective(
        init=parts.init,
        loss=parts.loss,
        eval_loss=undropped.loss,
        media={"video": Medium(clip, size.class_tokens + stage.visible, stage.flops())},
        rules=stage.rules,
        frozen=("teacher",),
        grid=size.table_grid,
    )


@dataclass(frozen=True)
class DiffusionObjective:
    """The stage with its models.

    Attributes:
        stage: the stage's options.
        student: the model that is trained.
        teacher: the frozen tower.
    """

    stage: MaskedDiffusion
    student: NextModel
    teacher: VideoTower

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters of student and teacher."""
        return self.student.init(key) | {"teacher": self.teacher.init(jax.random.fold_in(key, 0))}

    def loss(self, params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        """The weighted sum of the terms, and the terms."""
        stage, video, index = self.stage, batch["video"], batch["index"]
        features = self.features(params, video)
        times, rows, columns = stage.student.grid
        keys = sample_keys(key, index, "mask")
        attention = features.attention if stage.mask.kind == "attention" else None
        # The mask counts one class token.
        visible = draw_mask(stage.mask, keys, times, rows * columns, attention)[:, 1:] - 1
        targets = TeacherFeatures(
            l2_normalise(at_tokens(features.streams, visible)), features.pooled, features.attention
        )
        # Only the features that are compared stay in memory beside the student.
        video, visible, targets = jax.lax.optimization_barrier((video, visible, targets))
        hidden = self.hidden_pixels(video, visible, sample_keys(key, index, "diffusion"))
        keep = drop_path(sample_keys(key, index, "drop_path"), stage.drop_path, stage.student.depth)
        return self.compared(self.predict(params, video, visible, hidden, keep), targets, hidden)

    def features(self, params: Params, video: jax.Array) -> TeacherFeatures:
        """Returns the teacher's features of all patches of clips."""
        size = self.teacher.size
        seen = video if video.shape[2:4] == size.image else resize_frames(video, size.image)
        found = encode_segments(self.teacher, params["teacher"], seen)
        streams = found.streams[:, :, :, size.class_tokens :]
        assert found.attention is not None
        return TeacherFeatures(
            streams.reshape(*streams.shape[:2], -1, streams.shape[-1]),
            mean_of_units(found.encoded.pooled, found.segments),
            found.attention.reshape(len(video), self.stage.student.grid[0], -1),
        )

    def hidden_pixels(self, video: jax.Array, visible: jax.Array, keys: jax.Array) -> HiddenPixels:
        """Returns the patches that are not `visible` (B, n), with noise drawn by the clips' keys (B,)."""
        size, repeats = self.stage.student, self.stage.repeats
        places = places_of(hidden_from(visible, size.patches), size.patches - visible.shape[1])
        pixels = jnp.tile(pixels_at(video, places, size.tubelet, size.patch), (1, repeats, 1))
        shape = pixels.shape[1:]

        def drawn(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            time_key, noise_key = jax.random.split(key)
            return jax.random.randint(time_key, shape[:1], 0, STEPS), jax.random.normal(noise_key, shape)

        times, noise = jax.vmap(drawn)(keys)
        return HiddenPixels(jnp.tile(places, (1, repeats)), pixels, noise, times)

    def predict(
        self,
        params: Params,
        video: jax.Array,
        visible: jax.Array,
        hidden: HiddenPixels,
        keep: jax.Array | None = None,
    ) -> NextStudentOutput:
        """Returns the student's predictions."""
        patches = NoisyPatches(hidden.places, noisy(hidden.pixels, hidden.noise, hidden.times), hidden.times)
        return self.student.predict(params, video, visible, patches, keep)

    def compared(
        self, output: NextStudentOutput, targets: TeacherFeatures, hidden: HiddenPixels
    ) -> tuple[jax.Array, Metrics]:
        """Returns the weighted sum of the terms, and the terms; `targets` are at the visible patches."""
        error, bits = denoising_terms(hidden.pixels, hidden.noise, hidden.times, output.noise)
        terms = {
            "clip": alignment_loss(output.clip, targets.streams),
            "pooled": alignment_loss(output.pooled, targets.pooled),
            "diffusion": jnp.mean(error + bits),
        }
        total = sum(
            (getattr(self.stage.weights, name) * term for name, term in terms.items()), jnp.float32(0)
        )
        return total, terms


def mean_of_units(pooled: jax.Array, segments: int) -> jax.Array:
    """Pooled features (B * S, D) as unit vectors, averaged over the segments of a clip: (B, D)."""
    units = l2_normalise(pooled)
    return units.reshape(-1, segments, units.shape[-1]).mean(1)


def pixels_at(video: jax.Array, places: jax.Array, tubelet: int, patch: int) -> jax.Array:
    """Normalised pixels (B, m, D) of patches `places` (B, m), in the order time, colour, row, column."""
    patches = standardise(gather_tokens(patchify(video, tubelet, patch), places)).astype(jnp.float32)
    # Colours before rows, as torch's pixel_unshuffle orders them: the decoder's weights know that order.
    apart = patches.reshape(*places.shape, tubelet, patch, patch, 3)
    return jnp.moveaxis(apart, -1, 3).reshape(patches.shape)
