"""Weights in memory: what is read, resized, cast, initialised, and stored in this project's own format."""

import dataclasses
import functools
import json

import jax
import ml_dtypes
import numpy as np
import pytest

from ivjax.convert.families.viclip import viclip_rows
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.origins import import_into
from ivjax.convert.weights import import_weights
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.ops.resize import resize_table
from ivjax.ops.trees import paths_of
from tests.convert.originals import SMALL, WIDE, originals, use_small_families, write_originals
from tests.convert.tables import import_tensors, save_weights


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_families(monkeypatch)


@functools.cache
def shapes_of(size):
    return jax.eval_shape(size.build(Compute("float32")).init, jax.random.key(0))


def params_of(size):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes_of(size))


def resized(**vision):
    return dataclasses.replace(SMALL, vision=dataclasses.replace(SMALL.vision, **vision))


def assert_same(found, wanted):
    found, wanted = dict(paths_of(found)), dict(paths_of(wanted))
    assert found.keys() == wanted.keys()
    for path, leaf in wanted.items():
        assert found[path].dtype == leaf.dtype
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_file_of_the_original_becomes_the_models_tree(tmp_path, name):
    tensors = originals()
    found = import_weights(write_originals(tmp_path / name, tensors))
    assert_same(found.params, import_tensors(viclip_rows(), tensors))
    assert jax.tree.map(np.shape, found.params) == jax.tree.map(lambda s: s.shape, shapes_of(SMALL))
    assert (found.report.family, found.report.preset) == ("viclip", "small")
    assert found.report.container == ("model" if name.endswith("pth") else "flat")


def test_position_tables_are_resized_to_the_target(tmp_path):
    tensors = originals()
    path = write_originals(tmp_path / "w.pth", tensors)
    found = import_weights(path, target=shapes_of(resized(frames=6, image=(12, 8))), grid=(6, 6, 4))
    spatial = resize_table(tensors["vision_encoder.positional_embedding"], (1, 4, 4), (1, 6, 4), kept=1)
    np.testing.assert_array_equal(found.params["vision"]["spatial_embed"], spatial)
    temporal = tensors["vision_encoder.temporal_positional_embedding"]
    np.testing.assert_array_equal(
        found.params["vision"]["temporal_embed"], resize_table(temporal, (4, 1, 1), (6, 1, 1))
    )
    assert found.report.resized == {
        "vision_encoder.positional_embedding": "resized from 4x4 to 6x4",
        "vision_encoder.temporal_positional_embedding": "resized from 4 to 6",
    }
    with pytest.raises(UserError, match=r"positional_embedding is \(17, 12\) in the file and \(25, 12\)"):
        import_weights(path, target=shapes_of(resized(image=(12, 8))))


def test_clips_kernels_are_inflated_and_its_word_table_is_cut(tmp_path):
    tensors = originals()
    kernel, words = "vision_encoder.conv1.weight", "text_encoder.positional_embedding"
    clip = tensors | {kernel: tensors[kernel][:, :, 0], words: np.concatenate([tensors[words]] * 2)}
    found = import_weights(write_originals(tmp_path / "w.pth", clip))
    assert_same(found.params, import_tensors(viclip_rows(), tensors))
    assert found.report.resized[words] == "cut from 10 to 5 rows"
    assert found.report.resized[kernel] == "inflated to 1 taps in time (centre)"


def test_fresh_parameters_come_from_the_init(tmp_path):
    tensors = originals()
    del tensors["temp"]
    path = write_originals(tmp_path / "w.pth", tensors)
    target = shapes_of(SMALL)
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), target)
    fresh = ("temperature", "vision/proj")
    found = import_weights(path, fresh=fresh, target=target, init=lambda: ones)
    assert list(found.report.fresh) == ["temperature", "vision/proj/kernel"]
    assert found.report.unused == {"vision_encoder.proj": "its parameter is initialised afresh"}
    leaves = dict(paths_of(found.params))
    assert leaves["temperature"] == 1 and np.all(leaves["vision/proj/kernel"] == 1)
    np.testing.assert_array_equal(leaves["text/proj/kernel"], tensors["text_encoder.text_projection"])
    by_preset = import_weights(path, fresh=("temperature",), dtype="bfloat16")
    assert by_preset.params["temperature"] == ml_dtypes.bfloat16(0.01)


def test_fresh_parameters_need_an_init_and_a_name(tmp_path):
    path = write_originals(tmp_path / "w.pth", originals())
    with pytest.raises(UserError, match="temperature are to be fresh: give the init"):
        import_weights(path, fresh=("temperature",), target=shapes_of(SMALL))
    with pytest.raises(UserError, match="no parameter matches the fresh pattern vision/temperature"):
        import_weights(path, fresh=("temperature", "vision/temperature"))


@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_floats_keep_their_dtype_unless_another_is_asked_for(tmp_path, stored):
    tensors = originals(dtype=stored)
    path = write_originals(tmp_path / "w.safetensors", tensors)
    kept = import_weights(path)
    assert_same(kept.params, import_tensors(viclip_rows(), tensors))
    assert kept.report.dtypes == {np.dtype(stored).name: len(tensors)}
    cast = dict(paths_of(import_weights(path, dtype="bfloat16").params))
    for name, leaf in paths_of(kept.params):
        np.testing.assert_array_equal(cast[name], leaf.astype(ml_dtypes.bfloat16))
    with pytest.raises(UserError, match="cannot be cast to 'int8'"):
        import_weights(path, dtype="int8")


def test_saved_weights_are_read_back_equal(tmp_path):
    params = import_tensors(viclip_rows(), originals(dtype=ml_dtypes.bfloat16))
    size = resized(frames=4, image=(8, 8))
    for shard_bytes, count in ((2**20, 1), (2000, 9)):
        folder = tmp_path / str(count)
        files = save_weights(folder / "w.safetensors", params, "viclip", size, "small", shard_bytes)
        assert (len(files) > 2) == (count > 1)
        assert all(file.stat().st_size < 8000 for file in files[:-1])
        for place in (folder / "w.safetensors", folder, files[-1]):
            assert_same(import_weights(place).params, params)
    said = open_tensors(files[-1]).metadata
    assert (said["format"], said["family"], said["preset"]) == ("ivjax", "viclip", "small")
    assert json.loads(said["sizes"])["vision"]["image"] == [8, 8]


def test_saved_weights_are_resized_to_other_sizes(tmp_path):
    size = resized(frames=6)
    params = params_of(size)
    [file] = save_weights(tmp_path / "w.safetensors", params, "viclip", size)
    assert_same(import_weights(file).params, params)
    found = import_weights(file, target=shapes_of(SMALL), grid=(4, 4, 4))
    assert found.report.resized == {"vision/temporal_embed": "resized from 6 to 4"}
    with pytest.raises(UserError, match=r"proj/bias is \(3, 12\) in the file and \(3, 16\) in the model"):
        import_weights(file, preset="wide")
    with pytest.raises(UserError, match="looks like viclip, not internvideo2_pretrain"):
        import_weights(file, family="internvideo2_pretrain")


def test_parameters_of_other_sizes_are_not_saved(tmp_path):
    with pytest.raises(UserError, match="these parameters and the model do not fit: vision/blocks/attn"):
        save_weights(tmp_path / "w.safetensors", params_of(SMALL), "viclip", WIDE)
    assert not list(tmp_path.iterdir())


def test_several_files_fill_one_tree(tmp_path):
    tensors = originals()
    leaves = {}
    for tower in ("vision_encoder", "text_encoder"):
        part = {name: tensor for name, tensor in tensors.items() if name.startswith(tower)}
        leaves |= import_into(write_originals(tmp_path / f"{tower}.pth", part), shapes_of(SMALL))
    wanted = dict(paths_of(import_tensors(viclip_rows(), tensors)))
    assert wanted.keys() - leaves.keys() == {"temperature"}
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, wanted[path])
    with pytest.raises(UserError, match=r"resblocks.\{0..2\}.attn.out_proj.bias is \(12,\)"):
        import_into(tmp_path / "vision_encoder.pth", shapes_of(WIDE))


def clip_tensors():
    """Returns a state dict as CLIP's: other prefixes, kernels of images, a longer context."""
    tensors = originals()
    kept = {
        name.replace("vision_encoder.", "visual.").replace("text_encoder.", ""): array
        for name, array in tensors.items()
        if name not in ("temp", "vision_encoder.temporal_positional_embedding")
    }
    kept["visual.conv1.weight"] = kept["visual.conv1.weight"][:, :, 0]
    kept["positional_embedding"] = np.concatenate([kept["positional_embedding"]] * 2)
    return kept | {"logit_scale": np.float32(4.6).reshape(()), "vocab_size": np.asarray(11)}


def test_a_clip_file_fills_viclip(tmp_path):
    path = write_originals(tmp_path / "clip.safetensors", clip_tensors())
    with pytest.raises(UserError, match="no such file holds temperature: name it .* vision/temporal_embed"):
        import_weights(path)
    new = ("temperature", "vision/temporal_embed")
    found = import_weights(path, fresh=new)
    assert (found.report.family, set(found.report.fresh)) == ("clip", set(new))
    assert set(found.report.unused) == {"logit_scale", "vocab_size"}
    same = import_tensors(viclip_rows(), originals())
    same["vision"]["temporal_embed"] = np.zeros_like(same["vision"]["temporal_embed"])
    assert_same(found.params, same | {"temperature": np.float32(0.01).reshape(())})
    partial = import_into(path, shapes_of(SMALL))
    assert partial.keys() == dict(paths_of(same)).keys() - set(new)
    [own] = save_weights(tmp_path / "own.safetensors", found.params, "clip", SMALL)
    assert_same(import_weights(own).params, found.params)
