"""What a model says after each token of whole texts, without a cache, and texts to go on with."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.experiment.computing import Compute
from ivjax.generate.decoding import Decoding
from ivjax.models.decoder.blocks import Text
from ivjax.models.decoder.dropping import Tokens, run_dropping
from ivjax.models.decoder.sizes import LanguageSize, Rotary
from ivjax.ops.trees import map_with_path
from ivjax.ops.visual_dropout import dropped_by
from tests.models.params import any_params

VISUAL = 60  # the id that stands for a visual token
LONG = ((1.0, 1.1, 1.3, 1.4), (1.0, 2.0, 3.5, 8.0))


def small(preset, **changes):
    """A released size with few channels, of the same kind: heads, biases, window, scaling of positions."""
    size = LanguageSize.PRESETS[preset]
    shrunk = {"width": 32, "depth": 3, "heads": 4, "mlp_width": 48, "vocabulary": 61}
    kv_heads = 4 if size.kv_heads == size.heads else 2
    return replace(size, **(shrunk | {"kv_heads": kv_heads, "window": size.window and 7} | changes))


# Scalings of positions begin after 16 tokens, which some prompts of the tests have and others have not.
SIZES = {
    "internlm2": small("internlm2_5_7b", rotary=Rotary(1e4, "dynamic", 2.0, trained=16)),
    "vicuna": small("vicuna_7b"),
    "mistral": small("mistral_7b", window=7),
    "qwen2": small("qwen2_7b"),
    "qwen2_5_yarn": small("qwen2_5_1_5b", rotary=Rotary(scaling="yarn", factor=4.0, trained=16)),
    "phi3_long": small("phi3_mini_4k", rotary=Rotary(1e4, "long", 1.0, 16, 64, *LONG)),
}
SIZE = SIZES["internlm2"]
ROWS = [5, 11, 20]  # tokens of three prompts, which most tests go on with: their programs are compiled once
GREEDY = Decoding(new=6, chunk=8)


@functools.cache
def model_of(size):
    """A float32 model and parameters for it."""
    model = size.build(Compute("float32"))
    # Larger than at a start, where attention is flat and a text repeats its last word.
    params = map_with_path(lambda path, x: x * (3 if path.endswith("kernel") else 1), any_params(model))
    return model, params


def texts(*lengths):
    """Rows of token ids of these lengths."""
    rng = np.random.default_rng(0)
    return [rng.integers(1, SIZE.vocabulary - 1, length).tolist() for length in lengths]


def left_aligned(rows):
    """Rows as one array (B, L), filled up on the right with 0."""
    return np.array([row + [0] * (max(map(len, rows)) - len(row)) for row in rows], np.int32)


@jax.jit(static_argnums=0)
def _whole(model, params, ids, lengths):
    text = Text(model.turns(jnp.arange(ids.shape[1])[None], lengths[:, None, None]))
    return model.logits(params, model.normed(params, model.layers(params, model.embed(params, ids), text)))


def logits_after(model, params, prompts, answers):
    """Logits (B, n, V) before each of n answered tokens, in one pass over prompts and answers."""
    rows = [p + a for p, a in zip(prompts, answers, strict=True)]
    found = _whole(model, params, left_aligned(rows), jnp.asarray([len(row) for row in rows]))
    count = len(answers[0])
    return np.stack([row[len(p) - 1 : len(p) - 1 + count] for row, p in zip(found, prompts, strict=True)])


@jax.jit(static_argnums=(0, 4, 6))
def _whole_dropping(model, params, ids, tokens, dropout, quotas, lengths):
    x = model.embed(params, ids)
    states, left = run_dropping(model, params, x, tokens, dropout, quotas, lengths, 1)
    return model.logits(params, model.normed(params, states)), left.labels


def logits_after_dropping(model, params, prompts, answers, dropout):
    """As `logits_after`, with visual dropout: the last token of each prompt decides what is kept."""
    rows = [p + a for p, a in zip(prompts, answers, strict=True)]
    ids, count = left_aligned(rows), len(answers[0])
    lengths = np.array([len(row) for row in rows])
    places = np.arange(ids.shape[1])
    # An answer may hold that id too, as a word.
    visual = (ids == VISUAL) & (places < lengths[:, None] - count)
    seen = int(visual[0].sum())
    lost = np.zeros(ids.shape, np.int32)
    lost[visual] = np.tile(dropped_by(seen, dropout.ratios, dropout.uniform_drops), len(rows))
    there = places < lengths[:, None]
    # As labels, the places of tokens say where they stood at first.
    tokens = Tokens(
        *map(jnp.asarray, (np.where(there, 0, -1), visual, lost)),
        jnp.asarray(places == lengths[:, None] - count - 1),
        jnp.broadcast_to(jnp.asarray(places), ids.shape),
    )
    kept = dropout.counts(seen)[1:]
    quotas = jnp.asarray(np.broadcast_to(np.array(kept)[:, None, None], (len(kept), len(rows), 1)))
    logits, stood = _whole_dropping(
        model, params, ids, tokens, dropout, quotas, tuple(int(lengths.max()) - seen + k for k in kept)
    )
    found = []
    for row, first, place in zip(np.asarray(logits), lengths - count - 1, np.asarray(stood), strict=True):
        found.append(row[(place >= first) & (place < first + count)])
    return np.stack(found)
