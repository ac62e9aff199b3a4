"""What is suggested for an unknown path: by meaning, by its last part, then by its letters."""

import functools

import pytest

from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment, shipped_configs, variants_of
from ivjax.experiment.listing import leaves
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.suggestions import MEANINGS, suggestion


@functools.cache
def paths_of(config):
    return tuple(leaves(load_experiment(config)))


def shipped_paths():
    """The paths of every shipped config and variant."""
    names = [name for config in shipped_configs() for name in (config, *with_variants(config))]
    return {path for name in names for path in paths_of(name)}


def with_variants(config):
    return [f"{config}:{variant}" for variant in variants_of(config)]


def test_every_meaning_is_the_end_of_a_path_of_a_shipped_config():
    paths = shipped_paths()
    for name, ends in MEANINGS.items():
        for end in ends:
            assert any(path == end or path.endswith(f".{end}") for path in paths), (name, end)


def test_no_name_of_another_code_base_hides_a_path_of_ours():
    whole = {path for path in shipped_paths() if "." not in path}
    assert not whole & set(MEANINGS)
    assert all(name == name.lower() and "-" not in name for name in MEANINGS)


@pytest.mark.parametrize(
    "config, override, meant",
    [
        ("stage1_1b", "lr=1e-4", "'schedule.peak'"),
        ("stage1_1b", "optimizer.lr=1e-4", "'schedule.peak'"),
        ("stage1_1b", "LR=1e-4", "'schedule.peak'"),
        ("stage1_1b", "learning-rate=1e-4", "'schedule.peak'"),
        ("stage1_1b", "batch_size=8", "'batch'"),
        ("stage1_1b", "bs=8", "'batch'"),
        ("stage1_1b", "epochs=3", "'steps'"),
        ("stage1_1b", "weight_decay=0.1", "'optimizer.decay'"),
        ("stage1_1b", "wd=0.1", "'optimizer.decay'"),
        ("stage1_1b", "warmup=10", "'schedule.warmup'"),
        ("stage1_1b", "peak=1", "'schedule.peak'"),
        ("stage1_1b", "kind=tube", "'stage.mask.kind'"),
        ("stage1_1b", "mask_ratio=0.9", "'stage.mask.ratio'"),
        ("stage1_1b", "student.width=64", "'stage.student.width'"),
        ("stage1_1b", "data.path=x", "'data.corpora.0.path' or 'data.corpora.1.path'"),
        ("stage1_1b", "stage.mask.rato=1", "'stage.mask.ratio'"),
        ("stage1_1b", "step=1", "'steps' or 'data.fields.video.rule.step'"),
        ("stage1_1b", "sed=1", "'seed'"),
        (
            "stage1_1b",
            "frames=8",
            "'stage.student.frames', 'stage.mae_teacher.size.frames' or 'stage.clip_teacher.size.frames'",
        ),
        (
            "finetune_1b_k400",
            "frames=8",
            "'data.fields.video.rule.frames' or 'stage.classifier.encoder.frames'",
        ),
        ("finetune_1b_k400", "resolution=(96,96)", "'stage.classifier.encoder.image'"),
        ("finetune_1b_k400", "num_classes=5", "'stage.classifier.classes'"),
        ("finetune_1b_k400", "stage.student.width=8", "'stage.classifier.encoder.width'"),
        ("viclip_b16", "vocab_file=x", "'data.fields.text.tokenizer.path'"),
        ("viclip_b16", "temperature=1", "'stage.contrast.temperature'"),
    ],
)
def test_a_short_or_foreign_name_suggests_the_path_that_means_it(config, override, meant):
    path = override.partition("=")[0]
    with pytest.raises(UserError) as raised:
        apply_overrides(load_experiment(config), [override])
    assert str(raised.value) == f"the config has no {path!r}; did you mean {meant}?"


def test_a_path_like_no_other_lists_what_its_last_known_place_has():
    given = load_experiment("stage1_1b")
    with pytest.raises(UserError, match="no 'stage.foo'; stage has student, clip, pooled, mae,"):
        apply_overrides(given, ["stage.foo=1"])
    with pytest.raises(UserError, match="no 'foo'; it has stage, data, batch, steps, schedule, optimizer,"):
        apply_overrides(given, ["foo=1"])


def test_a_meaning_that_a_config_has_no_path_for_suggests_nothing_far_fetched():
    paths = ("stage.student.width", "batch", "schedule.floor", "stage.student.patch")
    assert suggestion("num_classes", paths) == ""
    assert suggestion("stage.foo", paths) == ""
    assert suggestion("data.0", paths) == ""
