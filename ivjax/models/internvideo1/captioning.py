"""A pair of towers with a decoder that writes captions: InternVideo 1's multimodal branch."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.dual_tower import DualTower
from ivjax.models.internvideo1.caption_decoder import CaptionDecoder
from ivjax.models.internvideo1.sizes import CaptioningSize
from ivjax.models.viclip.towers import TextStates
from ivjax.ops.cut import Params


class Captioned(NamedTuple):
    """What clips and captions become. L words of a caption, the first of which is never predicted."""

    video: jax.Array  # (B, out) embeddings, not normalised
    text: jax.Array  # (B, out)
    logits: jax.Array  # (B, L - 1, vocabulary) float32, of the words from the second on
    counted: jax.Array  # (B, L - 1) bool, the words up to the end token


@dataclass(frozen=True)
class CaptioningTower(DualTower):
    """Both towers, the decoder, and the logarithm of what cosines are multiplied by.

    Parameters are a dict of `vision`, `text`, `caption_decoder` and `logit_scale`.

    Attributes:
        decoder: the decoder's module.
        states: the text tower's module with the states of all words.
    """

    size: CaptioningSize
    decoder: CaptionDecoder | None = None
    states: TextStates | None = None

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        params = super().init(key)
        params.pop("temperature")
        vision, text = self.size.vision, self.size.text
        seen = jnp.zeros((1, vision.class_tokens + vision.patches, vision.width))
        assert self.decoder is not None
        drawn = self.decoder.init(jax.random.fold_in(key, 0), jnp.zeros((1, 1, text.width)), seen)
        # CLIP learns the logarithm, where ViCLIP learns the temperature itself.
        scale = jnp.asarray(-math.log(self.temperature), jnp.float32)
        return params | {"caption_decoder": drawn["params"], "logit_scale": scale}

    def captioned(
        self,
        params: Params,
        video: jax.Array,
        ids: jax.Array,
        keep: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> Captioned:
        """Clips (B, T, H, W, 3) and words (B, L) of their captions; keep and keys as in VideoTower.encode."""
        assert self.decoder is not None and self.states is not None
        seen = self.vision.encode(params["vision"], video, keep=keep, keys=keys)
        found: Any = self.states.apply({"params": params["text"]}, ids)
        text, states, ends = found
        # The last word has none after it.
        logits = self.decoder.apply({"params": params["caption_decoder"]}, states[:, :-1], seen.tokens)
        counted = jnp.arange(1, ids.shape[1]) <= ends[:, None]
        return Captioned(seen.pooled, text, cast(jax.Array, logits), counted)


def build(size: CaptioningSize, compute: Compute, temperature: float) -> CaptioningTower:
    """Returns the model of a size; see CaptioningSize.build."""
    return CaptioningTower(
        size,
        size.vision.build(compute),
        size.text.build(compute),
        temperature,
        decoder=CaptionDecoder(size.decoder, size.text.vocabulary, compute),
        states=TextStates(size.text, compute),
    )
