"""`ivjax bench loss`: which forms are run, what is printed of them, and how the budget is kept."""

import functools
import itertools
import json

import pytest

from ivjax.bench import loss_speed, timing
from ivjax.bench.loss_speed import LossBench, bench_loss
from ivjax.bench.timing import in_turn
from ivjax.cli import main
from ivjax.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def compiled_once():
    """Each program is compiled once in this file, though the command would do it for every line."""
    gradient, programs = loss_speed._gradient, {}

    class Kept:
        def __init__(self, kind, form):
            self.kind, self.form = kind, form

        def lower(self, *values):
            self.key = (self.kind, self.form, str([(value.shape, value.sharding) for value in values]))
            self.lowered = functools.partial(gradient(self.kind, self.form).lower, *values)
            return self

        def compile(self):
            if self.key not in programs:
                programs[self.key] = self.lowered().compile()
            return programs[self.key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loss_speed, "_gradient", Kept)
        yield


def lines_of(**options):
    values = {"rows": (64, 512), "width": 16, "runs": 1, "devices": 4}
    return [json.loads(line) for line in bench_loss(LossBench(**values | options))]


@pytest.mark.parametrize("kind", ["info_nce", pytest.param("sigmoid", marks=pytest.mark.slow)])
def test_each_form_is_timed_at_each_size_and_compared_with_dense(kind):
    lines = lines_of(kind=kind)
    assert [(line["rows"], line["form"]) for line in lines[:6]] == list(
        itertools.product((64, 512), ("dense", "gathered", "ring"))
    )
    assert all(line["ms"] > 0 and line["devices"] == 4 and line["kind"] == kind for line in lines[:6])
    dense, gathered, ring = (line["temporary_mib"] for line in lines[3:6])
    # All of a device's rows of logits, and a quarter of them.
    assert gathered > 512 * 512 / 4 * 4 / 2**20 > 0.25 * ring
    assert [line["ratio"] for line in lines[6:]] == ["gathered / dense", "ring / dense"] * 2
    assert lines[9]["memory"] == pytest.approx(ring / dense, rel=1e-3) and lines[9]["memory"] < 1
    assert lines[9]["time"] == pytest.approx(lines[5]["ms"] / lines[3]["ms"], rel=1e-2)


def test_forms_that_do_not_fit_are_only_compiled():
    limit = 4 * 0.3 / 1024  # of all four devices together
    lines = lines_of(rows=(512,), limit_gib=limit)
    for line in lines[:3]:
        fits = line["temporary_mib"] <= 0.3
        assert (line["ms"] is not None) == fits and ("--limit-gib" in line.get("not_run", "")) != fits
    assert lines[0]["ms"] is None and lines[2]["ms"] is not None
    assert lines[4]["time"] is None and lines[4]["memory"] < 1


def test_forms_that_would_take_too_long_are_only_compiled(monkeypatch):
    monkeypatch.setattr(
        "ivjax.bench.loss_speed.in_turn", lambda steps, runs, seconds: [0.5, 0.7, 0.1][: len(steps)]
    )
    lines = lines_of(rows=(512, 64), seconds=31)
    assert [line["ms"] for line in lines[:6]] == [500.0, 700.0, 100.0, None, None, 500.0]
    assert lines[3]["not_run"] == "one run would take about 32 s, more than 31 s (--seconds)"
    assert [line["time"] for line in lines[6:]] == [1.4, 0.2, None, None]


def test_functions_are_called_in_turn_until_their_budget_is_used(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def takes(name, *seconds):
        left = iter(seconds)

        def call():
            calls.append(name)
            clock[0] += next(left)

        return call

    functions = [takes("a", 9, 1, 2, 3), takes("b", 9, 4, 4), takes("c", 30)]
    assert in_turn(functions, 3, 15) == [2, 4, 30]
    assert "".join(calls) == "abcababa"
    assert in_turn([takes("d", 99, 5, 7, 6)], 3) == [6]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"devices": 9}, "--devices 9 of 8"),
        ({"rows": (6,)}, "batch=6 does not divide into 4"),
        ({"runs": 0}, "--runs must be above 0, got 0"),
    ],
)
def test_impossible_measurements_are_an_error(options, message):
    with pytest.raises(UserError, match=message):
        lines_of(**options)


def test_the_command_prints_json_lines(capsys):
    assert main(["bench", "loss", "--rows", "64", "--width", "16", "--runs", "1", "--devices", "4"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("form") for line in lines] == ["dense", "gathered", "ring", None, None]
