"""The dialogue model: videos become visual tokens, which stand among the words of a language model."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.bridge import Bridge, Question
from ivjax.models.decoder.blocks import Text
from ivjax.models.decoder.network import LanguageModel
from ivjax.models.dialogue.sizes import DialogueSize
from ivjax.models.tower import VideoTower
from ivjax.ops.cut import Params
from ivjax.ops.layout import clips_over_context, constrain
from ivjax.ops.visual_dropout import positions_in


@dataclass(frozen=True)
class DialogueModel:
    """A vision tower, a bridge and a language model. Parameters lie below `vision`, `bridge` and `language`.

    Attributes:
        size: its size.
        tower: the vision tower.
        bridge: makes visual tokens of the tower's tokens.
        language: the language model.
    """

    size: DialogueSize
    tower: VideoTower
    bridge: Bridge
    language: LanguageModel

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        vision, bridge, language = jax.random.split(key, 3)
        return {
            "vision": self.tower.init(vision),
            "bridge": self.bridge.init(bridge),
            "language": self.language.init(language),
        }

    def see(
        self,
        params: Params,
        video: jax.Array,
        question: Question | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the visual tokens (V, n, C) of videos (V, F, H, W, 3), uint8 or normalised floats.

        `question` is for bridges that read what is asked, `keys` (V,) for dropout in training.
        """
        self.size.check_video(video.shape)  # raises before anything is encoded
        frames, grid = self.size.segment(video.shape[1])
        # Segments become rows of a larger batch, which the mesh spreads: one long video is many rows.
        with clips_over_context():
            rows = constrain(video.reshape(-1, frames, *video.shape[2:]), "batch", None, None, None, None)
            tokens = self.tower.encode(params["vision"], rows).tokens
            tokens = tokens.reshape(len(video), -1, *tokens.shape[1:])
            return self.bridge.project(params["bridge"], tokens, grid, question, keys)

    def embed(
        self,
        params: Params,
        ids: jax.Array,
        visual: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Returns embeddings (B, L, C) of token ids (B, L), with visual tokens (B, n, C) at their places.

        The k-th place of a row with `size.visual_token` takes the row's k-th visual token; several videos of
        a row follow each other in `visual`. `places` (B, L) says instead which one stands where; -1: a word.
        """
        size = self.size
        # Under jit the ids are not known, so there it is the caller's business (DialogueSize.check_prompt).
        if places is None and not isinstance(ids, jax.core.Tracer):
            size.check_prompt(np.asarray(ids), 0 if visual is None else visual.shape[1])
        seen = ids == size.visual_token if places is None else places >= 0
        # The id of a visual token may be no word.
        words = self.language.embed(params["language"], jnp.where(seen, 0, ids))
        if size.start_vector is not None:
            start = (ids == size.start_vector)[..., None]
            words = jnp.where(start, jnp.asarray(size.start_vector, words.dtype), words)
        if visual is None:
            return words
        number = jnp.cumsum(seen, axis=1) - 1 if places is None else places
        number = jnp.clip(number, 0, visual.shape[1] - 1)
        placed = jnp.take_along_axis(visual.astype(words.dtype), number[..., None], axis=1)
        return jnp.where(seen[..., None], placed, words)

    def states(
        self,
        params: Params,
        x: jax.Array,
        segments: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the normed last states (B, L, C) of embeddings (B, L, C).

        With `segments` (B, L) a token sees tokens of its own segment alone, and positions start again in
        each. Texts count from 0, and -1 is padding. `keys` (B,) are those of the rows' dropout in training.
        """
        whole = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
        positions = whole if segments is None else positions_in(segments)
        text = Text(self.language.turns(positions, x.shape[1]), segments)
        language = params["language"]
        return self.language.normed(language, self.language.layers(language, x, text, keys=keys))

    def logits(
        self,
        params: Params,
        ids: jax.Array,
        video: jax.Array | None = None,
        question: Question | None = None,
        segments: jax.Array | None = None,
    ) -> jax.Array:
        """Returns logits of the next token (B, L, vocabulary) float32 of ids (B, L).

        video (V, F, H, W, 3): V / B videos of each row, in the order of the rows; None for a text alone.
        """
        visual = None
        if video is not None:
            if len(video) % len(ids):
                raise UserError(
                    f"{len(video)} videos do not divide among {len(ids)} prompts; give each equally many"
                )
            visual = self.see(params, video, question)
            visual = visual.reshape(len(ids), -1, visual.shape[-1])
        states = self.states(params, self.embed(params, ids, visual), segments)
        return self.language.logits(params["language"], states)


def build(size: DialogueSize, compute: Compute) -> DialogueModel:
    """Returns the model of a size; see DialogueSize.build."""
    tower, bridge = size.vision.build(compute), size.bridge.build(compute)
    return DialogueModel(size, tower, bridge, size.language.build(compute))
