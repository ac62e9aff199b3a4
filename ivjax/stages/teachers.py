"""The teachers of stage 1 as an experiment describes them, and what they ask of the step."""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models import flops
from ivjax.models.internvideo2.encoder import Encoder, EncoderSize, init_encoder
from ivjax.models.internvideo2.student import FeatureHeads, PooledHead
from ivjax.models.internvideo2.teachers import Taught, teach
from ivjax.models.layers import tapped_layers
from ivjax.models.videomae.encoder import VideoMaeEncoder, VideoMaeSize, init_videomae
from ivjax.ops.randomness import drop_path, sample_keys
from ivjax.stages.objective import Params


@dataclass(frozen=True)
class ClipTeacher:
    """An InternVideo2 encoder, or of one frame InternVL-C's image tower, whose last layers are predicted.

    The layers are the last one and back by `interval`, as many as there are heads; or those of `chosen`.
    `drop_path` above 0 makes the targets random, as those of the originals' distillation were by oversight
    (0.25).
    """

    size: EncoderSize
    interval: float = 1.0
    chosen: tuple[int, ...] | None = None
    drop_path: float = 0.0

    def taps(self, heads: FeatureHeads | None) -> tuple[int, ...]:
        """The layers that `heads` predict."""
        return _taps("clip_teacher", self.size.depth, self.interval, self.chosen, heads)

    def model(self, heads: FeatureHeads | None, compute: Compute) -> Encoder:
        """The encoder; nothing is rematerialised, because nothing is differentiated."""
        return Encoder(self.size, self.taps(heads), scan=compute.scan, dtype=jnp.dtype(compute.dtype))

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters."""
        return init_encoder(Encoder(self.size), key)

    def teach(
        self, encoder: Encoder, params: Params, video: jax.Array, index: jax.Array, key: jax.Array
    ) -> Taught:
        """Features of clips (B, T, H, W, 3), whose global places are `index` (B,), at all tokens."""
        parts = video.shape[1] // self.size.frames
        keep = drop_path(sample_keys(key, index, "teacher"), self.drop_path, self.size.depth)
        if keep is not None:
            keep = jnp.repeat(keep, parts, axis=-1)
        return teach(encoder, params, video, keep)

    def check(self, student: EncoderSize, heads: FeatureHeads | None, pooled: PooledHead | None) -> None:
        """Raises if a student's tokens or heads have no counterpart in this teacher's."""
        size, frames = self.size, student.frames
        self.taps(heads)
        parts, rest = divmod(frames, size.frames)
        grid = (parts * size.grid[0], *size.grid[1:])
        if rest or grid != student.grid or size.image != student.image:
            raise UserError(
                f"stage.clip_teacher.size reads {frames} frames as {grid} patches of {size.image}, and "
                f"stage.student as {student.grid} of {student.image}; make them equal"
            )
        _check_width("clip", heads.width if heads else None, "clip_teacher.size.width", size.width)
        _check_width(
            "pooled", pooled.width if pooled else None, "clip_teacher.size.pool_width", size.pool_width
        )

    def flops(self, frames: int) -> float:
        """Forward per clip of `frames` frames."""
        return frames // self.size.frames * sum(flops.encoder_forward(self.size).values())


@dataclass(frozen=True)
class MaeTeacher:
    """A VideoMAE encoder whose last layers are predicted; it may see more frames than the student."""

    size: VideoMaeSize
    interval: float = 1.0
    chosen: tuple[int, ...] | None = None

    def taps(self, heads: FeatureHeads | None) -> tuple[int, ...]:
        """The layers that `heads` predict."""
        return _taps("mae_teacher", self.size.depth, self.interval, self.chosen, heads)

    def model(self, heads: FeatureHeads | None, compute: Compute) -> VideoMaeEncoder:
        """The encoder; nothing is rematerialised, because nothing is differentiated."""
        return VideoMaeEncoder(self.size, self.taps(heads), scan=compute.scan, dtype=jnp.dtype(compute.dtype))

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters."""
        return init_videomae(VideoMaeEncoder(self.size), key)

    def teach(
        self, encoder: VideoMaeEncoder, params: Params, video: jax.Array, wanted: jax.Array | None
    ) -> jax.Array:
        """Features of clips (B, T, H, W, 3) at patches `wanted` (B, n), or at all: (K, B, n, C)."""
        return cast(Any, encoder.apply({"params": params}, video, wanted=wanted))[1]

    def check(self, student: EncoderSize, heads: FeatureHeads | None) -> None:
        """Raises if a student's tokens or heads have no counterpart in this teacher's."""
        size = self.size
        self.taps(heads)
        rest = size.tubelet % student.tubelet
        if rest or size.grid != student.grid or size.image != student.image:
            raise UserError(
                f"stage.mae_teacher.size reads {size.frames} frames as {size.grid} patches of {size.image}, "
                f"and stage.student {student.frames} as {student.grid} of {student.image}; make them equal"
            )
        _check_width("mae", heads.width if heads else None, "mae_teacher.size.width", size.width)

    def flops(self) -> float:
        """Forward per clip."""
        return sum(flops.videomae_forward(self.size).values())


def _check_width(heads: str, width: int | None, name: str, size: int) -> None:
    if width is not None and width != size:
        raise UserError(f"stage.{heads}.width={width} and stage.{name}={size} differ; make them equal")


def _taps(
    name: str, depth: int, interval: float, chosen: tuple[int, ...] | None, heads: FeatureHeads | None
) -> tuple[int, ...]:
    try:
        return tapped_layers(depth, heads.layers, interval, chosen) if heads else ()
    except ValueError as error:
        raise UserError(f"stage.{name}: {error}; change the heads' layers, or interval, or chosen") from None
