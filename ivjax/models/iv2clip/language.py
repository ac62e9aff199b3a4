"""A decoder-only language model as a text tower."""

from dataclasses import replace
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.decoder.blocks import Text
from ivjax.models.decoder.lora import merged
from ivjax.models.decoder.network import LanguageModel
from ivjax.models.decoder.network import build as build_language
from ivjax.models.iv2clip.sizes import LanguageTextSize
from ivjax.models.layers import KERNEL_STD
from ivjax.models.tower import TextTower
from ivjax.ops.cut import Params


class LanguageText(nn.Module):
    """All parameters of the tower, which the language model draws itself."""

    size: LanguageTextSize
    language: LanguageModel

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        """Token ids (B, L) -> embeddings (B, out)."""
        params = self.param("language", self.language.init)
        kernel = self.param("proj", self._first)["kernel"]
        return last_words(self.size, self.language, params, ids) @ kernel.astype(self.language.dtype)

    def _first(self, key: jax.Array) -> Params:
        shape = (self.size.width, self.size.out)
        return {"kernel": KERNEL_STD * jax.random.normal(key, shape)}


class LanguageTower(TextTower):
    """The tower by the protocol of text towers."""

    @property
    def gives_words(self) -> bool:
        """See TextTower."""
        return True

    def word_states(self, params: Params, ids: jax.Array) -> jax.Array:
        """See TextTower: normed states, which the originals' heads for moments read."""
        size: Any = self.size
        module: Any = self.module
        language = module.language
        return cast(
            jax.Array, language.normed(params["language"], _states(size, language, params["language"], ids))
        )


def _states(size: LanguageTextSize, language: LanguageModel, params: Params, ids: jax.Array) -> jax.Array:
    """Token ids (B, L) -> states (B, L, C) of the last layer, not normed."""
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    segments = jnp.where(ids != size.pad, 0, -1).astype(jnp.int32)
    text = Text(language.turns(positions, ids.shape[1]), segments)
    return cast(jax.Array, language.layers(params, language.embed(params, ids), text))


def last_words(size: LanguageTextSize, language: LanguageModel, params: Params, ids: jax.Array) -> jax.Array:
    """Token ids (B, L) -> the normed state (B, C) at the place of the last word."""
    words, states = ids != size.pad, _states(size, language, params, ids)
    # By the number of words: a padding id inside a text shifts the place, as in the original.
    last = jnp.maximum(words.sum(-1) - 1, 0)
    chosen = jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]
    # Normed after it is chosen: the norm treats each token by itself.
    return language.normed(params, chosen)


def build(size: LanguageTextSize, compute: Compute) -> LanguageTower:
    """Returns the tower of a size; see LanguageTextSize.build."""
    return LanguageTower(size, LanguageText(size, build_language(size.language, compute)))


def merged_text(params: Params, size: LanguageTextSize) -> tuple[Params, LanguageTextSize]:
    """Returns the tower's parameters with the LoRA merged into the kernels, and their size."""
    language, inner = merged(params["language"], size.language)
    return {**params, "language": language}, replace(size, language=inner)
