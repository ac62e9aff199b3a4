"""Visual dropout of packed conversations: how many visual tokens of each stay."""

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.models.decoder.dropping import Tokens, run_dropping
from ivjax.models.decoder.network import LanguageModel
from ivjax.models.decoder.visual_dropout import VisualDropout
from ivjax.ops.cut import Params
from ivjax.ops.visual_dropout import dropped_by, kept_counts
from ivjax.ops.word_losses import IGNORED

_CONVERSATIONS = 256  # of a row, at most
_QUESTIONS = 128  # answers of a row whose questions choose what is kept; the others do not


def drop_visual_tokens(
    dropout: VisualDropout,
    unit: int,
    model: LanguageModel,
    params: Params,
    x: jax.Array,
    segments: jax.Array,
    visual: jax.Array,
    targets: jax.Array,
    keys: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Runs all layers on embeddings x (B, L, C).

    Returns the last states (B, L, C), with those that are left at the front, and where each stood before
    (B, L) int32, negative for none.

    Args:
        dropout: which tokens are dropped.
        unit: conversations have multiples of so many visual tokens.
        model: the language model, with its parameters `params`.
        params: those parameters.
        x: the embeddings.
        segments: (B, L), the conversation of each token.
        visual: (B, L) bool, whether it is a visual token.
        targets: (B, L), what it has to predict.
        keys: (B,), those of the rows' dropout of numbers, in training.
    """
    length = x.shape[1]
    conversations, mine = min(_CONVERSATIONS, length), jnp.maximum(segments, 0)
    member = (mine[..., None] == jnp.arange(conversations)) & visual[..., None]
    counts = jnp.sum(member, axis=1)
    every = np.array([kept_counts(count, dropout.ratios) for count in range(length + 1)], np.int32)
    quotas = jnp.moveaxis(jnp.asarray(every)[counts], -1, 0)[1:]
    places = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), segments.shape)
    tokens = Tokens(
        segments=segments,
        visual=visual,
        dropped_by=_lost(dropout, unit, visual, counts, mine),
        asking=_asking(segments, targets),
        labels=places,  # carried through, so that targets can be found again
    )
    # Rows keep their length: those without a video lose nothing.
    lengths, questions = (length,) * len(dropout.layers), min(_QUESTIONS, length)
    states, left = run_dropping(model, params, x, tokens, dropout, quotas, lengths, questions, keys)
    return states, left.labels


def _lost(
    dropout: VisualDropout, unit: int, visual: jax.Array, counts: jax.Array, mine: jax.Array
) -> jax.Array:
    """The uniform drop that takes each token, from 1; 0: none."""
    if not dropout.uniform_drops:
        return jnp.zeros(visual.shape, jnp.int32)
    # A table by the number of clips: torch's rounding, which it repeats, needs double precision.
    most = visual.shape[1] // unit
    table = np.zeros((most + 1, max(most * unit, 1)), np.int8)
    for number in range(1, most + 1):
        found = dropped_by(number * unit, dropout.ratios, dropout.uniform_drops)
        table[number, : number * unit] = found
    before = jnp.take_along_axis(jnp.cumsum(counts, axis=1) - counts, mine, axis=1)
    rank = jnp.cumsum(visual, axis=1) - 1 - before
    clips = jnp.take_along_axis(counts, mine, axis=1) // unit
    lost = jnp.asarray(table)[clips, jnp.clip(rank, 0, table.shape[1] - 1)]
    return jnp.where(visual, lost.astype(jnp.int32), 0)


def _asking(segments: jax.Array, targets: jax.Array) -> jax.Array:
    """Whether a token is the last before an answer."""
    asked = targets != IGNORED
    same = segments[:, 1:] == segments[:, :-1]
    within = jnp.pad(asked[:, :-1] & same, ((0, 0), (1, 0)))
    return asked & ~within
