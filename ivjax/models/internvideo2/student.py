"""The stage-1 student: the InternVideo2 encoder and the heads that predict its teachers' features."""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute, Remat
from ivjax.models.internvideo2.encoder import Encoder, PositionTable, with_scaled_residuals
from ivjax.models.internvideo2.sizes import EncoderSize, FeatureHeads, Head, Norm, PooledHead, StudentSize
from ivjax.models.layers import dense, gelu, layer_norm
from ivjax.models.tower import Params
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


def _per_layer(heads: FeatureHeads, dtype: Any, name: str) -> nn.Module:
    """One Decoder per tapped layer, parameters and inputs stacked on a leading axis."""
    # One batched product for all layers instead of one each, and parameters in one
    # array, as the blocks have them.
    stacked = nn.vmap(Decoder, variable_axes={"params": 0}, split_rngs={"params": True})
    return stacked(heads.width, heads.head, heads.norm, dtype, name=name)


class Student(nn.Module):
    """Encodes the visible tokens and predicts teacher features at them."""

    size: EncoderSize
    clip: FeatureHeads | None
    pooled: PooledHead | None
    mae: FeatureHeads | None
    remat: Remat = "none"
    scan: bool = True
    dtype: Any = jnp.float32
    remat_blocks: int | None = None

    @nn.compact
    def __call__(self, video: jax.Array, visible: jax.Array, keep: jax.Array | None = None) -> StudentOutput:
        """video (B, T, H, W, 3), visible (B, 1 + n) with token 0 first, keep (depth, 2, B)."""
        depth = self.size.depth
        clip_taps = self.clip.taps(depth) if self.clip else ()
        mae_taps = self.mae.taps(depth) if self.mae else ()
        taps = tuple(sorted({*clip_taps, *mae_taps}))
        encoder = Encoder(
            self.size, taps, self.remat, self.scan, self.dtype, self.remat_blocks, name="encoder"
        )
        _, tapped, pooled, _ = encoder(video, visible, keep)

        def features(layers: tuple[int, ...]) -> jax.Array:
            # Indexing would copy all streams even where it takes every one.
            return tapped if layers == taps else tapped[jnp.array([taps.index(i) for i in layers])]

        def table(name: str, cls: bool) -> jax.Array:
            size = self.size
            return PositionTable(size.grid, size.width, size.positions, cls, name=name)()[0]

        clip = mae = None
        if self.clip:
            where = table("clip_pos_embed", cls=True)[visible].astype(self.dtype)
            clip = _per_layer(self.clip, self.dtype, "clip_decoder")(features(clip_taps) + where)
        if self.mae:
            where = table("mae_pos_embed", cls=False)[visible[:, 1:] - 1].astype(self.dtype)
            mae = _per_layer(self.mae, self.dtype, "mae_decoder")(features(mae_taps)[:, :, 1:] + where)
        if self.pooled:
            head = self.pooled
            final = Decoder(head.width, head.head, head.norm, self.dtype, name="final_clip_decoder")
            pooled = final(pooled)
        return StudentOutput(clip, pooled, mae)


def init_student(student: Student, key: jax.Array) -> dict[str, Any]:
    """Fresh float32 parameters as plain nested dicts."""
    size = student.size
    video = jnp.zeros((1, size.frames, *size.image, 3))
    # The class token and one patch: the pixel teacher's heads see patches alone, and there has to be one.
    params = student.init(key, video, jnp.zeros((1, 2), jnp.int32).at[0, 1].set(1))["params"]
    return params | {"encoder": with_scaled_residuals(params["encoder"])}


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
        return init_student(self.module, key)

    def predict(
        self, params: Params, video: jax.Array, visible: jax.Array, keep: jax.Array | None = None
    ) -> StudentOutput:
        """Returns the heads' predictions at the visible tokens (B, 1 + n) of clips (B, T, H, W, 3)."""
        return cast(StudentOutput, self.module.apply({"params": params}, video, visible, keep))


def build(size: StudentSize, compute: Compute) -> StudentModel:
    """Returns the student of a size; see StudentSize.build."""
    dtype = jnp.dtype(compute.dtype)
    heads = size.clip, size.pooled, size.mae
    module = Student(size.encoder, *heads, compute.remat, compute.scan, dtype, compute.remat_blocks)
    return StudentModel(size, module)
