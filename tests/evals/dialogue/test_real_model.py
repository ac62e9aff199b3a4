"""A dialogue model with random weights as the suites ask it: from a run folder, and between two steps."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from ivjax.cli import main
from ivjax.data_pipelines.load.mixture import Corpus
from ivjax.errors import UserError
from ivjax.evals.dialogue.answer_model import check_experiment
from ivjax.evals.suites import NeedleSearch, VideoQuestions
from ivjax.experiment.run_options import Checkpointing, EvalRun
from ivjax.generate.generator import run_logits
from ivjax.train.loop import train
from ivjax.train.mesh import build_mesh
from tests.data_pipelines.dialogue.talks import build_talks
from tests.train import line, talks_run
from tests.train.processes import finish, start

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _devices(monkeypatch):
    on_devices(monkeypatch, 1)


def on_devices(monkeypatch, count):
    """Has the command compute on so many devices, in this process: programs of one are compiled once."""
    monkeypatch.setattr("ivjax.train.distributed.join", lambda job: None)
    mesh = lambda shape: build_mesh(shape, jax.devices()[:count])  # noqa: E731
    monkeypatch.setattr("ivjax.evals.running.build_mesh", mesh)


def choices():
    """Questions about two videos; the same ones in a corpus and in a file."""
    rows = []
    for number in range(6):
        asked = {
            "question": f"What {number} ?",
            "options": ["It jumps .", "The door .", "."],
            "answer": "ABC"[number % 3],
        }
        rows.append({"video": "ab"[number // 3] + ".mp4", **asked, "type": ("motion", "what")[number % 2]})
    return rows


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_talks(tmp_path_factory.mktemp("talks"), choices())[0]


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A run that scores the questions every second step; and how many programs there were after each."""
    base = talks_run.experiment
    experiment = dataclasses.replace(
        base,
        # The stage as it is: its program is compiled for other tests too.
        data=dataclasses.replace(base.data, corpora=(Corpus(str(corpus)),)),
        steps=4,
        checkpoint=Checkpointing(every=4, best="mcqa/accuracy"),
        evals=(EvalRun(VideoQuestions(), 2, str(corpus)),),
    )
    folder, programs = tmp_path_factory.mktemp("run"), []

    def say(text):
        assert "mcqa failed" not in text, text
        if "mcqa/accuracy" in text:
            programs.append(run_logits._cache_size())

    assert train(experiment, folder, say, jax.devices()[:1]) == 0
    return folder, programs


def logged(folder):
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return {one["step"]: one for one in lines if "mcqa/accuracy" in one}


def test_a_run_scores_its_questions_between_steps_and_keeps_the_best(trained):
    folder, programs = trained
    lines = logged(folder)
    assert list(lines) == [2, 4] and all(one["mcqa/chance"] == pytest.approx(33.33) for one in lines.values())
    best = json.loads((folder / "best" / "best.json").read_text())
    assert best["metric"] == "mcqa/accuracy"
    assert best["value"] == max(one["mcqa/accuracy"] for one in lines.values())
    # The second eval compiled nothing.
    assert len(programs) >= 2 and set(programs) == {programs[0]} and programs[0] > 0


def test_a_command_finds_what_the_run_logged_and_goes_on_after_ctrl_c(trained, corpus, tmp_path, capsys):
    folder, _ = trained
    out = tmp_path / "r.json"
    command = ["eval", str(folder), "--suite", "mcqa", "--data", str(corpus), "--out", str(out), "--json"]
    assert main([*command, "--by", "likelihood"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"]["accuracy"] == logged(folder)[4]["mcqa/accuracy"]
    assert {row["name"]: row["questions"] for row in result["by_group"]} == {"motion": 3, "what": 3}
    answers = tmp_path / "r.answers.jsonl"
    lines = answers.read_text().splitlines()
    answers.write_text("\n".join(lines[:4]) + "\n")  # what is there after three of six questions
    assert main([*command, "--by", "likelihood"]) == 0
    again = capsys.readouterr()
    assert json.loads(again.out)["metrics"] == result["metrics"]
    assert "3 of 6 answers are there already" in again.err


def test_a_batch_that_is_split_over_devices_has_the_same_likelihoods(trained, corpus, tmp_path, monkeypatch):
    command = ["eval", str(trained[0]), "--suite", "mcqa", "--data", str(corpus), "--by", "likelihood"]
    found = []
    for count in (1, 4):
        on_devices(monkeypatch, count)
        answers = tmp_path / f"{count}.jsonl"
        assert main([*command, "--answers", str(answers)]) == 0
        lines = [json.loads(text)["answer"] for text in answers.read_text().splitlines()[1:]]
        found.append([line["log_likelihoods"] for line in lines])
    np.testing.assert_allclose(*found, rtol=1e-4)


@pytest.mark.multiprocess
@pytest.mark.parametrize("fsdp", [1, 2])
def test_two_processes_find_what_one_finds(trained, corpus, tmp_path, fsdp):
    """Each with the model and half of the questions, or both with half of the model and all questions."""
    out = tmp_path / "r.json"
    launch = ("launch", "local", "--processes", "2", "--devices", "1", "eval", str(trained[0]))
    asked = ("--suite", "mcqa", "--data", str(corpus), "--by", "likelihood", "--fsdp", str(fsdp))
    finish(start(*launch, *asked, "--out", str(out)))
    result = json.loads(out.read_text())
    assert result["metrics"]["accuracy"] == logged(trained[0])[4]["mcqa/accuracy"]
    kept = [path.name for path in sorted(tmp_path.glob("*.jsonl"))]
    assert kept == (["r.answers.jsonl", "r.answers.process1.jsonl"] if fsdp == 1 else [])


@pytest.mark.multiprocess
def test_a_run_in_two_processes_logs_what_a_run_in_one_does(trained, corpus, tmp_path):
    """Each holds half of the parameters, so both ask all questions, in step."""
    changes = ("steps=4", "checkpoint.every=4", "checkpoint.best=mcqa/accuracy", "mesh.fsdp=2", "mesh.data=1")
    evals = f"evals=(EvalRun(ivjax.evals.suites.VideoQuestions(),2,'{corpus}'),)"
    launch = ("launch", "local", "--processes", "2", "--devices", "1", "train", talks_run.__file__)
    finish(start(*launch, *changes, f"data.corpora.0.path={corpus}", evals, "--workdir", str(tmp_path)))

    def scores(folder):
        return {
            step: {name: value for name, value in line.items() if name.startswith("mcqa/")}
            for step, line in logged(folder).items()
        }

    assert scores(tmp_path) == scores(trained[0]) and list(scores(tmp_path)) == [2, 4]


def test_replies_are_generated_in_batches(trained, corpus, tmp_path, capsys):
    folder, _ = trained
    command = ["eval", str(folder), "--suite", "mcqa", "--data", str(corpus), "--new", "4", "--json"]
    answers = tmp_path / "answers.jsonl"
    assert main([*command, "--batch", "4", "--answers", str(answers)]) == 0
    assert {"strict", "lenient", "unclear"} <= set(json.loads(capsys.readouterr().out)["metrics"])
    said = [json.loads(text)["answer"] for text in answers.read_text().splitlines()[1:]]
    assert len(said) == 6 and all(set(answer) == {"reply"} for answer in said)


def test_needles_are_hidden_in_what_was_watched_once(trained, tmp_path, capsys):
    folder, _ = trained
    out = tmp_path / "needle.json"
    command = ["eval", str(folder), "--suite", "needle", "--data", "drawn", "--length", "24", "--depths", "2"]
    assert main([*command, "--needles", "2", "--by", "likelihood", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert len([row for row in result["by_group"] if row["by"] == "cell"]) == 2
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert np.isfinite(result["metrics"]["accuracy"])


def test_a_stage_without_answers_is_refused():
    with pytest.raises(UserError, match="which answers no questions; give a dialogue model"):
        check_experiment(NeedleSearch(), line.experiment)
