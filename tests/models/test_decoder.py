"""The language model against the original InternLM2: states, logits, losses and gradients, short and long."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.dialogue.language_configs import decoder_size
from ivjax.convert.families.dialogue.language_models import INTERNLM2
from ivjax.convert.formats.tensors import Arrays
from ivjax.experiment.computing import Compute
from ivjax.models.decoder.blocks import DecoderBlock, Text
from ivjax.ops.trees import paths_of
from tests.convert.tables import import_tensors
from tests.goldens import Golden, close, close_gradient

FLOAT32 = Compute("float32")


def exported(family, params, size):
    """Nested parameters -> tensors under a family's original names."""
    leaves = Arrays(dict(paths_of(jax.device_get(params))))
    return {lazy.name: lazy.read() for lazy in family.original_tensors(leaves, size)}


class Case:
    """The model of a fixture, run on its texts."""

    def __init__(self):
        self.golden = Golden("s3_internlm2")
        config = {"model_type": "internlm2", **self.golden.config["constructor"]}
        self.size = decoder_size(config)
        self.model = self.size.build(FLOAT32)
        tensors = Arrays(self.golden.group("params"))
        self.params = import_tensors(INTERNLM2.rows, dict(INTERNLM2.unpacked(tensors, self.size)))

    def text(self, length, mask=None):
        """Where the tokens stand of texts of `length` tokens; what `mask` (B, L) hides is in no segment."""
        positions = jnp.arange(length)[None]
        segments = None if mask is None else jnp.where(jnp.asarray(mask) > 0, 0, -1)
        return Text(self.model.turns(positions, length), segments)

    def states(self, params, ids, mask=None):
        """The residual stream after each number of layers, from 0, and normed after the last."""
        text, x = self.text(ids.shape[1], mask), self.model.embed(params, ids)
        found = [x]
        for layer in range(self.size.depth):
            x = self.model.layers(params, x, text, layer, layer + 1)
            found.append(x)
        return [*found[:-1], self.model.normed(params, x)]


@pytest.fixture(scope="module")
def case():
    return Case()


def losses(logits, labels):
    """The mean over all labels, and the mean of each row's."""
    labels = jnp.asarray(labels)[:, 1:]
    there = labels != -100
    chosen = jnp.take_along_axis(
        jax.nn.log_softmax(logits[:, :-1]), jnp.where(there, labels, 0)[..., None], axis=-1
    )[..., 0]
    rows = -jnp.where(there, chosen, 0)
    return rows.sum() / there.sum(), rows.sum(1) / there.sum(1)


@pytest.fixture(scope="module")
def step(case):
    golden, mask = case.golden, case.golden["inputs/attention_mask"]

    @jax.jit
    def run(params):
        def loss(params):
            states = case.states(params, golden["inputs/input_ids"], mask)
            logits = case.model.logits(params, states[-1])
            mean, rows = losses(logits, golden["inputs/labels"])
            return mean, (states, logits, rows)

        return jax.value_and_grad(loss, has_aux=True)(params)

    return run(case.params)


@pytest.mark.golden
def test_s3_internlm2_states_logits_and_losses_are_the_originals(case, step):
    golden, ((mean, (states, logits, rows)), _) = case.golden, step
    there = golden["inputs/attention_mask"] > 0
    assert golden["inputs/input_ids"].shape[1] == golden.config["short_len"]
    close(logits[there], golden["outputs/logits"][there])
    stored = golden.group("outputs/hidden_states")
    assert stored
    for number, wanted in stored.items():
        close(states[int(number)][there], wanted[there])
    np.testing.assert_allclose(mean, golden["losses/loss"], rtol=1e-4)
    np.testing.assert_allclose(rows, golden["losses/per_sample"], rtol=1e-4)
    np.testing.assert_allclose(rows.mean(), golden["losses/loss_per_sample_mean"], rtol=1e-4)


@pytest.mark.golden
def test_s3_internlm2_gradients_are_the_originals(case, step):
    found = exported(INTERNLM2, step[1], case.size)
    stored = case.golden.group("grads")
    assert stored
    for name, gradient in stored.items():
        close_gradient(found[name], gradient, stated=1e-5)


@pytest.mark.golden
def test_s3_internlm2_queries_and_keys_are_the_originals_before_and_after_their_turn(case):
    golden, block = case.golden, DecoderBlock(case.size)
    x = golden["outputs/hidden_states/0"]
    layer = {"params": jax.tree.map(lambda leaf: leaf[0], case.params["blocks"])}
    turned = case.text(x.shape[1]).turns
    still = jax.tree.map(lambda leaf, value: jnp.full_like(leaf, value), turned, type(turned)(1.0, 0.0))

    @jax.jit
    def compared(turns):
        return [block.apply(layer, x, turns, method=name) for name in ("queries", "keys")]

    for turns, suffix in ((still, ""), (turned, "_rope")):
        q, k = compared(turns)
        close(jnp.swapaxes(q, 1, 2), golden[f"outputs/layer0/q{suffix}"])
        close(jnp.swapaxes(k, 1, 2), golden[f"outputs/layer0/k{suffix}"])
    values = block.apply(layer, x, method=lambda block, x: block.attn.v(block.norm1(x)))
    close(jnp.swapaxes(values.reshape(k.shape), 1, 2), golden["outputs/layer0/v"])


@pytest.mark.golden
def test_s3_internlm2_turns_long_texts_less_by_dynamic_ntk(case):
    golden, ids = case.golden, case.golden["inputs/long_input_ids"]
    length = golden.config["long_len"]
    assert ids.shape[1] == length > case.size.rotary.trained
    states = jax.jit(case.states)(case.params, ids)
    close(case.model.logits(case.params, states[-1]), golden["outputs/long/logits"])
    for number, wanted in golden.group("outputs/long/hidden_states").items():
        close(states[int(number)], wanted)
    first = case.model.turns(jnp.ones((1, 1)), length)
    angles = jnp.arctan2(first.sine, first.cosine)[0, 0]
    np.testing.assert_allclose(angles, golden["outputs/long/inv_freq"], rtol=1e-4)
    width, base = case.size.head, golden.config["ntk_base_for_long"]
    np.testing.assert_allclose(angles, base ** (-np.arange(0, width, 2) / width), rtol=1e-4)


@pytest.mark.golden
def test_s3_internlm2_export_gives_back_the_original_tensors(case):
    found, wanted = exported(INTERNLM2, case.params, case.size), case.golden.group("params")
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name], tensor)
