"""`ivjax eval` from its arguments to its files, with an encoder that knows colours."""

import argparse
import json
import sys
import types

import pytest

from ivjax.cli import eval as command
from ivjax.errors import UserError
from tests.data_pipelines.corpora import corpus_of
from tests.evals.fakes import ColourEncoder, colour_clip


@pytest.fixture
def opened(monkeypatch):
    """What the encoder was opened with."""
    calls = []

    def open_encoder(path, preset, tokenizer, batch):
        calls.append((path, preset, tokenizer, batch))
        return ColourEncoder()

    monkeypatch.setitem(sys.modules, "ivjax.evals.opening", types.SimpleNamespace(open_encoder=open_encoder))
    return calls


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    names = ["red", "green", "blue", "red", "green"]
    clips = [colour_clip(number, name) for number, name in enumerate(names)]
    return str(corpus_of(tmp_path_factory.mktemp("eval") / "corpus", clips))


def run(*argv):
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    options = parser.parse_args(["eval", "run", *argv])
    return options.run(options)


def test_retrieval_prints_a_table_that_states_its_protocol(opened, corpus, capsys):
    argv = ("--suite", "retrieval", "--data", corpus, "--clips", "2", "--aggregate", "max", "--dsl")
    assert run(*argv, "--batch", "4", "--tokenizer", "v.txt", "--preset", "tiny") == 0
    assert opened == [("run", "tiny", "v.txt", 4)]
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
        (("retrieval", "--attribute", "colour"), "retrieval has no option 'attribute'"),
        (("zeroshot", "--attribute", "colour", "--protocol", "msrvtt"), "zeroshot has no option 'protocol'"),
        (("retrieval", "--protocol", "msrvtt_mc", "--ties", "originals"), "choice has no option 'ties'"),
        (("retrieval", "--temperature", "1"), "retrieval has no option 'temperature'"),
        (("zeroshot",), "give a file of names, or an attribute"),
        (("retrieval", "--limit", "0"), "make the limit 1 or more"),
    ],
)
def test_options_are_checked_before_the_model_is_opened(opened, corpus, argv, reason):
    with pytest.raises(UserError, match=reason):
        run("--suite", argv[0], "--data", corpus, *argv[1:])
    assert opened == []


def test_a_bad_pair_is_a_usage_error(opened, corpus, capsys):
    with pytest.raises(SystemExit):
        run("--suite", "retrieval", "--data", corpus, "--set", "paragraph")
    assert "'paragraph' is not name=value" in capsys.readouterr().err
