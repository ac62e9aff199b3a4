"""Values of sizes that come from a file: their types, their ranges, and how large they may be."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from ivjax.convert.registry import FAMILIES
from ivjax.errors import UserError
from ivjax.experiment.kinds import check_kinds
from ivjax.experiment.ranges import Count


@dataclass(frozen=True)
class Inner:
    layers: tuple[int, ...] = (1, 2)
    how: Literal["one", "two"] = "one"


@dataclass(frozen=True)
class Outer:
    width: Count = 3
    rate: float = 0.5
    name: str = "a"
    on: bool = True
    image: tuple[int, int] = (8, 8)
    window: int | None = None
    inner: Inner | None = Inner()
    steps: Mapping[str, int] = field(default_factory=dict)


@pytest.mark.parametrize(
    "changes",
    [{}, {"rate": 1}, {"window": 3}, {"inner": None}, {"inner": Inner(())}, {"steps": {"a": 1}}],
)
def test_values_of_the_declared_types_pass(changes):
    check_kinds(Outer(**changes))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"width": "3"}, "width is '3'; it must be a whole number"),
        ({"width": True}, "width is True; it must be a whole number"),
        ({"width": None}, "width is None; it must be a whole number"),
        ({"rate": "x"}, "rate is 'x'; it must be a number"),
        ({"rate": False}, "rate is False; it must be a number"),
        ({"name": 3}, "name is 3; it must be a text"),
        ({"on": 1}, "on is 1; it must be true or false"),
        ({"image": (8,)}, "image is (8,); it must be tuple[int, int]"),
        ({"image": ()}, "image is (); it must be tuple[int, int]"),
        ({"image": [8, 8]}, "image is [8, 8]; it must be tuple[int, int]"),
        ({"image": (8, 8.0)}, "image.1 is 8.0; it must be a whole number"),
        ({"window": "x"}, "window is 'x'; it must be a whole number or none"),
        ({"inner": 3}, "inner is 3; it must be "),
        ({"inner": Inner((1, "2"))}, "inner.layers.1 is '2'; it must be a whole number"),
        ({"inner": Inner(how="three")}, "inner.how is 'three'; it must be "),
        ({"inner": Inner(how=[])}, "inner.how is []; it must be "),
        ({"steps": []}, "steps is []; it must be "),
        ({"steps": {"a": "b"}}, "steps.a is 'b'; it must be a whole number"),
    ],
)
def test_the_first_value_of_another_type_is_named(changes, words):
    with pytest.raises(UserError) as raised:
        check_kinds(Outer(**changes))
    assert str(raised.value).startswith(words)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sizes_of_all_released_models_can_be_read_from_a_file(family):
    for sizes in FAMILIES[family].presets.values():
        stored = json.loads(json.dumps(dataclasses.asdict(sizes)))
        assert FAMILIES[family].sizes(stored) == sizes
