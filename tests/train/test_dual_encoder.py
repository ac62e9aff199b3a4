"""The stage of clips and captions in the loop: any mesh, any number of micro-batches, frozen words."""

import jax
import numpy as np
import pytest

from ivjax.convert.formats.orbax_files import restore_params
from ivjax.errors import UserError
from ivjax.experiment.overrides import apply_overrides
from ivjax.ops.cut import cut
from ivjax.ops.trees import paths_of
from ivjax.train.gradients import gradients_of
from tests.models.params import any_params
from tests.train.micro import losses
from tests.train.pairs import experiment, run

FROZEN = ("stage.train_text=false", "init_fresh=('text',)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def one_device(folder):
    return losses(folder)


@pytest.mark.slow
def test_the_loss_of_a_dual_encoder_falls(one_device):
    assert one_device[-1] < 0.8 * one_device[0]


@pytest.mark.slow
def test_a_ring_on_a_mesh_in_micro_batches_gives_the_losses_of_one_device(tmp_path, one_device):
    mesh = "mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2"
    found = run(tmp_path, "stage.contrast.form=ring", "accumulate=2", *mesh, devices=jax.devices())
    np.testing.assert_allclose(found, one_device, rtol=5e-5)


def random_pairs(rows: int, key: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(key)
    return {
        "index": np.arange(rows, dtype=np.uint32),
        "sample": rng.integers(0, rows // 2, rows).astype(np.int32),
        "video": rng.integers(0, 256, (rows, 4, 14, 14, 3)).astype(np.uint8),
        "text": rng.integers(0, 64, (rows, 8)).astype(np.int32),
    }


# tests/train/test_step.py has the same of a small loss that compares rows.
@pytest.mark.slow
@pytest.mark.parametrize("kind, frozen", [("info_nce", False), ("sigmoid", True)])
def test_eight_micro_batches_give_the_gradients_of_the_whole_batch(kind, frozen):
    overrides = [f"stage.contrast.kind={kind}", f"stage.train_text={str(not frozen).lower()}"]
    changed = apply_overrides(experiment, overrides)
    objective = changed.stage.build(changed.compute)
    halves = cut(any_params(objective) | {"temperature": np.float32(0.07)}, objective.frozen)
    batch, key = random_pairs(32), jax.random.key(2)
    (loss, _), whole = jax.jit(gradients_of(objective, 1))(*halves, batch, key)
    (same, _), summed = jax.jit(gradients_of(objective, 8))(*halves, batch, key)
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    wanted = dict(paths_of(whole))
    assert any(path.startswith("text/") for path in wanted) != frozen
    for path, found in paths_of(summed):
        scale = np.abs(wanted[path]).max()
        np.testing.assert_allclose(found, wanted[path], rtol=1e-4, atol=1e-5 * scale + 1e-9, err_msg=path)


@pytest.mark.slow
def test_a_frozen_text_tower_is_the_same_after_a_restart(tmp_path):
    options = (*FROZEN, "steps=6", "checkpoint.every=3")
    whole = run(tmp_path / "run", *options)
    (tmp_path / "run" / "checkpoints" / "6").rename(tmp_path / "later")
    assert run(tmp_path / "run", *options) == whole


@pytest.mark.slow
def test_the_temperature_stays_within_its_bounds(tmp_path):
    run(tmp_path, "stage.contrast.least=0.0699", "schedule.peak=0.05", "steps=8")
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    assert restore_params(tmp_path, here)["temperature"] >= np.float32(0.0699)


@pytest.mark.parametrize(
    "override, message",
    [
        ("stage.vision.image=(15,14)", "do not divide into tubelets of 1 and patches of 7"),
        ("stage.vision.heads=5", "stage.vision.width=32 does not divide into 5 heads"),
        ("stage.text.out=8", "stage.vision.out=16 and stage.text.out=8 differ"),
        ("stage.contrast.least=0.2", "temperature=0.07 lies outside"),
    ],
)
def test_sizes_that_do_not_fit_are_one_sentence(override, message):
    changed = apply_overrides(experiment, [override])
    with pytest.raises(UserError, match=message):
        changed.stage.build(changed.compute)
