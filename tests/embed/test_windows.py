"""Windows over videos, and what the words of a command mean."""

import tarfile

import numpy as np
import pytest

from ivjax.data_pipelines.store.records import Clip, ClipError
from ivjax.data_pipelines.video.decode import VideoFacts
from ivjax.data_pipelines.video.encode import encode_image
from ivjax.embed.media_list import MediaList, find_medium
from ivjax.embed.windows import PlannedVideo, Windowing, plan_windows
from ivjax.errors import UserError
from ivjax.evals.items import Item, UnscoredClip
from tests.data_pipelines.corpora import corpus_of
from tests.embed.fake import coloured, write_coloured


def found(frames, fps=10.0):
    return VideoFacts(frames, fps, 64, 48, False)


@pytest.mark.parametrize(
    "seconds, stride, frames, spans",
    [
        (None, None, 45, [(0, 4.5)]),
        (1.5, None, 45, [(0, 1.5), (1.5, 3), (3, 4.5)]),
        (2, None, 45, [(0, 2), (2, 4), (2.5, 4.5)]),
        (2, 1, 45, [(0, 2), (1, 3), (2, 4), (2.5, 4.5)]),
        (0.5, 2, 45, [(0, 0.5), (2, 2.5), (4, 4.5)]),
        (4.5, 1, 45, [(0, 4.5)]),
        (60, 1, 45, [(0, 4.5)]),
        (0.3, 0.3, 9, [(0, 0.3), (0.3, 0.6), (0.6, 0.9)]),
    ],
)
def test_windows_slide_and_the_last_one_ends_with_the_video(seconds, stride, frames, spans):
    assert Windowing(seconds, stride).spans(found(frames)) == spans


def test_windows_of_a_rounded_rate_cover_the_video_in_order():
    spans = Windowing(1 / 29.97).spans(found(100, 30 / 1.001))
    assert len(spans) == 100 and spans[-1][1] == round(100 * 1.001 / 30, 6)
    assert spans == sorted(spans)


@pytest.mark.parametrize("options", [(0.05, None), (1, 0.01)])
def test_a_window_or_stride_shorter_than_a_frame_is_said(options):
    with pytest.raises(ClipError, match=r"of 0\.0[15]+ s is shorter than a frame of 0\.100 s; give more"):
        Windowing(*options).spans(found(45))


@pytest.mark.parametrize("options", [(0, None), (-1, None), (float("nan"), None), (1, 0), (None, 1)])
def test_a_window_that_is_no_time_is_an_error(options):
    with pytest.raises(UserError, match="--window|--stride"):
        Windowing(*options)


def test_views_show_the_windows_and_images_are_taken_whole(tmp_path):
    path = write_coloured(tmp_path / "a.mp4", "red", "blue")
    picture = tmp_path / "b.jpg"
    picture.write_bytes(encode_image(np.zeros((32, 32, 3), np.uint8)))
    media = [
        Item(path, path),
        UnscoredClip("x", "gone", "away"),
        Item("b", str(picture)),
        Item("c", "none.mp4"),
    ]
    video, fault, image, missing = plan_windows(media, Windowing(1.0))
    assert isinstance(video, PlannedVideo) and isinstance(image, PlannedVideo)
    assert [(view.start, view.end) for view in video.views] == [(0, 1), (1, 2)]
    assert [(w.video, w.start, w.end, w.last) for w in video.windows] == [
        (path, 0, 1, False),
        (path, 1, 2, True),
    ]
    assert fault is media[1] and missing.cause == "missing"
    assert [(view.start, view.end) for view in image.views] == [(None, None)]
    assert [(w.start, w.end, w.last) for w in image.windows] == [(0, 0, True)]


def test_a_rate_that_is_not_known_has_no_windows():
    with pytest.raises(ClipError, match="no frame rate"):
        Windowing(1.0).spans(found(9, 0.0))
    assert Windowing().spans(found(9, 0.0)) == [(0, 0)]


@pytest.fixture
def corpus(tmp_path):
    clips = [Clip(f"clip{n}", coloured("red", seconds=0.2 + n / 10)) for n in range(3)]
    return str(corpus_of(tmp_path / "corpus", clips, 2))


def test_files_folders_globs_and_corpora_come_in_order_and_once(tmp_path, corpus):
    for name in ("v/b.mp4", "v/a.mp4", "w/c.mp4", "w/sub/d.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "w" / "c.txt").write_text("not a video")
    (tmp_path / "v" / "thumbnail.jpg").write_bytes(b"x")
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "v/a.mp4", "e.mp4")
    words = ["w/c.mp4", "v", "w/*", "t.tar::e.mp4", corpus, "w/c.mp4", corpus]
    media = MediaList([str(tmp_path / word) for word in words])
    names = [item.id for item in media]
    files = ["w/c.mp4", "v/a.mp4", "v/b.mp4", "w/sub/d.mkv", "t.tar::e.mp4"]
    clips = [f"corpus::{n}::clip{n}" for n in range(3)]
    assert names == [str(tmp_path / name) for name in [*files, *clips]] and len(media) == 8


def test_a_name_leads_back_to_its_bytes(tmp_path, corpus, monkeypatch):
    items = list(MediaList([corpus]))
    assert find_medium(items[2].id, "/nowhere") == items[2].media
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert find_medium("corpus::1::clip1", str(tmp_path)) == items[1].media
    write_coloured(tmp_path / "v.mp4", "red")
    assert find_medium("v.mp4", str(tmp_path)) == str(tmp_path / "v.mp4")
    assert find_medium("w.mp4", str(tmp_path)) == "w.mp4"
    for name in ("corpus::1::clip2", "corpus::7::clip7"):
        with pytest.raises(ClipError, match="does not hold the clip clip. any more"):
            find_medium(name, str(tmp_path))


@pytest.mark.parametrize(
    "word, message",
    [
        ("none.mp4", "none.mp4 does not exist"),
        ("*.mp4", "does not exist"),
        ("*", "matches no video"),
        ("sub", "holds no videos"),
        ("empty", "holds no clips"),
    ],
)
def test_names_that_lead_to_no_video_are_errors(tmp_path, word, message):
    if word == "*":
        (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "sub").mkdir() if word == "sub" else None
    corpus_of(tmp_path / "empty", [], 1) if word == "empty" else None
    with pytest.raises(UserError, match=message):
        MediaList([str(tmp_path / word)])
