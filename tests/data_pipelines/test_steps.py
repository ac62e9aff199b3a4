"""Cutting: exactly the frames of [start, end), at an even rate, upright and small; and what is dropped."""

import struct
import tarfile
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from ivjax.data_pipelines.build.clip_recipe import Drop, Remark, find_captioner
from ivjax.data_pipelines.build.frames import fitted
from ivjax.data_pipelines.build.make_clips import make_clips, make_outcome
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.records import Clip, unpack
from ivjax.data_pipelines.video.decode import read_frames
from ivjax.data_pipelines.video.encode import Audio, Encoding, encode_image, encode_video
from ivjax.errors import UserError
from tests.data_pipelines.footage import FAST, QUICK, numbers_of, write_timed_video, write_video

VFR = [0, 40, 80, 200, 240, 500, 520, 560, 900, 1000, 1040, 1080, 1500, 1540]  # ms


def made(row, recipe=QUICK) -> Clip:
    """The one clip of a row."""
    (clip,) = (made for made in make_clips(row, recipe) if not isinstance(made, Remark))
    assert isinstance(clip, Clip), clip
    return clip


def dropped(row, recipe=QUICK) -> Drop:
    """Why the one clip of a row was dropped."""
    (drop,) = make_clips(row, recipe)
    assert isinstance(drop, Drop), drop
    return drop


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("steps") / "abcdefghijk.mp4")  # 50 frames, 2 s


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (0.0, 2.0, 0, 49),
        (None, None, 0, 49),
        (0.4, 0.8, 10, 19),  # on frames: the end is not included
        (0.41, 0.81, 11, 20),  # between frames
        (0.96, 1.0, 24, 24),
        (1.1, None, 28, 49),  # the float 1.1 is a little more than 11/10
        (1.5601, 1.7199, 39, 42),  # rounded to tenths of a millisecond, both ways
        (1.9, 2.04, 48, 49),  # by a frame beyond the end of the file
    ],
)
def test_a_cut_holds_exactly_the_frames_that_begin_in_it(video, start, end, first, last):
    clip = made(SourceRow("a", video, start=start, end=end))
    assert numbers_of(clip.payload) == list(range(first, last + 1))
    assert (clip.frames, clip.fps, clip.width, clip.height) == (last + 1 - first, 25.0, 96, 64)
    assert clip.start == (start or 0.0)
    assert clip.end == (2.0 if end is None or end > 2 else end)


def test_a_row_that_ends_after_its_file_is_shortened_and_told_or_dropped(video):
    clip, remark = make_clips(SourceRow("a", video, start=1.0, end=2.5), QUICK)
    assert numbers_of(clip.payload) == list(range(25, 50)) and clip.end == 2.0
    detail = "it ends at 2.000 s where its file does, and its row says 2.500 s"
    assert remark == Remark("a", video, "shortened", detail)
    assert make_outcome(SourceRow("a", video, start=1.0, end=2.5), QUICK).remarks == (remark,)
    # Half of the caption's time is the least.
    assert [type(made) for made in make_clips(SourceRow("a", video, end=4.0), QUICK)] == [Clip, Remark]
    drop = dropped(SourceRow("a", video, end=4.1))
    assert drop.cause == "past the end" and drop.detail.endswith(
        "says 4.100 s; less than half of it is there"
    )


def test_frames_of_a_varying_rate_are_taken_by_time_and_stand_as_long_as_they_did(tmp_path):
    path = write_timed_video(tmp_path / "vfr.mkv", VFR)
    clip = made(SourceRow("a", path, start=0.2, end=1.0), replace(QUICK, fps=25.0))
    fps = Fraction(clip.fps).limit_denominator(1001)
    expected = []
    for beat in range(clip.frames):
        shown = [n for n, t in enumerate(VFR) if 200 <= t < 1000 and (t - 200) * fps < 1000 * beat + 500]
        expected.append(shown[-1])
    assert numbers_of(clip.payload) == expected
    assert set(expected) == {3, 4, 6, 7, 8}  # 5 stood for less than a beat
    assert clip.frames / clip.fps == pytest.approx(0.8, abs=0.5 / clip.fps)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("open-groups.mkv", "libx264", {"x264-params": "open-gop=1:keyint=20:bframes=4:b-pyramid=2"}),
        ("no-presentation-times.avi", "libx264", {"bf": "2"}),
        ("bare.h264", "libx264", {"bf": "2"}),
        ("hidden-frames.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
        ("program-stream.mpg", "mpeg2video", {"bf": "2"}),
    ],
)
def test_cuts_are_exact_in_every_kind_of_file(tmp_path, name, codec, options):
    times = [40 * n for n in range(80)]
    path = write_timed_video(tmp_path / name, times, codec, Fraction(1, 25), **options)
    for first in range(0, 72, 7):
        for start in (first / 25, first / 25 - 0.02):
            clip = made(SourceRow("a", path, start=max(start, 0.0), end=start + 0.2))
            assert numbers_of(clip.payload) == list(range(first, first + 5)), (first, start)


def test_a_member_of_a_tar_is_cut_like_a_file(video, tmp_path):
    with tarfile.open(tmp_path / "videos.tar", "w") as archive:
        archive.add(video, "one/video.mp4")
    clip = made(SourceRow("a", f"{tmp_path}/videos.tar::one/video.mp4", start=0.4, end=0.8))
    assert numbers_of(clip.payload) == list(range(10, 20))
    assert dropped(SourceRow("a", f"{tmp_path}/videos.tar::two.mp4")).cause == "missing"
    (tmp_path / "broken.tar").write_bytes(b"broken" * 200)
    assert dropped(SourceRow("a", f"{tmp_path}/broken.tar::one.mp4")).cause == "unreadable"
    assert dropped(SourceRow("a", f"{tmp_path}/broken.tar::one.jpg", media="image")).cause == "unreadable"


def test_a_damaged_stretch_of_a_video_costs_the_rows_in_it_only(tmp_path):
    path = tmp_path / "damaged.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (60, 64, 96, 3), dtype=np.uint8)
    payload = bytearray(encode_video(noise, Fraction(20), Encoding(preset="veryfast", gop=12)))
    middle = len(payload) // 2  # in the third second
    payload[middle : middle + 3000] = bytes(3000)
    path.write_bytes(payload)
    assert made(SourceRow("a", str(path), start=0.0, end=0.6)).frames == 12
    assert made(SourceRow("a", str(path), start=2.4, end=3.0)).frames == 12
    assert dropped(SourceRow("a", str(path), start=1.2, end=1.8)).cause == "undecodable"


def test_a_video_that_starts_late_is_cut_by_the_time_that_a_player_shows(tmp_path):
    path = write_timed_video(tmp_path / "late.ts", [1400 + 40 * n for n in range(50)])
    clip = made(SourceRow("a", path, start=0.4, end=0.8))
    assert numbers_of(clip.payload) == list(range(10, 20))


def test_the_rate_is_capped_and_never_raised(video):
    clip = made(SourceRow("a", video, start=0.0, end=2.0), replace(QUICK, fps=10.0))
    assert clip.fps == 10.0 and clip.frames == 20
    numbers = numbers_of(clip.payload)
    assert all(abs(number - 2.5 * beat) <= 1.25 for beat, number in enumerate(numbers))
    assert made(SourceRow("a", video), replace(QUICK, fps=240.0)).fps == 25.0


def test_sizes_are_even_small_and_never_enlarged():
    assert fitted(1280, 720, Fraction(1), 256) == (456, 256)
    assert fitted(720, 1280, Fraction(1), 256) == (256, 456)
    assert fitted(321, 241, Fraction(1), 256) == (320, 240)
    assert fitted(720, 576, Fraction(16, 15), 288) == (384, 288) != fitted(720, 576, Fraction(1), 288)


def test_a_clip_is_shrunk_and_keeps_its_colours(tmp_path):
    picture = np.zeros((200, 400, 3), np.uint8)
    picture[:, :200], picture[:, 200:] = (200, 40, 90), (30, 160, 60)
    path = tmp_path / "hd.mp4"
    _write_bt709(path, picture)
    clip = made(SourceRow("a", str(path)), replace(QUICK, short_side=64))
    assert (clip.width, clip.height) == (128, 64)
    frame = read_frames(clip.payload, [2])[0].astype(int)
    np.testing.assert_allclose(frame[32, 20], (200, 40, 90), atol=6)
    np.testing.assert_allclose(frame[32, 100], (30, 160, 60), atol=6)


def _write_bt709(path, picture):
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"crf": "5", "colorspace": "bt709"})
        video.width, video.height, video.pix_fmt = picture.shape[1], picture.shape[0], "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            frame.colorspace = 1
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def test_a_video_that_was_filmed_with_a_turned_camera_stands_upright(tmp_path):
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (200, 40, 90), (30, 160, 60)
    upright = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    payload = encode_video([picture] * 5, Fraction(10), FAST)
    header = payload.index(b"tkhd")
    place = payload.index(upright, header)
    path = tmp_path / "turned.mp4"
    path.write_bytes(payload[:place] + clockwise + payload[place + len(clockwise) :])
    clip = made(SourceRow("a", str(path)))
    assert (clip.width, clip.height) == (32, 64)
    frame = read_frames(clip.payload, [2])[0].astype(int)
    np.testing.assert_allclose(frame[10, 16], (200, 40, 90), atol=6)  # what was left is now above
    np.testing.assert_allclose(frame[50, 16], (30, 160, 60), atol=6)


def test_sound_is_kept_where_it_is_asked_for_and_lies_where_it_lay(tmp_path):
    rate = 44_100
    samples = np.zeros(2 * rate, np.int16)
    samples[rate : rate + rate // 4] = (9000 * np.sin(np.arange(rate // 4) / 20)).astype(np.int16)
    path = write_video(tmp_path / "beep.mp4", audio=Audio(samples, rate))
    assert not made(SourceRow("a", path, start=0.8, end=1.6)).audio
    clip = made(SourceRow("a", path, start=0.8, end=1.6), replace(QUICK, audio=True))
    assert clip.audio
    (tmp_path / "cut.mp4").write_bytes(clip.payload)
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert container.streams.audio[0].rate == 16_000
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    loud = np.flatnonzero(np.abs(sound) > 0.1) / 16_000
    assert loud[0] == pytest.approx(0.2, abs=0.03) and loud[-1] == pytest.approx(0.45, abs=0.03)


def test_a_silent_video_has_no_sound_to_keep(video):
    assert not made(SourceRow("a", video), replace(QUICK, audio=True)).audio


def test_what_cannot_be_cut_is_dropped_with_the_reason(video, tmp_path):
    broken, cut = tmp_path / "broken.mp4", tmp_path / "cut.mp4"
    broken.write_bytes(b"no video at all" * 50)
    with open(video, "rb") as file:
        cut.write_bytes(file.read()[:-2500])
    assert dropped(SourceRow("a", video, start=5.0, end=6.0)).cause == "past the end"
    assert dropped(SourceRow("a", video, start=0.41, end=0.43)).cause == "no frames"
    assert dropped(SourceRow("a", str(tmp_path / "none.mp4"))).cause == "missing"
    assert dropped(SourceRow("a", str(broken))).cause == "unreadable"
    assert dropped(SourceRow("a", str(cut))).cause in ("undecodable", "truncated")
    drop = dropped(SourceRow("a", video, start=1.5, end=4.0), replace(QUICK, min_seconds=1.0))
    assert drop == Drop("a", video, "too short", "it lasts 0.500 s, less than 1 s")
    assert dropped(SourceRow("a", video), replace(QUICK, max_seconds=1.0)).cause == "too long"


def test_still_clips_are_dropped_and_moving_ones_stay(video, tmp_path):
    still = tmp_path / "still.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    still.write_bytes(encode_video([noise] * 30, Fraction(25), FAST))
    recipe = replace(QUICK, still=1.0)
    assert dropped(SourceRow("a", str(still)), recipe).cause == "still"
    assert made(SourceRow("a", video), recipe).frames == 50


def test_small_images_stay_as_they_are_and_large_ones_become_smaller_jpegs(tmp_path):
    picture = np.full((90, 150, 3), (180, 60, 30), np.uint8)
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_image(picture))
    small = made(SourceRow("a", str(path), media="image", captions=("red",)))
    assert small.payload == path.read_bytes() and (small.width, small.height) == (150, 90)
    large = made(SourceRow("a", str(path), media="image"), replace(QUICK, short_side=46))
    assert (large.width, large.height, large.frames, large.fps) == (76, 46, 1, 0.0)
    np.testing.assert_allclose(read_frames(large.payload, [0])[0, 20, 30], (180, 60, 30), atol=6)
    path.write_bytes(path.read_bytes()[:100])
    assert dropped(SourceRow("a", str(path), media="image")).where == str(path)


def test_all_that_a_row_knows_goes_into_its_record_and_a_captioner_has_the_last_word(video):
    row = SourceRow(
        "a", video, start=0.2, end=0.6, captions=("x",), label=3, scores={"umt": 0.5}, attributes={"k": "v"}
    )
    (record,) = make_outcome(row, QUICK).records
    clip = unpack(record)
    assert (clip.id, clip.captions, clip.label, clip.video) == ("a", ("x",), 3, "abcdefghijk")
    assert (clip.scores, clip.attributes, clip.media) == ({"umt": 0.5}, {"k": "v"}, "video")
    recipe = replace(QUICK, captioner="tests.data_pipelines.footage:describe")
    assert made(row, recipe).captions == ("10 frames of abcdefghijk",)


@pytest.mark.parametrize("name", ["describe", "tests.nowhere:f", "tests.data_pipelines.footage:nothing"])
def test_a_captioner_that_is_not_there_is_an_error(name):
    with pytest.raises(UserError, match="captioner"):
        find_captioner(name)
