"""The protocols of towers: whatever reads clips, whatever reads texts, and whatever hears.

Dual encoders, classifiers, probes, teachers and evals take any tower and never ask for its class.
"""

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.models.sizes import AudioTowerSize, TextTowerSize, VideoTowerSize
from ivjax.ops.cut import Params
from ivjax.ops.masking import with_class_tokens


class Encoded(NamedTuple):
    """The output of a video tower. n tokens: the class tokens first, if there are any, then patches."""

    tokens: Any  # (B, n, C), the last states
    taps: Any  # (taps, B, n, C), the streams after the tapped blocks
    pooled: Any  # (B, out), or None for a tower that pools nothing
    attention: Any  # (B, n) float32, the weight of each token in the pooling; or None


class EncodedBatch(NamedTuple):
    """An Encoded, and what it tells of its batch: of a tower with batch norms, in training."""

    tokens: Any
    taps: Any
    pooled: Any
    attention: Any
    statistics: Any  # by path, what training moves the running statistics towards


class VideoEncoder(abc.ABC):
    """Makes tokens, and maybe a pooled feature, of clips. Parameters are passed in."""

    @property
    @abc.abstractmethod
    def frames(self) -> int:
        """Frames of the clips that it reads."""

    @property
    @abc.abstractmethod
    def image(self) -> tuple[int, int]:
        """Height and width of a frame."""

    @property
    @abc.abstractmethod
    def class_tokens(self) -> int:
        """Tokens of a clip that go before its patches."""

    @property
    @abc.abstractmethod
    def pools(self) -> bool:
        """Whether it has a pooled feature."""

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""

    @abc.abstractmethod
    def encode(self, params: Params, video: jax.Array) -> Encoded:
        """Encodes clips (B, T, H, W, 3) uint8, or float that is already normalised."""


def check_clips(shape: tuple[int, ...], size: VideoTowerSize, segments: bool = False) -> None:
    """Raises UserError for clips of a shape that a tower does not read; `segments` may be several of its own.

    Clips of fewer frames pass: some towers read single images beside videos.
    """
    whole = len(shape) == 5 and shape[2:] == (*size.image, 3)
    if whole and (shape[1] <= size.frames or (segments and shape[1] % size.frames == 0)):
        return
    frames, (height, width) = f"{size.frames} * n" if segments else size.frames, size.image
    raise UserError(
        f"clips are {tuple(shape)} and the model reads (B, {frames}, {height}, {width}, 3); "
        "ivjax.features(model, videos) reads videos of any length and size"
    )


@dataclass(frozen=True)
class VideoTower(VideoEncoder):
    """A video tower: a frozen size and a Flax module; parameters are passed in.

    Attributes:
        size: its size.
        module: called as `encode` is, but with tokens in place of patches: in `visible` and `wanted` the
            class tokens go first. It returns an Encoded.
    """

    size: VideoTowerSize
    module: nn.Module

    @property
    def frames(self) -> int:
        """Frames of the clips that it reads."""
        return self.size.frames

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.size.image

    @property
    def class_tokens(self) -> int:
        """Tokens of a clip that go before its patches."""
        return self.size.class_tokens

    @property
    def pools(self) -> bool:
        """Whether it has a pooled feature."""
        return self.size.out is not None

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        return self.rescaled(self.module.init(key, *self.example())["params"])

    def example(self) -> tuple[Any, ...]:
        """Returns the smallest inputs of the module that `init` can trace."""
        return (jnp.zeros((1, self.size.frames, *self.size.image, 3)),)

    def rescaled(self, params: Params) -> Params:
        """Returns fresh parameters changed as the family starts them; unchanged where its layers draw all."""
        return params

    def encode(
        self,
        params: Params,
        video: jax.Array,
        visible: jax.Array | None = None,
        keep: jax.Array | None = None,
        wanted: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> Encoded:
        """Encodes clips.

        Args:
            params: the tower's parameters.
            video: (B, T, H, W, 3) uint8, or float that is already normalised.
            visible: (B, n) the patches that are seen, ascending; None for all.
            keep: (depth, 2, B) drop-path multipliers of the two branches of each block.
            wanted: (B, m) the patches that taps are taken at, where no patch is masked; None for all tokens.
            keys: (B,) those of dropout, given in training alone; towers that drop nothing leave them aside.
        """
        check_clips(video.shape, self.size)
        training: dict[str, Any] = {"keys": keys} if keys is not None and self.size.takes_keys else {}
        count = self.size.class_tokens
        visible, wanted = (x if x is None else with_class_tokens(x, count) for x in (visible, wanted))
        return cast(Encoded, self.module.apply({"params": params}, video, visible, keep, wanted, **training))

    def encode_above(
        self, params: Params, video: jax.Array, keep: jax.Array | None, frozen_blocks: int
    ) -> Encoded:
        """Encodes clips without gradients for the first `frozen_blocks` of the stack `blocks`.

        A family may override it, to spare the backward pass through them as well.
        """

        def frozen(leaf: jax.Array) -> jax.Array:
            # Correct for any scanned stack, but not cheaper: the backward pass
            # still runs through these blocks.
            below = jax.lax.stop_gradient(leaf[:frozen_blocks])
            return jnp.concatenate([below, leaf[frozen_blocks:]])

        return self.encode({**params, "blocks": jax.tree.map(frozen, params["blocks"])}, video, keep=keep)


@dataclass(frozen=True)
class TextTower:
    """A text tower: a frozen size and a Flax module; parameters are passed in.

    Attributes:
        size: its size.
        module: the module whose parameters `init` draws.
    """

    size: TextTowerSize
    module: nn.Module

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        return self.rescaled(self.module.init(key, *self.example())["params"])

    def example(self) -> tuple[Any, ...]:
        """Returns the smallest inputs of the module that `init` can trace."""
        return (jnp.zeros((1, 1), jnp.int32),)

    def rescaled(self, params: Params) -> Params:
        """Returns fresh parameters changed as the family starts them; unchanged where its layers draw all."""
        return params

    def encode(self, params: Params, ids: jax.Array) -> jax.Array:
        """Token ids (B, L) -> embeddings (B, out), not normalised."""
        return cast(jax.Array, self.module.apply({"params": params}, ids))

    @property
    def gives_words(self) -> bool:
        """Whether it has `word_states`; then its size says by `pad` which tokens are none."""
        return False

    def word_states(self, params: Params, ids: jax.Array) -> jax.Array:
        """Token ids (B, L) -> the last states of all tokens (B, L, C), which other models read."""
        raise NotImplementedError(f"{type(self).__name__} gives a text as one vector alone")


@dataclass(frozen=True)
class AudioTower:
    """An audio tower: a frozen size and a Flax module; parameters are passed in.

    Attributes:
        size: its size.
        module: the module whose parameters `init` draws.
    """

    size: AudioTowerSize
    module: nn.Module

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        params: Params = self.module.init(key, *self.example())["params"]
        return params

    def example(self) -> tuple[Any, ...]:
        """Returns the smallest inputs of the module that `init` can trace."""
        return (jnp.zeros((1, self.size.frames, self.size.bins)),)

    def encode(self, params: Params, sound: jax.Array) -> jax.Array:
        """Filter banks (B, frames, bins), normalised -> tokens (B, n, C)."""
        return cast(jax.Array, self.module.apply({"params": params}, sound))
