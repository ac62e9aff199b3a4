"""BEATs: patches of a filter bank through post-norm blocks with gated relative positions."""

import math
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ivjax.experiment.computing import Compute
from ivjax.models.beats.sizes import BeatsSize
from ivjax.models.layers import KERNEL_STD, Mlp, QueryKeyValue, dense, gelu, layer_norm
from ivjax.models.stacks import enter_block, scan_layers
from ivjax.models.tower import AudioTower
from ivjax.ops.contrastive import scale_gradient
from ivjax.ops.layout import constrain

_normal = nn.initializers.normal(KERNEL_STD)


def distance_classes(tokens: int, buckets: int, distance: int) -> np.ndarray:
    """The class of the distance from each token to each other: (tokens, tokens), the query first."""
    half = buckets // 2
    exact = half // 2
    far = np.arange(tokens)[None, :] - np.arange(tokens)[:, None]
    away = np.abs(far)
    # In float32, as the original: a logarithm on the border of two classes is cut the same way.
    log = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(distance / exact)
    )
    beyond = np.minimum(exact + (log * np.float32(half - exact)).astype(np.int64), half - 1)
    return np.where(far > 0, half, 0) + np.where(away < exact, away, beyond)


class PlaceConvolution(nn.Module):
    """A convolution along the tokens, which tells places; each tap's kernel has a length of its own."""

    size: BeatsSize
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, L, C) -> (B, L, C)."""
        size, taps = self.size, self.size.place_taps
        shape = (taps, size.width // size.place_groups, size.width)
        kernel = self.param("kernel", nn.initializers.normal((4 / (taps * size.width)) ** 0.5), shape)
        scale = self.param("scale", lambda _: jnp.sqrt(jnp.sum(jnp.square(kernel), (1, 2))))
        bias = self.param("bias", nn.initializers.zeros, (size.width,))
        # A kernel's direction and length are apart, as weight norm has them.
        unit = kernel * jax.lax.rsqrt(jnp.sum(jnp.square(kernel), axis=(1, 2), keepdims=True))
        kernel = (unit * scale[:, None, None]).astype(self.dtype)
        # An even number of taps is padded by one too many, and what comes out last is dropped.
        found = jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(1,),
            padding=[(taps // 2, taps // 2)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=size.place_groups,
        )[:, : x.shape[1]]
        return gelu(found + bias.astype(self.dtype), "erf")


class SoundAttention(nn.Module):
    """Self-attention whose logits have a bias by distance, which each query gates."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array, gate_scale: jax.Array) -> jax.Array:
        """x (B, L, C), bias (H, L, L), gate_scale (H,) -> (B, L, C)."""
        q, k, v = QueryKeyValue(self.dtype, bias=True, name="qkv")(x)
        q, k, v = (y.reshape(*y.shape[:2], self.heads, -1) for y in (q, k, v))
        q, k, v = (constrain(y, "batch", None, "heads", None) for y in (q, k, v))
        gates = dense(8, self.dtype, "gate")(q).astype(jnp.float32)
        gates = jax.nn.sigmoid(gates.reshape(*gates.shape[:3], 2, 4).sum(-1))
        factor = gates[..., 0] * (gates[..., 1] * gate_scale - 1.0) + 2.0
        # Spelled out: the bias differs by clip, and no fused kernel takes one.
        logits = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32)
        logits = logits * q.shape[-1] ** -0.5 + factor.swapaxes(1, 2)[..., None] * bias
        weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
        out = jnp.einsum("bhnm,bmhd->bnhd", weights, v).reshape(x.shape)
        return dense(x.shape[-1], self.dtype, "proj")(out)


class SoundBlock(nn.Module):
    """Post-norm block whose residual stream is scaled up by the depth of the network."""

    size: BeatsSize
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        """x (B, L, C), bias (H, L, L) -> (B, L, C)."""
        size, x = self.size, enter_block(scale_gradient(x, self.size.gradient_decay))
        alpha = (2.0 * size.depth) ** 0.25
        scale = self.param("gate_scale", nn.initializers.ones, (size.heads,))
        attended = SoundAttention(size.heads, self.dtype, name="attn")(x, bias, scale)
        x = layer_norm("norm1", self.dtype)(alpha * x + attended)
        hidden = Mlp(size.mlp_width, size.width, "erf", self.dtype, name="mlp")(x)
        return layer_norm("norm2", self.dtype)(alpha * x + hidden)


class Beats(nn.Module):
    """A filter bank as tokens."""

    size: BeatsSize
    compute: Compute

    @nn.compact
    def __call__(self, sound: jax.Array) -> jax.Array:
        """sound (B, frames, bins), normalised -> tokens (B, n, C), time first."""
        size, dtype, side = self.size, jnp.dtype(self.compute.dtype), self.size.patch
        kernel = self.param("patch_embed", _patches, (side, side, size.patch_width))["kernel"]
        times, bins = sound.shape[1] // side, sound.shape[2] // side
        # Frames that fill no patch are left out.
        patches = sound[:, : times * side, : bins * side].reshape(-1, times, side, bins, side)
        patches = patches.transpose(0, 1, 3, 2, 4).reshape(len(sound), times * bins, side * side)
        x = patches.astype(dtype) @ kernel.reshape(side * side, -1).astype(dtype)
        x = dense(size.width, dtype, "proj")(layer_norm("norm_patches", dtype)(x))
        x = layer_norm("norm", dtype)(x + PlaceConvolution(size, dtype, name="places")(x))
        table = self.param("distances", _normal, (size.buckets, size.heads))
        classes = distance_classes(x.shape[1], size.buckets, size.distance)
        bias = table[classes].transpose(2, 0, 1)
        block = SoundBlock(size, dtype, parent=None)
        stack = self.param("blocks", _stack, SoundBlock(size, parent=None), x, bias)

        def layer(x: jax.Array, params: Any) -> jax.Array:
            return cast(jax.Array, block.apply({"params": params}, x, bias))

        return scan_layers(layer, x, stack, self.compute)


def _patches(key: jax.Array, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    return {"kernel": _normal(key, shape)}


def _stack(key: jax.Array, block: SoundBlock, x: jax.Array, bias: jax.Array) -> Any:
    """Parameters of all blocks, each by a key of its own."""
    x = jnp.zeros((1, *x.shape[1:]))
    draw = lambda key: block.init(key, x, bias)["params"]  # noqa: E731
    return jax.vmap(draw)(jax.random.split(key, block.size.depth))


def build(size: BeatsSize, compute: Compute) -> AudioTower:
    """Returns the tower of a size; see BeatsSize.build."""
    return AudioTower(size, Beats(size, compute))
