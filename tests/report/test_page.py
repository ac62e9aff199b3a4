"""The page about runs: its numbers are those of the folders, and what runs say does no harm in it."""

import json
import re

import pytest

from ivjax.cli import main
from ivjax.errors import UserError
from ivjax.report.write_report import ReportOptions, write_report
from ivjax.sweep.results import Ranking
from ivjax.sweep.trials import trials_of
from tests.report.folders import TIMES, Page, logged, result_of, write_run

CONFIG = {"stage": "MaskedReconstruction", "stage.mask.ratio": "0.75", "batch": "16", "steps": "100"}
NO_MODEL = ReportOptions(model=False)
HOSTILE = """"><script>alert('x')</script><img src=x onerror=alert(1)> & '"""


def quiet(line):
    pass


def page_of(folders, tmp_path, options=NO_MODEL):
    return Page(write_report(folders, tmp_path / "report", options, quiet))


@pytest.fixture
def two(tmp_path):
    """Two runs, one of which stands still."""
    result = result_of("probe", "runs/a", {"top1": 67.83, "chance": 12.5})
    other = CONFIG | {"stage.mask.ratio": "0.9", "stage.teacher": "Teacher", "stage.teacher.width": "8"}
    return (
        write_run(tmp_path / "a", logged(100), CONFIG, TIMES, {"probe.json": result}),
        write_run(tmp_path / "b", logged(40, 8.0), other, {**TIMES, "step": 150.0}),
    )


def test_curves_have_the_points_of_the_metrics_file(two, tmp_path):
    charts = page_of(two, tmp_path).charts
    assert charts["loss"]["a"] == [[n, 4.0 / n] for n in range(10, 101, 10)]
    assert charts["loss"]["a, held out"] == [[n, 4.4 / n] for n in range(20, 101, 20)]
    assert charts["loss"]["b"] == [[n, 8.0 / n] for n in range(10, 41, 10)]
    assert charts["clip"]["a"][0] == [10, 0.2] and charts["lr"]["b"][0] == [10, 1e-3]
    assert charts["retrieval/t2v_r1"]["a, held out"] == [[n, float(n)] for n in range(20, 101, 20)]
    assert charts["clips a second"]["a"][-1] == [100, 200.0]
    assert "retrieval/t2v_r1" not in charts["loss"] and "tokens/s" not in charts


def test_a_long_curve_is_thinned_and_keeps_its_ends(tmp_path):
    run = write_run(tmp_path / "long", [{"step": n, "loss": 1.0 / n} for n in range(1, 1002)])
    points = page_of([run], tmp_path).charts["loss"]["long"]
    assert points[0] == [1, 1.0] and points[-1] == [1001, 1 / 1001] and len(points) <= 401


def test_values_that_are_no_numbers_leave_gaps(tmp_path):
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"step": 3, "loss": 1.0, "MFU": "unknown"}]
    page = page_of([write_run(tmp_path / "gaps", lines)], tmp_path)
    assert page.charts["loss"]["gaps"] == [[1, 2.0], [3, 1.0]]


def test_times_and_rates_are_those_of_the_folder(two, tmp_path):
    page = page_of(two, tmp_path)
    ledger = page.rows["Time of all starts of a run"]
    assert ledger[1] == ["a", "30", "0", "10", "50", "5", "5", "0", "100"]
    assert ledger[2] == ["b", "15", "0", "5", "75", "2.5", "2.5", "0", "200"]
    rates = page.rows["Median of all log lines but the first"]
    assert rates[1] == ["a", "160", "7", "0.5", "0.25", "12.5"] and rates[2][:2] == ["b", "130"]
    assert page.rows["Runs"][1][:4] == ["a", "MaskedReconstruction", "100 of 100", "16"]


def test_configs_are_compared_and_a_part_that_a_run_lacks_is_one_row(two, tmp_path):
    page = page_of(two, tmp_path)
    assert page.rows["What differs between the runs"][1:] == [
        ["stage.mask.ratio", "0.75", "0.9"],
        ["stage.teacher", "(absent)", "Teacher"],
    ]
    assert ["stage.teacher.width", "8"] in page.rows["Config of b"]


def test_a_value_of_several_lines_stays_whole(tmp_path):
    run = write_run(tmp_path / "run", config={"stage": "A", "prompt": "one\ntwo three", "seed": "0"})
    assert ["prompt", "one\ntwo three"] in page_of([run], tmp_path).rows["Config of run"]


def test_results_lie_in_the_folder_or_are_given(two, tmp_path):
    ranks = {"t2v_r1": 10.0, "v2t_r1": 20.0, "t2v_rerank_r1": 30.0}
    given = tmp_path / "ranks.json"
    given.write_text(json.dumps(result_of("retrieval", str(two[1]), ranks)))
    page = page_of(two, tmp_path, ReportOptions((given,), model=False))
    assert ["top1", "67.83"] in page.rows["probe: percent, or ranks"]
    assert page.rows["retrieval: percent, or ranks"] == [
        ["", "r1"],
        ["b, text to video", "10"],
        ["b, video to text", "20"],
        ["b, text to video, reranked", "30"],
    ]


def test_parts_of_a_test_set_stand_side_by_side(tmp_path):
    runs = []
    for name, right in (("a", 50.0), ("b", 75.0)):
        groups = [{"by": "question", "name": "colour", "questions": 4, "accuracy": right}]
        result = result_of("mcqa", name, {"accuracy": right}, by_group=groups)
        runs.append(write_run(tmp_path / name, logged(20), CONFIG, results={"mcqa.json": result}))
    assert page_of(runs, tmp_path).rows["accuracy by question, %"] == [["", "a", "b"], ["colour", "50", "75"]]


def test_needles_have_a_map_and_a_file_of_it(tmp_path):
    cells = [
        {"by": "cell", "name": "", "frames": frames, "depth": depth, "questions": 4, "accuracy": found}
        for frames, depth, found in ((32, 0.0, 100.0), (32, 1.0, 75.0), (64, 0.0, 25.0))
    ]
    result = result_of("needle", "run", {"accuracy": 66.67, "chance": 25.0}, by_group=cells)
    run = write_run(tmp_path / "run", logged(20), CONFIG, results={"needle.json": result})
    page = page_of([run], tmp_path)
    assert page.rows["run: 66.67 % of all; chance 25 %"] == [
        ["depth", "32", "64"],
        ["0", "100", "25"],
        ["1", "75", ""],
    ]
    assert (tmp_path / "report" / "pictures" / "needle_run.png").read_bytes().startswith(b"\x89PNG")


def test_a_sweep_has_its_table_and_the_curves_of_its_runs(tmp_path):
    sweep = tmp_path / "sweep"
    runs = [["steps=20", "log.every=10", f"seed={seed}"] for seed in (0, 1)]
    for seed, trial in enumerate(trials_of(runs)):
        lines = [{**line, "flops": 10.0 * line["step"]} for line in logged(20, 4.0 - seed) if "loss" in line]
        write_run(sweep / "runs" / trial.name, lines, CONFIG)
    (sweep / "sweep.json").write_text(json.dumps({"config": "stage1_synthetic", "runs": runs}))
    page = page_of([sweep], tmp_path)
    (table,) = [rows for name, rows in page.rows.items() if name.startswith("loss at step 20")]
    assert [row[-1] for row in table[1:]] == ["0.15", "0.2"] and len(page.charts["loss"]) == 2
    page = page_of([sweep], tmp_path, ReportOptions(model=False, ranking=Ranking("clip", highest=True)))
    (table,) = [rows for name, rows in page.rows.items() if name.startswith("clip at step 20")]
    assert [row[-1] for row in table[1:]] == ["0.1", "0.075"]
    page = page_of([sweep], tmp_path, ReportOptions(model=False, ranking=Ranking("nothing")))
    assert "no finished run has logged nothing" in page.text


def test_phases_are_runs_and_results_are_of_the_last(tmp_path):
    run = tmp_path / "run"
    for number in (10, 9):
        write_run(run / "phases" / f"{number}_part", logged(number), CONFIG)
        (run / "phases" / f"{number}_part" / "checkpoints" / "1").mkdir(parents=True)
    (run / "probe.json").write_text(json.dumps(result_of("probe", str(run), {"top1": 1.5})))
    page = page_of([run], tmp_path)
    assert [row[0] for row in page.rows["Runs"][1:]] == ["9_part", "10_part"]
    assert page.rows["probe: percent, or ranks"] == [["metric", "10_part"], ["top1", "1.5"]]


def test_what_a_run_lacks_is_left_out_and_said_with_its_command(tmp_path):
    lines = [{"step": 10, "loss": 1.0}]
    page = page_of([write_run(tmp_path / "bare", lines)], tmp_path)
    anchors = [one["href"] for one in page.all("a") if one["href"] != "#main"]
    assert anchors == ["#runs", "#losses", "#absent"]
    for words in ("held-out losses of bare", "eval_loss.every=N", "times of bare", "config of bare"):
        assert words in page.text
    assert "leave out --no-model" in page.text


def test_nothing_that_a_run_says_becomes_an_element(tmp_path):
    result = result_of(
        HOSTILE,
        "evil",
        {HOSTILE: 1.0},
        protocol={HOSTILE: HOSTILE},
        by_group=[{"by": HOSTILE, "name": HOSTILE}],
    )
    result["by_class"] = [{"class": 0, "name": HOSTILE, "clips": 1, "top1": 0.0}]
    lines = [{"step": 1, "loss": 1.0, HOSTILE.replace("/", ""): 2.0}, {"step": 2, "loss": 1.0}]
    run = write_run(tmp_path / "evil", lines, {"stage": HOSTILE, "batch": HOSTILE}, TIMES, {"e.json": result})
    named = run.rename(tmp_path / "<b>&'evil")
    page = page_of([named], tmp_path)
    assert len(page.all("script")) == 1 and page.all("b") == [] and page.all("img") == []
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert HOSTILE in page.text and "<b>&'evil" in page.text


def test_the_page_asks_nobody_for_anything(two, tmp_path):
    page = page_of(two, tmp_path)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            assert re.match(r"$|#|data:", attributes.get(name, "")), (tag, attributes)
    text = (tmp_path / "report" / "index.html").read_text()
    assert not re.search(r"https?:|@import|url\((?!data:)|fetch\(|XMLHttp", text)
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")


def test_links_lead_to_sections_and_everything_has_words(two, tmp_path):
    page = page_of(two, tmp_path)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for link in page.all("a"):
        assert link["href"].removeprefix("#") in ids
    assert {one["aria-labelledby"] for one in page.all("section")} <= set(ids)
    charts = page.all("svg")
    assert charts and all(
        one["role"] == "img" and one["tabindex"] == "0" and one["aria-label"] for one in charts
    )
    assert all(one["aria-label"] for one in page.all("table")) and page.all("html")[0]["lang"] == "en"
    regions = page.all("div", role="region")
    assert all(one["tabindex"] == "0" and one["aria-label"] for one in regions)


def test_the_command_writes_beside_the_run_and_names_the_page(two, tmp_path, capsys):
    assert main(["report", str(two[0]), "--no-model"]) == 0
    page = two[0] / "report" / "index.html"
    assert capsys.readouterr().out == f"{page}\n" and Page(page).charts["loss"].keys() == {"a", "a, held out"}
    assert (two[0] / "report" / "pictures" / "losses.png").is_file()
    first = page.read_bytes()
    assert main(["report", str(two[0]), "--no-model"]) == 0 and page.read_bytes() == first


@pytest.mark.parametrize(
    "words, told",
    [
        (["gone"], "gone does not exist; name the folder of a run"),
        (["empty"], "empty holds no metrics.jsonl and no experiment.txt; name the folder of a run"),
        (["a", "--evals", "gone.json"], "gone.json cannot be read"),
        (["a", "--evals", "a/metrics.jsonl"], "metrics.jsonl is no result of an eval"),
        (["a", "--evals", "other.json"], "other.json is a result of runs/c, which is none of the runs"),
        (["a", "--clips", "0"], "clips must be 1 or more, got 0"),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(words, told, two, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text(json.dumps(result_of("probe", "runs/c", {})))
    assert main(["report", *words, "--no-model"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ivjax report: ") and told in error and error.count("\n") == 1


def test_an_unwritable_folder_is_an_error(two, tmp_path):
    (tmp_path / "report").write_text("a file")
    with pytest.raises(UserError, match="report cannot be made: Not a directory; choose another folder"):
        write_report(two, tmp_path / "report", NO_MODEL, quiet)
