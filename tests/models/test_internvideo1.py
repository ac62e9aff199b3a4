"""InternVideo 1's multimodal branch against the original code: layers, losses, gradients; what it counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.engine.matching import MatchRequest, match
from ivjax.convert.engine.rows import unflatten
from ivjax.convert.formats.tensors import Arrays
from ivjax.convert.registry import FAMILIES
from ivjax.experiment.computing import Compute
from ivjax.models.internvideo1.captioning import Captioned
from ivjax.ops.trees import paths_of
from ivjax.stages.internvideo1.captioned_contrast import CaptionedContrast
from ivjax.stages.internvideo1.captioned_contrast_loss import compared, rows_of
from tests.goldens import Golden, clips

KEY = jax.random.key(0)  # nothing is drawn by it
NAME = "internvideo1_multimodal"
FAMILY = FAMILIES[NAME]
each_fixture = pytest.mark.parametrize("name", [NAME])


class Case:
    """The fixture's model and parameters in this project's layout."""

    def __init__(self, name: str):
        self.golden = Golden(name)
        self.size = FAMILY.parity.sizes(self.golden.json)
        self.named = self.golden.group("params")
        tensors = FAMILY.unpacked(Arrays(self.named), self.size)
        found = match(FAMILY.rows, tensors, MatchRequest(ignored=FAMILY.ignored))
        found.report.check(name)
        self.params = unflatten({leaf.path: leaf.lazy(tensors).read() for leaf in found.leaves})
        self.inputs = self.golden.group("inputs")
        self.ids = jnp.asarray(self.inputs["text_ids"], jnp.int32)


def exported(params, size):
    return {lazy.name: lazy.read() for lazy in FAMILY.original_tensors(Arrays(dict(paths_of(params))), size)}


@functools.cache
def case(name: str) -> Case:
    return Case(name)


@pytest.mark.slow
@pytest.mark.golden
@each_fixture
def test_every_layer_is_the_originals(name):
    c = case(name)
    found = jax.jit(lambda params: FAMILY.parity.run(c.size, params, c.inputs, "float32"))(c.params)
    outputs = c.golden.group("outputs")
    assert outputs.keys() == found.keys()
    for layer, wanted in outputs.items():
        np.testing.assert_allclose(found[layer], wanted, rtol=2e-4, atol=3e-5, err_msg=layer)


@pytest.mark.slow
@pytest.mark.golden
@each_fixture
def test_losses_and_gradients_are_the_originals(name):
    c = case(name)
    stage = CaptionedContrast(c.size.vision, c.size.text, c.size.decoder, form="dense")
    model, video = stage.model(Compute("float32")), clips(c.inputs["video"])

    def loss(params):
        found = model.captioned(params, video, c.ids)
        rows = rows_of(found, c.ids)
        return compared(stage, params, rows, {"sample": jnp.arange(len(video))}, KEY)[0], (
            rows,
            found.counted,
        )

    (total, (rows, counted)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(c.params)
    np.testing.assert_array_equal(counted, c.inputs["special_tokens_mask"][:, 1:] == 0)
    caption = np.sum(rows["error"]) / np.sum(rows["words"])
    np.testing.assert_allclose(caption, c.golden["losses/caption"], rtol=2e-4)
    np.testing.assert_allclose(total - caption, c.golden["losses/contrastive"], rtol=2e-4, atol=3e-5)
    np.testing.assert_allclose(total, c.golden["losses/total"], rtol=2e-4)
    named, golden = exported(jax.device_get(gradients), c.size), c.golden.group("grads")
    assert golden
    for key, value in golden.items():
        most = float(np.abs(value).max())
        np.testing.assert_allclose(named[key], value, rtol=2e-3, atol=1e-4 * most, err_msg=key)


@pytest.mark.golden
@each_fixture
def test_export_gives_back_the_original_tensors(name):
    c = case(name)
    found = exported(c.params, c.size)
    left = c.named.keys() - found.keys()
    assert all(key.endswith((".beta", ".inv_freq", "text_mask_embedding")) for key in left)
    for key, value in found.items():
        np.testing.assert_array_equal(value, c.named[key])


def test_words_of_short_captions_count_no_more_than_others():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5)), jnp.float32)
    counted, ids = (
        jnp.asarray([[True, True, True], [True, False, False]]),
        jnp.asarray([[0, 1, 2, 4], [0, 4, 0, 0]]),
    )
    rows = rows_of(Captioned(jnp.eye(2), jnp.eye(2), logits, counted), ids)
    assert rows["words"].tolist() == [3, 1]
    log_odds = jax.nn.log_softmax(logits)
    wanted = -(log_odds[0, 0, 1] + log_odds[0, 1, 2] + log_odds[0, 2, 4] + log_odds[1, 0, 4]) / 4
    stage = CaptionedContrast(case(NAME).size.vision, case(NAME).size.text, form="dense")
    terms = compared(stage, {"logit_scale": jnp.float32(0)}, rows, {"sample": jnp.arange(2)}, KEY)[1]
    np.testing.assert_allclose(terms["caption"], wanted, rtol=1e-6)
