"""A vision tower and a Q-Former that embed clips and captions, match them, and say captions word by word."""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.bridge import Bridge
from ivjax.models.cross_attention import EPSILON
from ivjax.models.layers import dense, layer_norm
from ivjax.models.qformer.network import run_layers
from ivjax.models.qformer.pretraining_size import QueryPretrainSize
from ivjax.models.tower import VideoTower
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain
from ivjax.ops.losses import l2_normalise

PAD = 0  # the id that fills captions up


class QueryReading(NamedTuple):
    """What the queries make of clips, and what is said behind them.

    Attributes:
        video: (B, E) float32, the mean of the queries' unit vectors: no unit vector itself.
        said: (B, L, C), states from which each token's next word follows.
    """

    video: jax.Array
    said: jax.Array


class _Heads(nn.Module):
    """Linear layers behind the Q-Former. The words of captions are told apart by the words' embeddings."""

    size: QueryPretrainSize
    dtype: Any = jnp.float32

    def setup(self) -> None:
        hidden, embed = self.size.bridge.hidden, self.size.embed
        self.video, self.text = dense(embed, self.dtype, "video"), dense(embed, self.dtype, "text")
        self.match = dense(2, self.dtype, "match")
        self.caption = dense(hidden, self.dtype, "caption")
        self.caption_norm = layer_norm("caption_norm", self.dtype, EPSILON)
        self.word_bias = self.param("word_bias", nn.initializers.zeros, (self.size.bridge.vocabulary,))

    def embedded(self, queries: jax.Array) -> jax.Array:
        """(B, n, C) -> (B, E) float32."""
        return jnp.mean(l2_normalise(self.video(queries)), axis=1)

    def words(self, first: jax.Array) -> jax.Array:
        """States of the texts' first token (B, C) -> (B, E) float32 of unit length."""
        return l2_normalise(self.text(first))

    def said(self, states: jax.Array) -> jax.Array:
        """(B, L, C) -> (B, L, C), to be compared with the words' embeddings."""
        return cast(jax.Array, self.caption_norm(nn.gelu(self.caption(states), approximate=False)))

    def matched(self, x: jax.Array) -> jax.Array:
        """(B, 2 C) -> logits (B, 2) float32: of no match, and of one."""
        return self.match(x).astype(jnp.float32)

    def draw(self) -> None:
        """Touches all parameters, for `init`."""
        x = jnp.zeros((1, self.size.bridge.hidden))
        (
            self.embedded(x[:, None]),
            self.words(x),
            self.said(x[:, None]),
            self.matched(jnp.zeros((1, 2 * x.size))),
        )


@dataclass(frozen=True)
class QueryPretrainModel:
    """A vision tower and a Q-Former. Parameters lie below `vision`, `bridge` and `heads`, and `temperature`.

    Attributes:
        size: its size.
        tower: the vision tower.
        bridge: the Q-Former.
        compute: precision, and what is computed again in the backward pass.
        temperature: where it starts.
    """

    size: QueryPretrainSize
    tower: VideoTower
    bridge: Bridge
    compute: Compute
    temperature: float

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        vision, bridge, heads, times, queries = jax.random.split(key, 5)
        queried = self.bridge.init(bridge)
        # Of deviation 1, as the originals draw both.
        wide = nn.initializers.truncated_normal(1.0, lower=-2.0, upper=2.0)
        return {
            "vision": self.tower.init(vision),
            "bridge": {
                **{name: branch for name, branch in queried.items() if name != "proj"},
                "query_tokens": wide(queries, queried["query_tokens"].shape),
            },
            "heads": _Heads(self.size).init(heads, method="draw")["params"],
            "time_embed": wide(times, (1, self.size.vision.grid[0], 1, self.size.vision.width)),
            "temperature": jnp.asarray(self.temperature, jnp.float32),
        }

    def see(self, params: Params, video: jax.Array) -> jax.Array:
        """Returns the tower's tokens (B, N, D) of clips (B, T, H, W, 3), with what tells their time."""
        tokens = self.tower.encode(params["vision"], video).tokens
        _, rows, columns = self.size.vision.grid
        first = tokens.shape[1] % (rows * columns)  # class tokens have no time
        patches = tokens[:, first:].reshape(len(tokens), -1, rows * columns, tokens.shape[-1])
        # An image is seen at all times of a clip, as in the originals.
        patches = patches + params["time_embed"].astype(tokens.dtype)
        return jnp.concatenate(
            [tokens[:, :first], patches.reshape(len(tokens), -1, tokens.shape[-1])], axis=1
        )

    def read(
        self, params: Params, seen: jax.Array, ids: jax.Array, keys: jax.Array | None = None
    ) -> QueryReading:
        """Reads the tower's tokens (B, N, D), and says texts (B, L) whose first id starts them.

        `keys` (B,) are those of the rows' dropout here and below, in training.
        """
        size = self.size.bridge
        # One pass for both: queries do not see the words, so they are what they would be without them. The
        # originals keep the queries' keys and values of a pass without words.
        x = jnp.concatenate([self._queries(params, len(ids)), self._words(params, ids)], axis=1)
        x = self._run(params, x, seen, None, keys, said=True)
        video = self._head(params, x[:, : size.queries], "embedded")
        return QueryReading(video, self._head(params, x[:, size.queries :], "said"))

    def text(self, params: Params, ids: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Embeds texts (B, L): (B, E) float32 of unit length."""
        x = self._run(params, self._words(params, ids), None, ids != PAD, keys)
        return self._head(params, x[:, 0], "words")

    def matched(
        self, params: Params, seen: jax.Array, ids: jax.Array, keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits (B, 2) float32 of whether texts (B, L) belong to the tower's tokens (B, N, D)."""
        queries = self._queries(params, len(ids))
        count = queries.shape[1]
        mask = jnp.concatenate([jnp.ones((len(ids), count), bool), ids != PAD], axis=1)
        x = jnp.concatenate([queries, self._words(params, ids)], axis=1)
        x = self._run(params, x, seen, mask, keys)
        return self._head(params, jnp.concatenate([x[:, :count].mean(1), x[:, count]], axis=-1), "matched")

    def word_products(self, params: Params, said: jax.Array) -> tuple[Any, Any]:
        """Returns states and kernels (C, vocabulary) whose products, added up, are the logits."""
        bias = params["heads"]["word_bias"][None]
        return (said, jnp.ones_like(said[..., :1])), (params["bridge"]["word_embed"].T, bias)

    def _queries(self, params: Params, rows: int) -> jax.Array:
        queries = params["bridge"]["query_tokens"]
        return self._normed(params, "norm", jnp.broadcast_to(queries, (rows, *queries.shape[1:])))

    def _words(self, params: Params, ids: jax.Array) -> jax.Array:
        bridge = params["bridge"]
        return self._normed(params, "norm", bridge["word_embed"][ids] + bridge["place_embed"][: ids.shape[1]])

    def _run(
        self,
        params: Params,
        x: jax.Array,
        seen: jax.Array | None,
        mask: jax.Array | None,
        keys: jax.Array | None,
        said: bool = False,
    ) -> jax.Array:
        if seen is not None:
            seen = self._normed(params, "input_norm", seen)
        x = constrain(x, "batch", None, None)
        return run_layers(self.size.bridge, self.compute, params["bridge"], x, seen, mask, said, keys)

    def _normed(self, params: Params, name: str, x: jax.Array) -> jax.Array:
        norm = nn.LayerNorm(EPSILON, dtype=self._dtype)
        return cast(jax.Array, norm.apply({"params": params["bridge"][name]}, x))

    def _head(self, params: Params, x: jax.Array, method: str) -> jax.Array:
        heads = _Heads(self.size, self._dtype)
        return cast(jax.Array, heads.apply({"params": params["heads"]}, x, method=method))

    @property
    def _dtype(self) -> Any:
        return jnp.dtype(self.compute.dtype)


def build(size: QueryPretrainSize, compute: Compute, temperature: float) -> QueryPretrainModel:
    """Returns the model of a size; see QueryPretrainSize.build."""
    tower, bridge = size.vision.build(compute), size.bridge.build(compute)
    return QueryPretrainModel(size, tower, bridge, compute, temperature)
