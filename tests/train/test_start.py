"""Where a run's first parameters come from: its seed, weight files, other runs."""

import dataclasses

import numpy as np
import pytest

from ivjax.convert.conversion import export_file
from ivjax.convert.loading import load
from ivjax.convert.weights import import_weights
from ivjax.data_pipelines.fields import Caption, Frames
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.errors import UserError
from ivjax.models.dual_size import DualSize
from ivjax.ops.trees import paths_of
from ivjax.train.checks import check_words
from tests.convert.tables import save_weights
from tests.train.pairs import experiment, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run(folder, "steps=3")
    return folder


@pytest.fixture(scope="module")
def weights(trained, tmp_path_factory):
    """The trained parameters as a file."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    stage = experiment.stage
    save_weights(path, load(trained).params, "viclip", DualSize(stage.vision, stage.text))
    return path


def equal(one, other):
    for path, leaf in paths_of(one):
        np.testing.assert_array_equal(leaf, dict(paths_of(other))[path], err_msg=path)


def test_a_run_is_loaded_as_it_was_trained(trained):
    model, params, _ = load(trained)
    assert (model.size.vision, model.size.text) == (experiment.stage.vision, experiment.stage.text)
    video = np.zeros((2, 4, 14, 14, 3), np.uint8)
    assert model.video(params, video).shape == (2, 16)
    assert model.tokens(params, video).shape == (2, 17, 32)


@pytest.mark.parametrize("source", ["trained", "weights"])
def test_a_run_starts_from_another_and_reads_frozen_parts_again(request, tmp_path, trained, source):
    origin = request.getfixturevalue(source)
    options = (f"init_from=('{origin}',)", "stage.train_text=false", "schedule.peak=1e-9", "steps=2")
    first = run(tmp_path, *options)
    before, after = load(trained).params, load(tmp_path).params
    equal(after["text"], before["text"])
    for path, leaf in paths_of(after["vision"]):
        np.testing.assert_allclose(leaf, dict(paths_of(before["vision"]))[path], atol=1e-6, err_msg=path)
    (tmp_path / "checkpoints" / "2").rename(tmp_path / "later")
    assert run(tmp_path, *options) == first


def test_parameters_that_no_file_holds_must_match_init_fresh(tmp_path, weights):
    deeper = (f"init_from=('{weights}',)", "stage.contrast.kind=sigmoid", "steps=1")
    with pytest.raises(UserError, match="nothing for bias; add a file, or name them in init_fresh"):
        run(tmp_path, *deeper)
    run(tmp_path, *deeper, "init_fresh=('bias',)")
    assert load(tmp_path).params["bias"] == pytest.approx(experiment.stage.contrast.bias, abs=0.1)


def test_a_file_of_another_size_is_named(tmp_path, weights):
    with pytest.raises(UserError, match="vision/"):
        run(tmp_path, f"init_from=('{weights}',)", "stage.vision.width=48", "steps=1")


def test_a_frozen_text_tower_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match="init_from gives no file, and nothing for text/.*frozen.*init_fresh"):
        run(tmp_path, "stage.train_text=false", "steps=1")


@pytest.mark.slow
def test_a_run_with_a_frozen_text_tower_can_be_started_from_and_exported(tmp_path, trained):
    first = tmp_path / "first"
    run(first, f"init_from=('{trained}',)", "stage.train_text=false", "steps=1")
    run(tmp_path / "second", f"init_from=('{first}',)", "stage.train_text=false", "steps=1")
    equal(load(tmp_path / "second").params["text"], load(trained).params["text"])
    exported = export_file(first, tmp_path / "w.pth", lambda line: None)
    assert exported.report.fits and exported.report.family == "viclip"
    equal(import_weights(tmp_path / "w.pth", target=load(first).params).params, load(first).params)


def test_export_lists_a_learned_bias_as_unused(tmp_path):
    run(tmp_path / "run", "stage.contrast.kind=sigmoid", "steps=1")
    exported = export_file(tmp_path / "run", tmp_path / "w.safetensors", lambda line: None)
    assert exported.report.unused == {"bias": "the originals have no place for it"}


def test_a_tokenizer_of_more_words_than_the_model_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Words:
        length: int = 8
        vocabulary_size: int = 65

    data = Mixture((Corpus("x"),), {"video": Frames(Intervals(4)), "text": Caption(Words())})
    objective = experiment.stage.build(experiment.compute)
    with pytest.raises(
        UserError, match="data.fields.text has 65 pieces and the stage's text encoder 64 words"
    ):
        check_words(dataclasses.replace(experiment, data=data), objective)
