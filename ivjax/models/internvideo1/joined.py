"""Two classifiers whose towers read each other: InternVideo 1's cross-model attention.

No code of it was ever released. The paper describes it: both branches are trained first and then frozen; what
joins them starts closed, so that training begins from the scores of both.
"""

from dataclasses import dataclass
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.classifier import Classifier
from ivjax.models.internvideo1.joined_size import JoinedSize
from ivjax.models.layers import Mlp, dense, layer_norm
from ivjax.models.tower import Encoded, VideoTower
from ivjax.models.videomae.encoder import VideoMaeTower
from ivjax.ops.attention import attend
from ivjax.ops.cut import Params
from ivjax.ops.video import resize_frames


class GatedReading(nn.Module):
    """Tokens read others by attention, then pass an MLP; gates of both begin at zero: nothing is added."""

    heads: int
    mlp_ratio: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """x (B, N, C), context (B, M, D) -> (B, N, C)."""
        width, dtype = x.shape[-1], self.dtype
        normed, context = layer_norm("norm1", dtype)(x), layer_norm("norm_context", dtype)(context)

        def heads_of(tokens: jax.Array, name: str) -> jax.Array:
            return dense(width, dtype, name)(tokens).reshape(*tokens.shape[:2], self.heads, -1)

        found = attend(heads_of(normed, "q"), heads_of(context, "k"), heads_of(context, "v"))
        x = x + self._gate("gate1") * dense(width, dtype, "proj")(found.reshape(x.shape))
        mlp = Mlp(self.mlp_ratio * width, width, "erf", dtype, name="mlp")
        return x + self._gate("gate2") * mlp(layer_norm("norm2", dtype)(x))

    def _gate(self, name: str) -> jax.Array:
        return jnp.tanh(self.param(name, nn.initializers.zeros, ())).astype(self.dtype)


@dataclass(frozen=True)
class JoinedClassifier(Classifier):
    """Both classifiers, and what joins them.

    Parameters are a dict of `masked` and `multimodal`, each with its encoder and head, of `cross` (a reading
    for each place, stacked), `back`, and `mix`.

    Attributes:
        size: its size.
        tower: the first tower.
        head: the first head.
        masked: the first classifier.
        multimodal: the second one, whose tower has taps on the blocks that are read.
        compute: the options of the computation.
    """

    size: JoinedSize  # type: ignore[assignment]
    masked: Classifier
    multimodal: Classifier
    compute: Compute

    def init(self, key: jax.Array, head_scale: float = 1e-3) -> Params:
        """Fresh float32 parameters as plain nested dicts; the heads' are multiplied by `head_scale`."""
        keys = jax.random.split(key, 4)
        first, second = self.size.masked.encoder, self.size.multimodal
        reading, states = self._reading(), jnp.zeros((1, 1, first.width))
        each = jax.random.split(keys[2], len(self.size.places))
        tokens = jnp.zeros((1, 1, second.encoder.width))
        return {
            "masked": self.masked.init(keys[0], head_scale),
            "multimodal": self.multimodal.init(keys[1], head_scale),
            "cross": jax.vmap(lambda key: reading.init(key, states, tokens)["params"])(each),
            "back": reading.init(keys[3], jnp.zeros((1, 1, second.pooled)), states)["params"],
            # The mean of both scores.
            "mix": jnp.full((2,), 0.5),
        }

    def logits(self, params: Params, video: jax.Array) -> jax.Array:
        """Clips (B, T, H, W, 3) -> logits (B, classes), float32."""
        return self.mixed(params, *self.scores(params, video))

    def mixed(self, params: Params, first: jax.Array, second: jax.Array) -> jax.Array:
        """The learned combination of both scores (B, classes)."""
        return params["mix"][0] * first + params["mix"][1] * second

    def scores(
        self, params: Params, video: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Logits of the first and of the second classifier; keys (B,) are those of dropout."""
        first, second = params["masked"], params["multimodal"]
        seen = self.multimodal.tower.encode(second["encoder"], self._second_clip(video))
        tokens = self._interrupted(params, first["encoder"], video, seen.taps)
        pooled = seen.pooled[:, None]
        read: Any = self._reading().apply({"params": params["back"]}, pooled, tokens)
        return (
            self.masked.classify(first, Encoded(tokens, None, None, None), keys)[0],
            self.multimodal.classify(second, seen._replace(pooled=read[:, 0]), keys)[0],
        )

    def _interrupted(self, params: Params, encoder: Params, video: jax.Array, read: jax.Array) -> jax.Array:
        """The first tower's tokens, which have read the streams `read` (places, B, M, D) on their way."""
        tower, reading, done = cast(VideoMaeTower, self.tower), self._reading(), 0
        x = tower.entering(encoder, video)
        for number, place in enumerate(self.size.places):
            x = tower.through(encoder, x, done, place + 1)
            own = jax.tree.map(lambda leaf, n=number: leaf[n], params["cross"])
            x = cast(jax.Array, reading.apply({"params": own}, x, read[number]))
            done = place + 1
        return tower.leaving(encoder, tower.through(encoder, x, done, self.size.masked.encoder.depth))

    def _reading(self) -> GatedReading:
        return GatedReading(self.size.heads, self.size.mlp_ratio, jnp.dtype(self.compute.dtype))

    def _second_clip(self, video: jax.Array) -> jax.Array:
        frames, image = video[:, :: self.size.stride], self.size.multimodal.encoder.image
        return frames if frames.shape[2:4] == image else resize_frames(frames, image)


def build(size: JoinedSize, compute: Compute, dropout: float = 0.0) -> JoinedClassifier:
    """Returns the joined classifiers of a size; see JoinedSize.build."""
    first = size.masked.build(compute, dropout)
    second = size.multimodal.build(compute, dropout)
    tapped: VideoTower = size.multimodal.encoder.build(compute, size.read)
    second = Classifier(second.size, tapped, second.head)
    return JoinedClassifier(size, first.tower, first.head, first, second, compute)
