"""Stage 2 starts from files of stage 1 that have twice its frames."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from ivjax.convert import origins
from ivjax.convert.engine.fits import Fitting
from ivjax.convert.engine.matching import MatchRequest
from ivjax.convert.families.internvideo2 import PRETRAIN
from ivjax.convert.origins import read_weights, shapes_by_path
from ivjax.convert.starting import shapes_of
from ivjax.experiment import load_experiment
from ivjax.experiment.computing import Compute
from ivjax.models.bert import FusionBertSize
from ivjax.models.internvideo2 import AlignedSize
from ivjax.ops.cut import joined
from ivjax.ops.trees import paths_of
from ivjax.stages.cross_modal import CrossModal
from tests.convert.originals import originals
from tests.convert.tables import import_tensors
from tests.convert.test_matching import Unread, listed
from tests.convert.torch_files import write_torch
from tests.goldens import Golden
from tests.train import micro


def stage_beside(vision):
    """A stage of which only the video tower matters."""
    text = FusionBertSize(8, 2, 2, 16, 8, 4, 12, places=4, fusion=1, seen=vision.width, start=2, mask=4)
    return CrossModal(vision, text)


def half_of(encoder):
    """The tower of stage 2 that has half the frames of an encoder."""
    fields = {f.name: getattr(encoder, f.name) for f in dataclasses.fields(encoder)}
    return AlignedSize(**fields | {"frames": encoder.frames // 2, "images": "table"})


def started(stage, path):
    """What a run of the stage reads from a file of stage 1 for its video tower, by path below it."""
    entry, fresh = f"vision={path}#encoder", ("vision/img_pos_embed",)
    experiment = dataclasses.replace(micro.experiment, stage=stage, init_from=(entry,), init_fresh=fresh)
    objective = stage.build(Compute("float32"))
    shapes = shapes_of(objective, "float32")
    found = read_weights(objective, experiment, joined(shapes.trained, shapes.frozen))
    return {name.removeprefix("vision/"): leaf for name, leaf in found.items()}


def check_start(found, tensors, encoder):
    """Two frames of the file become one: linear interpolation to half as many is the mean of pairs."""
    wanted = dict(paths_of(import_tensors(PRETRAIN.rows, tensors)["encoder"]))
    table, (times, rows, columns) = wanted.pop("pos_embed/table"), encoder.grid
    patches = table[:, 1:].reshape(1, times // 2, 2, rows * columns, -1).mean(2)
    halved = np.concatenate([table[:, :1], patches.reshape(1, -1, table.shape[-1])], axis=1)
    np.testing.assert_allclose(found.pop("pos_embed/table"), halved, rtol=1e-5, atol=1e-6)
    assert found.keys() == wanted.keys()
    for path, leaf in wanted.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


@pytest.mark.golden
def test_stage1_pretrain_l2_starts_a_stage_2_of_half_its_frames(tmp_path):
    golden = Golden("stage1_pretrain_l2")
    params, encoder = golden.group("params"), PRETRAIN.parity.sizes(golden.config).encoder
    path = write_torch(tmp_path / "stage1.pth", {"module": params})
    check_start(started(stage_beside(half_of(encoder)), path), params, encoder)


def test_a_file_of_8_frames_starts_the_tiny_stage_2_of_4(tmp_path):
    tiny = load_experiment("stage1_tiny").stage
    student = dataclasses.replace(tiny.size, encoder=dataclasses.replace(tiny.size.encoder, frames=8))
    tensors = originals(PRETRAIN, student)
    path = write_torch(tmp_path / "stage1.pth", {"module": tensors})
    vision = load_experiment("stage2_av_tiny").stage.vision
    assert (student.encoder.frames, vision.frames) == (8, 4)
    check_start(started(stage_beside(vision), path), tensors, student.encoder)


@pytest.mark.parametrize(
    "size, fresh", [("1B", {"img_pos_embed/table"}), pytest.param("6B", set(), marks=pytest.mark.slow)]
)
def test_the_manifest_of_8_frames_fills_the_stage_2_of_4(monkeypatch, size, fresh):
    vision = AlignedSize.PRESETS[f"{size}_stage2"]
    shapes = listed(f"stage1_pretrain_{size.lower()}")[1]
    monkeypatch.setattr(origins, "open_weights", lambda path: Unread(shapes))
    drawn = jax.eval_shape(lambda: vision.build(Compute("float32")).init(jax.random.key(0)))
    file = origins._open_file(Path("8_frames.pth"), "a file", "encoder", AlignedSize).unpacked(vision)
    fitting = Fitting(vision.grid, file.frames)
    found = file.match(MatchRequest(shapes_by_path(drawn), fitting=fitting, partial=True))
    assert found.report.fits and shapes["pos_embed"][1] == 1 + 8 * 256
    assert dict(paths_of(drawn)).keys() - {leaf.path for leaf in found.leaves} == fresh
    assert list(found.report.resized) == ["pos_embed"]
