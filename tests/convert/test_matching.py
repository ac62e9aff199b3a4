"""Matching of files and models by names and shapes: fits, misfits, and their report by name."""

import dataclasses
import json
import string
from pathlib import Path

import numpy as np
import pytest

from ivjax.convert.comparison import ImportChoices, compare
from ivjax.convert.detection import recognise
from ivjax.convert.engine.match_report import MatchReport
from ivjax.convert.engine.matching import MatchRequest, covers, match
from ivjax.convert.engine.rows import Row
from ivjax.convert.formats.tensors import Arrays, Tensors
from ivjax.convert.registry import FAMILIES
from ivjax.errors import UserError
from tests.convert.originals import SMALL, SMALL_PRETRAIN, STUDENT, originals, use_small_families

MANIFESTS = Path(__file__).parents[1] / "golden/manifests"
BLOCK = "vision_encoder.transformer.resblocks"
NORM = "vision/blocks/norm1/bias"
STACKED = {NORM: (SMALL.vision.depth, SMALL.vision.width)}


class Unread(Tensors):
    """Shapes without tensors: whoever reads one fails."""

    def __init__(self, shapes):
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}

    def shape(self, name):
        return self.shapes[name]

    def dtype(self, name):
        return np.dtype(np.float32)

    def __getitem__(self, name):
        raise AssertionError(f"{name} was read")

    def __contains__(self, name):
        return name in self.shapes

    def __iter__(self):
        return iter(self.shapes)

    def __len__(self):
        return len(self.shapes)


def listed(manifest):
    listing = json.loads((MANIFESTS / f"{manifest}.json").read_text())
    assert len(listing["params"]) == listing["n_entries"]
    return listing, {name: tuple(shape) for name, shape in listing["params"].items()}


def written(family, preset):
    """Shapes of what an export of a preset would write."""
    leaves = FAMILIES[family].shapes(FAMILIES[family].presets[preset])
    return {lazy.name: lazy.shape for lazy in FAMILIES[family].original_tensors(Unread(leaves))}


@pytest.mark.parametrize(
    "manifest, family, preset",
    [
        ("viclip_b16", "viclip", "B16"),
        ("viclip_l14", "viclip", "L14"),
        ("stage1_pretrain_1b", "internvideo2_pretrain", "1B"),
        ("stage1_pretrain_6b", "internvideo2_pretrain", "6B"),
        ("stage1_distill_s14", "internvideo2_pretrain", "S14"),
        ("stage1_distill_b14", "internvideo2_pretrain", "B14"),
        ("stage1_distill_l14", "internvideo2_pretrain", "L14"),
        ("stage1_teacher_internvl_c_6b_vision", "internvideo2_encoder", "internvl_c"),
        ("stage1_teacher_videomaev2_g_encoder", "videomae_encoder", "g14"),
    ],
)
def test_released_checkpoints_fit_both_ways(manifest, family, preset):
    listing, wanted = listed(manifest)
    report = compare(Unread(wanted), manifest).report
    assert (report.family, report.preset, report.matched) == (family, preset, len(wanted))
    assert report.fits and not report.unused and not report.resized
    assert written(family, preset) == wanted
    assert sum(np.prod(shape, dtype=int) for shape in wanted.values()) == listing["total_params"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "manifest, family, preset",
    [
        ("stage2_visual_1b", "internvideo2_stage2", "1B"),
        ("stage2_audiovisual_6b", "internvideo2_stage2", "6B"),
        ("beats_iter3_plus_as2m", "beats", "iter3"),
        ("clip_1b_full", "internvideo2_clip", "1B"),
        ("clip_6b_full", "internvideo2_clip", "6B"),
        ("clip_s14_full", "internvideo2_clip_small", "S14"),
        ("clip_b14_full", "internvideo2_clip_small", "B14"),
        ("clip_l14_full", "internvideo2_clip_small", "L14"),
    ],
)
def test_files_of_stage_2_fit_both_ways_with_their_copies(manifest, family, preset):
    listing, wanted = listed(manifest)
    copies, buffers = listing.get("aliases", {}), listing.get("buffers", {})
    # Copies are compared by their values, which a manifest does not have.
    single = {name: shape for name, shape in wanted.items() if name not in copies}
    report = compare(Unread(single), manifest).report
    assert (report.family, report.preset, report.fits) == (family, preset, True)
    assert report.matched == len(single.keys() - buffers) and report.unused.keys() == buffers.keys()
    assert written(family, preset) == {n: shape for n, shape in wanted.items() if n not in buffers}
    assert FAMILIES[family].ties.items() >= copies.items()


STAGE2_DROPS = ("clip_decoder", "final_clip_decoder", "clip_pos_embed", "img_pos_embed")
KERNEL = "patch_embed.proj.weight"


OWN = {
    "internvl_c_13b_file": (
        "internvideo2_encoder",
        "internvl_c",
        lambda name: not name.startswith(("transformer.", "text_projection", "logit_scale")),
    ),
    "stage2_visual_1b": (
        "internvideo2_stage2_vision",
        "1B",
        lambda name: name.startswith("vision_encoder.") and not any(d in name for d in STAGE2_DROPS),
    ),
}


@pytest.mark.parametrize("manifest", OWN)
def test_unused_tensors_of_a_released_file_are_listed_with_a_reason(manifest):
    listing, shapes = listed(manifest)
    family, preset, own = OWN[manifest]
    more = dict.fromkeys(listing.get("extra_keys_seen_shape_unknown", ()), (1,))
    report = compare(Unread(shapes | more), manifest, ImportChoices(family)).report
    wanted = {name: shape for name, shape in shapes.items() if own(name)}
    assert (report.family, report.preset, report.matched) == (family, preset, len(wanted))
    assert report.fits and report.unused.keys() == {*shapes, *more} - wanted.keys()
    assert all(report.unused.values())
    image = len(wanted.get(KERNEL, ())) == 4  # the file has a kernel of images, the original's class of clips
    assert list(report.resized) == [KERNEL] * image
    if image:
        wanted[KERNEL] = (*wanted[KERNEL][:2], 1, *wanted[KERNEL][2:])
    assert written(family, preset) == wanted


def transposed(tensors):
    tensors["vision_encoder.proj"] = tensors["vision_encoder.proj"].T


def other_width(tensors):
    tensors["text_encoder.ln_final.bias"] = np.zeros(9)


def without(name):
    return lambda tensors: [tensors.pop(found) for found in list(tensors) if found.startswith(name)]


def with_layer(old, new):
    return lambda tensors: tensors.update(
        {
            n.replace(f"{BLOCK}.{old}.", f"{BLOCK}.{new}."): t
            for n, t in tensors.items()
            if f"{BLOCK}.{old}." in n
        }
    )


def in_half(tensors):
    tensors[f"{BLOCK}.1.ln_1.bias"] = tensors[f"{BLOCK}.1.ln_1.bias"].astype(np.float16)


def extra(tensors):
    tensors["vision_encoder.head.weight"] = np.zeros(3)


FAULTS = {
    "transposed": (
        transposed,
        r"vision_encoder.proj is \(6, 12\) in the file and \(12, 6\).*it is transposed",
    ),
    "shape": (
        other_width,
        r"ln_final.bias is \(9,\) in the file and \(8,\) in.*name text/norm/bias as fresh",
    ),
    "missing": (without("temp"), r"temp is missing, which fills temperature"),
    "surplus": (extra, r"vision_encoder.head.weight is left over: no row of the table takes it"),
    "gap": (without(f"{BLOCK}.1."), rf"{BLOCK}.1.attn.out_proj.bias is missing, which fills vision/blocks"),
    "first": (without(f"{BLOCK}.0."), rf"{BLOCK}.0.attn.out_proj.bias is missing"),
    "shallow": (without(f"{BLOCK}.2."), rf"{BLOCK}.2.attn.out_proj.bias is missing"),
    "deep": (with_layer(2, 3), rf"{BLOCK}.3.attn.out_proj.bias is left over: the model has 3 layers there"),
    "zeros": (with_layer(2, "02"), rf"{BLOCK}.02.attn.in_proj_weight is left over: no row"),
    "dtype": (in_half, "the layers of vision/blocks/norm1/bias are stored as float32 and float16"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_errors_name_the_tensor_that_does_not_fit(fault, monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals()
    spoil, words = FAULTS[fault]
    spoil(tensors)
    report = compare(Arrays(tensors), "w.pth").report
    assert not report.fits and report.preset == "small"
    with pytest.raises(UserError, match=f"w.pth and viclip small do not fit: .*{words}"):
        report.check("w.pth")


def test_an_ignored_branch_covers_what_lies_below_it():
    """As it does when the family is recognised: patterns mean the same everywhere."""
    tensors = Arrays({"a": np.zeros(2), "opt/m/a": np.zeros(2), "opt/v": np.zeros(2), "optimum": np.zeros(2)})
    report = match([Row("a", "a")], tensors, MatchRequest(ignored={"opt": "only training needs it"})).report
    assert report.unused == dict.fromkeys(("opt/m/a", "opt/v"), "only training needs it")
    assert list(report.surplus) == ["optimum"]


def test_a_wrong_or_unknown_family_is_an_error(monkeypatch):
    use_small_families(monkeypatch)
    student = Arrays(originals(SMALL_PRETRAIN, STUDENT))
    with pytest.raises(UserError, match="w.pth looks like internvideo2_pretrain, not viclip"):
        compare(student, "w.pth", ImportChoices(family="viclip"))
    with pytest.raises(
        UserError, match="no checkpoint family matches w.pth: its tensors are called a.weight, .*viclip"
    ):
        compare(Arrays({"a.weight": np.zeros(2)}), "w.pth")
    with pytest.raises(UserError, match="there is no family 'clap'; the families are .*viclip"):
        compare(student, "w.pth", ImportChoices(family="clap"))
    with pytest.raises(UserError, match="has no preset '2B'; it has small"):
        compare(student, "w.pth", ImportChoices(preset="2B"))


def test_a_family_named_by_the_user_needs_no_majority_of_the_names(monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals()
    heads = {f"head.{i}": np.zeros(1) for i in range(len(tensors) + 1)}
    few = Arrays({f"module.{name}": array for name, array in (tensors | heads).items()})
    with pytest.raises(UserError, match="no checkpoint family matches"):
        recognise(few, "w")
    opened = recognise(few, "w", "viclip")
    assert (opened.family.name, opened.prefix) == ("viclip", "module.")
    assert set(opened.tensors) == {*tensors, *heads}


def test_among_families_that_fit_equally_the_named_one_is_taken(monkeypatch):
    use_small_families(monkeypatch)
    twin = dataclasses.replace(FAMILIES["viclip"], name="twin")
    monkeypatch.setitem(FAMILIES, "twin", twin)
    tensors = Arrays(originals())
    assert recognise(tensors, "w").family.name == "viclip"
    assert recognise(tensors, "w", "twin").family is twin
    with pytest.raises(UserError, match="w looks like viclip, not clip"):
        recognise(tensors, "w", "clip")


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_prefixes_and_buffers_are_reported(prefix, monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals() | {"text_encoder.position_ids": np.arange(5)}
    report = compare(Arrays({prefix + name: t for name, t in tensors.items()}), "w.pth").report
    assert report.fits and report.prefix == prefix and report.matched == len(tensors) - 1
    assert report.unused == {"text_encoder.position_ids": "positions are counted, not stored"}
    assert "position_ids: positions are counted" in report.text() and report.as_dict()["fits"]


def test_tied_copies_are_accepted_if_they_are_equal(monkeypatch):
    use_small_families(monkeypatch)
    owner, copy = "text_encoder.token_embedding.weight", "text_encoder.head.weight"
    tied = dataclasses.replace(FAMILIES["viclip"], ties={copy: owner})
    monkeypatch.setitem(FAMILIES, "viclip", tied)
    tensors = originals()
    assert compare(Arrays(tensors), "w").report.fits
    both = compare(Arrays(tensors | {copy: tensors[owner].copy()}), "w").report
    assert both.fits and both.ties == {copy: owner} and both.matched == len(tensors)
    differs = compare(Arrays(tensors | {copy: tensors[owner] + 1}), "w").report
    assert differs.problems() == [f"{copy} differs from {owner}, which it must repeat; remove the wrong one"]
    other = compare(Arrays(tensors | {copy: np.zeros(3)}), "w").report
    assert other.problems()[0].startswith(f"{copy} is (3,) in the file and (11, 8) in the model")
    leaves = compare(Arrays(tensors), "w").leaves()
    back = {
        lazy.name: lazy for lazy in tied.original_tensors(Arrays({lazy.name: lazy.read() for lazy in leaves}))
    }
    assert back.keys() == {*tensors, copy}
    np.testing.assert_array_equal(back[copy].read(), tensors[owner])


def test_errors_of_one_kind_share_a_line(monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals()
    without(f"{BLOCK}.1.")(tensors)
    without(f"{BLOCK}.2.")(tensors)
    problems = compare(Arrays(tensors), "w").report.problems()
    assert len(problems) == 12
    assert any(p.startswith(f"{BLOCK}.{{1..2}}.ln_1.bias is missing") for p in problems)


def test_a_report_lists_24_errors_and_counts_the_rest():
    missing = {f"{letter}.bias": "the/bias" for letter in string.ascii_lowercase}
    lines = MatchReport(0, missing=missing).text().splitlines()
    assert lines[-2:] == ["error     and 2 more; --json lists all", "does not fit: 26 errors"]
    assert sum("is missing" in line for line in lines) == 24


def test_a_partial_match_ignores_what_either_side_lacks(monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals()
    without("text_encoder.")(tensors)
    opened = recognise(Arrays(tensors), "w")
    shapes = opened.family.shapes(SMALL)
    del shapes["temperature"]
    found = opened.match(MatchRequest(shapes, partial=True))
    assert found.report.fits and found.report.unused == {"temp": "the model has no temperature"}
    assert {leaf.path.split("/")[0] for leaf in found.leaves} == {"vision"}


@pytest.mark.parametrize("gone", ["0", "1", "2"])
def test_a_partial_match_refuses_a_stack_of_which_some_layers_are_missing(gone, monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals()
    without(f"{BLOCK}.{gone}.")(tensors)
    found = recognise(Arrays(tensors), "w").match(MatchRequest(STACKED, partial=True))
    words = rf"{BLOCK}.{gone}.ln_1.bias is missing, which fills {NORM} of which the file has other layers$"
    with pytest.raises(UserError, match=words):
        found.report.check("w")
    without(f"{BLOCK}.")(tensors)
    assert recognise(Arrays(tensors), "w").match(MatchRequest(STACKED, partial=True)).report.fits


def test_patterns_name_paths_and_branches():
    assert covers(["vision"], "vision/proj/kernel") and covers(["*/proj/*"], "vision/proj/kernel")
    assert not covers(["vis", "proj"], "vision/proj/kernel") and not covers([], "vision")
