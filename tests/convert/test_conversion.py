"""From file to file and back: bit for bit, of the released layout, in little memory."""

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ivjax.convert.comparison import ImportChoices
from ivjax.convert.conversion import export_file, import_file, inspect_file
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.tensors import LazyTensor
from ivjax.convert.formats.torch_files import write_torch
from ivjax.errors import UserError
from tests.convert.originals import (
    SMALL_PRETRAIN,
    STUDENT,
    originals,
    pseudo_random,
    use_small_families,
    write_originals,
)

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "tests/golden/manifests"


def bits(tensors):
    return {name: (tensor.dtype.name, tensor.shape, tensor.tobytes()) for name, tensor in tensors.items()}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shard_bytes", [2**30, 3000])
@pytest.mark.parametrize("name", ["out.pth", "out.pt", "out.safetensors"])
def test_an_exported_import_is_the_file_bit_for_bit(tmp_path, monkeypatch, dtype, shard_bytes, name):
    use_small_families(monkeypatch)
    tensors = originals(dtype=dtype)
    path = write_originals(tmp_path / "w.pth", tensors)
    there = import_file(path, tmp_path / "w.safetensors", ImportChoices(), shard_bytes)
    assert (len(there.files) > 1) == (shard_bytes == 3000)
    assert there.bytes == sum(tensor.nbytes for tensor in tensors.values())
    back = export_file(tmp_path / "w.safetensors", tmp_path / name)
    found = open_tensors(tmp_path / name)
    assert back.report.fits and bits(found) == bits(tensors)
    assert found.container == ("flat" if name.endswith("safetensors") else "model")


def test_an_exported_import_of_a_student_is_the_file_bit_for_bit(tmp_path, monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals(SMALL_PRETRAIN, STUDENT)
    import_file(write_originals(tmp_path / "w.pth", tensors, "module"), tmp_path / "w.safetensors")
    export_file(tmp_path / "w.safetensors", tmp_path / "out.pth")
    found = open_tensors(tmp_path / "out.pth")
    assert found.container == "module" and bits(found) == bits(tensors)


def test_sizes_changed_by_overrides_are_stored_in_the_file(tmp_path, monkeypatch):
    use_small_families(monkeypatch)
    path = write_originals(tmp_path / "w.pth", originals(SMALL_PRETRAIN, STUDENT), "module")
    choices = ImportChoices(overrides=("encoder.frames=4", "encoder.image=(42,42)"))
    report = import_file(path, tmp_path / "w.safetensors", choices).report
    assert report.preset == "small with encoder.frames=4 encoder.image=(42,42)"
    assert report.resized == dict.fromkeys(("pos_embed", "clip_pos_embed"), "resized from 8x2x2 to 4x3x3")
    again = inspect_file(tmp_path / "w.safetensors")
    assert again.fits and again.preset == report.preset and not again.resized
    assert open_tensors(tmp_path / "w.safetensors").shape("encoder/pos_embed/table") == (1, 37, 16)


def test_a_damaged_tensor_leaves_no_file_behind(tmp_path, monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals()
    path = write_originals(tmp_path / "w.pth", tensors)
    content = bytearray(path.read_bytes())
    content[content.index(tensors["text_encoder.text_projection"].tobytes()) + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="the bytes of text_encoder.text_projection are damaged"):
        import_file(path, tmp_path / "out/w.safetensors", ImportChoices(), 1000)
    assert not list((tmp_path / "out").iterdir())


def test_a_file_that_does_not_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals()
    tensors["vision_encoder.proj"] = tensors["vision_encoder.proj"].T
    path = write_originals(tmp_path / "w.pth", tensors)
    with pytest.raises(UserError, match="vision_encoder.proj is .* transposed"):
        import_file(path, tmp_path / "out.safetensors")
    assert sorted(tmp_path.iterdir()) == [path]


def test_only_own_files_are_exported_and_only_to_known_formats(tmp_path, monkeypatch):
    use_small_families(monkeypatch)
    path = write_originals(tmp_path / "w.safetensors", originals())
    with pytest.raises(UserError, match="is not in this project's format; run .ivjax convert import."):
        export_file(path, tmp_path / "out.pth")
    import_file(path, tmp_path / "own.safetensors")
    with pytest.raises(UserError, match="must end in .safetensors, .pt or .pth"):
        export_file(tmp_path / "own.safetensors", tmp_path / "out.bin")


MEASURE = """
import json, resource, sys, time
from pathlib import Path
from ivjax.convert.conversion import export_file, import_file, inspect_file
from ivjax.convert.comparison import ImportChoices

def said(start):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak": peak, "seconds": round(time.monotonic() - start, 1)}

folder, shard_bytes = Path(sys.argv[1]), int(sys.argv[2])
steps = {}
start = time.monotonic()
assert inspect_file(folder / "w.pth", values=False).fits
steps["inspect"] = said(start)
start = time.monotonic()
any_bits = ImportChoices(allow_non_finite=True)
import_file(folder / "w.pth", folder / "own.safetensors", any_bits, shard_bytes, str)
steps["import"] = said(start)
(folder / "w.pth").unlink()
start = time.monotonic()
export_file(Path(f"{folder}/own.safetensors?nonfinite=allow"), folder / "back.pth", str)
steps["export"] = said(start)
print(json.dumps(steps))
"""


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.parametrize(
    "manifest, container",
    [("viclip_b16", "model"), ("stage1_pretrain_1b", "module")],
)
def test_a_released_layout_is_imported_and_exported_in_little_memory(manifest, container, tmp_path):
    """As many bytes as the released file: peak memory grows by less than the largest stacked tensor."""
    shapes = json.loads((MANIFESTS / f"{manifest}.json").read_text())["params"]
    drawn = {name: partial(pseudo_random, name, tuple(shape)) for name, shape in shapes.items()}
    kind = np.dtype(ml_dtypes.bfloat16)
    lazy_tensors = [
        LazyTensor(name, tuple(shapes[name]), kind, lambda d=draw: [d()]) for name, draw in drawn.items()
    ]
    write_torch(tmp_path / "w.pth", lazy_tensors, container)
    whole = sum(lazy.nbytes for lazy in lazy_tensors)
    command = [sys.executable, "-c", MEASURE, str(tmp_path), str(whole // 5)]
    steps = json.loads(subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout)
    print(manifest, steps)
    assert len(list(tmp_path.glob("own-*-of-*.safetensors"))) > 3
    back, own = open_tensors(tmp_path / "back.pth"), open_tensors(tmp_path / "own.safetensors")
    assert set(back) == set(shapes) and back.container == container
    for name, draw in drawn.items():
        assert np.array_equal(back[name].view(np.uint16), draw().view(np.uint16)), name
    largest = max(math.prod(own.shape(name)) * kind.itemsize for name in own)
    for step in ("import", "export"):
        assert steps[step]["peak"] - steps["inspect"]["peak"] < largest + 2**24, steps
    for file in tmp_path.iterdir():
        file.unlink()
