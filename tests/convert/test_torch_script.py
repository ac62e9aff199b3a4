"""TorchScript archives: their parameters are read, and nothing of them is run."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ivjax.convert.formats.opening import open_tensors
from ivjax.errors import UserError
from tests.convert.torch_files import write_zip

FOLDER = Path(__file__).parents[1] / "golden/hub/clip_script"
ARCHIVE = FOLDER / "clip_script.pt"
MODULE = b"c__torch__.model\nModel\n)\x81"  # an object of the program


def text(word):
    return b"X" + len(word).to_bytes(4, "little") + word.encode()


def with_attributes(*items):
    """Opcodes of an object of the program with attributes (name, opcodes of the value)."""
    return MODULE + b"}(" + b"".join(text(name) + value for name, value in items) + b"ub"


def test_the_parameters_of_an_archive_are_those_of_its_state_dict():
    found, wanted = open_tensors(ARCHIVE), open_tensors(FOLDER / "state.safetensors")
    assert set(found) == set(wanted) and found.container == "torchscript"
    for name, tensor in wanted.items():
        assert found.dtype(name) == tensor.dtype and found[name].tobytes() == tensor.tobytes()
    assert found.dtype("visual.proj") == np.float16
    assert "__torch__" not in sys.modules


def test_the_code_of_an_archive_is_never_opened(tmp_path):
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(ARCHIVE) as archive, zipfile.ZipFile(bomb, "w") as other:
        for member in archive.namelist():
            code = "/code/" in member or member.endswith("constants.pkl")
            other.writestr(member, b"raise SystemExit" if code else archive.read(member))
    assert set(open_tensors(bomb)) == set(open_tensors(ARCHIVE))


@pytest.mark.parametrize(
    "attack",
    [
        "cos\nsystem\n{}tR",
        "cposix\nsystem\n{}tR",
        "c__builtin__\neval\n{}tR",
        "ctorch.jit\nload\n{}tR",
        "ctorch.jit._pickle\nbuild_tensor_from_id\n{}tR",
    ],
)
@pytest.mark.parametrize("place", ["attribute", "root", "state"])
def test_an_archive_that_would_run_code_is_refused(attack, place, tmp_path):
    mark = tmp_path / "ran"
    call = attack.encode().replace(b"{}", b"(" + text(f"touch {mark}"))
    program = {
        "attribute": with_attributes(("weight", call)),
        "root": call,
        "state": MODULE + call + b"b",
    }[place]
    with pytest.raises(UserError, match="which could run code"):
        open_tensors(write_zip(tmp_path / "w.pt", b"\x80\x02" + program + b".", []))
    assert not mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        MODULE + b"K\x05b",  # a state that is a number
        MODULE + b"}(K\x01K\x02ub",  # attributes without names
        MODULE + b"N}(" + text("attributes") + b"K\x01u\x86b",  # slots of Python's own
        b"c__torch__.model\nModel\n}(" + text("__init__") + b"K\x01ub",  # a state of the class itself
        b"c__torch__.model\nModel\n(K\x01tR",  # arguments
        MODULE + b"q\x00}(" + text("self") + b"h\x00ub",  # a module that holds itself
    ],
    ids=["number", "names", "slots", "class", "arguments", "circle"],
)
def test_objects_that_no_program_has_are_refused(program, tmp_path):
    with pytest.raises(
        UserError, match=r"the pickle in .*w.pt is damaged|w.pt has names of over 2,000 characters"
    ):
        open_tensors(write_zip(tmp_path / "w.pt", b"\x80\x02" + program + b".", []))
    assert set(open_tensors(ARCHIVE))  # and nothing of it stays


def test_attributes_cannot_take_the_place_of_pythons_own(tmp_path):
    hidden = [(name, b"K\x01") for name in ("__class__", "attributes", "__setstate__", "items")]
    path = write_zip(tmp_path / "w.pt", b"\x80\x02" + with_attributes(*hidden) + b".", [])
    assert set(open_tensors(path)) == set()


def test_modules_with_more_names_than_any_model_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ivjax.convert.formats.torch_script._MOST", 1000)
    inner = MODULE
    for number in range(1, 40):  # each holds the one before twice: 2 ** 39 names
        put, get = b"q" + bytes([number]), b"h" + bytes([number])
        inner = MODULE + b"}(" + text("left") + inner + put + text("right") + get + b"ub"
    with pytest.raises(UserError, match="names over 1,000 modules, as no program does"):
        open_tensors(write_zip(tmp_path / "w.pt", b"\x80\x02" + inner + b".", []))


def test_lists_of_settings_are_passed_over(tmp_path):
    numbers = b"ctorch.jit._pickle\nbuild_intlist\n(](K\x01K\x02etR"
    path = write_zip(tmp_path / "w.pt", b"\x80\x02" + with_attributes(("sizes", numbers)) + b".", [])
    assert set(open_tensors(path)) == set()
