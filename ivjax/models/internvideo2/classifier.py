"""An InternVideo2 encoder with a classifier on top, for fine-tuning and for probes."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Remat
from ivjax.models.internvideo2.encoder import Encoded, Encoder, EncoderSize, init_encoder
from ivjax.models.layers import AttentionPool, Block, dense, gelu, layer_norm, mean_over, remat, run_blocks

Merge = Literal["proj", "cls_avg1", "cls_avgN", "cls_avg1_proj", "cls_avgN_proj"]
MergeNorm = Literal["layer", "batch", "batch_plain"]

STATISTICS = "statistics"  # the collection of what training has to keep of its batches


@dataclass(frozen=True)
class ClassifierSize:
    """What shapes a classifier.

    merge: what the head sees. `proj` is the pooled feature; `cls_avg1` the class token and the mean patch,
    `cls_avgN` the class token and the mean patch of each temporal position, brought to the pooled width;
    with `_proj` the pooled feature as well. merge_norm: how merged tokens are normalised: LayerNorm, batch
    norm, or batch norm without scale and bias. extra_mlp: the attentive probe's MLP on the pooled feature.
    """

    encoder: EncoderSize
    classes: int
    extra_mlp: bool = False
    merge: Merge = "proj"
    merge_norm: MergeNorm = "layer"

    @property
    def features(self) -> int:
        """Width of what the head sees."""
        size = self.encoder
        merged = {"avg1": 2 * size.width, "avgN": (1 + size.grid[0]) * size.pool_width}
        pooled = size.pool_width if "proj" in self.merge else 0
        return pooled + next((width for name, width in merged.items() if name in self.merge), 0)


class BatchNorm(nn.Module):
    """Batch norm of tokens (B, n, C) over clips and tokens, in float32.

    In training it normalises by the batch, over all devices, and sows the batch's mean and unbiased
    variance under its own name; else by the running ones, which are parameters that only the step changes.
    """

    affine: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        x, shape = x.astype(jnp.float32), x.shape[-1:]
        mean = self.param("mean", nn.initializers.zeros, shape)
        variance = self.param("variance", nn.initializers.ones, shape)
        if training:
            count = x.shape[0] * x.shape[1]
            mean, variance = x.mean((0, 1)), x.var((0, 1))
            self._keep("mean", mean)
            self._keep("variance", variance * count / max(count - 1, 1))
        x = (x - mean) * jax.lax.rsqrt(variance + (1e-5 if self.affine else 1e-6))
        if not self.affine:
            return x
        scale = self.param("scale", nn.initializers.ones, shape)
        return x * scale + self.param("bias", nn.initializers.zeros, shape)

    def _keep(self, name: str, value: jax.Array) -> None:
        self.sow(STATISTICS, name, jax.lax.stop_gradient(value), lambda _, new: new, lambda: 0)


class ExtraMlp(nn.Module):
    """The attentive probe's addition to the pooled feature: LayerNorm and an MLP, erf GELU."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, C) -> (B, C)."""
        width = x.shape[-1]
        hidden = dense(4 * width, self.dtype, "fc1")(layer_norm("norm", self.dtype)(x))
        return dense(width, self.dtype, "fc2")(gelu(hidden, "erf"))


class Classifier(nn.Module):
    """Clips to logits. The branch `encoder` of its parameters is an `Encoder`'s, so the same weights fit.

    `dropout` is the share of the head's inputs that is dropped in training.
    """

    size: ClassifierSize
    dropout: float = 0.0
    remat: Remat = "none"
    scan: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        keep: jax.Array | None = None,
        keys: jax.Array | None = None,
        encoded: Encoded | None = None,
    ) -> jax.Array:
        """Logits (B, classes), float32.

        video (B, T, H, W, 3), keep (depth, 2, B) drop-path multipliers. keys (B,): of dropout, given in
        training alone. encoded: what the encoder makes of the clips, instead of these.
        """
        if encoded is None:
            encoded = encoder_of(self, name="encoder")(video, None, keep)
        pooled = encoded.pooled
        if self.size.extra_mlp:
            pooled = pooled + ExtraMlp(self.dtype, name="extra_mlp")(pooled)
        features = layer_norm("fc_norm", jnp.float32)(pooled)
        if self.size.merge != "proj":
            merged = self._merged(encoded.tokens, keys is not None)
            features = jnp.concatenate([merged, features], -1) if "proj" in self.size.merge else merged
        if keys is not None and self.dropout:
            features = dropped(features, keys, self.dropout)
        return dense(self.size.classes, self.dtype, "head")(features).astype(jnp.float32)

    def _merged(self, tokens: jax.Array, training: bool) -> jax.Array:
        """(B, 1 + N, C) -> (B, features without the pooled one), float32."""
        size = self.size.encoder
        times = 1 if "avg1" in self.size.merge else size.grid[0]
        patches = tokens[:, 1:].reshape(len(tokens), times, -1, size.width)
        means = mean_over(patches, axis=2)
        merged = jnp.concatenate([tokens[:, :1], means], axis=1)
        if "avgN" in self.size.merge:
            merged = gelu(dense(size.pool_width, self.dtype, "down")(merged), "erf")
        if self.size.merge_norm == "layer":
            return layer_norm("down_norm", jnp.float32)(merged).reshape(len(tokens), -1)
        norm = BatchNorm(self.size.merge_norm == "batch", name="down_norm")
        # The originals' batch norm wants channels before tokens, and their head's kernel keeps that order.
        return norm(merged, training).swapaxes(1, 2).reshape(len(tokens), -1)


def encoder_of(classifier: Classifier, **options: Any) -> Encoder:
    """A classifier's encoder."""
    c = classifier
    return Encoder(c.size.encoder, (), c.remat, c.scan, c.dtype, **options)


def dropped(x: jax.Array, keys: jax.Array, rate: float) -> jax.Array:
    """x (B, C) without a share `rate` of its entries, the others enlarged; each row by its own key."""
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0)


class Upper(nn.Module):
    """The last blocks of an encoder and its pooling, on the residual stream before them."""

    size: EncoderSize
    remat: Remat = "none"
    scan: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array | None) -> Encoded:
        """x (B, n, C), keep (depth, 2, B)."""
        size = self.size
        block = remat(Block, self.remat)(
            size.heads, size.mlp_width, size.layer_scale, size.gelu, self.dtype, name="blocks"
        )
        x, taps = run_blocks(block, size.depth, x, keep, (), self.scan)
        pool = AttentionPool(size.pool_heads, size.pool_width, self.dtype, name="clip_projector")
        return Encoded(x, taps, *pool(x))


def encode_above(
    classifier: Classifier, params: Any, video: jax.Array, keep: jax.Array | None, frozen: int
) -> Encoded:
    """What the encoder makes of clips, without a backward pass through its first `frozen` blocks.

    The blocks are one stack, and a scan goes backward through all of its layers or none, so it is cut in two.
    """
    size = classifier.size.encoder

    def layers(first: int, last: int) -> Any:
        blocks = jax.tree.map(lambda leaf: leaf[first:last], params["blocks"])
        return {"params": {**params, "blocks": blocks}}, None if keep is None else keep[first:last]

    below, keep_below = layers(0, frozen)
    lower = encoder_of(classifier).clone(size=replace(size, depth=frozen), remat="none")
    stream = lower.apply(jax.lax.stop_gradient(below), video, None, keep_below).tokens  # type: ignore[union-attr]
    above, keep_above = layers(frozen, size.depth)
    upper = Upper(
        replace(size, depth=size.depth - frozen), classifier.remat, classifier.scan, classifier.dtype
    )
    return upper.apply(above, jax.lax.stop_gradient(stream), keep_above)  # type: ignore[return-value]


def init_classifier(classifier: Classifier, key: jax.Array, head_scale: float = 1e-3) -> dict[str, Any]:
    """Fresh float32 parameters as plain nested dicts; the head's are multiplied by `head_scale`."""
    size = classifier.size.encoder
    below, above = jax.random.split(key)
    tokens = jnp.zeros((1, 1 + size.patches, size.width))
    encoded = Encoded(tokens, tokens[None], jnp.zeros((1, size.pool_width)), tokens[:, :, 0])
    params = classifier.init(above, None, encoded=encoded)["params"]
    params["head"] = jax.tree.map(lambda leaf: head_scale * leaf, params["head"])
    if classifier.size.extra_mlp:
        # The probe starts as if it had no MLP.
        params["extra_mlp"]["fc2"] = jax.tree.map(jnp.zeros_like, params["extra_mlp"]["fc2"])
    return params | {"encoder": _fresh_encoder(encoder_of(classifier), below)}


# Compiled, so that classifiers which differ above the encoder alone trace it once.
_fresh_encoder = jax.jit(init_encoder, static_argnums=0)
