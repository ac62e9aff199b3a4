"""A run folder is whole: it is opened and continued where nothing else of its start is left."""

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from ivjax.convert.loading import load
from ivjax.convert.origins import params_of_run
from ivjax.data_pipelines.fields import Frames, Label
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.manifest import read_manifest, store_manifest, write_manifest
from ivjax.embed.embedding_job import EmbeddingJob, run_job
from ivjax.errors import UserError
from ivjax.evals.items import EvalData
from ivjax.evals.running import run_on_weights
from ivjax.evals.suites import Retrieval
from ivjax.experiment.kept_files import kept_classes
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.run_options import Checkpointing, EvalRun
from ivjax.experiment.storing import stored_experiment
from ivjax.models.classifier_size import ClassifierSize
from ivjax.ops.trees import paths_of
from ivjax.stages.classification import Classification
from ivjax.stages.teachers import ClipTeacher
from ivjax.train.checks import check_classes
from ivjax.train.feed import open_feed
from ivjax.train.loop import train
from ivjax.train.mesh import build_mesh
from tests.data_pipelines.corpora import corpus_of, make_clip
from tests.data_pipelines.footage import write_video
from tests.evals.small_run import save_small_run, write_test_set
from tests.train import line, micro
from tests.train.test_classification import ENCODER

WORDS = "data.fields.text.tokenizer.path"


def train_in(folder, monkeypatch):
    """Trains in a folder with relative paths; the words are frozen, and come from another run there."""
    monkeypatch.chdir(folder)
    corpus = write_test_set(folder / "clips")
    before = save_small_run(folder / "before", corpus)
    experiment = apply_overrides(
        dataclasses.replace(
            before,
            init_from=("before",),
            evals=(EvalRun(Retrieval(batch=8), 2, "clips"),),
            checkpoint=Checkpointing(every=2, best="retrieval/r_mean"),
        ),
        [
            "data.corpora.0.path=clips",
            f"{WORDS}=before/words.txt",
            "data.fields.dialogue.tokenizer.path=before/words.txt",
            "stage.train_text=false",
            "batch=4",
            "steps=2",
        ],
    )
    said = []
    assert train(experiment, Path("run"), said.append, jax.devices()[:1]) == 0
    return experiment, said


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A run that was moved away from its start, of which nothing is left; its experiment and parameters."""
    start, there = tmp_path_factory.mktemp("start"), tmp_path_factory.mktemp("there")
    with pytest.MonkeyPatch.context() as patched:
        experiment, said = train_in(start, patched)
        model = load("run")
        params = {path: np.array(leaf) for path, leaf in paths_of(model.params)}
        ids = model.tokenizer.encode("clip number 3")
        shutil.move(start / "run", there / "moved")
        shutil.move(start / "clips", there / "clips")
        shutil.rmtree(start / "before")
    return there, experiment, params, ids, said


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The current folder is an empty one."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("part", ["moved", "moved/best"])
def test_a_moved_run_is_loaded_with_its_words_and_frozen_parameters(moved, elsewhere, part):
    there, _, params, ids, _ = moved
    found = load(there / part)
    assert found.params.keys() >= {"text", "vision"}
    for path, leaf in paths_of(found.params):
        np.testing.assert_array_equal(leaf, params[path], err_msg=path)
    np.testing.assert_array_equal(found.tokenizer.encode("clip number 3"), ids)


def test_a_moved_run_is_tested_and_embeds(moved, elsewhere, tmp_path):
    there, _, _, _, said = moved
    lines = []
    data, suite = EvalData(str(there / "clips")), Retrieval(batch=8)
    result = run_on_weights(suite, data, str(there / "moved"), say=lines.append)
    assert result.metrics["t2v_r1_chance"] > 0
    assert result.protocol["frames are"] == "Intervals(frames=4, pick=middle)"
    assert result.protocol["frames and pictures by"] == "the run (data.fields.video)"
    told = "clips are read by the run (data.fields.video): frames Intervals(frames=4, pick=middle); "
    # In the loop the same line was said.
    assert any(line.startswith(told) for line in lines) and any(line.startswith(told) for line in said)
    write_video(tmp_path / "v.mp4", frames=20)
    job = EmbeddingJob(("v.mp4",), (), None, tmp_path / "i.npz", str(there / "moved"))
    assert run_job(job, lines.append).rows == 1


@pytest.mark.slow
def test_a_moved_run_goes_on_and_another_vocabulary_is_an_error(moved, elsewhere, tmp_path):
    there, experiment, *_ = moved
    shutil.copytree(there / "moved", tmp_path / "again")
    shutil.copytree(there / "clips", tmp_path / "clips")
    said = []
    longer = apply_overrides(experiment, ["steps=3"])
    assert train(longer, tmp_path / "again", said.append, jax.devices()[:1]) == 0
    assert "start       continuing from step 2" in said
    assert [line for line in said if "changed:" in line] == ["  changed: steps: 2 -> 3"]
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "words.txt").write_text("[PAD]\n")
    with pytest.raises(UserError, match="path=before/words.txt is another vocabulary than this run began"):
        train(longer, tmp_path / "again", said.append, jax.devices()[:1])


def test_a_copy_stands_for_a_vocabulary_in_the_stored_experiment(moved, elsewhere):
    there, experiment, *_ = moved
    path = stored_experiment(there / "moved").data.fields["text"].tokenizer.path
    assert path.startswith(str(there / "moved" / "vocabulary")) and path.endswith("_words.txt")
    assert experiment.data.fields["text"].tokenizer.path == "before/words.txt"
    # Both options name one file, and share its copy.
    assert len(list((there / "moved" / "vocabulary").iterdir())) == 1


def test_a_run_says_what_it_lacks_of_teachers_that_it_does_not_keep(tmp_path, elsewhere):
    stage = micro.experiment.stage
    teacher = dataclasses.replace(stage.student, width=16, depth=1)
    stage = dataclasses.replace(stage, mae=None, clip_teacher=ClipTeacher(teacher))
    experiment = dataclasses.replace(micro.experiment, stage=stage, init_from=("clip_teacher=gone.pth",))
    micro.saved(tmp_path / "run", experiment)
    with pytest.raises(
        UserError,
        match="run reads its clip_teacher from init_from, as at its start: .*gone.pth does not exist",
    ):
        params_of_run(tmp_path / "run", experiment, branch="clip_teacher")


def named(folder, names, labels=(0, 1)):
    """A corpus whose classes have names."""
    corpus = corpus_of(folder, [make_clip(n, label=label) for n, label in enumerate(labels)], shards=1)
    manifest = read_manifest(corpus)
    write_manifest(corpus, manifest.shards, manifest.made_with, names)
    return str(corpus)


def classifier(classes, *folders):
    """An experiment that trains a classifier on the first folder and evaluates it on the others."""
    fields = {"video": Frames(Intervals(2)), "label": Label()}
    data = Mixture((Corpus(folders[0]),), fields, tuple(map(Corpus, folders[1:])), workers=0)
    stage = Classification(ClassifierSize(ENCODER, classes), mixed=False)
    return dataclasses.replace(line.experiment, stage=stage, data=data, batch=2, steps=1)


def test_classes_that_do_not_fit_are_said_at_once(tmp_path):
    one, other = named(tmp_path / "a", ("red", "blue")), named(tmp_path / "b", ("blue", "red"))

    def checked(*arguments):
        experiment = classifier(*arguments)
        return check_classes(experiment, experiment.stage.build(experiment.compute))

    assert checked(2, one, one) == ("red", "blue")
    assert checked(3, str(corpus_of(tmp_path / "c", [make_clip(0)], shards=1))) == ()
    numbers = corpus_of(tmp_path / "d", [make_clip(0)], shards=1)
    store_manifest(numbers, dataclasses.replace(read_manifest(numbers), labels=5))
    assert checked(5, str(numbers)) == ()
    with pytest.raises(UserError, match=r"d has class numbers up to 4, .* is 3; set stage.*classes=5$"):
        checked(3, str(numbers))
    with pytest.raises(UserError, match=r"a has 2 classes and .*classes is 4; set stage.*classes=2$"):
        checked(4, one)
    with pytest.raises(UserError, match=f"{one} and {other} number their classes differently; .* {one}$"):
        checked(2, one, other)


def test_a_label_beyond_the_classes_is_an_error(tmp_path):
    experiment = classifier(2, str(corpus_of(tmp_path / "c", [make_clip(n) for n in (1, 2)], shards=1)))
    mesh = build_mesh(experiment.mesh, jax.devices()[:1])
    feed = open_feed(experiment, experiment.stage.build(experiment.compute), mesh, tmp_path)
    with pytest.raises(UserError, match="a clip has label 2, and stage.classifier.classes=2 numbers them"):
        next(feed)
    feed.close()


@pytest.mark.slow
def test_a_run_keeps_its_class_names(tmp_path):
    train(classifier(2, named(tmp_path / "a", ("red", "blue"))), tmp_path / "run", print, jax.devices()[:1])
    assert kept_classes(tmp_path / "run") == ("red", "blue")
