"""Numbers without sense are refused where an experiment is made: by path, value and range."""

import math
from dataclasses import dataclass, field
from typing import Annotated

import pytest

from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment
from ivjax.experiment.ranges import Count, Positive, Rate, Share, Signed, Within, check_ranges


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (Within(), (0, 0.5, 1e300), (-1, -1e-9, math.nan)),
        (Within(1), (1, 2**31 - 1), (0, 2**31, 10**20)),
        (Within(0, above=True, below=True), (1e-300, 3), (0, -0.0, math.inf, math.nan)),
        (Within(0, 1), (0, 1), (-0.1, 1.1)),
        (Within(0, 1, below=True), (0, 0.999), (1, 1.0)),
        (Within(-math.inf, above=True, below=True), (-3, 0, 1e9), (math.inf, -math.inf, math.nan)),
    ],
)
def test_a_range_holds_what_lies_in_it(allowed, inside, outside):
    assert all(allowed.holds(number) for number in inside)
    assert not any(allowed.holds(number) for number in outside)


@dataclass(frozen=True)
class _Below:
    sizes: tuple[Count, Count] = (1, 2)
    rates: dict[str, Rate] = field(default_factory=dict)
    plain: float = 0.0


@dataclass(frozen=True)
class _Options:
    share: Share | None = None
    signed: Signed = -1.0
    free: Annotated[int, Within(-3, 3)] = -3
    positive: Positive = 1.0
    flag: bool = False
    below: tuple[_Below, ...] = ()


def test_numbers_are_checked_wherever_they_stand():
    check_ranges(_Options(0.5, below=(_Below(), _Below((3, 1), {"a": 0.5}))))
    for options, words in (
        (_Options(share=1.5), "share=1.5; it must be at least 0 and at most 1"),
        (_Options(signed=math.nan), "signed=nan; it must be of any size, and finite"),
        (_Options(free=4), "free=4; it must be at least -3 and at most 3"),
        (_Options(positive=0.0), "positive=0.0; it must be above 0"),
        (_Options(below=(_Below(), _Below((3, 0)))), "below.1.sizes.1=0; it must be at least 1"),
        (
            _Options(below=(_Below(rates={"a": 1.0}),)),
            "below.0.rates.a=1.0; it must be at least 0 and below 1",
        ),
        (_Options(below=(_Below(plain=-0.1),)), "below.0.plain=-0.1; it must be at least 0"),
    ):
        with pytest.raises(UserError) as raised:
            check_ranges(options)
        assert str(raised.value) == words


@pytest.mark.parametrize(
    ("config", "override", "range_"),
    [
        ("stage1_tiny", "schedule.warmup=-3", "at least 0"),
        ("stage1_tiny", "schedule.peak=-1", "at least 0 and at most 1000"),
        ("stage1_tiny", "schedule.peak=1e30", "at least 0 and at most 1000"),
        ("stage1_tiny", "optimizer.decay=-1", "at least 0"),
        ("stage1_tiny", "optimizer.clip=-1", "above 0"),
        ("stage1_tiny", "optimizer.clip=0", "above 0"),
        ("stage1_tiny", "optimizer.betas=(2,2)", "at least 0 and below 1"),
        ("stage1_tiny", "optimizer.betas=(-1,0)", "at least 0 and below 1"),
        ("stage1_tiny", "stage.drop_path=-1", "at least 0 and below 1"),
        ("stage1_tiny", "stage.drop_path=2", "at least 0 and below 1"),
        ("stage1_tiny", "checkpoint.keep_every=-1", "at least 1"),
        ("stage1_tiny", "checkpoint.keep_every=0", "at least 1"),
        ("stage1_tiny", "eval_loss.every=-1", "at least 0"),
        ("stage1_tiny", "stage.student.layer_scale=1e400", "at least 0, and finite"),
        ("stage1_tiny", "stage.weights.clip=-1", "at least 0"),
        ("stage1_tiny", "seed=-1", "at least 0"),
        ("stage1_tiny", "seed=100000000000000000000", "at least 0, at most 2147483647"),
        ("stage1_tiny", "steps=100000000000000", "at least 1, at most 2147483647"),
        *(
            ("stage1_tiny", f"stage.student.{name}=0", "at least 1")
            for name in ("width", "heads", "patch", "tubelet", "frames", "pool_heads", "depth")
        ),
        ("stage1_tiny", "stage.student.image=(-56,56)", "at least 1"),
        ("stage1_tiny", "stage.clip.layers=0", "at least 1"),
        ("viclip_tiny", "stage.contrast.temperature=0", "above 0"),
        ("dialogue_tiny", "stage.dialogue.language.kv_heads=0", "at least 1"),
        ("viclip_tiny", "stage.mask=1", "at least 0 and below 1"),
        ("finetune_tiny", "stage.dropout=1", "at least 0 and below 1"),
        ("finetune_tiny", "stage.classifier.classes=1", "at least 2"),
        ("stage2_tiny", "stage.easy_negatives=1.5", "at least 0 and at most 1"),
        ("stage2_tiny", "stage.word_mask=0", "above 0 and at most 1"),
        ("finetune_1b_k400", "data.mix.probability=1.5", "at least 0 and at most 1"),
    ],
)
def test_values_without_sense_are_refused(config, override, range_):
    path, _, value = override.partition("=")
    with pytest.raises(UserError) as raised:
        load_experiment(config, [override])
    said = str(raised.value)
    assert said.startswith(path) and said.endswith(f"; it must be {range_}")


def test_what_is_no_number_is_refused_before_ranges_are_asked():
    for path in ("schedule.peak", "stage.weights.clip"):
        with pytest.raises(UserError, match=f"{path}=nan: expected a number, got 'nan'"):
            load_experiment("stage1_tiny", [f"{path}=nan"])


def test_infinity_and_numbers_below_0_are_allowed_where_a_field_says_so():
    contrast = load_experiment(
        "viclip_tiny", ["stage.contrast.most=inf", "stage.contrast.bias=-3"]
    ).stage.contrast
    assert (contrast.most, contrast.bias) == (math.inf, -3.0)
