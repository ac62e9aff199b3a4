"""Decoded clips in shared memory: the same pixels as the decoder's, whatever is asked of them."""

import io
import os
import subprocess
import sys
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video import frame_layout
from ivjax.data_pipelines.video.decode import Video
from ivjax.data_pipelines.video.encode import Encoding, encode_video
from ivjax.data_pipelines.video.frame_cache import CachedVideo, FrameCache, cache_file
from ivjax.errors import UserError
from tests.data_pipelines.corpora import make_clip

MIB = 1 / 1024  # of a GiB
REQUESTS = [
    ([0], None, None),
    ([5, 2, 2, 0], None, (24, 24)),
    ([1, 3], Box(3, 5, 17, 21), (40, 12)),
    ([4], Box(0, 0, 31, 31), None),
    ([0, 4], Box(3, 5, 17, 21), (40, 12)),
]


def noise(count, side=48, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, side, side, 3)).astype(np.uint8))


def tagged(colours, pixels="yuv420p", rotated=False):
    """A noisy video with colour tags, its frames in `pixels`."""
    file = io.BytesIO()
    with av.open(file, "w", "mov") as container:
        stream = container.add_stream("libx264", rate=10, options={"x264-params": colours, "g": "4"})
        stream.width, stream.height, stream.pix_fmt = 48, 48, pixels
        for frame in noise(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    payload = file.getvalue()
    return turned(payload) if rotated else payload


def turned(payload):
    """The same file with a matrix that says: turn by 90 degrees before it is shown."""
    upright = b"\x00\x01\x00\x00" + b"\x00" * 12 + b"\x00\x01\x00\x00"
    sideways = b"\x00" * 4 + b"\x00\x01\x00\x00" + b"\x00" * 4 + b"\xff\xff\x00\x00" + b"\x00" * 4
    place = payload.rindex(b"tkhd")
    return payload[:place] + payload[place:].replace(upright, sideways, 1)


PAYLOADS = {
    "h264": make_clip(3, frames=6).payload,
    "b-frames": encode_video(noise(6), Fraction(10), Encoding(gop=3, preset="medium")),
    "odd sides": encode_video(noise(6, side=34), Fraction(10)),
    "bt709": tagged("colormatrix=bt709:colorprim=bt709:transfer=bt709"),
    "full range": tagged("fullrange=on:colormatrix=smpte170m"),
    "chroma places": tagged("chromaloc=2:colormatrix=bt709"),
    "4:4:4": tagged("", "yuv444p"),
    "10 bits": tagged("", "yuv420p10le"),
    "rotated": tagged("", rotated=True),
}


@pytest.fixture
def cache():
    with cache_file(4 * MIB, 16) as file:
        yield FrameCache(file.fileno(), 16)


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_request_gives_the_pixels_of_the_decoder(cache, name):
    payload = PAYLOADS[name]
    for indices, box, size in REQUESTS:
        with Video(payload) as video, cache.open(0, payload) as cached:
            assert isinstance(cached, CachedVideo) and cached.probe == video.probe
            np.testing.assert_array_equal(cached.read(indices, box, size), video.read(indices, box, size))
    assert cache.counts()[2:] == (len(REQUESTS) - 1, 1)


@pytest.mark.parametrize("kind", ["jpeg", "png", "png16", "palette"])
def test_images_give_the_pixels_of_the_decoder(cache, kind):
    from PIL import Image

    file = io.BytesIO()
    image = Image.fromarray(noise(1)[0])
    if kind == "palette":
        image = image.quantize(16)
    elif kind == "png16":
        image = Image.fromarray(np.arange(48 * 48, dtype=np.uint16).reshape(48, 48) * 20)
    image.save(file, format="jpeg" if kind == "jpeg" else "png")
    for _ in range(2):
        with Video(file.getvalue()) as video, cache.open(0, file.getvalue()) as cached:
            for box, size in ((None, (24, 24)), (Box(1, 2, 30, 20), (12, 16))):
                np.testing.assert_array_equal(cached.read([0, 0], box, size), video.read([0, 0], box, size))


def test_the_rotated_clip_says_so():
    with Video(PAYLOADS["rotated"]) as video:
        assert abs(video.decode([0])[0].rotation) == 90


def test_frames_that_are_not_there_are_an_error(cache):
    payload = PAYLOADS["h264"]
    for _ in range(2):
        with cache.open(0, payload) as cached, pytest.raises(ClipError, match="wrong frames"):
            cached.read([6])


def test_a_filter_that_has_failed_shows_no_frame_of_before(cache, monkeypatch):
    payload, size = PAYLOADS["h264"], (24, 24)

    def fail(graph, frames):
        graph.push(frames[0])
        raise MemoryError

    with Video(payload) as video, cache.open(0, payload) as cached:
        with monkeypatch.context() as failing:
            failing.setattr(frame_layout, "apply_graph", fail)
            with pytest.raises(MemoryError):
                cached.read([0], None, size)
        np.testing.assert_array_equal(cached.read([5], None, size), video.read([5], None, size))


def test_pictures_of_one_crop_and_size_are_stored_when_they_come_again_and_again(cache):
    payload = PAYLOADS["bt709"]
    box, size, sizes = Box(3, 5, 17, 21), (20, 12), []
    for visit in range(6):
        indices = [visit % 6, (visit * 2) % 6, 3]
        with Video(payload) as video, cache.open(0, payload) as cached:
            np.testing.assert_array_equal(cached.read(indices, box, size), video.read(indices, box, size))
        sizes.append(cache.counts().bytes)
    assert sizes[1] == sizes[0] and sizes[5] == sizes[2] >= sizes[0] + 6 * 20 * 12 * 3
    for other in ((None, size), (Box(3, 5, 17, 20), size), (box, (12, 20)), (box, None)):
        with Video(payload) as video, cache.open(0, payload) as cached:
            for _ in range(4):
                np.testing.assert_array_equal(cached.read([2, 0], *other), video.read([2, 0], *other))
    assert cache.counts().bytes == sizes[5]


def test_crops_that_change_store_no_pictures(cache):
    payload = PAYLOADS["h264"]
    sizes = []
    for visit in range(9):
        box = Box(visit % 2, 0, 20, 20)
        with Video(payload) as video, cache.open(0, payload) as cached:
            np.testing.assert_array_equal(cached.read([1], box, (8, 8)), video.read([1], box, (8, 8)))
        sizes.append(cache.counts().bytes)
    assert len(set(sizes)) == 1


def test_pictures_that_do_not_fit_are_made_at_each_visit():
    payload = PAYLOADS["h264"]
    with cache_file(12_000 / 2**30, 1) as file:
        cache = FrameCache(file.fileno(), 1)
        for _ in range(5):
            with Video(payload) as video, cache.open(0, payload) as cached:
                assert isinstance(cached, CachedVideo)
                expected = video.read([0, 5], None, (64, 64))
                np.testing.assert_array_equal(cached.read([0, 5], None, (64, 64)), expected)
        assert cache.counts().bytes <= 12_000


def test_a_process_that_ends_while_it_makes_room_for_pictures_leaves_none(cache, monkeypatch):
    payload, size = PAYLOADS["h264"], (20, 12)
    cache.memory.view(0, 3 << 20)[:] = 255  # what clips have left that could not be cached
    with Video(payload) as video, cache.open(0, payload) as cached:
        expected = video.read([1], None, size)
        for _ in range(2):
            np.testing.assert_array_equal(cached.read([1], None, size), expected)
        with monkeypatch.context() as ending:
            ending.delattr(type(cache.memory), "view")  # called when the room is taken, to clear it
            with pytest.raises(AttributeError):
                cached.read([1], None, size)
        for _ in range(2):
            np.testing.assert_array_equal(cached.read([1], None, size), expected)


def test_what_does_not_fit_is_decoded_as_before():
    payloads = [make_clip(number, frames=8).payload for number in range(4)]
    with cache_file(30_000 / 2**30, 4) as file:  # room for two clips of 8 frames of 32 x 32
        cache = FrameCache(file.fileno(), 4)
        for _ in range(2):
            kinds = [type(cache.open(number, payload)) for number, payload in enumerate(payloads)]
            assert kinds == [CachedVideo, CachedVideo, Video, Video]
        counts = cache.counts()
    assert (counts.clips, counts.hits, counts.misses) == (2, 2, 6)
    assert counts.bytes <= 30_000


@pytest.mark.parametrize("kind", ["cut", "overwritten"])
def test_a_damaged_clip_gives_what_its_decoder_gives(cache, kind):
    whole = encode_video(noise(24), Fraction(10), Encoding(gop=6))
    payload = damaged_payload(whole, kind)
    for _ in range(3):
        for index in (0, 23):
            assert outcome(lambda: Video(payload), index) == outcome(lambda: cache.open(0, payload), index)
    assert cache.counts().clips == 0
    with cache.open(1, whole) as cached:  # the room that the damaged one had taken is given back
        assert isinstance(cached, CachedVideo)
        assert cache.counts().bytes < 24 * 48 * 64 * 2


def damaged_payload(payload, kind):
    if kind == "cut":
        return payload[: len(payload) * 3 // 4]
    start = len(payload) * 3 // 4
    noise = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8).tobytes()
    return payload[:start] + noise + payload[start + 5000 :]


def outcome(opened, index):
    try:
        with opened() as video:
            return video.read([index]).tobytes()
    except ClipError as error:
        return error.cause


def test_a_process_that_ends_while_it_writes_leaves_no_entry():
    """The second process ends inside a clip; the others go on without that clip and without a lock."""
    payload = make_clip(0, frames=8).payload
    with cache_file(MIB, 4) as file:
        code = (
            "import os, sys\n"
            "from ivjax.data_pipelines.video import frame_cache\n"
            "cache = frame_cache.FrameCache(int(sys.argv[1]), 4)\n"
            "payload = sys.stdin.buffer.read()\n"
            "cache.open(0, payload)\n"
            "write = frame_cache.FrameLayout.write\n"
            "def end(layout, frame, target):\n"
            "    if frame.pts and cache._entries['state'][1]: os._exit(9)\n"
            "    write(layout, frame, target)\n"
            "frame_cache.FrameLayout.write = end\n"
            "cache.open(1, payload)\n"
        )
        command = [sys.executable, "-c", code, str(file.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        ended = subprocess.run(command, input=payload, pass_fds=[file.fileno()], env=environment)
        assert ended.returncode == 9
        cache = FrameCache(file.fileno(), 4)
        kinds = [type(cache.open(number, payload)) for number in range(4)]
        assert kinds == [CachedVideo, Video, CachedVideo, CachedVideo]
        with Video(payload) as video:
            for number in range(4):
                found = cache.open(number, payload).read(range(8))
                np.testing.assert_array_equal(found, video.read(range(8)))


def test_many_threads_at_the_same_clips_get_the_same_pixels():
    payloads = [make_clip(number, frames=8).payload for number in range(6)]
    with cache_file(MIB, 6) as file:
        cache = FrameCache(file.fileno(), 6)
        found = []

        def read():
            for number, payload in enumerate(payloads):
                with cache.open(number, payload) as video:
                    found.append((number, video.read([1, 6], None, (20, 20)).tobytes()))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 24 and len(set(found)) == 6
        assert cache.counts().clips == 6


def test_a_cache_larger_than_the_machine_is_an_error():
    for gib in (1e6, -1.0):
        with pytest.raises(UserError, match="data.cache_gib=.* below the memory of this machine"):
            cache_file(gib, 4)


def test_what_a_field_makes_is_made_once_and_again_where_it_does_not_fit(cache):
    made = []

    def full(count):
        return np.full((count, 8), count, np.float32)

    def rows(count):
        made.append(count)
        return full(count)

    for _ in range(2):
        for number, count in enumerate((3, 0, 5)):
            np.testing.assert_array_equal(cache.kept(number, 8, lambda count=count: rows(count)), full(count))
    assert made == [3, 0, 5]
    # Of another field, or too large: made at each visit.
    for number, columns, count in ((0, 4, 3), (7, 8, 2**20)):
        for _ in range(2):
            cache.kept(number, columns, lambda count=count: rows(count))
    assert made[3:] == [3, 3, 2**20, 2**20]
    np.testing.assert_array_equal(cache.kept(0, 8, lambda: rows(9)), full(3))
