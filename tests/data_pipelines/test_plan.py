"""The plan: which rows are left out and why, which are drawn, and how they are dealt to shards."""

from dataclasses import replace
from pathlib import Path

import pytest

from ivjax.data_pipelines.build.clip_recipe import ClipRecipe, WindowRule
from ivjax.data_pipelines.build.options import BuildOptions, Draw, Filters
from ivjax.data_pipelines.build.selection import make_plan, overlap
from ivjax.data_pipelines.sampling.diversity import original_draw
from ivjax.data_pipelines.sources.row import BadRow, SourceRow
from ivjax.data_pipelines.video.shots import ShotRule
from ivjax.errors import UserError

OPTIONS = BuildOptions("test", Path("out"), shard_clips=4)


def plan(rows, **options):
    return make_plan(rows, replace(OPTIONS, **options))


def ids(plan):
    return [[row.id for row in job.rows] for job in plan.jobs]


def causes(plan):
    return {drop.id: drop.cause for drop in plan.drops}


def test_rows_of_one_file_stay_together_and_in_order_of_time():
    rows = [SourceRow(f"{video}{t}", f"{video}.mp4", start=t, end=t + 1) for t in (4, 0, 2) for video in "ab"]
    assert ids(plan(rows)) == [["a0", "a2", "a4", "b0"], ["b2", "b4"]]
    assert [job.name for job in plan(rows).jobs] == [f"shard-0000{n}-of-00002.array_record" for n in (0, 1)]


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ({}, False),
        ({"attributes": {"a": "b"}}, False),
        ({"captions": ("x",)}, True),
        ({"class_name": "x"}, True),
    ],
)
def test_a_plan_tells_whether_a_row_has_a_caption_or_a_label(annotation, expected):
    assert plan([SourceRow("a", "a.mp4"), SourceRow("b", "b.mp4", **annotation)]).annotated is expected


def test_rows_without_use_are_named_and_never_raised():
    recipe = ClipRecipe(min_seconds=1.0, max_seconds=10.0)
    rows = [
        BadRow("list.csv line 3", "it has no end"),
        SourceRow("good", "a.mp4", start=0, end=5, scores={"umt": 0.4, "aesthetic": 5.0}),
        SourceRow("turned", "a.mp4", start=5, end=2),
        SourceRow("never", "a.mp4", start=float("nan"), end=2),
        SourceRow("short", "a.mp4", start=0, end=0.5),
        SourceRow("long", "a.mp4", start=0, end=50),
        SourceRow("poor", "a.mp4", start=1, end=5, scores={"umt": 0.2}),
        SourceRow("blank", "a.mp4", start=2, end=5, scores={"aesthetic": 9.0}),
        SourceRow("again", "a.mp4", start=0, end=5, scores={"umt": 0.9}),
        SourceRow("image", "a.jpg", media="image", scores={"umt": 0.9}),
    ]
    found = plan(rows, recipe=recipe, filters=Filters(min_scores={"umt": 0.3}))
    assert ids(found) == [["good", "image"]] and found.rows == 10
    assert causes(found) == {
        "": "bad row",
        "turned": "wrong times",
        "never": "wrong times",
        "short": "too short",
        "long": "too long",
        "poor": "low score",
        "blank": "no score",
        "again": "duplicate",
    }
    assert ids(plan(rows[5:6], recipe=replace(recipe, shots=ShotRule()))) == [["long"]]  # its shots may do


def test_rows_that_overlap_too_much_are_duplicates_of_the_first():
    assert overlap((0, 4), (2, 6)) == pytest.approx(1 / 3) and overlap((0, 1), (2, 3)) == 0
    rows = [
        SourceRow("first", "a.mp4", start=0, end=10),
        SourceRow("near", "a.mp4", start=1, end=11, captions=("other words",)),
        SourceRow("far", "a.mp4", start=6, end=14),
        SourceRow("elsewhere", "b.mp4", start=0, end=10),
    ]
    assert causes(plan(rows)) == {}
    assert causes(plan(rows, filters=Filters(overlap=0.8))) == {"near": "duplicate"}
    assert causes(plan(rows, filters=Filters(overlap=0.2))) == {"near": "duplicate", "far": "duplicate"}


def test_the_original_draw_takes_the_rows_that_the_original_takes():
    videos = [f"video{n % 7 // 2:06d}" for n in range(40)]
    rows = [
        SourceRow(str(n), f"{video}.mp4", start=n, end=n + 1, video=video) for n, video in enumerate(videos)
    ]
    found = plan(rows, draw=Draw(10, seed=7))
    names = [f"{video}_{row.start}_{row.end}.mp4" for row, video in zip(rows, videos, strict=True)]
    expected = {str(index) for index in original_draw(names, 10, 7)}
    assert {row.id for job in found.jobs for row in job.rows} == expected
    assert found.not_drawn == 30 and found.rows == 40 and found.drops == ()


def test_a_streaming_draw_gives_every_video_the_same_chance():
    rows = [SourceRow(f"a{n}", "a.mp4", start=n, end=n + 1) for n in range(90)]
    rows += [SourceRow(f"{n}", f"{n}.mp4") for n in range(9)]
    taken = [
        row.path
        for seed in range(40)
        for job in plan(rows, draw=Draw(1, "streaming", seed)).jobs
        for row in job.rows
    ]
    assert len(taken) == 40 and taken.count("a.mp4") < 12  # a tenth of the chance, not ten elevenths


def test_a_draw_of_more_than_there_is_is_an_error():
    with pytest.raises(UserError, match="cannot draw 5 clips"):
        plan([SourceRow("a", "a.mp4")], draw=Draw(5))


def test_long_rows_are_kept_where_windows_cut_them():
    rows = [SourceRow("long", "a.mp4", start=0, end=50)]
    assert causes(plan(rows, recipe=ClipRecipe(max_seconds=10.0))) == {"long": "too long"}
    assert ids(plan(rows, recipe=ClipRecipe(max_seconds=10.0, windows=WindowRule(10.0)))) == [["long"]]


def test_class_names_are_numbered_and_filters_do_not_change_the_numbers():
    rows = [
        SourceRow(str(n), f"{n}.mp4", class_name=name, scores={"umt": n}) for n, name in enumerate("cabd")
    ]
    whole, filtered = plan(rows), plan(rows, filters=Filters(min_scores={"umt": 2}))
    assert whole.classes == filtered.classes == ("a", "b", "c", "d")
    assert whole.labels == 4 and plan([SourceRow("a", "a.mp4", label=9)]).labels == 10
    assert plan([SourceRow("a", "a.mp4")]).labels == 0
    assert [row.label for row in whole.jobs[0].rows] == [2, 0, 1, 3]
    assert [row.label for row in filtered.jobs[0].rows] == [1, 3]


def test_class_names_for_a_source_without_classes_are_refused(tmp_path):
    (tmp_path / "names.txt").write_text("d\nb\n")
    with pytest.raises(UserError, match="names.txt gives class names, and no row of test has a class"):
        plan([SourceRow("a", "a.mp4")], classes=str(tmp_path / "names.txt"))


def test_rows_of_other_classes_than_the_given_ones_are_left_out(tmp_path):
    (tmp_path / "names.txt").write_text("d\nb\n")
    rows = [SourceRow(name, f"{name}.mp4", class_name=name) for name in "abcd"]
    found = plan(rows, classes=str(tmp_path / "names.txt"))
    assert found.classes == ("d", "b") and causes(found) == dict.fromkeys("ac", "other class")
    assert [(row.id, row.label) for row in found.jobs[0].rows] == [("b", 1), ("d", 0)]
