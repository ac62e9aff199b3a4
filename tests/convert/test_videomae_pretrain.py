"""Files of VideoMAE's pre-training: all of them fits, and their encoder alone is a teacher."""

import json

import numpy as np
import pytest

from ivjax.convert.comparison import compare
from ivjax.convert.engine.rows import original_tensors
from ivjax.convert.families.encoders import VIDEOMAE
from ivjax.convert.families.videomae_pretrain import VIDEOMAE_PRETRAIN, AutoencoderSize
from ivjax.convert.origins import import_into
from ivjax.models.videomae import DecoderSize, VideoMaeSize
from ivjax.ops.trees import paths_of
from tests.convert.originals import originals, write_originals
from tests.convert.tables import import_tensors
from tests.convert.test_matching import MANIFESTS, Unread

SIZE = AutoencoderSize(VideoMaeSize(12, 2, 2, 20, patch=2, image=(8, 8), frames=4), DecoderSize(8, 3, 2, 12))


@pytest.mark.parametrize(
    "manifest, preset",
    [("family_videomae_v1_h16_pretrain", "H16"), ("family_videomaev2_g14_pretrain", "g14")],
)
def test_released_checkpoints_fit_both_ways(manifest, preset):
    listing = json.loads((MANIFESTS / f"{manifest}.json").read_text())
    wanted = {name: tuple(shape) for name, shape in listing["params"].items()}
    assert len(wanted) == listing["n_entries"]
    report = compare(Unread(wanted), manifest).report
    assert (report.family, report.preset, report.matched) == ("videomae_pretrain", preset, len(wanted))
    assert report.fits and not report.unused and not report.resized
    family = VIDEOMAE_PRETRAIN
    leaves = original_tensors(family.rows, Unread(family.shapes(family.presets[preset])))
    assert {lazy.name: lazy.shape for lazy in leaves} == wanted
    assert sum(np.prod(shape, dtype=int) for shape in wanted.values()) == listing["total_params"]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_fills_the_stage_or_a_teacher(tmp_path, prefix):
    tensors = originals(VIDEOMAE_PRETRAIN, SIZE)
    path = write_originals(tmp_path / "w.pth", {f"{prefix}{name}": x for name, x in tensors.items()})
    wanted = import_tensors(VIDEOMAE_PRETRAIN.rows, tensors)
    same(import_into(path, wanted, kind=AutoencoderSize), wanted)
    same(import_into(path, wanted["encoder"], branch="encoder", kind=VideoMaeSize), wanted["encoder"])
    if not prefix:
        same(import_into(path, wanted["encoder"], kind=VideoMaeSize), wanted["encoder"])


@pytest.mark.parametrize("attention", ["standard", "cosine"])
def test_a_file_of_the_encoder_alone_fills_a_teacher(tmp_path, attention):
    size = VideoMaeSize(12, 2, 2, 20, patch=2, image=(8, 8), frames=4, attention=attention)
    tensors = originals(VIDEOMAE, size)
    assert any(name.endswith("attn.scale") for name in tensors) == (attention == "cosine")
    wanted = import_tensors(VIDEOMAE.rows, {name.removeprefix("encoder."): x for name, x in tensors.items()})
    path = write_originals(tmp_path / "w.safetensors", tensors)
    same(import_into(path, wanted), wanted)


def same(found, wanted):
    leaves = dict(paths_of(wanted))
    assert found.keys() == leaves.keys()
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)
