"""Files of UniFormerV2, and of CLIP as its start."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from ivjax.convert.comparison import compare
from ivjax.convert.engine.rows import unflatten
from ivjax.convert.origins import import_into
from ivjax.convert.registry import FAMILIES
from ivjax.models.uniformerv2 import UniFormerV2Size
from tests.convert.originals import SMALL, SMALL_CLIP, originals, write_originals
from tests.convert.test_matching import Unread, listed

FAMILY = FAMILIES["uniformerv2_classifier"]


@pytest.mark.parametrize(
    "manifest, preset",
    [
        pytest.param("uniformerv2_l14_k400_f8x224", "L14_k400_f8", marks=pytest.mark.slow),
        ("uniformerv2_l14_ssv2_f16x224", "L14_ssv2_f16"),
    ],
)
def test_released_classifiers_fit_both_ways(manifest, preset):
    _, wanted = listed(f"family_{manifest}")
    report = compare(Unread(wanted), manifest).report
    counted = {name for name in wanted if name.endswith("num_batches_tracked")}
    assert (report.family, report.preset) == (FAMILY.name, preset)
    assert report.fits and set(report.unused) == {name.removeprefix("backbone.") for name in counted}
    leaves = FAMILY.original_tensors(Unread(FAMILY.shapes(FAMILY.presets[preset])))
    assert {lazy.name: lazy.shape for lazy in leaves} == {n: s for n, s in wanted.items() if n not in counted}


@pytest.mark.parametrize("tubelet", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_clips_image_tower_starts_a_tower_of_videos(tmp_path, tubelet):
    vision = SMALL.vision
    size = UniFormerV2Size(
        vision.width, vision.depth, vision.heads, (1, 2), 2, 24, vision.patch, vision.image, tubelet=tubelet
    )
    tensors = originals(SMALL_CLIP, SMALL)
    path = write_originals(tmp_path / "w.safetensors", tensors)
    shapes = FAMILY.shapes(replace(FAMILY.presets["B16_k400_f8"], encoder=size))
    shapes = {p.removeprefix("encoder/"): shape for p, shape in shapes.items() if p.startswith("encoder/")}
    tree = unflatten({p: jax.ShapeDtypeStruct(shape, np.float32) for p, shape in shapes.items()})
    found = import_into(path, tree, size.grid, kind=UniFormerV2Size)
    fresh = set(shapes) - set(found)
    assert all(p.startswith(("globals/", "video_token", "balance")) for p in fresh) and fresh
    kernel = found["patch_embed/kernel"]
    assert len(kernel) == (1 if tubelet == 1 else 3)
    # The image kernel stands in the middle of time.
    image = tensors["visual.conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel[len(kernel) // 2], image)
    assert tubelet == 1 or not kernel[0].any()
