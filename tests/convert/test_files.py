"""Weight files: what is read, without torch; what is refused; what is damaged."""

import argparse
import collections
import errno
import json
import os
import pickle
import resource
import struct
import subprocess
import zipfile
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from ivjax.convert.formats import torch_files
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.pickles import Stored, TorchTensors
from ivjax.convert.formats.tensors import LazyTensor
from ivjax.errors import UserError
from tests.convert.torch_files import write_torch, write_zip

RNG = np.random.default_rng(0)
TENSORS = {
    "a.weight": RNG.normal(size=(3, 5)).astype(np.float32),
    "half": RNG.normal(size=(4,)).astype(np.float16),
    "brain": RNG.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
    "temp": np.array(0.07, np.float32),
    "ids": np.arange(6).reshape(2, 3),
}


def assert_same(found, wanted=TENSORS):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and found.shape(name) == value.shape
        np.testing.assert_array_equal(found[name], value)


def pickle_of(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def test_a_safetensors_file_and_its_folder_are_read(tmp_path):
    save_file(TENSORS, tmp_path / "w.safetensors")
    assert_same(open_tensors(tmp_path / "w.safetensors"))
    assert_same(open_tensors(tmp_path))


def test_shards_with_an_index_are_read_as_one_file(tmp_path):
    names = list(TENSORS)
    for shard, part in (("one", names[:2]), ("two", names[2:])):
        save_file({name: TENSORS[name] for name in part}, tmp_path / f"{shard}.safetensors")
    places = {name: "one.safetensors" if name in names[:2] else "two.safetensors" for name in names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert_same(open_tensors(tmp_path))
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(UserError, match=r"names two.safetensors, which is missing"):
        open_tensors(tmp_path)
    save_file({"other": TENSORS["half"]}, tmp_path / "two.safetensors")
    with pytest.raises(UserError, match=r"two.safetensors lacks brain"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("shard", [3, None, ["one.safetensors"]])
def test_an_index_whose_shards_are_no_names_is_refused(tmp_path, shard):
    index = tmp_path / "w.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": shard}}))
    with pytest.raises(UserError, match=r"w.safetensors.index.json is no index of shards \(TypeError"):
        open_tensors(index)


def test_a_disk_that_fails_is_an_error_of_one_sentence(tmp_path, monkeypatch):
    save_file(TENSORS, tmp_path / "w.safetensors")
    torch_file = write_torch(tmp_path / "w.pth", TENSORS)
    opened = open_tensors(tmp_path / "w.safetensors"), open_tensors(torch_file)
    fail = mock.Mock(side_effect=OSError(errno.EIO, "Input/output error"))
    monkeypatch.setattr(zipfile.ZipExtFile, "read", fail)
    with pytest.raises(UserError, match=r"w.pth cannot be read \(Input/output error\); check"):
        open_tensors(torch_file)
    monkeypatch.setattr("io.open", fail)
    for tensors in opened:
        with pytest.raises(UserError, match=r"w\.(pth|safetensors).*\(.*Input/output error\)"):
            tensors.layer("ids", 1)
    (tmp_path / "w.safetensors.index.json").touch()
    for path in tmp_path.iterdir():
        with pytest.raises(UserError, match=rf"{path.name} cannot be read \(Input/output error\); check"):
            open_tensors(path)


@pytest.mark.parametrize("container", ["flat", "module", "model", "model_state", "state_dict"])
@pytest.mark.parametrize("parameters", [False, True])
def test_torch_files_are_read_in_any_container(tmp_path, container, parameters):
    wrapped = TENSORS if container == "flat" else {container: collections.OrderedDict(TENSORS), "epoch": 3}
    found = open_tensors(write_torch(tmp_path / "w.pth", wrapped, parameters))
    assert found.container == container
    assert_same(found)


def test_a_transposed_view_is_read_in_its_own_order(tmp_path):
    found = open_tensors(write_torch(tmp_path / "w.pt", {"t": TENSORS["a.weight"].T}))
    np.testing.assert_array_equal(found["t"], TENSORS["a.weight"].T)


def test_settings_beside_the_weights_are_ignored(tmp_path):
    content = {"model": TENSORS, "args": argparse.Namespace(lr=1e-3), "best": np.float64(0.5)}
    assert_same(open_tensors(write_torch(tmp_path / "w.pth", content)))


class _Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


ATTACKS = {
    "system": lambda mark: _Runs(os.system, f"touch {mark}"),
    "eval": lambda mark: _Runs(eval, f"open({str(mark)!r}, 'w')"),
    "subprocess": lambda mark: _Runs(subprocess.check_call, ["touch", str(mark)]),
    "pickle": lambda mark: _Runs(pickle.loads, f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()),
    "print": lambda mark: _Runs(print, "hello"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_pickle_that_would_run_code_is_refused(tmp_path, attack):
    mark = tmp_path / "ran"
    pickled = pickle.dumps({"model": {}, "extra": ATTACKS[attack](mark)}, protocol=2)
    with pytest.raises(UserError, match="which could run code"):
        open_tensors(write_zip(tmp_path / "w.pth", pickled, []))
    assert not mark.exists()


def test_opcodes_that_call_are_refused_too(tmp_path):
    mark = tmp_path / "ran"
    for number, program in enumerate(
        (
            b"(S'touch %s'\nios\nsystem\n." % bytes(mark),
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05touch\x85R.",
            b"cposix\nsystem\n(S'touch %s'\ntR." % bytes(mark),
            b"c__builtin__\nexec\n(S'import os'\ntR.",
        )
    ):
        with pytest.raises(UserError, match="which could run code"):
            open_tensors(write_zip(tmp_path / f"{number}.pth", program, []))
    assert not mark.exists()


@pytest.mark.parametrize("depth", ["container", "tensor", "key"])
def test_code_hidden_inside_the_weights_is_refused(tmp_path, depth):
    mark = tmp_path / "ran"
    attack = _Runs(os.system, f"touch {mark}")
    content = {
        "container": {"model": {"a": {"b": [attack]}}},
        "tensor": {"model": {"a": collections.OrderedDict(x=attack)}},
        "key": {"model": {("a", attack): 1}},
    }
    pickled = pickle.dumps(content[depth], protocol=2)
    with pytest.raises(UserError, match="which could run code"):
        open_tensors(write_zip(tmp_path / "w.pth", pickled, []))
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    ["torch\nload", "torch.hub\nload", "torch._utils\n_rebuild_device_tensor", "torch.serialization\nadd"],
)
def test_functions_of_torch_that_rebuild_no_tensors_are_refused(tmp_path, name):
    program = b"\x80\x02c%s\n(X\x01\x00\x00\x00atR." % name.encode()
    with pytest.raises(UserError, match=rf"{name.split()[0]}\..* could run code"):
        open_tensors(write_zip(tmp_path / "w.pth", program, []))


STATE = b"}(X\x0c\x00\x00\x00__setstate__X\x05\x00\x00\x00itemsub"  # BUILD with a dict
SLOTS = b"N}(X\x0c\x00\x00\x00__setstate__X\x05\x00\x00\x00itemsu\x86b"  # BUILD with (None, slots)


@pytest.mark.parametrize("state", [STATE, SLOTS], ids=["state", "slots"])
@pytest.mark.parametrize(
    "name",
    ["torch._utils\n_rebuild_tensor_v2", "argparse\nNamespace", "collections\nOrderedDict", "torch\nSize"],
)
def test_a_state_set_on_what_rebuilds_tensors_is_refused(tmp_path, name, state):
    program = b"\x80\x02c%s\n%s." % (name.encode(), state)
    with pytest.raises(UserError, match="the pickle in .* is damaged"):
        open_tensors(write_zip(tmp_path / "w.pth", program, []))
    good = write_torch(tmp_path / "good.pth", {"model": TENSORS, "args": argparse.Namespace(lr=1e-3)})
    assert_same(open_tensors(good))


@pytest.mark.parametrize("state", [{"strides": (-4096, -4096)}, (None, {"strides": (-4096, -4096)})])
def test_a_state_set_on_a_tensor_is_refused(tmp_path, state):
    pickled = pickle_of(write_torch(tmp_path / "w.pth", {"t": TENSORS["a.weight"]}))
    program = pickled[:-2] + pickle.dumps(state, protocol=2)[2:-1] + b"bs."  # BUILD, on the tensor
    with pytest.raises(UserError, match=r"the pickle in .* is damaged \(.*sets the state of a tensor\)$"):
        open_tensors(write_zip(tmp_path / "crafted.pth", program, [TENSORS["a.weight"].tobytes()]))


VIEWS = [(0, (3, 5), (-5, 1)), (-1, (3,), (1,)), (0, (-3,), (1,)), (0, (3, 5), (1,)), (0, (2**70,), (0,))]


@pytest.mark.parametrize("view", VIEWS)
def test_views_that_no_tensor_can_have_are_refused_when_they_are_read(tmp_path, view):
    with zipfile.ZipFile(write_torch(tmp_path / "w.pth", {"t": TENSORS["a.weight"]})) as archive:
        tensors = TorchTensors(archive, "weights", {"t": Stored("0", np.dtype(np.float32), *view)}, "flat")
        with pytest.raises(UserError, match="the bytes of t are damaged|no array can have"):
            tensors["t"]


def test_the_container_with_the_most_tensors_is_taken(tmp_path):
    few = {"half": TENSORS["half"]}
    model = few | {"model": TENSORS, "state_dict": few}
    flat = TENSORS | {"optimizer": {"state": few}, "model": few}
    for container, wrapped in (("model", model), ("flat", flat)):
        found = open_tensors(write_torch(tmp_path / "w.pth", wrapped))
        assert found.container == container
        assert_same(found)


def test_tensors_nested_inside_the_container_are_an_error(tmp_path):
    plain = TENSORS | {"step": 3, "name": "b14", "none": None, "ring": {"width": [1, 2]}}
    plain["ring"]["ring"] = [plain["ring"]]
    assert_same(open_tensors(write_torch(tmp_path / "w.pth", {"model": plain})))
    nested = {"model": TENSORS | {"text": {"deep": {"half": TENSORS["half"]}}}}
    with pytest.raises(UserError, match=r"model holds more tensors inside text, which would be lost"):
        open_tensors(write_torch(tmp_path / "nested.pth", nested))


def test_attributes_that_hide_the_methods_of_a_dict_are_ignored(tmp_path):
    lazy_tensors = [
        LazyTensor(name, array.shape, array.dtype, lambda a=array: [a]) for name, array in TENSORS.items()
    ]
    [path] = torch_files.write_torch(tmp_path / "w.pth", lazy_tensors, "model")
    pickled = pickle_of(path)
    assert pickled.endswith(b"us.")
    hiding = b"".join(b"X\x05\x00\x00\x00%scargparse\nNamespace\n" % name for name in (b"items", b"keys_"))
    program = pickled[:-2] + b"}(" + hiding + b"ub" + b"s."
    found = open_tensors(write_zip(tmp_path / "hidden.pth", program, [a.tobytes() for a in TENSORS.values()]))
    assert_same(found)


def test_compressed_and_foreign_files_are_refused(tmp_path):
    whole = write_torch(tmp_path / "w.pth", {"t": TENSORS["a.weight"]})
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for packed in ("weights/data.pkl", "weights/data/0"):
        with zipfile.ZipFile(tmp_path / "packed.pth", "w") as archive:
            for name, data in members.items():
                kind = zipfile.ZIP_DEFLATED if name == packed else zipfile.ZIP_STORED
                archive.writestr(name, data, compress_type=kind)
        with pytest.raises(UserError, match="is compressed, as torch's files never are"):
            open_tensors(tmp_path / "packed.pth")["t"]
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr("weights/byteorder", "big")
    with pytest.raises(UserError, match="big-endian"):
        open_tensors(whole)


def test_several_tensors_share_a_storage(tmp_path):
    base = np.arange(12, dtype=np.float32)
    found = open_tensors(write_torch(tmp_path / "w.pth", {"rows": base.reshape(3, 4).T, "all": base}))
    np.testing.assert_array_equal(found["rows"], base.reshape(3, 4).T)
    assert found.dtype("all") == np.float32


def test_truncated_files_are_named(tmp_path):
    save_file(TENSORS, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    for length in (5, 60, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(UserError, match="cut.safetensors.*(cut short|truncated)"):
            open_tensors(tmp_path / "cut.safetensors")
    whole = write_torch(tmp_path / "w.pth", TENSORS).read_bytes()
    for length in (50, len(whole) - 30):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(UserError, match="cut.pth is no whole torch file"):
            open_tensors(tmp_path / "cut.pth")


def test_a_tensor_that_reaches_beyond_its_storage_is_an_error(tmp_path):
    pickled = pickle_of(write_torch(tmp_path / "w.pth", {"t": TENSORS["a.weight"]}))
    found = open_tensors(write_zip(tmp_path / "short.pth", pickled, [b"\0" * 8]))
    with pytest.raises(UserError, match="t reaches beyond its 2 stored numbers"):
        found["t"]


def test_a_file_without_weights_is_an_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_tensors(tmp_path / "none.pth")
    with pytest.raises(UserError, match="holds no weight file"):
        open_tensors(tmp_path)
    with pytest.raises(UserError, match="holds no tensors under module, model"):
        open_tensors(write_torch(tmp_path / "w.pth", {"epoch": 3}))
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(UserError, match="not torch's"):
        open_tensors(tmp_path / "other.pth")


def write_header(path, header, data=b"\0" * 16):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    "facts",
    [
        {"shape": [2.0, 2.0]},
        {"data_offsets": [0.0, 16.0]},
        {"shape": [True, 4]},
        {"shape": ["2", "2"]},
        {"shape": None},
        {"data_offsets": [0]},
        {"data_offsets": {}},
    ],
)
def test_places_and_shapes_that_are_no_whole_numbers_are_damage(tmp_path, facts):
    good = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    assert open_tensors(write_header(tmp_path / "good.safetensors", {"t": good}))["t"].shape == (2, 2)
    with pytest.raises(UserError, match="the header of .* is damaged"):
        open_tensors(write_header(tmp_path / "w.safetensors", {"t": good | facts}))


def test_deeply_nested_json_is_damage(tmp_path):
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(UserError, match=r"the header of .* is damaged \(RecursionError"):
        open_tensors(write_header(tmp_path / "w.safetensors", deep))
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(deep)
    with pytest.raises(UserError, match=r"is no index of shards \(RecursionError"):
        open_tensors(index)


@pytest.mark.parametrize("place", ["../w.safetensors", "/etc/passwd", "in/../../w.safetensors", "a\0b"])
def test_an_index_does_not_lead_out_of_its_folder(tmp_path, place):
    (tmp_path / "in").mkdir()
    good = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    write_header(tmp_path / "w.safetensors", {"t": good})
    index = tmp_path / "in" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"t": place}}))
    with pytest.raises(UserError, match="which is not in its folder; it is not read"):
        open_tensors(index)


def test_what_a_pickle_claims_to_remember_takes_no_memory(tmp_path):
    for number in (2**27, 2**31 - 1, 2**32 - 1):
        program = b"\x80\x02}r" + struct.pack("<I", number) + b"."
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(UserError, match="holds no tensors"):
            open_tensors(write_zip(tmp_path / "w.pth", program, []))
        # In KiB on Linux: the list of places alone would have taken 2 GiB or more.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024


@pytest.mark.parametrize("member", ["data.pkl", "byteorder"])
def test_encrypted_and_compressed_members_are_refused(tmp_path, member):
    path = write_torch(tmp_path / "w.pth", {"model": TENSORS})
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    root = next(iter(members)).split("/")[0]
    members.setdefault(f"{root}/byteorder", b"little")
    for name, change in (("compressed", zipfile.ZIP_DEFLATED), ("encrypted", zipfile.ZIP_STORED)):
        with zipfile.ZipFile(tmp_path / f"{name}.pth", "w") as archive:
            for place, content in members.items():
                ours = place == f"{root}/{member}"
                archive.writestr(place, content, change if ours else zipfile.ZIP_STORED)
        if name == "encrypted":
            raw = bytearray((tmp_path / "encrypted.pth").read_bytes())
            at = raw.rfind(f"{root}/{member}".encode())
            raw[at - 46 + 8] |= 1  # the flags of the central directory's entry
            (tmp_path / "encrypted.pth").write_bytes(raw)
        with pytest.raises(UserError, match=f"is {name}, as torch's files never are"):
            open_tensors(tmp_path / f"{name}.pth")
