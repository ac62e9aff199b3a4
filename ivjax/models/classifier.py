"""A video tower with a classifier on top, for fine-tuning and for probes."""

from dataclasses import dataclass
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.batch_norm import STATISTICS, BatchNorm
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.layers import dense, gelu, layer_norm, mean_over
from ivjax.models.tower import Encoded, VideoTower
from ivjax.ops import hico
from ivjax.ops.cut import Params
from ivjax.ops.randomness import dropout
from ivjax.ops.trees import paths_of


class ExtraMlp(nn.Module):
    """The attentive probe's addition to the pooled feature: LayerNorm and an MLP, erf GELU."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, C) -> (B, C)."""
        width = x.shape[-1]
        hidden = dense(4 * width, self.dtype, "fc1")(layer_norm("norm", self.dtype)(x))
        return dense(width, self.dtype, "fc2")(gelu(hidden, "erf"))


class ClassifierHead(nn.Module):
    """From what a video tower makes of clips to logits."""

    size: ClassifierSize
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, encoded: Encoded, keys: jax.Array | None = None) -> jax.Array:
        """Logits (B, classes), float32. `keys` (B,) are those of dropout, given in training alone."""
        pooled = encoded.pooled
        if pooled is None:
            pooled = mean_over(encoded.tokens[:, self.size.encoder.class_tokens :], axis=1)
        if self.size.extra_mlp:
            pooled = pooled + ExtraMlp(self.dtype, name="extra_mlp")(pooled)
        features = layer_norm("fc_norm", jnp.float32)(pooled)
        if self.size.merge != "proj":
            merged = self._merged(encoded.tokens, keys is not None)
            features = jnp.concatenate([merged, features], -1) if "proj" in self.size.merge else merged
        if keys is not None and self.dropout:
            features = dropout(keys, features, self.dropout)
        return dense(self.size.classes, self.dtype, "head")(features).astype(jnp.float32)

    def _merged(self, tokens: jax.Array, training: bool) -> jax.Array:
        """(B, class tokens + N, C) -> (B, features without the pooled one), float32."""
        size = self.size.encoder
        times = 1 if "avg1" in self.size.merge or size.grid is None else size.grid[0]
        patches = tokens[:, size.class_tokens :].reshape(len(tokens), times, -1, size.width)
        if self.size.frame_tokens is not None:
            frames = patches.reshape(-1, *patches.shape[2:])
            kept = hico.merge(frames, self.size.frame_tokens, self.size.merge_heads).tokens
            patches = kept.reshape(*patches.shape[:2], *kept.shape[1:])
        means = mean_over(patches, axis=2)
        if self.size.merge == "avgN_maxN":
            both = jnp.concatenate([means, patches.max(axis=2)], axis=-1).reshape(len(tokens), -1)
            return layer_norm("down_norm", jnp.float32)(both)
        merged = jnp.concatenate([tokens[:, :1], means], axis=1)
        if "avgN" in self.size.merge:
            merged = gelu(dense(self.size.pooled, self.dtype, "down")(merged), "erf")
        if self.size.merge_norm == "layer":
            return layer_norm("down_norm", jnp.float32)(merged).reshape(len(tokens), -1)
        norm = BatchNorm(self.size.merge_norm == "batch", name="down_norm")
        # The originals' batch norm wants channels before tokens, and their head's kernel keeps that order.
        return norm(merged, training).swapaxes(1, 2).reshape(len(tokens), -1)


@dataclass(frozen=True)
class Classifier:
    """Clips to logits: a video tower, whose parameters lie below `encoder`, and a head beside that branch.

    Attributes:
        size: its size.
        tower: the video tower.
        head: what lies between the tower and the logits.
    """

    size: ClassifierSize
    tower: VideoTower
    head: ClassifierHead

    def init(self, key: jax.Array, head_scale: float = 1e-3) -> Params:
        """Fresh float32 parameters as plain nested dicts; the head's are multiplied by `head_scale`."""
        size = self.size.encoder
        below, above = jax.random.split(key)
        tokens = jnp.zeros((1, size.class_tokens + size.patches, size.width))
        pooled = None if size.out is None else jnp.zeros((1, size.out))
        params = self.head.init(above, Encoded(tokens, None, pooled, None))["params"]
        # The bias too, which is zero already here: the originals scale both.
        params["head"] = jax.tree.map(lambda leaf: head_scale * leaf, params["head"])
        if self.size.extra_mlp:
            # The probe starts as if it had no MLP.
            params["extra_mlp"]["fc2"] = jax.tree.map(jnp.zeros_like, params["extra_mlp"]["fc2"])
        return params | {"encoder": _fresh_encoder(self.tower, below)}

    def logits(self, params: Params, video: jax.Array) -> jax.Array:
        """Clips (B, T, H, W, 3) -> logits (B, classes), float32."""
        return self.classify(params, self.tower.encode(params["encoder"], video))[0]

    def classify(
        self, params: Params, encoded: Encoded, keys: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Logits (B, classes) of encoded clips, and what training has to keep of the batch, by path.

        keys (B,): those of dropout, given in training alone.
        """
        # Without the encoder, of which the head's module knows nothing.
        head = {name: branch for name, branch in params.items() if name != "encoder"}
        logits, sown = self.head.apply({"params": head}, encoded, keys, mutable=[STATISTICS])
        return cast(jax.Array, logits), dict(paths_of(sown.get(STATISTICS, {})))


def build(size: ClassifierSize, compute: Compute, dropout: float = 0.0) -> Classifier:
    """Returns the classifier of a size; see ClassifierSize.build."""
    head = ClassifierHead(size, dropout, jnp.dtype(compute.dtype))
    return Classifier(size, size.encoder.build(compute), head)


# Compiled, so that classifiers which differ above the encoder alone trace it once.
_fresh_encoder = jax.jit(lambda tower, key: tower.init(key), static_argnums=0)
