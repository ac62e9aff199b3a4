"""Models as folders: all that reads runs reads them, wherever they lie."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ivjax
from ivjax.cli import main
from ivjax.convert.model_folder import FolderOptions
from ivjax.convert.tokenizer_choice import tokenizer_beside
from ivjax.data_pipelines.tokenizers.bert import BertWordPiece
from ivjax.errors import UserError
from ivjax.evals.own_frames import own_frames_of
from ivjax.experiment.kept_files import keep_classes, kept_classes
from ivjax.models.classifier_size import ClassifierSize
from ivjax.ops.trees import paths_of
from ivjax.report.model_card.write_folder import write_folder
from tests.evals.small_run import small_experiment
from tests.report.written_folder import NAMES, TINY, head_and_text, quiet, save_classifier, write_pair


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    write_pair(folder)
    return folder


def test_a_folder_gives_the_same_model_words_frames_and_features_as_its_run(place, monkeypatch):
    run, made = ivjax.load(place / "run"), ivjax.load(place / "pair-tiny")
    jax.tree.map(np.testing.assert_array_equal, dict(paths_of(run.params)), dict(paths_of(made.params)))
    assert made.made == run.made == "DualEncoder after step 1"
    videos = [place / "a.mp4", place / "b.mp4"]
    np.testing.assert_array_equal(ivjax.features(run, videos), ivjax.features(made, videos))
    np.testing.assert_array_equal(run.text("clip 3"), made.text("clip 3"))
    rule = own_frames_of(place / "run").rule
    assert own_frames_of(place / "pair-tiny").rule == rule and str(rule.frames) == "4"
    (place / "moved").mkdir()
    (place / "pair-tiny").rename(place / "moved/other")
    monkeypatch.chdir(place / "moved")
    np.testing.assert_array_equal(ivjax.load("other").text("clip 3"), run.text("clip 3"))
    (place / "moved/other").rename(place / "pair-tiny")


def test_a_run_starts_from_a_folder_and_a_branch_of_it_is_a_tower(place, tmp_path, capsys):
    folder = place / "pair-tiny"
    tower, whole = ivjax.load(f"{folder}#vision"), ivjax.load(folder)
    jax.tree.map(np.testing.assert_array_equal, tower.params, whole.params["vision"])
    experiment = small_experiment(tmp_path, place / "corpus")
    started = replace(
        experiment, init_from=(str(folder),), steps=1, schedule=replace(experiment.schedule, peak=0.0)
    )
    assert ivjax.train(started, tmp_path / "run", quiet) == 0

    jax.tree.map(np.testing.assert_array_equal, ivjax.load(tmp_path / "run").params, whole.params)
    assert main(["convert", "export", str(folder), str(tmp_path / "w.pth")]) == 0
    assert "viclip" in capsys.readouterr().out


def test_weights_are_written_in_shards_and_in_other_precisions(place, tmp_path):
    options = FolderOptions(shard_bytes=50_000, dtype="bfloat16")
    written = write_folder(str(place / "run"), tmp_path / "small", options=options, say=quiet)
    names = [file.name for file in written.files]
    assert "model-00001-of-00003.safetensors" in names and "model.safetensors.index.json" in names
    one, other = ivjax.load(place / "run").params, ivjax.load(tmp_path / "small").params
    for path, leaf in paths_of(one):
        found = dict(paths_of(other))[path]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, leaf, rtol=2**-8)


def test_a_file_becomes_a_folder_with_its_vocabulary_and_class_names(tmp_path):
    size = ClassifierSize(TINY, 3)
    save_classifier(tmp_path / "w.safetensors", size)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    options = FolderOptions(classes=str(tmp_path / "names.txt"))
    write_folder(str(tmp_path / "w.safetensors"), tmp_path / "colours", options=options, say=quiet)
    made, own = ivjax.load(tmp_path / "colours"), ivjax.load(tmp_path / "w.safetensors")
    jax.tree.map(np.testing.assert_array_equal, made.params, own.params)
    assert kept_classes(tmp_path / "colours") == NAMES and made.family == "internvideo2_classifier"
    head, text = head_and_text(tmp_path / "colours/README.md")
    assert (
        head["pipeline_tag"] == "video-classification" and "license" not in head and "model-index" not in head
    )
    assert "Converted from `w.safetensors`, which says nothing of how it was trained." in text
    assert "No license is stated." in text and "Any video is one of its 3 classes" in text
    again = write_folder(str(tmp_path / "colours"), tmp_path / "copy", say=quiet)
    assert kept_classes(again.folder) == NAMES


def test_a_vocabulary_beside_the_weights_of_two_towers_is_found(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    (tmp_path / "model.safetensors").write_bytes(b"")
    found = tokenizer_beside(str(tmp_path), None, BertWordPiece(length=8))
    assert found == BertWordPiece(str(tmp_path / "vocab.txt"), length=8)
    named = BertWordPiece("other.txt")
    assert tokenizer_beside(str(tmp_path), None, named) is named


def test_existing_folders_stay_and_wrong_class_names_are_refused(place, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="there exists already; remove it or choose another name"):
        write_folder(str(place / "run"), tmp_path / "there", say=quiet)
    size = ClassifierSize(TINY, 2)
    save_classifier(tmp_path / "w.safetensors", size)
    keep_classes(tmp_path, NAMES)
    with pytest.raises(UserError, match="classes.json names 3 classes and the model has 2; give"):
        options = FolderOptions(classes=str(tmp_path / "classes.json"))
        write_folder(str(tmp_path / "w.safetensors"), tmp_path / "out", options=options, say=quiet)


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda tensors: tensors.pop("temperature"),
            "model.safetensors lacks temperature; copy the whole folder",
        ),
        (lambda tensors: tensors.update(x=np.zeros(1)), "has, and the model has not, x; copy the whole"),
        (lambda tensors: tensors.update(temperature=np.zeros(2)), "has in another shape temperature"),
    ],
)
def test_weights_that_do_not_fit_their_settings_are_one_sentence(place, tmp_path, damage, message):
    folder = shutil.copytree(place / "pair-tiny", tmp_path / "damaged")
    tensors = load_file(folder / "model.safetensors")
    damage(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=message):
        ivjax.load(folder)
    with pytest.raises(UserError, match="one set of parameters, and no average beside it; leave out ema"):
        ivjax.load(folder, ema=True)


@pytest.mark.parametrize(
    "content, message",
    [
        ("[" * 10**5, "does not describe an experiment of this version"),
        ('{"is": "os:system", "command": "true"}', "does not describe an experiment of this version"),
        ('{"is": "ivjax.experiment.mesh_shape:MeshShape"}', "describes a MeshShape, not an experiment"),
    ],
)
def test_settings_from_anybody_run_nothing(place, tmp_path, content, message):
    (tmp_path / "experiment.json").write_text(content)
    with pytest.raises(UserError, match=message):
        ivjax.load(tmp_path)
