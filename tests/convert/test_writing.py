"""Files that are written: whole or not at all, and readable by others."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.tensors import LazyTensor
from ivjax.convert.formats.torch_files import write_torch
from ivjax.convert.formats.writing import bytes_of, write_safetensors
from ivjax.errors import UserError

RNG = np.random.default_rng(0)
ARRAYS = {
    "wide": RNG.normal(size=(3, 70000)).astype(np.float32),
    "brain": RNG.normal(size=(4, 2, 3)).astype(ml_dtypes.bfloat16),
    "half": RNG.normal(size=(5,)).astype(np.float16),
    "one": np.array(0.07, np.float32),
    "ids": np.arange(6).reshape(2, 3),
    "mask": np.array([True, False]),
    "none": np.zeros((0, 3), np.float32),
}


def lazies(arrays=ARRAYS):
    return [LazyTensor(name, array.shape, array.dtype, lambda a=array: [a]) for name, array in arrays.items()]


def assert_same(found):
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape == found.shape(name)
        assert found[name].tobytes() == array.tobytes()


def test_safetensors_are_read_by_others_too(tmp_path):
    [path] = write_safetensors(tmp_path / "w.safetensors", lazies(), {"format": "ivjax"})
    assert_same(open_tensors(path))
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "ivjax"}
        assert {name: file.get_tensor(name).tobytes() for name in file.keys()} == {  # noqa: SIM118
            name: array.tobytes() for name, array in ARRAYS.items()
        }


def test_shards_hold_at_most_their_size_unless_a_tensor_is_larger(tmp_path):
    *shards, index = write_safetensors(tmp_path / "w.safetensors", lazies(), {"a": "b"}, shard_bytes=64)
    assert [shard.name for shard in shards] == [f"w-{n:05}-of-00003.safetensors" for n in (1, 2, 3)]
    held = [list(open_tensors(shard)) for shard in shards]
    assert held == [["wide"], ["brain", "half", "one"], ["ids", "mask", "none"]]
    assert json.loads(index.read_text())["metadata"]["total_size"] == sum(a.nbytes for a in ARRAYS.values())
    for place in (index, tmp_path, tmp_path / "w.safetensors"):
        found = open_tensors(place)
        assert_same(found)
        assert found.metadata == {"a": "b"}


def test_a_layer_is_read_alone(tmp_path):
    [path] = write_safetensors(tmp_path / "w.safetensors", lazies(), {})
    np.testing.assert_array_equal(open_tensors(path).layer("brain", 2), ARRAYS["brain"][2])
    np.testing.assert_array_equal(open_tensors(path).layer("wide", 0), ARRAYS["wide"][0])


@pytest.mark.parametrize("container", ["flat", "model", "module"])
def test_torch_files_are_written_without_torch(tmp_path, container):
    [path] = write_torch(tmp_path / "w.pth", lazies(), container)
    found = open_tensors(path)
    assert found.container == container
    assert_same(found)


@pytest.mark.parametrize("container", ["flat", "model"])
def test_torch_itself_reads_the_written_files(tmp_path, container):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    [path] = write_torch(tmp_path / "w.pth", lazies(), container)
    found = torch.load(path, weights_only=True)
    found = found if container == "flat" else found[container]
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        name: array.shape for name, array in ARRAYS.items()
    }
    np.testing.assert_array_equal(found["wide"].numpy(), ARRAYS["wide"])
    np.testing.assert_array_equal(found["brain"].float().numpy(), ARRAYS["brain"].astype(np.float32))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("shard_bytes", [2**20, 64])
def test_a_failed_write_leaves_nothing_behind(tmp_path, name, shard_bytes):
    def fails():
        yield np.zeros(3)
        raise UserError("the source ended")

    tensors = [*lazies(), LazyTensor("bad", (6,), np.dtype(np.float64), fails)]
    with pytest.raises(UserError, match="the source ended"):
        if name.endswith("pth"):
            write_torch(tmp_path / name, tensors, "model")
        else:
            write_safetensors(tmp_path / name, tensors, {}, shard_bytes)
    assert not list(tmp_path.iterdir())


def test_existing_files_are_not_overwritten(tmp_path):
    write_safetensors(tmp_path / "w.safetensors", lazies(), {}, shard_bytes=64)
    before = sorted(tmp_path.iterdir())
    for path in ("w.safetensors", "w-00001-of-00003.safetensors"):
        with pytest.raises(UserError, match="exists already; remove it or choose another name"):
            write_safetensors(tmp_path / path, lazies(), {})
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(UserError, match="must end in .safetensors"):
        write_safetensors(tmp_path / "w.bin", lazies(), {})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_safetensors(tmp_path / "file/w.safetensors", lazies(), {})


def test_dtypes_that_a_format_lacks_are_errors(tmp_path):
    odd = lazies({"odd": np.zeros(2, np.complex64)})
    with pytest.raises(UserError, match="odd has dtype complex64"):
        write_safetensors(tmp_path / "w.safetensors", odd, {})
    with pytest.raises(UserError, match="odd has dtype complex64"):
        write_torch(tmp_path / "w.pt", odd, "flat")
    assert not list(tmp_path.iterdir())


def test_byte_sizes_are_parsed_with_their_units():
    sizes = {"4096": 4096, "500MB": 500 * 10**6, "4GiB": 2**32, "1.5 KiB": 1536}
    assert {text: bytes_of(text) for text in sizes} == sizes
    for text in ("", "big", "-1", "4GBi"):
        with pytest.raises(UserError, match="is no size; write it like 500MB"):
            bytes_of(text)
