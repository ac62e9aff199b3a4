"""The projector: joining and merging of tokens, and an MLP on what is left."""

from dataclasses import dataclass, replace
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.bridge import Bridge, Question
from ivjax.models.dialogue.projector_size import ProjectorSize
from ivjax.models.layers import Mlp, layer_norm
from ivjax.models.sizes import Grid
from ivjax.ops import hico
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain
from ivjax.ops.pixel_shuffle import pixel_shuffle


def join_neighbours(size: ProjectorSize, patches: jax.Array) -> jax.Array:
    """Joins squares of patches: (V, F, H, W, C) -> tokens of frames (V, F, L, joined)."""
    if size.shuffle > 1:
        frames = patches.reshape(-1, *patches.shape[2:])
        frames = pixel_shuffle(frames, size.shuffle, size.shuffle_version)
        patches = frames.reshape(*patches.shape[:2], *frames.shape[1:])
    return patches.reshape(*patches.shape[:2], -1, patches.shape[-1])


def merge_clips(size: ProjectorSize, tokens: jax.Array) -> hico.Merged:
    """Merges the tokens of each clip of the videos (V, F, L, C); the result's rows are V * clips.

    The result also says what was merged, for `unmerge`, `merge_report` and pictures.
    """
    videos, frames, patches, width = tokens.shape
    clips = size.clips(frames)
    target = size.kept(frames)
    if target is None:
        which = "image_tokens" if frames == 1 else "frame_tokens"
        raise ValueError(f"a projector with {which}=None merges nothing; give it a number of tokens")
    rows = tokens.reshape(videos * clips, -1, width)
    return hico.merge(rows, target * (frames // clips), size.heads)


class ProjectorModule(nn.Module):
    """Norm, joining, merging, norm and MLP."""

    size: ProjectorSize
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, patches: jax.Array) -> jax.Array:
        """(V, F, H, W, C) -> (V, n, out)."""
        size, videos = self.size, len(patches)
        if size.input_norm:
            # The original's norm of vision tokens has BERT's epsilon.
            patches = layer_norm("input_norm", self.dtype, 1e-12)(patches)
        tokens = join_neighbours(size, patches)
        if size.kept(patches.shape[1]) is None:
            tokens = tokens.reshape(-1, *tokens.shape[2:])
        else:
            merged = merge_clips(size, tokens)
            # Nothing is kept unless a caller asks for it, as `merged` does.
            self.sow("intermediates", "merged", merged)
            tokens = merged.tokens
        # Rows are still clips here and not videos, so that the clips of one video are spread over devices.
        tokens = constrain(tokens, "batch", None, None)
        if size.norm:
            tokens = layer_norm("norm", self.dtype)(tokens)
        tokens = Mlp(size.out, size.out, "erf", self.dtype, name="mlp")(tokens)
        return tokens.reshape(videos, -1, size.out)


@dataclass(frozen=True)
class Projector(Bridge):
    """The projector as a bridge.

    Attributes:
        size: its size.
        module: its layers.
    """

    size: ProjectorSize
    module: ProjectorModule

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        # A still image of one joined token is enough: parameters depend on no number of tokens.
        side = self.size.shuffle
        module = self.module.clone(size=replace(self.size, image_tokens=None))
        found: Params = module.init(key, jnp.zeros((1, 1, side, side, self.size.width)))["params"]
        return found

    def project(
        self,
        params: Params,
        tokens: jax.Array,
        grid: Grid,
        question: Question | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """See Bridge.project. Class tokens are left out, and so is the question; there is no dropout."""
        found = cast(jax.Array, self.module.apply({"params": params}, patches_of(tokens, grid)))
        return constrain(found, "batch", None, None)

    def merged(self, params: Params, tokens: jax.Array, grid: Grid) -> hico.Merged:
        """Returns what `project` merges of each clip, the clips of all videos one after the other."""
        _, kept = self.module.apply({"params": params}, patches_of(tokens, grid), mutable=["intermediates"])
        found: hico.Merged = kept["intermediates"]["merged"][0]
        return found


def patches_of(tokens: jax.Array, grid: Grid) -> jax.Array:
    """Returns a tower's tokens (V, S, N, C) without class tokens, by frame: (V, F, H, W, C)."""
    times, rows, columns = grid
    patches = tokens[:, :, tokens.shape[2] - times * rows * columns :]
    return patches.reshape(len(tokens), -1, rows, columns, tokens.shape[-1])


def build(size: ProjectorSize, compute: Compute) -> Projector:
    """Returns the bridge of a size; see ProjectorSize.build."""
    return Projector(size, ProjectorModule(size, jnp.dtype(compute.dtype)))
