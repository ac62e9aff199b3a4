"""Frames of every kind of video equal, pixel for pixel, those of the ffmpeg program."""

import importlib.util
import shutil
import subprocess

import numpy as np
import pytest

from ivjax.data_pipelines.video.decode import Video
from ivjax.data_pipelines.video.footage import Footage, exact
from ivjax.evals.views import VideoView, read_views
from tests.data_pipelines.kinds import KINDS

pytestmark = pytest.mark.slow
_KINDS = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def program():
    """The ffmpeg of the machine, or that of the package imageio-ffmpeg; None if there is none."""
    if found := shutil.which("ffmpeg"):
        return found
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return None
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


@pytest.fixture(scope="module")
def ffmpeg():
    """Runs ffmpeg on a file with filters and gives the bytes of each frame, of `size` bytes."""
    found = program()
    if found is None:
        pytest.skip("there is no ffmpeg program; install it or the package imageio-ffmpeg")

    def run(path, filters, pixels, size, *options):
        command = [found, "-v", "error", *options, "-i", str(path), "-map", "0:v:0", "-vf", filters]
        command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", pixels, "-"]
        out = subprocess.run(command, capture_output=True, check=True).stdout
        assert len(out) % size == 0
        return [out[start : start + size] for start in range(0, len(out), size)]

    return run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for kind in KINDS:
        kind.draw(folder / kind.name)
    return folder


def filters_of(kind, *more):
    """The deinterlacer where it is due, and more filters."""
    due = ["bwdif=mode=send_frame:deint=interlaced"] if "deinterlaced" in kind.remarks else []
    return ",".join([*due, *more, "null"])


def raw(frame):
    """The bytes of a frame as ffmpeg writes them: rows of all planes without padding."""
    depth = 4 if frame.format.is_rgb else -(-frame.format.components[0].bits // 8)
    rows = []
    for plane in frame.planes:
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]
        rows.append(lines[:, : plane.width * depth].tobytes())
    return b"".join(rows)


def assert_equal(kind, frames, expected):
    """All frames are the same bytes."""
    found = [raw(frame) for frame in frames]
    assert len(found) == len(expected)
    # FFmpeg 8 leaves two rows at the edges of the first interlaced picture as they are, later ones do not.
    first = 1 if "deinterlaced" in kind.remarks else 0
    assert [n for n in range(first, len(found)) if found[n] != expected[n]] == []


def pictures(footage, start=None, end=None):
    return [shown.picture for shown in footage.frames(start, end)]


@_KINDS
def test_the_builder_reads_the_frames_of_ffmpeg(drawn, ffmpeg, kind):
    with Footage(str(drawn / kind.name)) as footage:
        frames = pictures(footage)
        pixels, size = frames[0].format.name, len(raw(frames[0]))
        expected = ffmpeg(drawn / kind.name, filters_of(kind), pixels, size, "-noautorotate")
        assert_equal(kind, frames, expected)
        if kind.name.endswith(".avi"):
            return  # its times are those of decoding; ffmpeg's first frame comes one frame late, ours at 0
        # By the clock of a player, half a millisecond early because annotations are rounded.
        trim = filters_of(kind, "trim=start=0.1995:end=0.5995")
        expected = ffmpeg(drawn / kind.name, trim, pixels, size, "-noautorotate")
        assert_equal(kind, pictures(footage, exact(0.2), exact(0.6)), expected)


@_KINDS
def test_evals_and_training_read_the_frames_of_ffmpeg(drawn, ffmpeg, kind):
    with Video((drawn / kind.name).read_bytes()) as video:
        frames = video.decode(range(video.probe.frames))
        pixels, size = frames[0].format.name, len(raw(frames[0]))
        rate = [f"fps={kind.fps}:round=near"] if "steadied" in kind.remarks else []
        filters = filters_of(kind, *rate)
        expected = ffmpeg(drawn / kind.name, filters, pixels, size, "-noautorotate")
        assert_equal(kind, frames, expected)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.turns], ids=lambda kind: kind.name)
def test_turned_pictures_stand_upright_as_those_of_ffmpeg_do(drawn, ffmpeg, kind):
    count, size = len(kind.numbers), (64, 96)
    expected = ffmpeg(drawn / kind.name, "null", "rgb24", 64 * 96 * 3)
    (found,) = read_views([VideoView(drawn / kind.name)], count, size)
    truth = np.stack([np.frombuffer(frame, np.uint8).reshape(64, 96, 3) for frame in expected])
    assert np.abs(found.astype(int) - truth).mean() < 2
