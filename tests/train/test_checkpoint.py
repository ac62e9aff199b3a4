"""Checkpoints that are damaged, foreign, kept or partly read."""

import shutil

import jax
import numpy as np
import pytest

from ivjax.convert.formats.orbax_files import restore_params
from ivjax.errors import UserError
from tests.train.line import run
from tests.train.micro import losses


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of six steps, with checkpoints of steps 4 and 6."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def halve(folder, pattern):
    files = [file for file in folder.glob(pattern) if file.is_file() and file.stat().st_size]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("pattern", ["params/**/d/*", "moments/_METADATA", "data/metadata"])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(folder, finished, pattern, caplog):
    halve(folder / "checkpoints" / "6", pattern)
    said: list[str] = []
    assert run(folder, said=said) == losses(finished)
    assert "continuing from step 4" in "\n".join(said)
    assert "checkpoint 6 cannot be read" in caplog.text
    assert (folder / "unreadable-checkpoints" / "6").is_dir()
    assert (folder / "checkpoints" / "6").is_dir()


def test_a_run_with_nothing_readable_says_so_and_keeps_everything(folder):
    shutil.rmtree(folder / "checkpoints" / "4")
    halve(folder / "checkpoints" / "6", "params/**/d/*")
    with pytest.raises(UserError, match=r"none of the checkpoints \[6\]"):
        run(folder)
    assert (folder / "unreadable-checkpoints" / "6" / "params").is_dir()


def test_a_checkpoint_of_another_model_names_the_leaves(folder):
    with pytest.raises(UserError, match=r"another model: .*params/line/kernel is \(3, 4\) there"):
        run(folder, "stage.width=5", "ema=none")
    with pytest.raises(UserError, match="params/line/bias is only there"):
        run(folder, "stage.bias=false")
    with pytest.raises(UserError, match="another model: ema/.* is only there"):
        run(folder, "ema=none")
    assert losses(folder)[5:]


def test_keep_last_and_keep_every_keep_those_checkpoints(tmp_path):
    run(tmp_path, "checkpoint.every=1", "checkpoint.keep_last=2", "checkpoint.keep_every=2")
    assert sorted(int(d.name) for d in (tmp_path / "checkpoints").iterdir()) == [2, 4, 5, 6]


def test_fewer_steps_than_were_taken_leave_a_finished_run(folder):
    said: list[str] = []
    run(folder, "steps=4", said=said)
    assert "continuing from step 6" in "\n".join(said) and "stopped by request" not in "\n".join(said)


def test_parameters_alone_and_their_average_differ(finished, tmp_path):
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params, ema = restore_params(finished, here), restore_params(finished, here, ema=True)
    assert jax.tree.structure(params) == jax.tree.structure(ema)
    kernels = [tree["line"]["kernel"] for tree in (params, ema)]
    assert 0 < np.abs(kernels[0] - kernels[1]).max() < 0.1
    with pytest.raises(UserError, match="holds no checkpoint"):
        restore_params(tmp_path / "nowhere", here)


@pytest.mark.slow
def test_a_run_without_average_has_none_to_read(tmp_path):
    run(tmp_path, "ema=none")
    with pytest.raises(UserError, match="holds no ema"):
        restore_params(tmp_path, jax.sharding.SingleDeviceSharding(jax.devices()[0]), ema=True)
