"""Chosen frames: the same however they are asked for, and from one opened clip more than once."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import Video, probe, read_frames
from ivjax.data_pipelines.video.encode import Encoding, encode_image, encode_video

FRAMES = 40


def picture(number):
    rng = np.random.default_rng(number // 10)
    ground = rng.integers(0, 256, (12, 16, 3)).repeat(4, 0).repeat(4, 1)
    return np.roll(ground, 3 * number, 1).astype(np.uint8)


@pytest.fixture(scope="module", params=[(7, "veryfast"), (250, "medium")], ids=["short", "long"])
def clip(request):
    gop, preset = request.param
    return encode_video(map(picture, range(FRAMES)), Fraction(25), Encoding(gop=gop, preset=preset))


@pytest.fixture(scope="module")
def whole(clip):
    return read_frames(clip, range(FRAMES))


def test_frames_left_out_change_no_pixel_of_the_others(clip, whole):
    assert len(np.unique(whole.reshape(FRAMES, -1), axis=0)) == FRAMES
    for number in range(FRAMES):
        np.testing.assert_array_equal(read_frames(clip, [number])[0], whole[number])
    wanted = [39, 5, 5, 0, 22]
    np.testing.assert_array_equal(read_frames(clip, wanted), whole[wanted])


def test_only_the_part_of_a_long_video_that_is_asked_for_is_decoded():
    payload = bytearray(encode_video(map(picture, range(200)), Fraction(25), Encoding(gop=12)))
    wanted = [100, 105]
    asked = read_frames(bytes(payload), wanted)
    # Without the pictures of all other groups, the part is still whole.
    with av.open(io.BytesIO(payload)) as container:
        for packet in container.demux(video=0):
            if packet.pts is not None and not 84 <= packet.pts * packet.time_base * 25 < 120:
                payload[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    np.testing.assert_array_equal(read_frames(bytes(payload), wanted), asked)
    with pytest.raises(ClipError):
        read_frames(bytes(payload), [0, 105])


def test_an_opened_clip_is_read_again_and_again(clip, whole):
    with Video(clip) as video:
        for wanted in ([30, 39], [0, 1, 2], [39], [17], range(FRAMES)):
            np.testing.assert_array_equal(video.read(wanted), whole[wanted])


def test_a_box_is_cut_out_before_resizing(clip, whole):
    found = read_frames(clip, [3, 20], Box(8, 4, 40, 30))
    np.testing.assert_allclose(found.astype(int), whole[[3, 20], 4:34, 8:48], atol=60)
    assert np.abs(found.astype(int) - whole[[3, 20], 4:34, 8:48]).mean() < 2
    assert read_frames(clip, [3], Box(8, 4, 40, 30), (15, 20)).shape == (1, 15, 20, 3)


def test_an_image_is_a_video_of_one_frame():
    payload = encode_image(picture(0))
    assert probe(payload) == (1, 0.0, 64, 48, False, 0.0)
    assert np.abs(read_frames(payload, [0])[0].astype(int) - picture(0)).mean() < 15
    with pytest.raises(ClipError, match="wrong frames: frames \\[1\\] of 1"):
        read_frames(payload, [1])
