"""Visual dropout inside the language model, against the original: tokens, states, loss and gradients."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.dialogue.language_configs import decoder_size
from ivjax.convert.families.dialogue.language_models import LLAMA
from ivjax.experiment.computing import Compute
from ivjax.models.decoder.dropping import (
    Tokens,
    attended,
    dropped,
    places_of,
    run_dropping,
)
from ivjax.models.decoder.visual_dropout import DropKind, VisualDropout
from ivjax.ops.visual_dropout import dropped_by, kept_counts, positions_in
from tests.convert.tables import import_tensors
from tests.goldens import Golden, close, close_gradient
from tests.models.test_decoder import exported, losses

NAME = "s3_visual_dropout"
# A step of the others is compared with the original's in tests/generate/test_decoding.py.
CASES = [
    name if case["train"] else pytest.param(name, marks=pytest.mark.slow)
    for name, case in Golden(NAME).config["cases"].items()
]


def test_the_kind_says_how_many_of_the_first_drops_are_uniform():
    kinds = {"uniform": 3, "attention": 0, "uniform0_attention": 1, "uniform1_attention": 2}
    assert set(kinds) == set(get_args(DropKind))
    for kind, drops in kinds.items():
        assert VisualDropout((1, 2, 3), (1.0, 0.8, 0.5, 0.2), kind).uniform_drops == drops
        assert VisualDropout((1,), (1.0, 0.8), kind).uniform_drops == min(drops, 1)


class Case:
    """The model of the fixture, and the texts of one of its cases."""

    def __init__(self, name):
        self.golden, self.name = Golden(NAME), name
        self.facts = self.golden.config["cases"][name]
        self.size = decoder_size({"model_type": "qwen2", **self.golden.config["constructor"]})
        self.model = self.size.build(Compute("float32"))
        self.params = import_tensors(LLAMA.rows, self.golden.group("params"))
        self.dropout = VisualDropout(
            tuple(self.facts["layers"]), tuple(self.facts["ratios"]), self.facts["type"]
        )
        self.x = self.golden[f"inputs/{name}/inputs_embeds"]
        rows, length = self.x.shape[:2]
        assert length == self.facts["seq_len"] and rows == len(self.facts["nvis"])
        mask = self.input("attention_mask", np.ones((rows, length), np.int32))
        labels = self.input("labels", np.full((rows, length), -100)).astype(np.int32)
        visual, lost = np.zeros((rows, length), bool), np.zeros((rows, length), np.int32)
        asking = np.zeros((rows, length), bool)
        drops = len(self.dropout.layers)
        self.quotas = np.zeros((drops, rows, 1), np.int32)
        for row, (first, count) in enumerate(zip(self.facts["pre"], self.facts["nvis"], strict=True)):
            visual[row, first : first + count] = True
            lost[row, first : first + count] = dropped_by(
                count, self.dropout.ratios, self.dropout.uniform_drops
            )
            self.quotas[:, row, 0] = kept_counts(count, self.dropout.ratios)[1:]
        if self.facts["train"]:
            asking[:, :-1] = (labels[:, :-1] == -100) & (labels[:, 1:] != -100)
        else:
            asking[:, -1] = True
        segments = np.where(mask > 0, 0, -1).astype(np.int32)
        self.tokens = Tokens(*map(jnp.asarray, (segments, visual, lost, asking, labels)))
        others = mask.sum(1) - np.asarray(self.facts["nvis"])
        self.lengths = tuple(int((others + self.quotas[drop, :, 0]).max()) for drop in range(drops))
        self.questions = int(asking.sum(1).max())

    def input(self, name, otherwise):
        key = f"inputs/{self.name}/{name}"
        return self.golden.tensors.get(key, otherwise)

    def layers(self, params, x, tokens):
        """States and tokens before each layer, after the drops there; those after the last; and for each drop
        the tokens before it and what they get of the attention of those that ask."""
        found, before = [], []
        for layer in range(self.size.depth):
            if layer in self.dropout.layers:
                drop = self.dropout.layers.index(layer)
                asking = jnp.argsort(~tokens.asking, axis=1, stable=True)[:, : self.questions]
                valid = jnp.take_along_axis(tokens.asking, asking, axis=1)
                text = places_of(self.model, tokens)
                before.append((tokens, attended(self.model, params, x, text, layer, asking, valid)))
                quota, length = jnp.asarray(self.quotas[drop]), self.lengths[drop]
                x, tokens = dropped(
                    self.model, params, x, tokens, self.dropout, drop + 1, quota, length, self.questions
                )
            found.append((x, tokens))
            x = self.model.layers(params, x, places_of(self.model, tokens), layer, layer + 1)
        return [*found, (self.model.normed(params, x), tokens)], before

    def loss(self, params, x):
        """The mean over all labels that are left, and the tokens left."""
        quotas = jnp.asarray(self.quotas)
        states, tokens = run_dropping(
            self.model, params, x, self.tokens, self.dropout, quotas, self.lengths, self.questions
        )
        logits = self.model.logits(params, self.model.normed(params, states))
        return losses(logits, tokens.labels)[0], tokens


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return Case(request.param)


@pytest.fixture(scope="module")
def found(case):
    """Logits, and the states and tokens of all layers."""
    # Labels do not change what is kept: as places they say where a token stood at first.
    places = jnp.broadcast_to(jnp.arange(case.x.shape[1], dtype=jnp.int32), case.x.shape[:2])

    @jax.jit
    def run(params, x):
        layers, before = case.layers(params, x, case.tokens._replace(labels=places))
        return case.model.logits(params, layers[-1][0]), layers, before

    return run(case.params, case.x)


@pytest.mark.golden
@pytest.mark.parametrize("fixture", [NAME])
def test_keeps_the_tokens_that_the_original_keeps(case, found, fixture):
    _, layers, before = found
    for drop, layer in enumerate(case.dropout.layers):
        prefix = f"outputs/{case.name}/stage{drop}"
        left, (earlier, scores) = layers[layer][1], before[drop]
        there = np.asarray(left.segments) >= 0
        positions = np.where(there, positions_in(left.segments), 0)
        np.testing.assert_array_equal(positions, case.golden[f"{prefix}/position_ids"])
        if f"{prefix}/attention_mask" in case.golden:
            np.testing.assert_array_equal(there, case.golden[f"{prefix}/attention_mask"])
        for row, first in enumerate(case.facts["pre"]):
            sample = f"{prefix}/sample{row}"
            kept = np.asarray(left.labels)[row][np.asarray(left.visual)[row]] - first
            np.testing.assert_array_equal(kept, case.golden[f"{sample}/kept_in_original"])
            visual = np.asarray(earlier.visual)[row]
            current = np.searchsorted(np.asarray(earlier.labels)[row][visual] - first, kept)
            np.testing.assert_array_equal(current, case.golden[f"{sample}/kept_in_current"])
            if f"{sample}/attention_score" in case.golden:
                close(np.asarray(scores)[row][visual], case.golden[f"{sample}/attention_score"])


@pytest.mark.golden
@pytest.mark.parametrize("fixture", [NAME])
def test_has_the_states_and_logits_of_the_original(case, found, fixture):
    logits, layers, _ = found
    for number, wanted in case.golden.group(f"outputs/{case.name}/hidden_states").items():
        states, tokens = layers[int(number)]
        there = np.asarray(tokens.segments) >= 0
        close(states[there], wanted[there])
    close(logits[there], case.golden[f"outputs/{case.name}/logits"][there])


# The stage's gradients of the same case are compared in tests/train/test_video_dialogue.py.
@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("fixture", [NAME])
def test_has_the_loss_and_the_gradients_of_the_original(case, fixture):
    if not case.facts["train"]:
        return
    step = jax.jit(jax.value_and_grad(case.loss, argnums=(0, 1), has_aux=True))
    (loss, tokens), (gradients, of_x) = step(case.params, case.x)
    np.testing.assert_allclose(loss, case.golden[f"losses/{case.name}"], rtol=1e-4)
    last = len(case.dropout.layers) - 1
    np.testing.assert_array_equal(tokens.labels, case.golden[f"outputs/{case.name}/stage{last}/labels"])
    named = exported(LLAMA, gradients, case.size) | {"inputs_embeds": of_x}
    stored = case.golden.group(f"grads/{case.name}")
    assert stored
    for name, gradient in stored.items():
        close_gradient(named[name], gradient, stated=1e-5)
