"""The runs of a sweep: combinations, lists, names."""

import pytest

from ivjax.errors import UserError
from ivjax.sweep.trials import combinations, trials_of


def test_lists_are_combined_or_walked_together():
    grid = combinations(["a=1,2", "b=x", "c=(1,2),none"])
    assert grid == [(f"a={a}", "b=x", f"c={c}") for a in (1, 2) for c in ("(1,2)", "none")]
    assert combinations(["a=1,2", "b=x", "c=8,9"], walk=True) == [
        ("a=1", "b=x", "c=8"),
        ("a=2", "b=x", "c=9"),
    ]
    assert combinations([], walk=True) == [()]


def test_unequal_lists_cannot_be_walked_together():
    with pytest.raises(UserError, match="a=1,2 has 2, b=1,2,3 has 3; make them equally long"):
        combinations(["a=1,2", "b=1,2,3", "c=1"], walk=True)


def test_a_file_lists_runs_as_text_or_tuples(tmp_path):
    file = tmp_path / "runs.py"
    file.write_text('runs = [("a=1", "b=2"), "a=3 b=4", *(f"a={n}" for n in range(5, 7))]')
    listed = [("a=1", "b=2"), ("a=3", "b=4"), ("a=5",), ("a=6",)]
    assert combinations([], file=file) == listed
    assert combinations(["c=1,2"], file=file) == [(f"c={c}", *run) for c in (1, 2) for run in listed]
    file.write_text("import random; runs = [f'a={random.random()}' for _ in range(3)]")
    drawn = [run[1] for run in combinations(["c=1,2"], file=file)]
    assert len(drawn) == 6 and drawn[:3] == drawn[3:]
    for text, words in (("run = 1", "defines no runs"), ("runs = 1 / 0", "fails with ZeroDivisionError")):
        file.write_text(text)
        with pytest.raises(UserError, match=words):
            combinations([], file=file)
    with pytest.raises(UserError, match="no such Python file"):
        combinations([], file=tmp_path / "other.py")


def test_runs_are_named_after_the_values_in_which_they_differ():
    trials = trials_of(combinations(["a.b=1,2", "c=x", "d=0.1,1e-3"]))
    assert [trial.name for trial in trials] == [f"a.b={a},d={d}" for a in (1, 2) for d in ("0.1", "1e-3")]
    assert trials[-1].swept == {"a.b": "2", "d": "1e-3"} and "c=x" in trials[-1].overrides
    assert [trial.name for trial in trials_of([()])] == ["as_is"]
    listed = trials_of([("a=1",), ("a=1", "b=2")])
    assert [trial.swept for trial in listed] == [{}, {"b": "2"}]


def test_names_are_safe_for_a_file_system_and_unique():
    trials = trials_of([("path=a/b",), ("path=a:b",), (f"path={'x' * 400}",), (f"path={'x' * 401}",)])
    names = [trial.name for trial in trials]
    assert len(set(names)) == 4 and max(map(len, names)) < 200
    assert all("/" not in name and ":" not in name for name in names)


def test_two_equal_runs_are_refused():
    with pytest.raises(UserError, match="two runs of the sweep have the same overrides, a=1"):
        trials_of([("a=1",), ("a=2",), ("a=1",)])
