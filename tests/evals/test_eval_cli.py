"""`ivjax eval` from its arguments to its files, with an encoder that knows colours."""

import argparse
import json

import numpy as np
import pytest

from ivjax.cli import eval as command
from ivjax.errors import UserError
from ivjax.evals.hosts import Hosts
from tests.data_pipelines.corpora import corpus_of
from tests.evals.fakes import COLOURS, ColourEncoder, colour_clip
from tests.evals.test_probe import CLIPS, WIDTH  # the same, so that the regression is compiled once


@pytest.fixture
def opened(monkeypatch):
    """The arguments that models were opened with."""
    calls = []

    def of_weights(suite, path, preset, tokenizer, mesh):
        calls.append((suite.name, path, preset, tokenizer, suite.batch))
        return Words() if suite.has_tokenizer else Colours()

    for module in ("pair_model", "features", "class_model"):
        monkeypatch.setattr(f"ivjax.evals.{module}.of_weights", of_weights)
    monkeypatch.setattr("ivjax.train.distributed.join", lambda job: None)
    return calls


class Words(ColourEncoder):
    """Reads captions too."""

    rows, hosts = 4, Hosts()


class Colours(ColourEncoder):
    """The brightness of red, green and blue, and nothing: as features, or as logits of classes."""

    feature, width, rows, hosts = "mean", WIDTH, 4, Hosts()

    def video(self, clips):
        """Returns the mean colours of clips, padded."""
        return np.pad(super().video(clips), ((0, 0), (0, WIDTH - 3)))

    def fresh(self):
        """Returns an encoder that sees nothing."""
        return Dark()


class Dark(Colours):
    """Sees nothing."""

    def video(self, clips):
        """Returns zeros."""
        return np.zeros((len(clips), WIDTH), np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return colours(tmp_path_factory.mktemp("eval") / "corpus", ["red", "green", "blue", "red", "green"])


def colours(folder, names):
    """A corpus of clips of these colours, whose labels number them."""
    order = list(COLOURS)
    clips = [colour_clip(number, name, label=order.index(name)) for number, name in enumerate(names)]
    return str(corpus_of(folder, clips))


def run(*argv):
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    options = parser.parse_args(["eval", "run", *argv])
    return options.run(options)


def test_retrieval_prints_a_table_that_states_its_protocol(opened, corpus, capsys):
    argv = ("--suite", "retrieval", "--data", corpus, "--clips", "2", "--aggregate", "max", "--dsl")
    assert run(*argv, "--batch", "4", "--tokenizer", "v.txt", "--preset", "tiny") == 0
    assert opened == [("retrieval", "run", "tiny", "v.txt", 4)]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["weights", "run"] in lines and ["clips", "a", "video", "2"] in lines
    assert ["aggregation", "of", "clips", "max"] in lines and ["broken", "clips", "0"] in lines
    assert ["r1", "100.00", "100.00"] in lines


def test_zero_shot_stores_and_prints_json(opened, corpus, capsys, tmp_path):
    out = tmp_path / "result.json"
    argv = ("--suite", "zeroshot", "--data", corpus, "--attribute", "colour", "--prompt", "a {}")
    assert run(*argv, "--prompt", "{}", "--limit", "4", "--json", "--out", str(out)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(out.read_text())
    assert result["metrics"] == {
        "top1": 100.0,
        "chance": 33.33,
        "times_chance": 3.0,
        "most_frequent": 50.0,
    }
    assert result["protocol"]["prompts"] == ["a {}", "{}"] and result["protocol"]["videos"] == 4


def test_a_probe_is_fitted_to_one_corpus_and_tested_on_another(opened, corpus, capsys, tmp_path):
    train, out = colours(tmp_path / "train", list(COLOURS) * (CLIPS // 3)), tmp_path / "probe.json"
    argv = ("--suite", "probe", "--data", corpus, "--train", train, "--attribute", "colour", "--batch", "4")
    assert run(*argv, "--features", "mean", "--out", str(out)) == 0
    assert opened == [("probe", "run", None, None, 4)]
    result = json.loads(out.read_text())
    assert result["metrics"]["top1"] == 100 and result["metrics"]["gain"] == 100
    assert result["protocol"]["train videos"] == CLIPS and result["protocol"]["class names"] == sorted(
        COLOURS
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["suite", "probe"] in lines and ["gain", "100.00"] in lines


def test_videos_are_classified_in_several_views(opened, corpus, capsys, tmp_path):
    said = tmp_path / "said.jsonl"
    argv = ("--suite", "classify", "--data", corpus, "--clips", "2", "--crops", "3", "--sampling", "ssv2")
    assert run(*argv, "--predictions", str(said), "--batch", "4", "--limit", "4") == 0
    assert opened == [("classify", "run", None, None, 4)]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["views", "a", "video", "6"] in lines and ["mean_class", "100.00"] in lines
    assert [json.loads(line)["label"] for line in said.read_text().splitlines()] == [0, 1, 2, 0]


def test_annotations_have_a_kind_a_folder_and_options(opened, tmp_path):
    (tmp_path / "v").mkdir()
    clips = {name: colour_clip(0, name).payload for name in ("red", "green")}
    rows = []
    for name, payload in clips.items():
        (tmp_path / "v" / f"{name}.mp4").write_bytes(payload)
        rows.append({"video": f"{name}.mp4", "caption": [f"It is {name}.", "Yes."]})
    (tmp_path / "a.json").write_text(json.dumps(rows))
    out = tmp_path / "r.json"
    argv = ("--suite", "retrieval", "--data", str(tmp_path / "a.json"), "--kind", "captions")
    assert run(*argv, "--videos", str(tmp_path / "v"), "--set", "paragraph=true", "--out", str(out)) == 0
    result = json.loads(out.read_text())
    assert result["protocol"]["captions"] == 2 and result["metrics"]["r_mean"] == 100


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (
            ("retrieval", "--attribute", "colour"),
            "the suite retrieval has no --attribute; zeroshot and probe have it",
        ),
        (
            ("zeroshot", "--attribute", "colour", "--protocol", "msrvtt"),
            "retrieval, choice, mcqa and grounding have it",
        ),
        (
            ("choice", "--protocol", "msrvtt_mc", "--ties", "originals"),
            "the suite choice has no --ties; retrieval has it",
        ),
        (("retrieval", "--temperature", "1"), "has no --temperature; choice has it"),
        (
            ("choice", "--protocol", "msrvtt"),
            "'msrvtt' is not one of choice; choose one of choice, msr",
        ),
        (("retrieval", "--limit", "0"), "limit must be 1 or more, got 0"),
        (("retrieval", "--clips", "0"), "clips must be 1 or more, got 0"),
        (("retrieval", "--crops", "3"), "has no --crops; classify has it"),
        (("zeroshot", "--attribute", "colour", "--train", "x"), "has no --train; probe has it"),
        (("probe", "--attribute", "colour"), "probe needs --train: what the probe is fitted to"),
        (("probe", "--train", "x", "--dsl"), "probe has no --dsl; retrieval and zeroshot have it"),
        (
            ("probe", "--train", "x", "--tokenizer", "v.txt"),
            "probe has no --tokenizer; retrieval, choice, vqa, zeroshot, mcqa, grounding and needle have it",
        ),
        (("classify", "--aggregate", "max"), "classify has no --aggregate"),
        (("classify", "--baseline", "none"), "classify has no --baseline"),
        (("classify", "--crops", "0"), "crops must be 1 or more, got 0"),
    ],
)
def test_options_are_checked_before_the_model_is_opened(opened, corpus, argv, reason):
    with pytest.raises(UserError, match=reason):
        run("--suite", argv[0], "--data", corpus, *argv[1:])
    assert opened == []


def test_a_bad_pair_is_a_usage_error(opened, corpus, capsys):
    with pytest.raises(SystemExit):
        run("--suite", "retrieval", "--data", corpus, "--set", "paragraph")
    assert "expected name=value, got 'paragraph'" in capsys.readouterr().err
