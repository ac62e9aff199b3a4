"""The stage-1 student: the InternVideo2 encoder and the heads that predict its teachers' features."""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2.encoder import Encoder, PositionTable, with_scaled_residuals
from ivjax.models.internvideo2.sizes import FeatureHeads, Head, Norm, StudentSize
from ivjax.models.layers import dense, gelu, layer_norm
from ivjax.ops.cut import Params
from ivjax.ops.losses import l2_normalise


class StudentOutput(NamedTuple):
    """The student's predictions. Without token heads a field is None; without a pooled head `pooled` is the
    encoder's own pooled feature."""

    clip: jax.Array | None  # (K, B, 1 + n, width)
    pooled: jax.Array  # (B, width)
    mae: jax.Array | None  # (K, B, n, width)


class Decoder(nn.Module):
    """linear: Linear, LayerNorm. mlp: Linear, erf GELU, Linear, LayerNorm. Then `norm`."""

    width: int
    head: Head
    norm: Norm
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., C) -> (..., width), float32."""
        if self.head == "mlp":
            hidden = gelu(dense(x.shape[-1], self.dtype, "fc1")(x), "erf")
            x = dense(self.width, self.dtype, "fc2")(hidden)
        else:
            x = dense(self.width, self.dtype, "head")(x)
        # In float32, because the loss compares it with features that are nearly the same.
        x = layer_norm("norm", jnp.float32)(x)
        return l2_normalise(x) if self.norm == "l2" else x


def per_layer(heads: FeatureHeads, dtype: Any, name: str | None = None) -> nn.Module:
    """One Decoder per tapped layer, parameters and inputs stacked on a leading axis."""
    # One batched product for all layers instead of one each, and parameters in one
    # array, as the blocks have them.
    stacked = nn.vmap(Decoder, variable_axes={"params": 0}, split_rngs={"params": True})
    return stacked(heads.width, heads.head, heads.norm, dtype, name=name)


class Student(nn.Module):
    """Encodes the visible tokens and predicts teacher features at them."""

    size: StudentSize
    compute: Compute

    @nn.compact
    def __call__(self, video: jax.Array, visible: jax.Array, keep: jax.Array | None = None) -> StudentOutput:
        """video (B, T, H, W, 3), visible (B, 1 + n) with token 0 first, keep (depth, 2, B)."""
        heads, size, dtype = self.size, self.size.encoder, jnp.dtype(self.compute.dtype)
        clip_taps = heads.clip.taps(size.depth) if heads.clip else ()
        mae_taps = heads.mae.taps(size.depth) if heads.mae else ()
        taps = tuple(sorted({*clip_taps, *mae_taps}))
        _, tapped, pooled, _ = Encoder(size, self.compute, taps, name="encoder")(video, visible, keep)

        def features(layers: tuple[int, ...]) -> jax.Array:
            # Indexing would copy all streams even where it takes every one.
            return tapped if layers == taps else tapped[jnp.array([taps.index(i) for i in layers])]

        def table(name: str, cls: bool) -> jax.Array:
            return PositionTable(size.grid, size.width, size.positions, cls, name=name)()[0]

        clip = mae = None
        if heads.clip:
            where = table("clip_pos_embed", cls=True)[visible].astype(dtype)
            clip = per_layer(heads.clip, dtype, "clip_decoder")(features(clip_taps) + where)
        if heads.mae:
            where = table("mae_pos_embed", cls=False)[visible[:, 1:] - 1].astype(dtype)
            mae = per_layer(heads.mae, dtype, "mae_decoder")(features(mae_taps)[:, :, 1:] + where)
        if head := heads.pooled:
            final = Decoder(head.width, head.head, head.norm, dtype, name="final_clip_decoder")
            pooled = final(pooled)
        return StudentOutput(clip, pooled, mae)


@dataclass(frozen=True)
class StudentModel:
    """The student as a model: a frozen size and a Flax module; parameters are passed in.

    Attributes:
        size: its size.
        module: the module whose parameters `init` draws.
    """

    size: StudentSize
    module: Student

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        size = self.size.encoder
        video = jnp.zeros((1, size.frames, *size.image, 3))
        # The class token and one patch: the pixel teacher's heads see patches alone, and there has to be one.
        params = self.module.init(key, video, jnp.array([[0, 1]]))["params"]
        return params | {"encoder": with_scaled_residuals(params["encoder"])}

    def predict(
        self, params: Params, video: jax.Array, visible: jax.Array, keep: jax.Array | None = None
    ) -> StudentOutput:
        """Returns the heads' predictions at the visible tokens (B, 1 + n) of clips (B, T, H, W, 3)."""
        return cast(StudentOutput, self.module.apply({"params": params}, video, visible, keep))


def build(size: StudentSize, compute: Compute) -> StudentModel:
    """Returns the student of a size; see StudentSize.build."""
    return StudentModel(size, Student(size, compute))
