"""What the two stages of InternVideo-Next train: the encoder with a predictor, and heads on both."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2.encoder import with_scaled_residuals
from ivjax.models.internvideo2.student import Decoder, per_layer
from ivjax.models.internvideo_next.diffusion import PatchDenoiser
from ivjax.models.internvideo_next.encoder import NextEncoder, clip_table, learned_table
from ivjax.models.internvideo_next.sizes import LatentPredictorSize, NextSize, NextStudentSize
from ivjax.models.modernbert import ModernBertSize
from ivjax.models.modernbert.network import ModernBertLayers
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain
from ivjax.ops.masking import gather_tokens, with_class_tokens


class NextStudentOutput(NamedTuple):
    """Predictions of stage 1. n patches are visible and m hidden."""

    clip: jax.Array  # (K, B, n, width) of the teacher's layers, at the visible patches
    pooled: jax.Array  # (B, width) of its pooled feature
    noise: jax.Array  # (B, m, 2 * pixels) of the noise in the hidden patches, and of its variance


class NoisyPatches(NamedTuple):
    """The hidden patches (B, m) of clips, in noise (B, m, pixels) of timesteps (B, m)."""

    places: jax.Array
    pixels: jax.Array
    times: jax.Array


class _Predicting(nn.Module):
    """The part that both stages share; `size` has an encoder and a predictor."""

    size: Any
    compute: Compute

    def _predicted(self, tokens: jax.Array, visible: jax.Array) -> jax.Array:
        """The encoder's tokens (B, c + n, C) -> the predictor's (B, N, D) at all patches of a clip.

        visible (B, n): the patches that are seen, none twice; numbers beyond the last patch stand for none.
        """
        size: NextSize = self.size.encoder
        predictor: ModernBertSize = self.size.predictor
        count, dtype = size.class_tokens, jnp.dtype(self.compute.dtype)
        blank = self.param("mask_token", nn.initializers.normal(0.02), (1, 1, size.width)).astype(dtype)
        whole = jnp.broadcast_to(blank, (len(tokens), size.patches, size.width))
        whole = constrain(whole, "batch", None, None)
        # Without the promise of uniqueness the gradient would look up, number by number, which one was last.
        place = jax.vmap(lambda x, at, seen: x.at[at].set(seen, mode="drop", unique_indices=True))
        whole = place(whole, visible, tokens[:, count:])
        x = jnp.concatenate([tokens[:, :count], whole], axis=1)
        x = x + clip_table(learned_table(self, "predictor_pos_embed", size), size).astype(dtype)
        x = Decoder(predictor.width, "mlp", "none", dtype, name="to_predictor")(x).astype(dtype)
        return ModernBertLayers(predictor, self.compute, name="predictor")(x)[:, count:]


class NextStudent(_Predicting):
    """Stage 1: features of a teacher at the visible patches, and the noise in the hidden ones."""

    size: NextStudentSize

    @nn.compact
    def __call__(
        self, video: jax.Array, visible: jax.Array, hidden: NoisyPatches, keep: jax.Array | None = None
    ) -> NextStudentOutput:
        """video (B, T, H, W, 3), visible (B, n) patches, keep (depth, 2, B)."""
        heads, size, dtype = self.size, self.size.encoder, jnp.dtype(self.compute.dtype)
        count = size.class_tokens
        encoder = NextEncoder(size, self.compute, heads.clip.taps(size.depth), name="encoder")
        tokens, taps, pooled, _ = encoder(video, with_class_tokens(visible, count), keep)
        where = clip_table(learned_table(self, "clip_pos_embed", size), size)[0, count:][visible]
        clip = per_layer(heads.clip, dtype, "clip_decoder")(taps[:, :, count:] + where.astype(dtype))
        final = Decoder(
            heads.pooled.width, heads.pooled.head, heads.pooled.norm, dtype, name="final_clip_decoder"
        )
        condition = gather_tokens(self._predicted(tokens, visible), hidden.places)
        denoise = PatchDenoiser(heads.diffusion, self.compute, name="diffusion")
        return NextStudentOutput(clip, final(pooled), denoise(hidden.pixels, hidden.times, condition))


class LatentPredictor(_Predicting):
    """Stage 2: features of all patches, from those that are seen."""

    size: LatentPredictorSize

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        visible: jax.Array,
        seen: jax.Array | None = None,
        keep: jax.Array | None = None,
    ) -> jax.Array:
        """video (B, T, H, W, 3), visible (B, n), seen (B, n) bool or None, keep -> (B, N, C) of unit length.

        Clips that see fewer than n patches fill up with others, for which `seen` is false: these stand in
        the batch for its static shape alone.
        """
        size, dtype = self.size.encoder, jnp.dtype(self.compute.dtype)
        segments = None
        if seen is not None:
            first = jnp.ones((len(visible), size.class_tokens), bool)
            segments = jnp.concatenate([first, seen], axis=1).astype(jnp.int32)
        encoder = NextEncoder(size, self.compute, name="encoder")
        shown = with_class_tokens(visible, size.class_tokens)
        tokens = encoder(video, shown, keep, None, segments).tokens
        beyond = size.patches + jnp.arange(visible.shape[1])
        places = visible if seen is None else jnp.where(seen, visible, beyond)
        predicted = self._predicted(tokens, places)
        return Decoder(size.width, "mlp", "l2", dtype, name="latent_decoder")(predicted)


@dataclass(frozen=True)
class NextModel:
    """What a stage trains: a frozen size and a Flax module; parameters are passed in.

    Attributes:
        size: its size.
        module: the module whose parameters `init` draws.
    """

    size: Any
    module: nn.Module

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        params = self.module.init(key, *self._example())["params"]
        return params | {"encoder": with_scaled_residuals(params["encoder"])}

    def predict(self, params: Params, *inputs: Any) -> Any:
        """Returns what the module predicts of its inputs."""
        return self.module.apply({"params": params}, *inputs)

    def _example(self) -> tuple[Any, ...]:
        size = self.size.encoder
        video, first = jnp.zeros((1, size.frames, *size.image, 3)), jnp.zeros((1, 1), jnp.int32)
        if isinstance(self.size, LatentPredictorSize):
            return video, first
        pixels = jnp.zeros((1, 1, 3 * size.tubelet * size.patch**2))
        return video, first, NoisyPatches(first, pixels, first)


def build_student(size: NextStudentSize, compute: Compute) -> NextModel:
    """Returns stage 1's model of a size; see NextStudentSize.build."""
    return NextModel(size, NextStudent(size, compute))


def build_latent(size: LatentPredictorSize, compute: Compute) -> NextModel:
    """Returns stage 2's model of a size; see LatentPredictorSize.build."""
    return NextModel(size, LatentPredictor(size, compute))
