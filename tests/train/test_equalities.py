"""The same numbers on any mesh, accumulated or whole, interrupted or not."""

import jax
import numpy as np
import pytest

from ivjax.convert.formats.orbax_files import restore_params
from ivjax.train import loop
from tests.train.micro import run

LATE = "checkpoint.every=20"  # only what is left behind is saved
# Two heads and eight steps: what is quick is compared in this; what is slow, in all.
SHORT = ("stage.mae=none", "steps=8")


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return run(tmp_path_factory.mktemp("one"), LATE)


def assert_same(losses, reference, steps=20):
    assert len(losses) == len(reference) == steps
    np.testing.assert_allclose(losses, reference, rtol=2e-5)


def test_eight_devices_give_the_losses_of_one(tmp_path, monkeypatch):
    # Nothing is saved: for what eight devices hold that compiles more than a hundred small programs.
    monkeypatch.setattr(loop, "_save", lambda session, last=False: None)
    wanted = run(tmp_path / "one", *SHORT)
    mesh = ["mesh.data=2", "mesh.fsdp=2", "mesh.context=2"]
    assert_same(run(tmp_path / "eight", *SHORT, *mesh, devices=jax.devices()), wanted, steps=8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mesh",
    [["mesh.fsdp=8", "mesh.data=1"], ["mesh.data=2", "mesh.fsdp=2", "mesh.context=2"]],
    ids=lambda mesh: "-".join(m.removeprefix("mesh.") for m in mesh),
)
def test_eight_devices_give_all_losses_of_one(tmp_path, one_device, mesh):
    assert_same(run(tmp_path, LATE, *mesh, devices=jax.devices()), one_device)


@pytest.mark.slow
def test_accumulation_gives_the_losses_of_the_whole_batch(tmp_path, one_device):
    assert_same(run(tmp_path, "accumulate=4"), one_device)
    assert one_device[-1] < 0.6 * one_device[0]


@pytest.mark.slow
def test_saved_on_eight_devices_continued_on_two_and_one(tmp_path, one_device):
    split = ["mesh.data=2", "mesh.fsdp=4"]
    run(tmp_path, "steps=20", "checkpoint.every=8", *split, devices=jax.devices())
    said: list[str] = []
    for step in (20, 16):
        (tmp_path / "checkpoints" / str(step)).rename(tmp_path / f"later-{step}")
    (tmp_path / "later-16").rename(tmp_path / "checkpoints" / "16")
    resumed = run(tmp_path, "mesh.fsdp=2", devices=jax.devices()[:2], said=said)
    assert "continuing from step 16" in "\n".join(said)
    assert_same(resumed, one_device)
    (tmp_path / "checkpoints" / "20").rename(tmp_path / "later")
    assert_same(run(tmp_path), one_device)


@pytest.mark.slow
def test_bfloat16_follows_float32_with_float32_parameters(tmp_path, one_device):
    losses = run(tmp_path, "dtype=bfloat16")
    assert losses[0] != one_device[0]
    np.testing.assert_allclose(losses, one_device, rtol=0.03)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    assert {leaf.dtype for leaf in jax.tree.leaves(restore_params(tmp_path, here))} == {np.dtype("float32")}


@pytest.mark.slow
def test_remat_and_unrolled_layers_change_nothing(tmp_path, one_device):
    assert_same(run(tmp_path, "remat=full", "scan_layers=false"), one_device)
