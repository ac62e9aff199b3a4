"""Files that are no weights, or not all of them, are called what they are."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ivjax.convert.formats.opening import open_tensors
from ivjax.errors import UserError
from tests.convert.torch_files import write_torch

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16)}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 598641023\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>\n Sign in </title></head><body>" + b"x" * 5000


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.safetensors"), io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin", "w.safetensors.index.json"])
@pytest.mark.parametrize(
    "content, words",
    [
        (b"", r"is empty: it has 0 bytes; fetch it again"),
        (POINTER, r"is a pointer of Git LFS and not the file of 598,641,023 bytes .* run `git lfs pull`"),
        (PAGE, r"is an HTML page \('Sign in'\) and no weights: .* of login or error; open the link"),
    ],
)
def test_what_was_saved_in_place_of_weights_is_named(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} {words}"):
        open_tensors(tmp_path / name)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize(
    "content, words",
    [
        (b"Entry not found", r"is a text and no weights: it says 'Entry not found'; fetch"),
        (b'{"error": "Repository requires access"}', r"is a text .* it says '{\"error\": \"Repository"),
        (gzip.compress(b"weights", mtime=0), "is a gzip archive; unpack it"),
        (tar(), "is a tar archive; unpack it"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras saves weights"),
        (b"GGUF\x03\0\0\0", "is a GGUF file of quantised weights"),
        (b"\x93NUMPY\x01\0", "is one array of numpy"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80", "is older than torch 1.6: load it with torch"),
    ],
)
def test_other_formats_are_named_with_what_to_do(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} {words}"):
        open_tensors(tmp_path / name)


def test_the_format_is_read_from_the_bytes_and_not_from_the_name(tmp_path):
    save_file(TENSORS, tmp_path / "w.bin")
    write_torch(tmp_path / "w.pth", TENSORS).rename(tmp_path / "w.safetensors")
    for name in ("w.bin", "w.safetensors"):
        found = open_tensors(tmp_path / name)
        assert set(found) == set(TENSORS)
        np.testing.assert_array_equal(found["a.weight"], TENSORS["a.weight"])


def test_shards_of_torch_files_are_read_as_one_and_missing_ones_are_counted(tmp_path):
    shards = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    for shard, name in zip(shards, TENSORS, strict=True):
        write_torch(tmp_path / shard, {name: TENSORS[name]})
    places = dict(zip(TENSORS, shards, strict=True))
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    for path in (tmp_path, index, tmp_path / "pytorch_model.bin"):
        found = open_tensors(path)
        assert set(found) == set(TENSORS) and found.dtype("b") == np.float16
        np.testing.assert_array_equal(found.layer("a.weight", 1), TENSORS["a.weight"][1])
    (tmp_path / shards[0]).write_bytes(POINTER)
    with pytest.raises(UserError, match=rf"{shards[0]} is a pointer of Git LFS"):
        open_tensors(tmp_path)
    (tmp_path / shards[1]).unlink()
    with pytest.raises(UserError, match=rf"{shards[1]}, which is missing beside it; fetch that shard"):
        open_tensors(tmp_path)
    (tmp_path / shards[0]).unlink()
    with pytest.raises(UserError, match="and 1 more of its 2 shards, which are missing .*; fetch them"):
        open_tensors(tmp_path)


def test_the_name_of_a_model_on_the_hub_is_answered_with_how_to_fetch_it():
    with pytest.raises(UserError, match="`hf download openai/clip-vit-base-patch16 --local-dir DIR` fetches"):
        open_tensors(Path("openai/clip-vit-base-patch16"))
