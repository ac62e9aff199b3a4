"""Copies of vocabularies in a run folder: files, and folders of files; and what hostile folders say."""

import dataclasses
import json

import pytest

from ivjax.data_pipelines.load.tokenizers_in_use import vocabularies_of
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.errors import UserError
from ivjax.experiment.branches import replaced
from ivjax.experiment.kept_files import (
    NamedFile,
    check_kept_files,
    hand_on,
    keep_files,
    kept_classes,
    kept_files,
    with_kept_files,
)
from ivjax.experiment.listing import leaves
from tests.generate.small_dialogue import MODEL, dialogue_experiment

OPTION = "data.fields.dialogue.tokenizer.path"


@pytest.fixture
def folder(tmp_path):
    """The folder of a language model, with a token beside its vocabulary, and weights that nobody wants."""
    place = tmp_path / "Language-7B"
    place.mkdir()
    (place / "tokenizer.model").write_bytes(MODEL.read_bytes())
    (place / "added_tokens.json").write_text('{"<extra>": 999}')
    (place / "model.safetensors").write_bytes(b"gigabytes")
    return place


@pytest.mark.parametrize("named", ["", "tokenizer.model"])
def test_a_tokenizer_of_several_files_is_kept_with_all_of_them(tmp_path, folder, named):
    experiment = dialogue_experiment(folder / named)
    keep_files(tmp_path / "run", vocabularies_of(experiment))
    [kept] = kept_files(tmp_path / "run").values()
    copies = sorted(path.name for path in (tmp_path / "run").rglob("*.*") if path.parent.name != "run")
    assert copies == ["added_tokens.json", "tokenizer.model"]
    check_kept_files(experiment, tmp_path / "run")
    (folder / "added_tokens.json").write_text('{"<other>": 999}')
    with pytest.raises(UserError, match=f"{OPTION}=.* is another vocabulary than this run began with"):
        check_kept_files(experiment, tmp_path / "run")
    hand_on(tmp_path / "run", tmp_path / "best")
    for place in ("run", "best"):
        path = leaves(with_kept_files(experiment, tmp_path / place))[OPTION]
        assert path == str(tmp_path / place / "vocabulary" / kept.file)
        assert ChatTokenizer(path).special("<extra>") == 999


def test_a_copy_can_be_copied_and_says_nothing_of_where_it_lay(tmp_path, folder):
    experiment = dialogue_experiment(folder)
    keep_files(tmp_path / "a", vocabularies_of(experiment))
    again = with_kept_files(experiment, tmp_path / "a")
    keep_files(tmp_path / "b", vocabularies_of(again), nameless=True)
    one, other = (kept_files(tmp_path / place)[OPTION] for place in "ab")
    assert (
        other == one._replace(was=one.file)
        and str(tmp_path) not in (tmp_path / "b/vocabulary.json").read_text()
    )


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path):
    experiment = dialogue_experiment(tmp_path)
    with pytest.raises(UserError, match="holds none of tokenizer.model, tokenizer.json"):
        keep_files(tmp_path / "run", vocabularies_of(experiment))
    assert vocabularies_of(replaced(experiment, OPTION.split("."), "")) == {}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"file": "../../secret"}, "names '../../secret', which is not in its folder; it is not read"),
        ({"file": "/etc/passwd"}, "names '/etc/passwd', which is not in its folder"),
        ({"beside": ["../x"]}, "which is not in its folder"),
        ({"other": 1}, "vocabulary.json is damaged"),
        ({"file": 7}, "vocabulary.json is damaged"),
    ],
)
def test_an_index_that_leads_out_of_its_folder_is_not_followed(tmp_path, change, message):
    keep_files(tmp_path, {OPTION: NamedFile(str(MODEL))})
    index = tmp_path / "vocabulary.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps({OPTION: content[OPTION] | change}))
    with pytest.raises(UserError, match=message):
        kept_files(tmp_path)


@pytest.mark.parametrize("content", ["{", "[" * 10**5, "{}", "[1]"])
def test_class_names_that_are_none_are_one_sentence(tmp_path, content):
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(UserError, match="classes.json is no list of class names"):
        kept_classes(tmp_path)


def test_an_index_of_an_older_run_is_read(tmp_path):
    keep_files(tmp_path, {OPTION: NamedFile(str(MODEL))})
    index = tmp_path / "vocabulary.json"
    content = json.loads(index.read_text())
    del content[OPTION]["beside"]
    index.write_text(json.dumps(content))
    [kept] = kept_files(tmp_path).values()
    assert kept.was == str(MODEL) and kept.beside == ()
    assert dataclasses.is_dataclass(with_kept_files(dialogue_experiment(), tmp_path))
