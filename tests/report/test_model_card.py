"""Model cards: what their head and text say, that their lines run, and that the Hub's package reads them."""

import json
import re
from dataclasses import replace

import pytest

import ivjax
from ivjax.cli import main
from ivjax.convert.model_folder import FolderOptions, published
from ivjax.errors import UserError
from ivjax.experiment.listing import leaves
from ivjax.generate.decoding import Decoding
from ivjax.report.model_card.front_matter import CardOptions
from ivjax.report.model_card.write_folder import write_folder
from tests.data_pipelines.corpora import make_clip
from tests.evals.small_run import small_experiment
from tests.generate.small_dialogue import save_dialogue_run
from tests.report.written_folder import (
    head_and_text,
    quiet,
    result_of,
    write_pair,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    write_pair(folder)
    return folder


def test_the_head_has_what_was_given_and_what_the_model_is(place):
    head, text = head_and_text(place / "pair-tiny/README.md")
    entry = head.pop("model-index")[0]
    assert head == {
        "license": "apache-2.0",
        "library_name": "ivjax",
        "pipeline_tag": "feature-extraction",
        "tags": ["ivjax", "jax", "video", "viclip"],
        "base_model": ["friends/pair"],
        "datasets": ["friends/clips"],
    }
    [found] = entry["results"]
    assert (entry["name"], found["dataset"]) == ("pair-tiny", {"type": "test_set", "name": "test_set"})
    assert found["metrics"][1] == {"type": "t2v_medr", "value": 3.0, "name": "t2v_medr"}
    for words in (
        "# pair-tiny\n",
        "| model | DualTower, 47,681 parameters in 39 arrays, 0.2 MiB float32 |",
        "captions as 8 ids (BertWordPiece",
        "| run | DualEncoder after step 1; 20 steps of 16 clips were planned |",
        "| corpora | corpus |",
        "| retrieval | test_set | 13 | t2v_r1 | 12.5 |",
        "it sees 4 frames of 14 x 14 pixels",
    ):
        assert words in text
    config = json.loads((place / "pair-tiny/config.json").read_text())
    assert (config["family"], config["parameters"], config["step"]) == ("viclip", 47681, 1)
    assert config["sizes"]["vision"]["width"] == 32


def test_nothing_in_a_folder_says_where_its_run_lay(place):
    for file in (place / "pair-tiny").rglob("*"):
        if file.is_file():
            assert str(place).encode() not in file.read_bytes(), file
    experiment = small_experiment(place / "again", place / "corpus")
    corpora = tuple(
        replace(corpus, changes=("text.tokenizer.path=/home/me/words.txt", "video.rule=Intervals(4)"))
        for corpus in experiment.data.corpora
    )
    changed = replace(
        experiment, data=replace(experiment.data, corpora=corpora), init_from=("/home/me/w.pth",)
    )
    found = leaves(published(changed))
    assert found["data.corpora.0.changes"] == ("text.tokenizer.path=words.txt", "video.rule=Intervals(4)")
    assert found["data.corpora.0.path"] == "corpus" and found["init_from"] == ()


def test_the_five_lines_of_the_card_run(place, monkeypatch, capsys):
    [code] = re.findall(r"```python\n(.*?)```", (place / "pair-tiny/README.md").read_text(), re.S)
    assert len([line for line in code.splitlines() if line]) == 5
    monkeypatch.chdir(place)
    exec(code, names := {})
    assert names["vectors"].shape == (2, 16) and "[[" in capsys.readouterr().out


def test_a_dialogue_model_answers_from_its_folder_as_from_its_run(tmp_path, monkeypatch, capsys):
    save_dialogue_run(tmp_path / "run")
    write_folder(str(tmp_path / "run"), tmp_path / "talks-tiny", say=quiet)
    (tmp_path / "a.mp4").write_bytes(make_clip(0).payload)
    monkeypatch.chdir(tmp_path)
    head, text = head_and_text(tmp_path / "talks-tiny/README.md")
    assert head["pipeline_tag"] == "video-text-to-text"
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    assert 'ivjax.chat(model, "a.mp4")' in code
    said = [
        ivjax.chat(ivjax.load(name), "a.mp4", Decoding(new=4, chunk=64), clips=2).answer("What happens?")
        for name in ("run", "talks-tiny")
    ]
    assert said[0] == said[1] != ""


def test_the_hubs_package_reads_the_card(place):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    card = hub.ModelCard.load(place / "pair-tiny/README.md")
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "ivjax")
    assert card.data.base_model == ["friends/pair"] and card.data.datasets == ["friends/clips"]
    found = [
        (one.task_type, one.dataset_name, one.metric_type, one.metric_value) for one in card.data.eval_results
    ]
    assert found == [("retrieval", "test_set", "t2v_r1", 12.5), ("retrieval", "test_set", "t2v_medr", 3.0)]
    assert card.data.model_name == "pair-tiny" and "## Limits" in card.text


@pytest.mark.parametrize(
    "card, options, message",
    [
        (CardOptions(license="Apache 2"), FolderOptions(), "license 'Apache 2' is no identifier of the Hub"),
        (CardOptions(base_models=("a/b/c",)), FolderOptions(), "base model 'a/b/c' is no name on the Hub"),
        (CardOptions(datasets=("my data",)), FolderOptions(), "dataset 'my data' is no name on the Hub"),
        (
            CardOptions(evals=("other.json",)),
            FolderOptions(),
            "is a result of /gone/other, not of .*run",
        ),
        (CardOptions(evals=("none.json",)), FolderOptions(), "none.json cannot be read"),
        (CardOptions(), FolderOptions(ema=True), "holds no ema; the run was trained without it"),
        (CardOptions(), FolderOptions(tokenizer="v.txt"), "is a run, which holds its own vocabulary"),
        (CardOptions(), FolderOptions(classes="n.txt"), "n.txt names classes, and a DualTower has none"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(place, tmp_path, monkeypatch, card, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text(json.dumps(result_of("/gone/other")))
    (tmp_path / "n.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=message):
        write_folder(str(place / "run"), tmp_path / "out", card, options, say=quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.txt", "other.json"]


def test_the_command_writes_a_folder_and_lists_its_files(place, tmp_path, capsys):
    words = ["convert", "folder", str(place / "run"), str(tmp_path / "mine"), "--license", "mit", "--json"]
    assert main(words) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["folder"] == str(tmp_path / "mine") and f"{tmp_path}/mine/README.md" in listed["files"]
