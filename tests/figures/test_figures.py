"""Figures of numbers: PNG files, drawn from what a run logged."""

import json

import pytest

from ivjax.errors import UserError
from ivjax.figures.bars import draw_bars
from ivjax.figures.curves import draw_curves
from ivjax.figures.heat_map import draw_heat_map


def test_figures_are_png_files(tmp_path):
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "eval/loss": 1.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for picture in (
        draw_curves({"one": tmp_path, "two": tmp_path}, tmp_path / "plots" / "losses.png"),
        draw_bars("probe", {"stage 1": 75.0, "random": 20.0}, 12.5, tmp_path / "probe.png"),
        draw_heat_map("found", {(32, 0.0): 100.0, (32, 1.0): 50.0, (64, 0.0): 25.0}, tmp_path / "map.png"),
    ):
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000


def test_curves_of_a_folder_without_a_run_are_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no metrics.jsonl; is it the folder of a run"):
        draw_curves({"one": tmp_path}, tmp_path / "losses.png")
