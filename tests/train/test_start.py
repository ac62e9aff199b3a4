"""The origin of a run's first parameters: its seed, weight files, other runs."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from ivjax.convert.conversion import export_file
from ivjax.convert.formats.orbax_files import restore_params
from ivjax.convert.loading import load
from ivjax.convert.weights import import_weights
from ivjax.data_pipelines.fields import Caption, Frames
from ivjax.data_pipelines.load.mixture import Corpus, Media, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.errors import UserError
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.overrides import apply_overrides
from ivjax.models.dual_size import DualSize
from ivjax.ops.trees import paths_of
from ivjax.train.checks import check_words
from ivjax.train.mesh import build_mesh
from tests.convert.tables import save_weights
from tests.data_pipelines.further_fields import Letters, Turns
from tests.train.micro import saved
from tests.train.pairs import experiment, run

# One program serves all runs of this file: frozen words, and a bias that only a run of ours can hold.
RUN = ("stage.train_text=false", "stage.contrast.kind=sigmoid", "schedule.peak=1e-9", "steps=2")
LEARNS_BIAS = apply_overrides(experiment, ["stage.contrast.kind=sigmoid"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that has trained everything, and its parameters by path."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, saved(folder, LEARNS_BIAS)


@pytest.fixture(scope="module")
def weights(trained, tmp_path_factory):
    """The trained parameters as a file, but for the bias."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    stage, params = experiment.stage, load(trained[0]).params
    del params["bias"]
    save_weights(path, params, "viclip", DualSize(stage.vision, stage.text))
    return path


def test_a_run_is_loaded_as_it_was_trained(trained):
    folder, saved_params = trained
    model, params, _ = load(folder)
    assert (model.size.vision, model.size.text) == (experiment.stage.vision, experiment.stage.text)
    assert saved_params.keys() == dict(paths_of(params)).keys()
    for path, leaf in paths_of(params):
        np.testing.assert_array_equal(leaf, saved_params[path], err_msg=path)
    video = np.zeros((2, 4, 14, 14, 3), np.uint8)
    assert jax.eval_shape(model.video, params, video).shape == (2, 16)
    assert jax.eval_shape(model.tokens, params, video).shape == (2, 17, 32)


@pytest.mark.parametrize("source", ["trained", "weights"])
def test_a_run_starts_from_another_and_reads_frozen_parts_again(request, tmp_path, trained, source):
    found = request.getfixturevalue(source)
    options = (f"init_from=('{found if source == 'weights' else found[0]}',)", "init_fresh=('bias',)", *RUN)
    said: list[str] = []
    first = run(tmp_path, *options, said=said)
    # What is frozen is not saved.
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    assert set(restore_params(tmp_path, here)) == {"vision", "temperature", "bias"}
    assert any(re.fullmatch(r"parameters +[\d,]+ trained, [1-9][\d,]* frozen", line) for line in said)
    before, after = trained[1], dict(paths_of(load(tmp_path).params))
    for path, leaf in after.items():
        if path.startswith("text/"):
            np.testing.assert_array_equal(leaf, before[path], err_msg=path)
        elif path.startswith("vision/"):
            np.testing.assert_allclose(leaf, before[path], atol=1e-6, err_msg=path)
    # A bias that no file holds is fresh.
    bias = before["bias"] if source == "trained" else experiment.stage.contrast.bias
    assert after["bias"] == pytest.approx(bias, abs=1e-6)
    (tmp_path / "checkpoints" / "2").rename(tmp_path / "later")
    assert run(tmp_path, *options) == first


def test_parameters_that_no_file_holds_must_match_init_fresh(tmp_path, weights):
    with pytest.raises(UserError, match="nothing for bias; add a file, or name them in init_fresh"):
        run(tmp_path, f"init_from=('{weights}',)", *RUN)


def test_a_file_of_another_size_is_named(tmp_path, weights):
    with pytest.raises(UserError, match="vision/"):
        run(tmp_path, f"init_from=('{weights}',)", "stage.vision.width=48", "steps=1")


def test_a_frozen_text_tower_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match="init_from gives no file, and nothing for text/.*frozen.*init_fresh"):
        run(tmp_path, *RUN)


def test_sealed_parameters_of_another_run_are_read_inside_one_of_more_devices(trained):
    folder, params = trained
    with jax.set_mesh(build_mesh(MeshShape(), jax.devices()[:4])):
        found = restore_params(folder, jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    jax.tree.map(np.testing.assert_array_equal, dict(paths_of(found)), params)


@pytest.mark.slow
def test_a_run_with_a_frozen_text_tower_can_be_started_from_and_exported(tmp_path, weights):
    first, options = tmp_path / "first", ("stage.train_text=false", "steps=1")
    run(first, f"init_from=('{weights}',)", *options)
    run(tmp_path / "second", f"init_from=('{first}',)", *options)
    words, wanted = load(tmp_path / "second").params["text"], load(weights).params["text"]
    jax.tree.map(np.testing.assert_array_equal, words, wanted)
    exported = export_file(first, tmp_path / "w.pth", lambda line: None)
    assert exported.report.fits and exported.report.family == "viclip"
    again = import_weights(tmp_path / "w.pth", target=load(first).params).params
    jax.tree.map(np.testing.assert_array_equal, again, load(first).params)


def test_export_lists_a_learned_bias_as_unused(tmp_path, trained):
    exported = export_file(trained[0], tmp_path / "w.safetensors", lambda line: None)
    assert exported.report.unused == {"bias": "the originals have no place for it"}


def test_a_tokenizer_of_more_words_than_the_model_is_refused():
    few, many = Caption(Letters(8, 64)), Caption(Letters(8, 65))
    pixels = Frames(Intervals(4))
    objective = experiment.stage.build(experiment.compute)

    def clips(text, *corpora, **options):
        return Mixture((Corpus("x"), *corpora), {"video": pixels, "text": text}, **options)

    def refused(data, path):
        with pytest.raises(UserError, match=f"^{path}.tokenizer has 65 pieces and the stage knows 64 words"):
            check_words(dataclasses.replace(experiment, data=data), objective)

    other = Corpus("y", fields={"text": many})
    refused(clips(many), "data.fields.text")
    refused(Media({"video": clips(few), "image": clips(many)}), "data.mixtures.image.fields.text")
    refused(clips(few, other), "data.corpora.1.fields.text")
    refused(clips(few, eval_corpora=(other,)), "data.eval_corpora.0.fields.text")
    changed = Corpus("y", changes=("text.tokenizer.vocabulary_size=65",))
    refused(clips(few, changed), "data.corpora.1.changes: text")
    unread = Mixture((Corpus("x"),), {"video": pixels, "text": few, "other": many})
    check_words(dataclasses.replace(experiment, data=unread), objective)


def test_a_stage_may_know_several_vocabularies():
    stage = experiment.stage.build(experiment.compute)
    objective = dataclasses.replace(stage, vocabulary={**stage.vocabulary, "dialogue": 300})

    def check(talk):
        fields = {"text": Caption(Letters(8, 64)), "dialogue": Turns(Letters(8, talk))}
        data = Mixture((Corpus("x"),), fields)
        check_words(dataclasses.replace(experiment, data=data), objective)

    check(300)
    with pytest.raises(UserError, match="data.fields.dialogue.* 301 pieces and the stage knows 300 words"):
        check(301)
