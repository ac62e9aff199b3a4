"""Two towers that embed clips and texts in one space: any video tower beside any text tower."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.dual_size import DualSize
from ivjax.models.segments import Segmented, encode_segments
from ivjax.models.tower import Encoded, TextTower, VideoEncoder, VideoTower
from ivjax.ops.cut import Params
from ivjax.ops.losses import l2_normalise


class _Pair(nn.Module):
    """Both towers' modules under one root, so that fresh parameters are drawn by their path in it."""

    vision: nn.Module
    text: nn.Module

    def __call__(self, video: tuple, text: tuple) -> None:
        self.vision(*video)
        self.text(*text)


@dataclass(frozen=True)
class DualTower(VideoEncoder):
    """Both towers, and what their loss learns: a temperature, and a bias if it is given where to start.

    Parameters are a dict of `vision`, `text`, `temperature` and, if wanted, `bias`. Clips of more frames than
    the video tower's own are read segment by segment, and what the segments pool is averaged.

    Attributes:
        size: both towers' sizes.
        vision: the video tower.
        text: the text tower.
        temperature: where the temperature starts.
        bias: where the bias of the logits starts (None: there is none).
    """

    size: DualSize
    vision: VideoTower
    text: TextTower
    temperature: float = 0.01
    bias: float | None = None

    @property
    def frames(self) -> int:
        """Frames of the clips that it reads."""
        return self.size.clip_frames

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.size.vision.image

    @property
    def class_tokens(self) -> int:
        """Tokens of a clip that go before its patches."""
        return self.size.vision.class_tokens

    @property
    def pools(self) -> bool:
        """A clip's embedding is what it pools."""
        return True

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        drawn = _Pair(self.vision.module, self.text.module).init(
            key, self.vision.example(), self.text.example()
        )["params"]
        params = {
            "vision": self.vision.rescaled(drawn["vision"]),
            "text": self.text.rescaled(drawn["text"]),
            # The temperature itself, not its logarithm as in CLIP: the originals learn it
            # so, and clamp it at each step.
            "temperature": jnp.asarray(self.temperature, jnp.float32),
        }
        return params if self.bias is None else params | {"bias": jnp.asarray(self.bias, jnp.float32)}

    def video(
        self,
        params: Params,
        video: jax.Array,
        visible: jax.Array | None = None,
        keep: jax.Array | None = None,
    ) -> jax.Array:
        """Clips (B, T, H, W, 3) -> embeddings (B, out), not normalised.

        visible (B * segments, n) are patches that are seen, and keep (depth, 2, B * segments) drop-path
        multipliers, of each segment of the clips.
        """
        pooled = self._segmented(params, video, visible, keep).pooled
        assert pooled is not None
        return pooled

    def words(self, params: Params, ids: jax.Array) -> jax.Array:
        """Token ids (B, L) -> embeddings (B, out), not normalised."""
        return self.text.encode(params["text"], ids)

    def unit_video(self, params: Params, video: jax.Array) -> jax.Array:
        """Clips (B, T, H, W, 3) -> embeddings (B, out) of unit length, whose products are cosines."""
        return l2_normalise(self.video(params, video))

    def unit_words(self, params: Params, ids: jax.Array) -> jax.Array:
        """Token ids (B, L) -> embeddings (B, out) of unit length."""
        return l2_normalise(self.words(params, ids))

    def tokens(self, params: Params, video: jax.Array) -> jax.Array:
        """Clips (B, T, H, W, 3) -> the last states of all tokens (B, n, width), class tokens first."""
        return self._segmented(params, video).tokens

    def encode(self, params: Params, video: jax.Array) -> Encoded:
        """The video tower on whole clips, as a VideoTower's `encode`."""
        found = self._segmented(params, video)
        return Encoded(found.tokens, None, found.pooled, None)

    def _segmented(
        self,
        params: Params,
        video: jax.Array,
        visible: jax.Array | None = None,
        keep: jax.Array | None = None,
    ) -> Segmented:
        return encode_segments(self.vision, params["vision"], video, visible, keep)


def build(
    size: DualSize, compute: Compute, temperature: float = 0.01, bias: float | None = None
) -> DualTower:
    """Returns the pair of a size; see DualSize.build."""
    return DualTower(size, size.vision.build(compute), size.text.build(compute), temperature, bias)
