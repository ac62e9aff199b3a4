"""Classifiers' files: the released layouts, what fine-tuning starts from, heads for other classes."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from ivjax.convert.comparison import compare
from ivjax.convert.engine.rows import original_tensors
from ivjax.convert.families.encoders import STAGE2
from ivjax.convert.families.internvideo2 import PRETRAIN
from ivjax.convert.families.internvideo2_classifier import CLASSIFIER
from ivjax.convert.origins import read_weights
from ivjax.convert.starting import shapes_of
from ivjax.convert.weights import import_weights
from ivjax.data_pipelines.load.synthetic import SyntheticClips
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.schedules import WarmupCosine
from ivjax.models.classifier_size import ClassifierSize
from ivjax.ops.cut import joined
from ivjax.ops.resize import inflate_kernel, resize_table
from ivjax.ops.trees import paths_of
from ivjax.stages.classification import Classification
from tests.convert.originals import STUDENT, originals, write_originals
from tests.convert.tables import import_tensors, save_weights
from tests.convert.test_matching import MANIFESTS, Unread

ENCODER = STUDENT.encoder
SIZE = ClassifierSize(ENCODER, 7)


@pytest.mark.parametrize("preset", ["1B_k400_f8", "1B_k400_f16", "1B_k710_f8"])
def test_released_classifiers_fit_both_ways(preset):
    listing = json.loads((MANIFESTS / f"stage1_classifier_{preset.lower()}.json").read_text())
    wanted = {name: tuple(shape) for name, shape in listing["params"].items()}
    report = compare(Unread(wanted), preset).report
    assert (report.family, report.preset) == ("internvideo2_classifier", preset)
    assert report.matched == len(wanted) == listing["n_entries"]
    assert report.fits and not report.unused and not report.resized
    written = original_tensors(CLASSIFIER.rows, Unread(CLASSIFIER.shapes(CLASSIFIER.presets[preset])))
    assert {lazy.name: lazy.shape for lazy in written} == wanted
    assert sum(np.prod(lazy.shape, dtype=int) for lazy in written) == listing["total_params"]


def read(*entries: str, size: ClassifierSize = SIZE, fresh: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Returns the parameters from which a run that fine-tunes a classifier of `size` starts."""
    stage = Classification(size)
    experiment = Experiment(
        stage, SyntheticClips(), 8, 1, WarmupCosine(1e-3), init_from=entries, init_fresh=fresh
    )
    objective = stage.build(experiment.compute)
    return read_weights(objective, experiment, joined(*shapes_of(objective, "float32")))


def changed(**encoder) -> ClassifierSize:
    return dataclasses.replace(SIZE, encoder=dataclasses.replace(ENCODER, **encoder))


@pytest.fixture
def student(tmp_path) -> tuple[Path, dict[str, np.ndarray]]:
    """The file of a pretrained student, and its encoder's leaves."""
    tensors = originals(PRETRAIN, STUDENT)
    encoder = dict(paths_of(import_tensors(PRETRAIN.rows, tensors)["encoder"]))
    return write_originals(tmp_path / "student.pth", tensors, "module"), encoder


@pytest.mark.parametrize("entry", ["{}", "encoder={}#encoder"])
def test_a_classifier_starts_from_a_pretrained_encoder(student, entry):
    file, encoder = student
    found = read(entry.format(file), fresh=("head", "fc_norm"))
    assert found.keys() == {f"encoder/{path}" for path in encoder}
    for path, leaf in encoder.items():
        np.testing.assert_array_equal(found[f"encoder/{path}"], leaf, err_msg=path)


def test_parameters_missing_from_the_file_of_a_whole_model_must_be_named_fresh(student):
    with pytest.raises(UserError, match="nothing for fc_norm/bias, .*head/kernel; .*name them in init_fresh"):
        read(str(student[0]))


def test_position_tables_are_resized_and_kernels_inflated(student):
    file, encoder = student
    table, kernel = encoder["pos_embed/table"], encoder["patch_embed/kernel"]
    found = read(str(file), size=changed(frames=16, image=(42, 28)), fresh=("head", "fc_norm"))
    wanted = resize_table(table, (8, 2, 2), (16, 3, 2), kept=1)
    np.testing.assert_array_equal(found["encoder/pos_embed/table"], wanted)
    found = read(str(file), size=changed(tubelet=2), fresh=("head", "fc_norm"))
    wanted = resize_table(table, (8, 2, 2), (4, 2, 2), kept=1)
    np.testing.assert_array_equal(found["encoder/pos_embed/table"], wanted)
    wanted = inflate_kernel(kernel.transpose(4, 3, 0, 1, 2), 2).transpose(2, 3, 4, 1, 0)
    np.testing.assert_array_equal(found["encoder/patch_embed/kernel"], wanted)


def test_later_files_win_and_a_stage_2_file_is_accepted(tmp_path, student):
    file, encoder = student
    tensors = originals(STAGE2, dataclasses.replace(ENCODER, frames=4))
    vision = write_originals(tmp_path / "stage2.pth", tensors, "module")
    found = read(str(file), f"encoder={vision}", fresh=("head", "fc_norm"))
    leaves = dict(paths_of(import_tensors(STAGE2.rows, tensors)))
    wanted = resize_table(leaves["pos_embed/table"], (4, 2, 2), (8, 2, 2), kept=1)
    np.testing.assert_array_equal(found["encoder/pos_embed/table"], wanted)
    np.testing.assert_array_equal(found["encoder/cls_token"], leaves["cls_token"])
    assert np.any(leaves["cls_token"] != encoder["cls_token"])


@pytest.fixture(params=["w.pth", "w.safetensors"])
def tuned(request, tmp_path) -> tuple[Path, dict[str, np.ndarray]]:
    """A classifier's file, as the originals write it or as this project does, and its leaves."""
    tensors, path = originals(CLASSIFIER, SIZE), tmp_path / request.param
    params = import_tensors(CLASSIFIER.rows, tensors)
    if path.suffix == ".pth":
        write_originals(path, tensors, "module")
    else:
        save_weights(path, params, CLASSIFIER.name, SIZE)
    return path, dict(paths_of(params))


@pytest.mark.parametrize("classes", [[0, 1, 2, 3], [5, 0, 6, 2, 1]])
def test_a_smaller_head_is_cut_out_of_a_larger_one(tmp_path, tuned, classes):
    file, leaves = tuned
    listed = tmp_path / "label_mixto.json"
    listed.write_text(json.dumps(classes))
    asked = 4 if classes == [0, 1, 2, 3] else listed
    found = read(f"{file}?head={asked}", size=dataclasses.replace(SIZE, classes=len(classes)))
    np.testing.assert_array_equal(found["head/kernel"], leaves["head/kernel"][:, classes])
    np.testing.assert_array_equal(found["head/bias"], leaves["head/bias"][classes])
    np.testing.assert_array_equal(found["fc_norm/scale"], leaves["fc_norm/scale"])


def test_a_head_of_another_size_is_an_error_with_a_remedy(tmp_path, tuned, student):
    file, _ = tuned
    other = dataclasses.replace(SIZE, classes=4)
    with pytest.raises(UserError, match=r"tells 7 classes apart and the model 4; .*FILE\?head=4 .*head=none"):
        read(str(file), size=other)
    with pytest.raises(UserError, match="class 7 is wanted of .*, which has 7 classes"):
        read(f"{file}?head=8")
    with pytest.raises(UserError, match="holds no head whose classes could be chosen"):
        read(f"{student[0]}?head=4", size=other, fresh=("head", "fc_norm"))
    faults = {"[0, -1]": "no JSON list of numbers", "[]": "asks for no class; ask", "{": "cannot be read"}
    for text, message in faults.items():
        (tmp_path / "list.json").write_text(text)
        with pytest.raises(UserError, match=message):
            read(f"{file}?head={tmp_path / 'list.json'}", size=other)


def test_a_file_can_be_read_without_its_head(tuned):
    file, leaves = tuned
    other = dataclasses.replace(SIZE, classes=4)
    with pytest.raises(UserError, match="nothing for head/bias, head/kernel; .*init_fresh"):
        read(f"{file}?head=none", size=other)
    found = read(f"{file}?head=none", size=other, fresh=("head",))
    assert leaves.keys() - found.keys() == {"head/kernel", "head/bias"}
    np.testing.assert_array_equal(found["fc_norm/scale"], leaves["fc_norm/scale"])


def test_chosen_classes_can_be_imported_to_a_new_file(tmp_path, tuned):
    file, leaves = tuned
    other = dataclasses.replace(SIZE, classes=2)
    target = jax.eval_shape(lambda: CLASSIFIER.init(other))
    found = import_weights(f"{file}?head=2", target=target, grid=ENCODER.grid)
    np.testing.assert_array_equal(found.params["head"]["bias"], leaves["head/bias"][:2])
    save_weights(tmp_path / "two.safetensors", found.params, CLASSIFIER.name, other)
    np.testing.assert_array_equal(
        read(str(tmp_path / "two.safetensors"), size=other)["head/kernel"], leaves["head/kernel"][:, :2]
    )
