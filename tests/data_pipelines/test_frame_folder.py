"""Folders of image files as videos, and the lists that name them."""

import pytest

from ivjax.data_pipelines.build.clip_recipe import Drop
from ivjax.data_pipelines.build.make_clips import make_clips
from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.records import Clip
from ivjax.data_pipelines.video.encode import encode_image
from tests.data_pipelines.footage import QUICK, build_small, clips_of, coded, numbers_of
from tests.data_pipelines.sources.helpers import assert_reasons, rows_of


def write_frames(folder, count, name="img_{:05}.jpg"):
    """A folder whose image k, counted from 1, carries the number k - 1."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / name.format(number + 1)).write_bytes(encode_image(coded(number)))
    return str(folder)


def made(row):
    (found,) = make_clips(row, QUICK)
    return found


@pytest.mark.parametrize("name", ["img_{:05}.jpg", "{:05}.jpg", "frame{}.jpg"])
def test_images_become_frames_in_the_order_of_their_numbers(tmp_path, name):
    clip = made(SourceRow("a", write_frames(tmp_path / "v", 12, name), frame_rate=12.0))
    assert isinstance(clip, Clip)
    assert numbers_of(clip.payload) == list(range(12))
    assert (clip.frames, clip.fps, clip.start, clip.end) == (12, 12.0, 0.0, 1.0)
    assert (clip.width, clip.height, clip.audio) == (96, 64, False)


def test_a_span_of_a_folder_holds_the_frames_that_begin_in_it(tmp_path):
    folder = write_frames(tmp_path / "v", 20)
    clip = made(SourceRow("a", folder, start=5 / 12, end=15 / 12, frame_rate=12.0))
    assert numbers_of(clip.payload) == list(range(5, 15))


def test_what_is_wrong_with_a_folder_is_a_drop_with_its_cause(tmp_path):
    folder = write_frames(tmp_path / "v", 12)
    causes = {"past": (5.0, None), "short": (None, 4.0)}
    found = {k: made(SourceRow(k, folder, start=a, end=b, frame_rate=12.0)) for k, (a, b) in causes.items()}
    assert all(isinstance(drop, Drop) for drop in found.values())
    assert found["past"].cause == "past the end"
    assert (found["short"].cause, "12 images, 48 should" in found["short"].detail) == ("truncated", True)
    (tmp_path / "v" / "img_00007.jpg").write_bytes(b"no picture")
    drop = made(SourceRow("a", folder, frame_rate=12.0))
    assert drop.cause == "undecodable" and "img_00007.jpg" in drop.detail
    (tmp_path / "empty").mkdir()
    assert made(SourceRow("a", str(tmp_path / "empty"), frame_rate=12.0)).cause == "no frames"
    assert made(SourceRow("a", str(tmp_path / "gone"), frame_rate=12.0)).cause == "missing"


def test_lists_of_frame_folders_name_folder_count_and_class(tmp_path):
    write_frames(tmp_path / "one", 3)
    write_frames(tmp_path / "two", 5)
    (tmp_path / "train.csv").write_text("one 3 7\ntwo 4 -1\ngone 3 1\n")
    source = open_source(tmp_path / "train.csv", "frame_folders", fps="12")
    one, two = rows_of(source)
    assert (one.id, one.label, one.start, one.end, one.frame_rate) == ("one", 7, None, 0.25, 12.0)
    assert (two.id, two.label, two.end) == ("two", None, 4 / 12)
    assert_reasons(source, [("train.csv line 3", "gone does not exist")])
    build_small([one, two], tmp_path / "shards")
    assert [numbers_of(clip.payload) for clip in clips_of(tmp_path / "shards")] == [[0, 1, 2], [0, 1, 2, 3]]


def test_video_mae_lists_give_the_span_of_a_folder_in_frames(tmp_path):
    write_frames(tmp_path / "one", 9)
    (tmp_path / "v.txt").write_text("one 2 5\none 0 9\n")
    first, second = rows_of(open_source(tmp_path / "v.txt", fps=10))
    assert (first.id, first.start, first.end) == ("one", 0.2, 0.7)
    assert (second.id, second.start, second.end) == ("one#2", None, 0.9)
    assert numbers_of(made(first).payload) == [2, 3, 4, 5, 6]


def test_a_tree_of_frame_folders_gives_a_video_for_each(tmp_path):
    for name in ("jump/a", "jump/b", "run/a"):
        write_frames(tmp_path / name, 2)
    found = rows_of(open_source(tmp_path, fps=30))
    assert [row.id for row in found] == ["jump/a", "jump/b", "run/a"]
    assert {(row.media, row.frame_rate) for row in found} == {("video", 30.0)}
    assert [row.attributes["folder"] for row in found] == ["jump", "jump", "run"]
    assert len(rows_of(open_source(tmp_path))) == 6  # without fps each file is an image


def test_tables_may_name_folders_of_frames(tmp_path):
    write_frames(tmp_path / "one", 2)
    (tmp_path / "t.csv").write_text("video,label\none,4\n")
    (row,) = rows_of(open_source(tmp_path / "t.csv", fps=12))
    assert (row.label, row.frame_rate, row.media) == (4, 12.0, "video")
    reason = "one is a folder of frames; say how many a second with --set fps=12"
    assert_reasons(open_source(tmp_path / "t.csv"), [("t.csv line 2", reason)])


def test_lists_of_intervals_have_five_fields(tmp_path):
    """ANet_interval and HACS_interval: path, total time, start, end, label; -1 is the whole file."""
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"")
    lines = "a.mp4,120.5,3.25,9.75,17\nb.mp4,60.0,-1,-1,2\nb.mp4,60.0,9,4,2\na.mp4,1,0,1,x\n"
    (tmp_path / "anet.csv").write_text(lines)
    source = open_source(tmp_path / "anet.csv")
    first, second, third = rows_of(source)
    assert (first.id, first.start, first.end, first.label) == ("a.mp4_3.250_9.750", 3.25, 9.75, 17)
    assert (third.label, third.class_name) == (None, "x")
    assert (second.id, second.start, second.end, second.label) == ("b.mp4", None, None, 2)
    assert_reasons(source, [("anet.csv line 3", "it ends at 4 s, not after its start at 9 s")])
