"""Runs on conversations: killed and continued, or on several hosts, they have the losses of one run."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.data_pipelines.dialogue.talks import build_talks
from tests.train import talks_run
from tests.train.micro import losses, run
from tests.train.processes import finish, start, steps_logged, wait_for

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]
CONFIG = str(Path(talks_run.__file__))
EVAL = ("eval_loss.every=4", "eval_loss.batches=2")


def on(corpus):
    return f"data.corpora.0.path={corpus}", f"data.eval_corpora=(Corpus('{corpus}'),)"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_talks(tmp_path_factory.mktemp("talks"))[0]


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """A run on one device, in one piece."""
    folder = tmp_path_factory.mktemp("whole")
    found = run(folder, *on(corpus), *EVAL, base=talks_run.experiment)
    # Both buckets have come, and their conversations do not fill their rows.
    lines = metrics(folder)
    rates = {round(line["tokens/s"] / line["clips/s"]) for line in lines if "clips/s" in line}
    assert rates == {bucket.tokens for bucket in talks_run.STAGE.buckets}
    assert any(0 < line.get("short/data/padding", 0) < 1 for line in lines)
    return folder, found


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def eval_losses(folder):
    return [line["eval/loss"] for line in metrics(folder) if "eval/loss" in line]


def test_killed_and_continued_with_other_workers_it_gives_the_losses_of_one_run(corpus, whole, tmp_path):
    command = ("train", CONFIG, *on(corpus), "--workdir", str(tmp_path))
    process = start(*command, "data.workers=1")
    wait_for(lambda: (tmp_path / "checkpoints" / "3").is_dir() and steps_logged(tmp_path) >= 4, process)
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    assert "continuing from step" in finish(start(*command, "data.workers=2"))
    np.testing.assert_allclose(losses(tmp_path), whole[1], rtol=1e-6)


def test_two_hosts_that_split_tokens_and_parameters_give_the_losses_of_one(corpus, whole, tmp_path):
    mesh = ("mesh.data=1", "mesh.fsdp=2", "mesh.context=2")
    command = ("train", CONFIG, *on(corpus), *EVAL, *mesh, "--workdir", str(tmp_path))
    finish(start("launch", "local", "--processes", "2", "--devices", "2", *command))
    np.testing.assert_allclose(losses(tmp_path), whole[1], rtol=2e-5)
    np.testing.assert_allclose(eval_losses(tmp_path), eval_losses(whole[0]), rtol=2e-5)
