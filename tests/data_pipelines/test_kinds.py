"""The kinds of video that people have: each is built, read and checked with the frames that players show."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ivjax.data_pipelines.build import make_clips
from ivjax.data_pipelines.build.build_corpus import build
from ivjax.data_pipelines.build.make_clips import make_outcome
from ivjax.data_pipelines.build.options import BuildOptions
from ivjax.data_pipelines.inspect.validate import validate
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.intact import intact_clip
from ivjax.data_pipelines.store.records import ClipError, unpack
from ivjax.data_pipelines.video.decode import Video, probe
from ivjax.data_pipelines.video.footage import Footage
from ivjax.data_pipelines.video.stored_clip import check_media
from ivjax.evals.views import VideoView, read_views
from tests.data_pipelines.footage import (
    HEIGHT,
    QUICK,
    WIDTH,
    build_small,
    clips_of,
    coded,
    number_of,
    numbers_of,
    write_timed_video,
)
from tests.data_pipelines.kinds import KINDS, NO_VIDEO, SLOW, Kind
from tests.data_pipelines.kinds import drawn as drawn_video

GIF = "dithered.gif"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The file of a kind, drawn when it is first asked for."""
    folder = tmp_path_factory.mktemp("kinds")

    def path(kind: Kind | str) -> Path:
        kind = next(each for each in KINDS if each.name == kind) if isinstance(kind, str) else kind
        if not (folder / kind.name).exists():
            kind.draw(folder / kind.name)
        return folder / kind.name

    return path


def built(path, recipe=QUICK, **row):
    """The outcome of a row, and its one clip."""
    outcome = make_outcome(SourceRow("a", str(path), **row), recipe)
    assert not outcome.drops
    (record,) = outcome.records
    return outcome, intact_clip(record)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_built_with_the_frames_and_the_rate_that_it_has(drawn, kind):
    outcome, clip = built(drawn(kind))
    assert numbers_of(clip.payload) == list(kind.numbers)
    assert clip.fps == probe(clip.payload).fps == kind.fps
    assert 0 <= clip.start < clip.end
    assert clip.end - clip.start == pytest.approx(len(kind.numbers) / kind.fps, abs=0.6 / kind.fps)
    assert tuple(each.cause for each in outcome.remarks) == kind.remarks
    check_media(clip)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_read_like_a_clip(drawn, kind):
    with Video(drawn(kind).read_bytes()) as video:
        found = video.probe
        assert (found.frames, found.fps) == (len(kind.numbers), kind.fps)
        pictures = [np.rot90(picture, kind.turns) for picture in video.read(range(found.frames))]
        assert [number_of(picture) for picture in pictures] == list(kind.numbers)
        some = [found.frames - 1, 0, found.frames // 2]
        for number, picture in zip(some, video.read(some), strict=True):
            np.testing.assert_array_equal(np.rot90(picture, kind.turns), pictures[number])
        whole = [frame.to_ndarray(format="rgb24") for frame in video.all_frames()]
        assert [number_of(np.rot90(picture, kind.turns)) for picture in whole] == list(kind.numbers)


@pytest.mark.parametrize("name", NO_VIDEO)
def test_a_file_of_sound_is_refused_with_a_sentence(tmp_path, name):
    NO_VIDEO[name](tmp_path / name)
    (drop,) = make_outcome(SourceRow("a", str(tmp_path / name)), QUICK).drops
    assert drop.cause == "no video stream" and drop.detail.startswith(f"{tmp_path / name} holds no video")
    with pytest.raises(ClipError, match="the file holds no video"):
        probe((tmp_path / name).read_bytes())


def test_a_cut_by_copying_is_embedded_and_evaluated_at_its_times(drawn):
    view = VideoView(drawn("cut-by-copying.mp4"), start=0.2, end=0.6)
    (found,) = read_views([view], 10, (HEIGHT, WIDTH))
    assert [number_of(picture) for picture in found] == list(range(22, 32))


EVEN = [kind for kind in KINDS if len(kind.numbers) > 20 and "steadied" not in kind.remarks]


@pytest.mark.parametrize("kind", EVEN, ids=lambda kind: kind.name)
def test_a_span_shows_evals_the_frames_of_the_clip_that_is_built_of_it(drawn, kind):
    path = drawn(kind)
    begins = probe(path.read_bytes()).begins
    start, end = begins + 12 / kind.fps, begins + 20 / kind.fps
    _, clip = built(path, start=start, end=end)
    (found,) = read_views([VideoView(path, start=start, end=end)], 8, (HEIGHT, WIDTH))
    assert [number_of(picture) for picture in found] == list(kind.numbers)[12:20] == numbers_of(clip.payload)


def test_a_start_between_two_microseconds_gives_no_time_before_zero(drawn):
    path = drawn("late-start.mp4")
    _, clip = built(path)
    assert (clip.start, clip.end) == (0.0, 2.0)
    _, clip = built(path, start=0.5, end=1.0)
    assert numbers_of(clip.payload) == list(range(6, 12))
    with Footage(str(path)) as footage:
        assert [shown.begins for shown in footage.frames(None, None)][:2] == [0, Fraction(1, 12)]


def test_no_frame_of_a_slow_uneven_source_is_off_by_more_than_half_a_beat(drawn):
    with Video(drawn("recorded.webm").read_bytes()) as video:
        found = video.probe
        numbers = [number_of(picture) for picture in video.read(range(found.frames))]
    for number, time in enumerate(SLOW):
        assert abs(numbers.index(number) / found.fps - time / 1000) <= 0.5 / found.fps + 1e-9


def test_jitter_and_rounded_times_are_no_uneven_rate(tmp_path):
    times = [round(1000 * n * 1001 / 30000 + (0, -4, 5, 3)[n % 4] * (n < 59)) for n in range(60)]
    path = write_timed_video(tmp_path / "phone.mkv", times)
    outcome, clip = built(path)
    assert numbers_of(clip.payload) == list(range(60)) and not outcome.remarks


def test_a_lost_frame_is_filled_up_at_the_rate_of_the_others(tmp_path):
    times = [round(1000 * n / 25) for n in range(40) if n not in (7, 20, 21)]
    path = write_timed_video(tmp_path / "lost.mkv", times)
    outcome, clip = built(path)
    whole = list(range(37))
    expected = [*whole[:7], 6, *whole[7:19], 18, 18, *whole[19:]]
    assert (numbers_of(clip.payload), clip.fps) == (expected, 25.0)
    assert [each.cause for each in outcome.remarks] == ["steadied"]
    # The stretch after it is even, and is no adjustment.
    outcome, clip = built(path, start=1.0, end=1.4)
    assert (numbers_of(clip.payload), outcome.remarks) == (list(range(22, 32)), ())


def test_times_that_jump_by_weeks_are_refused(tmp_path):
    path = write_timed_video(tmp_path / "jump.mkv", [0, 40, 80, 120, 10**9])
    with pytest.raises(ClipError, match="wrong times: its frames lie over 1000000 s"):
        probe(Path(path).read_bytes())


_CONTAINERS = {
    **dict.fromkeys(("a.ts", "a.m2ts", "a.3gp", "a.f4v", "a.nut", "a.mkv", "a.h264"), "libx264"),
    **dict.fromkeys(("a.vob", "a.mpeg", "a.m2v", "a.mxf"), "mpeg2video"),
    **dict.fromkeys(("a.ivf", "a.ogv"), "libvpx"),
    **{"a.asf": "msmpeg4v2", "a.hevc": "libx265", "a.mjpeg": "mjpeg", "a.y4m": "rawvideo", "a.apng": "apng"},
}


def test_a_folder_of_any_containers_is_built_and_what_is_left_aside_is_listed(tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    for first, (name, codec) in enumerate(_CONTAINERS.items()):
        pixels = {"mjpeg": "yuvj420p", "apng": "rgb24"}.get(codec, "yuv420p")
        pictures = [coded(number) for number in range(first, first + 6)]
        drawn_video(media / name, codec, pictures, pixels, **({"b": "4M"} if codec[0] == "m" else {}))
    NO_VIDEO["song.mp4"](media / "song.mp4")
    (media / "notes.txt").write_text("notes")
    report = build(BuildOptions(str(media), tmp_path / "out", recipe=QUICK, workers=1), lambda line: None)
    clips = clips_of(tmp_path / "out")
    assert [clip.id for clip in clips] == sorted(_CONTAINERS)
    assert {clip.id: numbers_of(clip.payload) for clip in clips} == {
        name: list(range(first, first + 6)) for first, name in enumerate(_CONTAINERS)
    }
    assert report.dropped == {"no video stream": 1, "not a video or image": 1}
    assert '"where": "notes.txt"' in (tmp_path / "out/report.jsonl").read_text()
    assert validate(tmp_path / "out", None, print) == []


def combing(picture):
    """How far rows differ from the mean of those above and below."""
    rows = picture.astype(int)
    return np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean()


@pytest.mark.parametrize("name", ["interlaced.mpg", "interlaced.mts"])
def test_interlaced_sources_are_whole_pictures_unless_that_is_switched_off(drawn, name):
    path = drawn(name)
    outcome, clip = built(path)
    combed, other = built(path, replace(QUICK, deinterlace=False))
    assert [each.cause for each in outcome.remarks] == ["deinterlaced"]
    assert combed.remarks == () and other.frames == clip.frames
    with Video(clip.payload) as whole, Video(other.payload) as raw:
        assert combing(whole.read([5])[0]) < 3 < 20 < combing(raw.read([5])[0])
    with Video(path.read_bytes()) as whole, Video(path.read_bytes(), deinterlace=False) as raw:
        assert combing(whole.read([5])[0]) < 3 < 20 < combing(raw.read([5])[0])


def test_the_dither_of_a_gif_keeps_its_colours(drawn):
    with Video(drawn(GIF).read_bytes()) as video:
        truth = video.read(range(24)).astype(int)
    errors = {}
    for chroma in ("auto", "4:4:4", "4:2:0"):
        encoding = replace(QUICK.encoding, chroma=chroma, crf=10)
        _, clip = built(drawn(GIF), replace(QUICK, encoding=encoding))
        with Video(clip.payload) as video:
            errors[chroma] = np.abs(video.read(range(24)) - truth).mean()
    assert errors["auto"] == errors["4:4:4"] < 5 and errors["4:2:0"] > 4 * errors["auto"]


def test_frames_of_other_sources_stay_at_four_to_two_to_zero(drawn):
    for kind in ("plain.mp4", "ten-bit-422.mov"):
        with Video(built(drawn(kind))[1].payload) as video:
            assert video.decode([0])[0].format.name == "yuv420p"


def test_the_report_counts_and_lists_what_was_done_to_frames(drawn, tmp_path):
    rows = [SourceRow(name, str(drawn(name))) for name in ("plain.mp4", "interlaced.mpg", "uneven.mp4")]
    report = build_small(rows, tmp_path / "out")
    assert report.remarks == {"deinterlaced": 1, "steadied": 1}
    assert "  kept, deinterlaced: 1\n" in report.text() and "report.jsonl" in report.text()
    lines = (tmp_path / "out/report.jsonl").read_text()
    assert '"cause": "steadied", "detail": "its frames come at uneven times; it shows 25 a second"' in lines


def write_a_number(clip):
    """A captioner whose captions no reader takes."""
    return [5]


def test_a_clip_that_a_reader_would_refuse_is_dropped_and_not_written(drawn):
    recipe = replace(QUICK, captioner=f"{__name__}:write_a_number")
    outcome = make_outcome(SourceRow("a", str(drawn("plain.mp4"))), recipe)
    (drop,) = outcome.drops
    assert not outcome.records
    assert (drop.cause, drop.detail) == ("bad header", "the finished clip: a caption is not text")


def test_what_is_written_has_been_decoded_whole(drawn, monkeypatch):
    whole = make_clips.encode_video
    monkeypatch.setattr(make_clips, "encode_video", lambda *given: whole(*given)[:-200])
    (drop,) = make_outcome(SourceRow("a", str(drawn("plain.mp4"))), QUICK).drops
    assert drop.cause == "truncated" and drop.detail.startswith("the finished clip: ")
    monkeypatch.undo()
    outcome = make_outcome(SourceRow("a", str(drawn("plain.mp4"))), QUICK)
    assert unpack(outcome.records[0]).frames == 24
