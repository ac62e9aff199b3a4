"""Long videos: chosen frames from the disk, and clips that are decoded ahead."""

import threading

import numpy as np
import pytest

from ivjax.data_pipelines.demo.needle_video import NeedleVideo
from ivjax.data_pipelines.demo.scene import COLOURS
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.clip_stream import ClipStream
from ivjax.data_pipelines.video.decode import Video
from ivjax.data_pipelines.video.file_video import FileVideo, open_video
from ivjax.errors import UserError
from tests.data_pipelines.footage import number_of, write_video


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", 250)


@pytest.mark.parametrize("wanted", [range(20), range(0, 250, 60), [249, 0, 0, 100, 99], range(3, 250, 7)])
def test_frames_from_the_disk_are_those_of_the_file_in_memory(path, wanted):
    with FileVideo(path) as large, open_video(path, size=1) as small:
        assert isinstance(small, Video) and large.probe == small.probe
        np.testing.assert_array_equal(large.read(wanted), small.read(wanted))
        np.testing.assert_array_equal(large.read([5, 7], size=(32, 48)), small.read([5, 7], size=(32, 48)))
        with pytest.raises(ClipError, match="frames .250. of 250"):
            large.read([250])
    with open_video(path, size=2**30) as opened:
        assert isinstance(opened, FileVideo)


def test_a_stream_gives_all_clips_in_order_and_holds_few(path):
    class Counting:
        def __init__(self, video):
            self.video, self.read_so_far = video, 0

        def read(self, indices, box=None, size=None):
            self.read_so_far += len(indices)
            return self.video.read(indices, box, size)

    with Video(open(path, "rb").read()) as video:
        counting = Counting(video)
        with ClipStream(counting, np.arange(0, 240, 2), (64, 96), clip=4, batch=5, ahead=1) as stream:
            first = next(stream)
            assert first.shape == (5, 4, 64, 96, 3)
            # One batch is in hand, one waits, and one may be under way.
            threading.Event().wait(0.3)
            assert counting.read_so_far <= 3 * 20
            rest = list(stream)
        clips = np.concatenate([first, *rest])
        assert [number_of(picture) for picture in clips.reshape(-1, 64, 96, 3)] == list(range(0, 240, 2))
        with ClipStream(video, range(120), (64, 96), clip=4) as stream:
            next(stream)  # closed before its end
    assert threading.active_count() < 20


def test_faults_of_a_stream_come_where_their_clips_would(path):
    with Video(open(path, "rb").read()) as video:
        with ClipStream(video, [*range(8), *range(300, 308)], (64, 96), clip=4, batch=2) as stream:
            assert len(next(stream)) == 2
            with pytest.raises(ClipError, match="wrong frames"):
                next(stream)
        with pytest.raises(UserError, match="9 frames are no whole clips of 4"):
            ClipStream(video, range(9), (64, 96), clip=4)


def test_a_needle_video_is_drawn_frame_by_frame_and_shows_its_answer():
    video = NeedleVideo(seed=1, number=0, frames=2000, depth=0.7)
    (start,) = video.starts
    assert start == 1400 and video.probe.frames == 2000
    with ClipStream(video, range(start - 4, start + 8), (56, 56), clip=4, batch=1) as stream:
        before, needle, _ = stream
    assert (needle == needle[0]).all() and not (before == needle).all()
    row = video.row()
    answer = dict(zip("ABCD", row["options"], strict=True))[row["answer"]]
    centre = needle[0, 0, 28, 28].astype(int)
    nearest = min(COLOURS, key=lambda name: np.abs(np.array(COLOURS[name]) - centre).sum())
    assert nearest == answer
    chain = NeedleVideo(seed=1, number=1, frames=64, hops=3)
    assert chain.starts == [0, 28, 60] and len(set(chain.row()["options"])) == 4
    assert chain.training_row()["conversations"][0]["value"].startswith("<video>\nBegin with the ")
    again = NeedleVideo(seed=1, number=0, frames=2000, depth=0.7)
    np.testing.assert_array_equal(again.read([start, 0]), video.read([start, 0]))
    with pytest.raises(UserError, match="too short for 3 odd scenes"):
        NeedleVideo(0, 0, frames=20, hops=3)
