"""Encoding: exact times, the same bytes again, true colours and sound."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import probe, read_frames
from ivjax.data_pipelines.video.encode import Audio, Encoding, encode_image, encode_video
from ivjax.errors import UserError

RATE = 16_000
COLOURS = [(225, 35, 35), (45, 185, 55), (45, 90, 235), (245, 245, 245), (12, 12, 12)]


def moving(count, height=48, width=64):
    """A white bar that moves over a shade of grey."""
    frames = np.full((count, height, width, 3), 70, np.uint8)
    for number, frame in enumerate(frames):
        frame[:, 2 * number % width : 2 * number % width + 8] = 240
    return frames


def tone(seconds, hertz=440.0):
    return np.rint(8000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.int16)


def flat(colour, side=32):
    return np.broadcast_to(np.uint8(colour), (side, side, 3))


def as_decoded(frames):
    """The frames as a decoder would give them, with times and types of their own."""
    made = [av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="yuv420p") for frame in frames]
    for number, frame in enumerate(made):
        frame.pts, frame.time_base = 977 * number + 31, Fraction(1, 1000)
        frame.pict_type = av.video.frame.PictureType.I
    return made


def packets(payload):
    with av.open(io.BytesIO(payload)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("sound", [None, Audio(tone(3), RATE)])
@pytest.mark.parametrize("fps", [Fraction(12), Fraction(30000, 1001), Fraction(25, 2), Fraction(7, 3)])
def test_frame_k_is_shown_at_k_over_fps(fps, sound):
    payload = encode_video(moving(40), fps, audio=sound)
    with av.open(io.BytesIO(payload)) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert times == [number / fps for number in range(40)]
    assert probe(payload) == (40, float(fps), 64, 48, sound is not None, 0.0)


def test_the_same_frames_give_the_same_bytes_with_the_index_in_front():
    one, other = (encode_video(moving(30), Fraction(10), audio=Audio(tone(3), RATE)) for _ in range(2))
    assert one == other
    assert one.index(b"moov") < one.index(b"mdat")


def test_pictures_come_back_in_their_order():
    frames = moving(30)
    decoded = read_frames(encode_video(frames, Fraction(10), Encoding(crf=12)), range(30))
    assert np.abs(decoded.astype(int) - frames).mean() < 2


def test_an_odd_last_row_and_column_are_cut_off():
    frames = moving(5, 49, 65)
    payload = encode_video(frames, Fraction(5))
    assert probe(payload)[2:4] == (64, 48)
    assert payload == encode_video(frames[:, :48, :64], Fraction(5))


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_come_back(colour):
    decoded = read_frames(encode_video([flat(colour)] * 2, Fraction(5)), [1])
    np.testing.assert_allclose(decoded[0].mean((0, 1)), colour, atol=3)
    np.testing.assert_allclose(read_frames(encode_image(flat(colour)), [0])[0].mean((0, 1)), colour, atol=3)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_of_hd_and_full_range_sources_come_back(colour, full_range):
    frame = av.VideoFrame.from_ndarray(flat(colour), "rgb24")
    names = {"dst_colorspace": "ITU709", "dst_color_range": "JPEG" if full_range else "MPEG"}
    frame = frame.reformat(format="yuv420p", src_color_range="JPEG", **names)
    assert (frame.colorspace, frame.color_range) == (1, 2 if full_range else 1)
    decoded = read_frames(encode_video([frame] * 2, Fraction(5)), [1])
    np.testing.assert_allclose(decoded[0].mean((0, 1)), colour, atol=6)


def test_times_and_types_of_given_frames_do_not_matter():
    frames = as_decoded(moving(20))
    payload = encode_video(frames, Fraction(10))
    assert probe(payload).fps == 10
    assert sum(packet.is_keyframe for packet in packets(payload)) == 1
    assert payload == encode_video(as_decoded(moving(20)), Fraction(10))


def test_no_group_of_pictures_is_longer_than_asked():
    def keyframes(gop):
        payload = encode_video(moving(30), Fraction(10), Encoding(gop=gop))
        return [number for number, packet in enumerate(packets(payload)) if packet.is_keyframe]

    assert keyframes(1) == list(range(30))
    assert max(np.diff([*keyframes(6), 30])) <= 6
    assert keyframes(30) == [0]


def test_a_lower_crf_is_closer_to_the_frames():
    frames = (
        np.random.default_rng(0).integers(0, 256, (4, 12, 16, 3)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    )
    errors = []
    for crf in (5, 25, 45):
        decoded = read_frames(encode_video(frames, Fraction(4), Encoding(crf=crf)), range(4))
        errors.append(np.abs(decoded.astype(int) - frames).mean())
    assert errors == sorted(errors) and errors[2] > 1.5 * errors[0]


def test_sound_comes_back_in_step_with_the_pictures():
    samples = np.concatenate([np.zeros(RATE, np.int16), tone(1), np.zeros(RATE, np.int16)])
    payload = encode_video(moving(30), Fraction(10), audio=Audio(samples, RATE))
    with av.open(io.BytesIO(payload)) as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    decoded = np.concatenate(parts)[: len(samples)] * 32768
    assert np.square(decoded - samples).mean() < 0.01 * np.square(samples.astype(float)).mean()


def test_frames_that_make_no_video_are_named():
    with pytest.raises(ClipError, match="no frames"):
        encode_video([], Fraction(5))
    with pytest.raises(ClipError, match="frames change from"):
        encode_video([flat((0, 0, 0)), flat((0, 0, 0), 16)], Fraction(5))
    with pytest.raises(ClipError, match="absurd size: frames of 1 x 1"):
        encode_video([flat((0, 0, 0), 1)], Fraction(5))


def test_a_fault_of_the_source_passes_through():
    def broken():
        yield from moving(20)
        raise ClipError("truncated", "here it ends")

    with pytest.raises(ClipError, match="truncated: here it ends"):
        encode_video(broken(), Fraction(5))


def test_a_jpeg_of_worse_quality_is_smaller():
    picture = (
        np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    )
    sizes = [len(encode_image(picture, quality)) for quality in (1, 8, 31)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 2 * sizes[2]
    assert probe(encode_image(picture)) == (1, 0.0, 64, 64, False, 0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crf": 60}, "crf must be 0 to 51"),
        ({"gop": 0}, "gop at least 1"),
        ({"preset": "quick"}, "no preset 'quick'"),
    ],
)
def test_what_x264_does_not_know_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        Encoding(**wrong)
