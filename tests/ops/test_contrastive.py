"""Contrastive losses: the released gather's numbers, and three forms with one value and one gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.mesh_shape import MeshShape
from ivjax.ops.contrastive import contrastive_loss, scale_from_temperature, scale_gradient, soft_targets
from ivjax.ops.losses import l2_normalise
from ivjax.train.mesh import build_mesh
from tests.goldens import Golden, close, close_gradient

ROWS, WIDTH = 48, 12
MESHES = {1: MeshShape(data=1), 4: MeshShape(data=2, fsdp=2), 8: MeshShape(data=4, fsdp=2)}


# Half of the rows share few ids, unevenly; the others stand alone.
IDS = np.concatenate([np.random.default_rng(0).integers(0, 7, ROWS // 2), 100 + np.arange(ROWS // 2)])


def traced(kind, form, devices):
    """The loss and its gradients by embeddings, scale and bias, traced on a mesh of so many devices."""

    def loss(left, right, scale, bias):
        return contrastive_loss(left, right, jnp.asarray(IDS), scale, bias, kind, form)

    with jax.set_mesh(build_mesh(MESHES[devices], jax.devices()[:devices])):
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3))).trace(*inputs())


def inputs():
    left, right = np.random.default_rng(3).normal(size=(2, ROWS, WIDTH)).astype(np.float32)
    return left, right, np.float32(12), np.float32(-2)


@functools.cache
def value_and_gradients(kind, form, devices):
    return jax.tree.map(np.asarray, traced(kind, form, devices).lower().compile()(*inputs()))


@pytest.mark.parametrize("kind", ["info_nce", "sigmoid"])
@pytest.mark.parametrize("devices", [1, 4, 8])
@pytest.mark.parametrize("form", ["gathered", "ring"])
def test_forms_agree_on_any_devices(kind, devices, form):
    reference, wanted = value_and_gradients(kind, "dense", 1)
    value, found = value_and_gradients(kind, form, devices)
    np.testing.assert_allclose(value, reference, rtol=1e-6)
    for one, other in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())
    # A common bias does not move a softmax: its gradient is rounding alone.
    np.testing.assert_allclose(found[3], wanted[3], rtol=1e-5, atol=1e-6)


def test_chunks_of_the_ring_change_nothing(monkeypatch):
    reference = value_and_gradients("info_nce", "ring", 8)
    monkeypatch.setattr("ivjax.ops.ring._LOGITS", 2 * ROWS // 8)
    chunked = traced("info_nce", "ring", 8)
    assert "length=3" in str(chunked.jaxpr)  # each device takes its 6 rows in chunks of 2
    found = chunked.lower().compile()(*inputs())
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_targets_share_a_row_among_its_positives():
    found = soft_targets(jnp.array([4, 1, 4]), jnp.array([4, 1, 4, 9, 4]))
    np.testing.assert_allclose(
        found, [[1 / 3, 0, 1 / 3, 0, 1 / 3], [0, 1, 0, 0, 0], [1 / 3, 0, 1 / 3, 0, 1 / 3]]
    )


def test_the_sigmoid_loss_is_a_sum_over_pairs():
    rng = np.random.default_rng(1)
    left, right = (np.asarray(l2_normalise(jnp.asarray(x))) for x in rng.normal(size=(2, 5, 4)))
    logits = 3.0 * left @ right.T - 1.0
    expected = np.log1p(np.exp(np.where(np.eye(5, dtype=bool), -logits, logits))).sum(-1).mean()
    found = contrastive_loss(left, right, jnp.arange(5), 3.0, -1.0, "sigmoid", "dense")
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_clamped_temperature_keeps_its_gradient():
    of_scale = jax.value_and_grad(lambda t: scale_from_temperature(t, least=0.01, most=0.5))
    for temperature, clamped in ((0.001, 0.01), (0.07, 0.07), (0.9, 0.5)):
        value, gradient = of_scale(temperature)
        np.testing.assert_allclose([value, gradient], [1 / clamped, -1 / clamped**2], rtol=1e-5)


@pytest.mark.golden
@pytest.mark.parametrize("form", ["dense", "gathered", "ring"])
def test_stage2_vtc_gather_divides_the_encoders_gradients(form):
    golden = Golden("stage2_vtc_gather")
    given = {name: golden[f"inputs/{name}"] for name in ("vision", "text", "idx")}
    vision, text, ids = (x.reshape(-1, *x.shape[2:]) for x in given.values())

    @jax.jit
    def step(params, factor):
        def loss(params):
            projected = [
                scale_gradient(x @ params[f"{name}_proj.weight"].T + params[f"{name}_proj.bias"], factor)
                for name, x in (("vision", vision), ("text", text))
            ]
            scale = scale_from_temperature(params["temp"], least=0.001, most=0.5)
            return contrastive_loss(*projected, jnp.asarray(ids), scale, form=form)

        return jax.value_and_grad(loss)(params)

    for factor, group in ((1.0, "grads_global"), (1 / golden.config["W"], "grads_ddp")):
        loss, found = step(golden.group("params"), factor)
        close(loss, golden["losses/global"])
        for name, gradient in golden.group(group).items():
            close_gradient(found[name], gradient)


def test_the_ring_holds_no_square_of_logits():
    rows = 16384
    shapes = [jax.ShapeDtypeStruct((rows, 64), jnp.float32)] * 2 + [jax.ShapeDtypeStruct((rows,), jnp.int32)]

    def temporary(form):
        loss = jax.grad(lambda a, b, i: contrastive_loss(a, b, i, 10.0, form=form), argnums=(0, 1))
        return jax.jit(loss).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert temporary("ring") < temporary("dense") / 4
