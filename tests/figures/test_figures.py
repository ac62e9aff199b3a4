"""Figures of numbers: PNG files, drawn from what a run logged."""

import json

import pytest

from ivjax.errors import UserError
from ivjax.figures.curves import draw_curves
from ivjax.figures.figure import new_figure, whole_ticks
from ivjax.figures.heat_map import draw_heat_map
from ivjax.figures.sweeps import draw_points


def test_figures_are_png_files(tmp_path):
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "eval/loss": 1.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for picture in (
        draw_curves({"one": tmp_path, "two": tmp_path}, tmp_path / "plots" / "losses.png"),
        draw_heat_map("found", {(32, 0.0): 100.0, (32, 1.0): 50.0, (64, 0.0): 25.0}, tmp_path / "map.png"),
    ):
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000


@pytest.mark.parametrize(
    ("texts", "scale", "marks"),
    [
        (["2", "4", "3"], "linear", ["2", "3", "4"]),
        (["1e-3", "3e-3", "1e-2"], "linear", ["1e-3", "3e-3", "1e-2"]),
        (["8", "32", "512"], "log", ["8", "32", "512"]),
        (["S14", "B14"], "linear", ["S14", "B14"]),
    ],
)
def test_the_axis_of_a_swept_path_is_marked_at_its_values(texts, scale, marks):
    panel = marked_axis(texts)
    assert [label.get_text() for label in panel.get_xticklabels()] == marks
    assert panel.get_xscale() == scale and len(panel.get_xticks(minor=True)) == 0


def test_an_axis_of_many_whole_numbers_is_marked_at_whole_numbers():
    ticks = marked_axis([str(depth) for depth in range(1, 12)]).get_xticks()
    assert len(ticks) > 2 and all(float(tick).is_integer() for tick in ticks)
    # A log axis keeps its powers of ten.
    assert {10.0, 100.0} <= set(marked_axis([str(2**power) for power in range(1, 11)]).get_xticks())


def test_curves_of_few_steps_are_marked_at_whole_steps():
    _, axes = new_figure(1, 1, 4.2, 3.0)
    axes[0, 0].plot([1, 2, 3], [1.0, 2.0, 3.0])
    whole_ticks(axes[0, 0])
    assert all(float(tick).is_integer() for tick in axes[0, 0].get_xticks())


def marked_axis(texts):
    """The panel of a sweep over values."""
    _, axes = new_figure(1, 1, 5.2, 3.6)
    draw_points(axes[0, 0], [(text, float(place)) for place, text in enumerate(texts)], highest=False)
    return axes[0, 0]


def test_curves_of_a_folder_without_a_run_are_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no metrics.jsonl; is it the folder of a run"):
        draw_curves({"one": tmp_path}, tmp_path / "losses.png")
