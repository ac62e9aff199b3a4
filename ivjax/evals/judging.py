"""Stage 2 as a judge: whether texts belong to clips, by the layers that read one beside the other."""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.evals.compiled import Function
from ivjax.evals.hearing import Hearing
from ivjax.evals.items import Item, UnscoredClip
from ivjax.evals.pair_model import PairModel, media_of
from ivjax.evals.suites.suite import PairSuite
from ivjax.evals.vectors import EmbeddedSet, Setting, embed
from ivjax.models.media_towers import MediaTowers
from ivjax.models.sizes import Compared
from ivjax.ops.cut import Params
from ivjax.ops.losses import l2_normalise

_TEXTS = 16  # of one clip that are judged beside one copy of its tokens


class TokenReader:
    """A ClipEncoder whose vectors have the tokens of the clips behind them, for an eval that keeps both.

    Attributes:
        frames: frames of one clip.
        image: their height and width.
        hearing: what of their sound is read.
        width: numbers of one vector, its tokens included.
    """

    def __init__(self, model: PairModel):
        self.frames: int = model.frames
        self.image: tuple[int, int] = model.image
        self.hearing: Hearing | None = model.hearing
        self._model = model
        reading, tokens = _functions(model.judging, model.medium)[:2]
        self._function: Function = reading
        self._tokens = model.shape_of(tokens)
        self.width: int = model.width + math.prod(self._tokens)

    def video(self, clips: Any) -> np.ndarray:
        """Returns (n, D + N * C) float32: the embedding of each clip, and its N tokens."""
        found: np.ndarray = self._model.on_own(self._function, clips)
        return found

    def parted(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns embeddings (n, 1, D) and tokens (n, N, C) of vectors (n, 1, D + N * C), without copying."""
        width = self._model.width
        return vectors[..., :width], vectors[:, 0, width:].reshape(len(vectors), *self._tokens)


def embed_for(
    setting: Setting, suite: PairSuite, items: Iterable[Item | UnscoredClip], total: int
) -> tuple[EmbeddedSet, np.ndarray | None]:
    """Returns the items with their vectors (n, clips, D), and, for a suite that judges, tokens (n, N, C)."""
    if not suite.judges:
        return embed(setting, items, total), None
    reader = TokenReader(setting.encoder)
    found = embed(replace(setting, encoder=reader), items, total)
    vectors, tokens = reader.parted(found.vectors)
    return replace(found, vectors=vectors), tokens


class PairJudge:
    """Judges pairs of texts and clips; `tokens` (m, N, C) are those of the clips, in the host's memory.

    It gives logits of a match, or with `odds` the logarithms of its odds. Every process must have the same
    texts and tokens, and ask for the same pairs.
    """

    def __init__(self, model: PairModel, texts: Sequence[str], tokens: np.ndarray, odds: bool = False):
        self._model = model
        _, _, reading, self._judging = _functions(model.judging, model.medium)
        self._odds = odds
        self._ids = model.ids_of(texts).astype(np.int32)
        # Read once: that takes most of the layers, and each text is judged beside many clips.
        self._states = model.on_shared(reading, self._ids)
        self._tokens = tokens

    def __call__(self, texts: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """Returns the scores (p,) float32 of pairs of numbers of texts and of clips (p,)."""
        order = np.argsort(clips, kind="stable")
        found = np.zeros(len(texts), np.float32)
        rows = _rows_of(clips[order])
        for first in range(0, len(rows), self._model.batch):
            some = rows[first : first + self._model.batch]
            # The last texts of a clip are judged again where they are fewer, so that one program serves all.
            places = np.stack([np.resize(order[row], _TEXTS) for row in some])
            beside = texts[places]
            seen = self._tokens[clips[places[:, 0]]]
            logits = self._model.on_shared(self._judging, (self._states[beside], self._ids[beside], seen))
            found[places] = logits[..., 1] - logits[..., 0] if self._odds else logits[..., 1]
        return found


def _rows_of(clips: np.ndarray) -> list[slice]:
    """Places of pairs in ascending order of their clips, cut into as few as are judged together."""
    edges = [0, *(np.flatnonzero(np.diff(clips)) + 1).tolist(), len(clips)]
    return [
        slice(start, min(start + _TEXTS, end))
        for begin, end in zip(edges, edges[1:], strict=False)
        for start in range(begin, end, _TEXTS)
    ]


@functools.lru_cache(maxsize=8)  # the same functions for the same model, so that they are compiled once
def _functions(model: MediaTowers, medium: Compared) -> tuple[Function, Function, Function, Function]:
    """Embedding and tokens of clips in one row; the tokens; states of texts; logits of pairs."""

    def both(params: Params, clips: Any) -> jax.Array:
        found = model.features(params, medium, *media_of(clips, medium))
        flat = found.tokens.astype(jnp.float32).reshape(len(found.tokens), -1)
        return jnp.concatenate([l2_normalise(found.embedding).astype(jnp.float32), flat], axis=-1)

    def tokens(params: Params, clips: Any) -> jax.Array:
        return model.features(params, medium, *media_of(clips, medium)).tokens

    def read(params: Params, ids: jax.Array) -> jax.Array:
        return model.read(params, ids)

    def judge(params: Params, rows: Any) -> jax.Array:
        """states (G, k, L, C), ids (G, k, L), seen (G, n, D) -> logits (G, k, 2) of none and of a match."""
        states, ids, seen = rows
        flat = [x.reshape(-1, *x.shape[2:]) for x in (states, ids)]
        return model.judge(params, flat[0], flat[1], seen, medium).reshape(*ids.shape[:2], 2)

    return both, tokens, read, judge
