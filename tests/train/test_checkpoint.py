"""Checkpoints that are damaged, foreign, kept or partly read."""

import jax
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.train.checkpoint import restore_params
from tests.train.micro import losses, run

FEW = ("steps=6", "checkpoint.every=2", "checkpoint.keep_last=3", "schedule.warmup=2")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"), *FEW)


def halve(folder, pattern):
    files = [file for file in folder.glob(pattern) if file.is_file() and file.stat().st_size]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("pattern", ["params/**/d/*", "moments/_METADATA", "data/metadata"])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path, reference, pattern, caplog):
    run(tmp_path, *FEW)
    halve(tmp_path / "checkpoints" / "6", pattern)
    said: list[str] = []
    assert run(tmp_path, *FEW, said=said) == reference
    assert "continuing from step 4" in "\n".join(said)
    assert "checkpoint 6 cannot be read" in caplog.text
    assert (tmp_path / "unreadable-checkpoints" / "6").is_dir()
    assert (tmp_path / "checkpoints" / "6").is_dir()


def test_a_run_with_nothing_readable_says_so_and_keeps_everything(tmp_path):
    run(tmp_path, *FEW, "checkpoint.keep_last=1")
    halve(tmp_path / "checkpoints" / "6", "params/**/d/*")
    with pytest.raises(UserError, match=r"none of the checkpoints \[6\]"):
        run(tmp_path, *FEW)
    assert (tmp_path / "unreadable-checkpoints" / "6" / "params").is_dir()


def test_a_checkpoint_of_another_model_names_the_leaves(tmp_path):
    run(tmp_path, *FEW)
    with pytest.raises(
        UserError, match=r"another model: .*params/clip_decoder/head/kernel is \(1, 32, 16\) there"
    ):
        run(tmp_path, *FEW, "stage.clip.width=8", "ema=none")
    with pytest.raises(UserError, match="params/mae_decoder/fc1/bias is only there"):
        run(tmp_path, *FEW, "stage.mae=none")
    with pytest.raises(UserError, match="another model: ema/.* is only there"):
        run(tmp_path, *FEW, "ema=none")
    assert losses(tmp_path)[5:]


def test_keep_last_and_keep_every(tmp_path):
    run(tmp_path, *FEW, "checkpoint.every=1", "checkpoint.keep_last=2", "checkpoint.keep_every=2")
    assert sorted(int(d.name) for d in (tmp_path / "checkpoints").iterdir()) == [2, 4, 5, 6]


def test_fewer_steps_than_were_taken_leave_a_finished_run(tmp_path):
    run(tmp_path, *FEW)
    said: list[str] = []
    run(tmp_path, *FEW, "steps=4", said=said)
    assert "continuing from step 6" in "\n".join(said) and "stopped by request" not in "\n".join(said)


def test_parameters_alone_and_their_average_differ(tmp_path):
    run(tmp_path, *FEW)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params, ema = restore_params(tmp_path, here), restore_params(tmp_path, here, ema=True)
    assert jax.tree.structure(params) == jax.tree.structure(ema)
    kernels = [tree["encoder"]["blocks"]["mlp"]["fc1"]["kernel"] for tree in (params, ema)]
    assert 0 < np.abs(kernels[0] - kernels[1]).max() < 0.1
    with pytest.raises(UserError, match="holds no checkpoint"):
        restore_params(tmp_path / "nowhere", here)


@pytest.mark.slow
def test_a_run_without_average_has_none_to_read(tmp_path):
    run(tmp_path, *FEW, "ema=none")
    with pytest.raises(UserError, match="holds no ema"):
        restore_params(tmp_path, jax.sharding.SingleDeviceSharding(jax.devices()[0]), ema=True)
