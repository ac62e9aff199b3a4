"""The first training of a Q-Former: what sees what, its three losses, and the same numbers in any split."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.qformer import QFormerSize
from ivjax.models.qformer.pretraining_size import QueryPretrainSize
from ivjax.models.umt import UmtSize
from ivjax.ops.layout import batch_spec
from ivjax.stages.query_pretraining import QueryPretraining
from ivjax.stages.query_pretraining_loss import losses_of, read_clips
from ivjax.train.gradients import gradients_of
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import shardings_of
from tests.goldens import close
from tests.models.params import any_params

FLOAT32 = Compute("float32")
UMT = UmtSize(width=16, depth=1, heads=2, mlp_width=24, image=(32, 32), frames=2, table=(2, 2, 2))
BRIDGE = QFormerSize(16, 8, 12, 2, 2, 20, queries=3, extra_queries=0, vocabulary=20, places=8)
STAGE = QueryPretraining(QueryPretrainSize(UMT, BRIDGE, embed=6), words=6, start=19)
CAPTIONS = np.array(
    [[1, 5, 6, 2, 0, 0], [1, 7, 8, 9, 10, 2], [1, 5, 2, 0, 0, 0], [1, 11, 4, 3, 2, 0]], np.int32
)
BATCH = {
    "index": np.arange(4, dtype=np.uint32),
    "sample": np.array([0, 1, 0, 2], np.int32),
    "video": np.random.default_rng(0).integers(0, 256, (4, 2, 32, 32, 3), np.uint8),
    "text": CAPTIONS,
}
ARRAYS = jax.tree.map(jnp.asarray, BATCH)


@pytest.fixture(scope="module")
def model():
    return STAGE.model(FLOAT32)


@pytest.fixture(scope="module")
def params(model):
    return any_params(model) | {"temperature": np.float32(0.1)}


def test_queries_see_no_words_and_words_none_that_come_later(model, params):
    seen = np.random.default_rng(0).normal(size=(1, 8, 16)).astype(np.float32)
    read = jax.jit(model.read)
    one, other = (read(params, seen, np.array([ids])) for ids in ([19, 5, 6, 7], [19, 5, 9, 7]))
    np.testing.assert_array_equal(one.video, other.video)
    np.testing.assert_array_equal(one.said[:, :2], other.said[:, :2])
    assert np.all(np.abs(one.said[:, 2:] - other.said[:, 2:]).max(-1) > 1e-4)
    moved = read(params, seen + 1.0 * (np.arange(16) == 3), np.array([[19, 5, 6, 7]]))
    assert np.abs(moved.said - one.said).max() > 1e-4


def test_the_losses_are_those_of_the_formulas(model, params):
    key = jax.random.key(0)
    read = jax.jit(lambda p: read_clips(STAGE, model, p, ARRAYS, key))(params)
    total, terms = jax.jit(lambda p, r: losses_of(STAGE, model, p, r, ARRAYS, key))(params, read)
    close(total, sum(np.asarray(terms[name]) for name in ("vtc", "vtm", "caption")))

    same = BATCH["sample"][:, None] == BATCH["sample"][None]
    logits = np.asarray(read["video"]) @ np.asarray(read["text"]).T / 0.1
    targets = same / same.sum(1, keepdims=True)
    directions = [-(targets * np.asarray(jax.nn.log_softmax(x))).sum(1).mean() for x in (logits, logits.T)]
    close(terms["vtc"], np.mean(directions))

    states, kernels = jax.jit(lambda p, seen, ids: model.word_products(p, model.read(p, seen, ids).said))(
        params, read["seen"], np.where(np.arange(6) == 0, 19, CAPTIONS)
    )
    words = jax.nn.log_softmax(sum(x @ kernel for x, kernel in zip(states, kernels, strict=True)))
    picked = np.take_along_axis(np.asarray(words)[:, :-1], CAPTIONS[:, 1:, None], axis=2)[..., 0]
    close(terms["caption"], -picked[CAPTIONS[:, 1:] != 0].mean())


@pytest.mark.slow
def test_each_loss_reaches_the_parameters_that_it_should(model, params):
    def term(name):
        stage = dataclasses.replace(
            STAGE, weights=tuple(float(name == other) for other in ("vtc", "vtm", "cap"))
        )
        return jax.jit(jax.grad(lambda p: stage.build(FLOAT32).loss(p, ARRAYS, jax.random.key(0))[0]))(params)

    vtm = term("vtm")
    assert np.abs(vtm["heads"]["match"]["kernel"]).max() > 0 == np.abs(vtm["heads"]["video"]["kernel"]).max()
    assert np.abs(vtm["vision"]["patch_embed"]["kernel"]).max() > 0 and float(vtm["temperature"]) == 0


def numbers(micro_batches, params, batch=BATCH):
    objective = STAGE.build(FLOAT32)
    (loss, terms), gradients = jax.jit(gradients_of(objective, micro_batches))(
        params, {}, batch, jax.random.key(0)
    )
    return loss, terms, gradients


@pytest.fixture(scope="module")
def whole(params):
    return numbers(1, params)


def assert_same(found, wanted):
    jax.tree.map(lambda a, b: close(a, np.asarray(b), atol=1e-5), found, wanted)


@pytest.mark.slow
def test_micro_batches_give_the_gradient_of_the_whole_batch(whole, params):
    assert_same(numbers(2, params), whole)


@pytest.mark.slow
def test_four_devices_give_the_numbers_of_one(whole, params):
    mesh = build_mesh(MeshShape(data=2, fsdp=2), jax.devices()[:4])
    split = jax.sharding.NamedSharding(mesh, batch_spec())
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, shardings_of(params, mesh, STAGE.build(FLOAT32).rules))
        assert_same(numbers(1, placed, jax.device_put(BATCH, split)), whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": 9}, "stage.words=9; it must be 2 to 8"),
        ({"start": 20}, "stage.start=20 is no word"),
        (
            {"model_size": QueryPretrainSize(UMT, dataclasses.replace(BRIDGE, extra_queries=2))},
            "extra_queries=0",
        ),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(STAGE, **changes).build(FLOAT32)
