"""Stage 2's model: its towers and heads together. Evals read it as a pair of towers."""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.cross_modal.heads import Heads, Predicted
from ivjax.models.cross_modal.sizes import CrossModalSize
from ivjax.models.layers import mean_over
from ivjax.models.media_towers import MediaTowers, MediumFeatures
from ivjax.models.segments import encode_segments
from ivjax.models.sizes import Compared
from ivjax.models.tower import AudioTower, Encoded
from ivjax.ops.cut import Params


@dataclass(frozen=True)
class CrossModalTowers(MediaTowers):
    """Towers of clips, texts and maybe sounds, and what joins them.

    Parameters are a dict of `vision`, `text`, `audio` if there is one, `temperature`, and the heads.

    Attributes:
        size: all sizes.
        audio: the audio tower (None: there is none).
        heads: projections, judges of pairs, heads that predict a teacher.
    """

    size: CrossModalSize
    audio: AudioTower | None = None
    heads: Heads | None = None

    @property
    def media(self) -> tuple[Compared, ...]:
        """See MediaTowers."""
        heard: tuple[Compared, ...] = () if self.audio is None else ("audio",)
        return ("video", *heard, "both") if self.size.fused else ("video", *heard)

    @property
    def judged(self) -> tuple[Compared, ...]:
        """See MediaTowers."""
        return self.size.matches

    @property
    def sound_shape(self) -> tuple[int, int] | None:
        """See MediaTowers."""
        return None if self.size.audio is None else (self.size.audio.frames, self.size.audio.bins)

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        assert self.heads is not None
        heads = self.heads.init(jax.random.fold_in(key, 1))["params"]
        audio = {"audio": self.audio.init(jax.random.fold_in(key, 2))} if self.audio else {}
        return super().init(key) | audio | heads

    def video(
        self,
        params: Params,
        video: jax.Array,
        visible: jax.Array | None = None,
        keep: jax.Array | None = None,
    ) -> jax.Array:
        """Clips (B, T, H, W, 3) -> embeddings (B, out), not normalised."""
        return self.head("video", params, self._read(params, video, visible, keep).pooled)

    def hear(self, params: Params, sound: jax.Array) -> jax.Array:
        """Filter banks (B, frames, bins) -> the audio tower's tokens (B, n, C)."""
        assert self.audio is not None
        return self.audio.encode(params["audio"], sound)

    def encode(self, params: Params, video: jax.Array) -> Encoded:
        """The video tower on whole clips, with their embedding as `pooled`."""
        found = self._read(params, video)
        return found._replace(pooled=self.head("video", params, found.pooled))

    def tokens(self, params: Params, video: jax.Array) -> jax.Array:
        """Clips (B, T, H, W, 3) -> the last states of all tokens (B, n, width), class tokens first."""
        return cast(jax.Array, self._read(params, video).tokens)

    def features(
        self, params: Params, medium: Compared, video: jax.Array | None, sound: jax.Array | None
    ) -> MediumFeatures:
        """See MediaTowers."""
        embeddings: dict[Compared, jax.Array] = {}
        tokens = []
        # Sound goes first, in tokens and in embeddings, as in the original.
        if sound is not None:
            heard = self.hear(params, sound)
            embeddings["audio"] = self.head("audio", params, heard)
            tokens.append(self.head("heard", params, heard))
        if video is not None:
            read = self._read(params, video)
            embeddings["video"] = self.head("video", params, read.pooled)
            tokens.append(self.head("seen", params, read.tokens))
        if medium == "both":
            embeddings["both"] = self.head("both", params, embeddings["audio"], embeddings["video"])
        return MediumFeatures(embeddings[medium], jnp.concatenate(tokens, axis=1))

    def read(self, params: Params, ids: jax.Array) -> jax.Array:
        """See MediaTowers."""
        text: Any = self.text
        return cast(jax.Array, text.read(params["text"], ids))

    def judge(
        self, params: Params, states: jax.Array, ids: jax.Array, seen: jax.Array, medium: Compared = "video"
    ) -> jax.Array:
        """See MediaTowers."""
        text: Any = self.text
        fused = text.fuse(params["text"], states, ids, seen)
        return self.head("match", params, fused[:, 0], medium)

    def predicted(
        self, params: Params, taps: jax.Array, pooled: jax.Array, visible: jax.Array, frames: int
    ) -> Predicted:
        """See Heads.predicted."""
        assert self.heads is not None
        found = self.heads.apply({"params": params}, taps, pooled, visible, frames, method="predicted")
        return cast(Predicted, found)

    def head(self, method: str, params: Params, *arguments: Any) -> jax.Array:
        """Calls a method of the heads."""
        assert self.heads is not None
        return cast(jax.Array, self.heads.apply({"params": params}, *arguments, method=method))

    def _read(
        self,
        params: Params,
        video: jax.Array,
        visible: jax.Array | None = None,
        keep: jax.Array | None = None,
    ) -> Encoded:
        """The video tower on whole clips, which may be longer than its own."""
        if self.audio is None or video.shape[1] <= self.size.vision.frames:
            found = encode_segments(self.vision, params["vision"], video, visible, keep)
            return Encoded(found.tokens, None, found.pooled, None)
        # The released audio-visual model deals the frames of a longer clip to its segments in turn, and
        # averages what they give.
        segments = video.shape[1] // self.size.vision.frames
        dealt = video.reshape(len(video), -1, segments, *video.shape[2:]).swapaxes(1, 2)
        found = encode_segments(self.vision, params["vision"], dealt.reshape(video.shape), visible, keep)
        tokens = found.encoded.tokens
        tokens = mean_over(tokens.reshape(len(video), segments, *tokens.shape[1:]), axis=1)
        return Encoded(tokens, None, found.pooled, None)


def build(size: CrossModalSize, compute: Compute, temperature: float = 0.07) -> CrossModalTowers:
    """Returns the model of a size; see CrossModalSize.build."""
    # The taps are those of the heads that predict a teacher; who does without them asks for none.
    return CrossModalTowers(
        size,
        size.vision.build(compute),
        size.text.build(compute),
        temperature,
        None,
        size.audio.build(compute) if size.audio else None,
        Heads(size, compute),
    )
