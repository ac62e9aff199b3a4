"""viclip_tiny:best, which runs a retrieval eval between its steps, on a handful of clips."""

import json
import signal

import numpy as np
import pytest

from ivjax.data_pipelines.tokenizers.sentencepiece_training import train_sentencepiece
from tests.data_pipelines.corpora import corpus_of, make_clip
from tests.train.processes import finish, start, wait_for

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    clips = corpus_of(folder / "clips", [make_clip(n) for n in range(16)], shards=1)
    words = [f"{kind} {n}" for kind in ("clip", "number") for n in range(200)]
    train_sentencepiece(words, folder / "words.model", 330)
    return (
        *("train", "viclip_tiny:best", f"data.corpora.0.path={clips}", f"evals.0.data={clips}"),
        *("evals.0.every=4", "evals.0.suite.batch=16", "checkpoint.every=6", "eval_loss.every=0"),
        *(f"data.fields.text.tokenizer.path={folder}/words.model", "data.workers=0", "log.every=1"),
        *("stage.vision.depth=1", "stage.text.depth=1", "steps=14", "batch=16"),
        *("schedule.warmup=2", "schedule.peak=3e-3"),
    )


def metric(folder, name):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}


def best(folder):
    return json.loads((folder / "best" / "best.json").read_text())


def test_killed_and_continued_it_gives_the_same_curve_and_the_same_best(tmp_path, command):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(*command, "--workdir", str(whole)))
    process = start(*command, "--workdir", str(killed))
    wait_for(lambda: (killed / "checkpoints" / "6").is_dir(), process)
    wait_for(lambda: len((killed / "metrics.jsonl").read_text().splitlines()) >= 9, process)
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    assert "continuing from step" in finish(start(*command, "--workdir", str(killed)))
    recalls = metric(whole, "retrieval/t2v_r1")
    assert list(recalls) == [4, 8, 12, 14] and metric(killed, "retrieval/t2v_r1") == recalls
    losses = [list(metric(folder, "loss").values()) for folder in (killed, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    assert best(whole) == best(killed)
    assert best(whole)["value"] == max(recalls.values())
    # The kept checkpoint is a model like any other.
    out = tmp_path / "result.json"
    data = command[2].partition("=")[2]
    finish(start("eval", str(killed / "best"), "--suite", "retrieval", "--data", data, "--out", str(out)))
    assert json.loads(out.read_text())["metrics"]["t2v_r1"] == pytest.approx(best(killed)["value"])
