"""The stage-1 families: what a file has too much, too little or the wrong way round is named."""

import dataclasses

import numpy as np
import pytest

from ivjax.convert.comparison import ImportChoices
from ivjax.convert.conversion import export_file, import_file, inspect_file
from ivjax.convert.formats.opening import open_tensors
from ivjax.errors import UserError
from tests.convert.originals import (
    SMALL_ENCODER,
    SMALL_PRETRAIN,
    SMALL_STAGE2,
    SMALL_VIDEOMAE,
    originals,
    use_small_families,
    write_originals,
)

STAGE1 = {family.name: family for family in (SMALL_PRETRAIN, SMALL_ENCODER, SMALL_STAGE2, SMALL_VIDEOMAE)}
KERNEL = "blocks.1.mlp.fc1.weight"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_families(monkeypatch)


def tensors_of(family):
    """A family's tensors, and the name that its `KERNEL` has among them."""
    tensors = originals(family, family.presets["small"])
    return tensors, next(name for name in tensors if name.endswith(KERNEL))


def without(tensors, name):
    del tensors[name]
    return f"{KERNEL} is missing, which fills .*blocks/mlp/fc1/kernel"


def with_more(tensors, name):
    tensors[name.replace(KERNEL, "extra.weight")] = np.zeros(3, np.float32)
    return "extra.weight is left over: no row of the table takes it"


def transposed(tensors, name):
    tensors[name] = tensors[name].T
    return rf"{KERNEL} is \(\d+, \d+\) in the file and \(\d+, \d+\) in the model: it is transposed"


@pytest.mark.parametrize("name", STAGE1)
@pytest.mark.parametrize("spoil", [without, with_more, transposed])
def test_a_tensor_that_does_not_fit_is_named_and_nothing_is_written(name, spoil, tmp_path):
    tensors, kernel = tensors_of(STAGE1[name])
    words = spoil(tensors, kernel)
    path = write_originals(tmp_path / "w.pth", tensors)
    report = inspect_file(path)
    assert (report.family, report.preset, report.errors) == (name, "small", 1)
    with pytest.raises(UserError, match=f"w.pth and {name} small do not fit: .*{words}"):
        import_file(path, tmp_path / "own.safetensors")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", STAGE1)
def test_export_restores_the_container_and_prefix_of_a_public_file(name, tmp_path):
    family, (tensors, _) = STAGE1[name], tensors_of(STAGE1[name])
    path = write_originals(tmp_path / "w.pth", tensors, family.container)
    assert import_file(path, tmp_path / "own.safetensors").report.prefix == family.prefix
    export_file(tmp_path / "own.safetensors", tmp_path / "back.pth")
    back = open_tensors(tmp_path / "back.pth")
    assert back.container == open_tensors(path).container != "flat" and set(back) == set(tensors)
    assert all(name.startswith(family.prefix) for name in back)
    for tensor, array in tensors.items():
        assert back[tensor].tobytes() == array.tobytes(), tensor


def test_a_file_of_this_project_knows_the_frames_of_its_position_tables(tmp_path):
    size = dataclasses.replace(SMALL_ENCODER.presets["small"], frames=3)
    tensors = originals(SMALL_ENCODER, size)
    path = write_originals(tmp_path / "w.pth", tensors)
    import_file(path, tmp_path / "own.safetensors", ImportChoices(overrides=("frames=3",)))
    other = ImportChoices(overrides=("frames=6", "image=(42,42)"))
    report = import_file(tmp_path / "own.safetensors", tmp_path / "other.safetensors", other).report
    assert report.resized == {"pos_embed/table": "resized from 3x2x2 to 6x3x3"}
