"""UniFormerV2 against the original code: layers, loss, gradients; its training; CLIP's files inflated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.registry import FAMILIES
from ivjax.experiment.computing import Compute
from ivjax.stages.classification import Classification
from ivjax.stages.classification_loss import cross_entropy, smoothed
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden, clips

FIXTURES = ("uniformerv2_global_only", "uniformerv2_local_temporal")
FAMILY = FAMILIES["uniformerv2_classifier"]
each_fixture = pytest.mark.parametrize("name", FIXTURES)


class Case:
    """A fixture's classifier and parameters in this project's layout."""

    def __init__(self, name: str):
        self.golden = Golden(name)
        self.size = FAMILY.parity.sizes(self.golden.json["constructor"])
        stored = self.golden.group("params")
        self.named = {key: x for key, x in stored.items() if not key.endswith("num_batches_tracked")}
        self.params = import_tensors(FAMILY.rows, self.named)
        self.inputs = self.golden.group("inputs")


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
    assert outputs.keys() <= found.keys()
    for layer, wanted in outputs.items():
        np.testing.assert_allclose(found[layer], wanted, rtol=1e-4, atol=3e-5, err_msg=layer)


def loss_of(c):
    """The loss of the fixture's clips as a function of the parameters."""
    model, video = c.size.build(Compute("float32")), clips(c.inputs["video"])
    targets = smoothed(jnp.asarray(c.inputs["label"], jnp.int32), c.size.classes, 0.0)
    return lambda params: cross_entropy(model.logits(params, video), targets)


# Apart from the gradients, which take three times as long to compile.
@pytest.mark.golden
@each_fixture
def test_the_loss_is_the_originals(name):
    c = case(name)
    np.testing.assert_allclose(jax.jit(loss_of(c))(c.params), c.golden["losses/cross_entropy"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.golden
@each_fixture
def test_gradients_are_the_originals(name):
    c = case(name)
    gradients = jax.jit(jax.grad(loss_of(c)))(c.params)
    named, golden = export_tensors(FAMILY.rows, jax.device_get(gradients)), c.golden.group("grads")
    assert golden
    for key, value in golden.items():
        np.testing.assert_allclose(named[key], value, rtol=1e-3, atol=2e-5, err_msg=key)


@pytest.mark.golden
@each_fixture
def test_export_gives_back_the_original_tensors(name):
    c = case(name)
    exported = export_tensors(FAMILY.rows, c.params)
    assert exported.keys() == c.named.keys()
    for key, value in c.named.items():
        np.testing.assert_array_equal(exported[key], value)


@pytest.mark.slow
@pytest.mark.parametrize("scan", [True, False])
def test_training_norms_by_the_batch_and_hands_out_its_statistics(scan):
    c = case("uniformerv2_local_temporal")
    stage = Classification(c.size, mixed=False)
    objective = stage.build(Compute("float32", scan=scan))
    video = np.asarray(clips(c.inputs["video"]))
    batch = {
        "index": np.arange(len(video), dtype=np.uint32),
        "video": video,
        "label": np.asarray(c.inputs["label"], np.int32),
    }
    _, terms = jax.jit(objective.loss)(c.params, batch, jax.random.key(0))
    paths = [path for path in objective.running]
    assert len(paths) == 4 and set(paths) <= terms.keys()
    # The first local module norms the patches that enter the first block.
    entering = c.golden["outputs/tokens_after_ln_pre"][:, 1:].reshape(-1, c.size.encoder.width)
    mean = terms["encoder/blocks/local1/norm/mean"]
    assert mean.shape == (c.size.encoder.depth, c.size.encoder.width)
    np.testing.assert_allclose(mean[0], entering.mean(0), rtol=1e-4, atol=1e-5)
    variance = terms["encoder/blocks/local1/norm/variance"][0]
    np.testing.assert_allclose(variance, entering.var(0, ddof=1), rtol=1e-4, atol=1e-5)
    calm = jax.jit(objective.eval_loss)(c.params, batch, jax.random.key(0))[1]
    assert not set(paths) & calm.keys()
