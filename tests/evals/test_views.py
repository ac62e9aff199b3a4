"""Views of videos: which frames come, in which order, and what happens to broken media."""

import tarfile
import threading
from fractions import Fraction

import numpy as np
import pytest

from ivjax.data_pipelines.augment.geometry import View as Square
from ivjax.data_pipelines.augment.recipe import TEST
from ivjax.data_pipelines.sampling import Dense, Spread
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import Video, VideoFacts, read_frames
from ivjax.data_pipelines.video.encode import encode_image, encode_video
from ivjax.errors import UserError
from ivjax.evals import views
from ivjax.evals.views import VideoView, read_views, span
from tests.data_pipelines.footage import HEIGHT, WIDTH, coded, number_of, write_video

IMAGE = (32, 48)
PROBE = VideoFacts(50, 25.0, WIDTH, HEIGHT, False)


def numbers(found):
    return [number_of(picture) for picture in found]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("views") / "video.mp4", frames=100)


def test_the_middle_frame_of_each_equal_part_comes(path):
    (found,) = read_views([VideoView(path)], 4, IMAGE)
    assert found.shape == (4, *IMAGE, 3) and found.dtype == np.uint8
    assert numbers(found) == [12, 37, 62, 87]


@pytest.mark.parametrize(
    "view, expected",
    [
        (dict(start=1.0, end=3.0), [30, 43, 55, 68]),
        (dict(start=3.0), [77, 83, 89, 96]),
        (dict(end=0.16), [0, 1, 2, 3]),
        (dict(start=2.0, end=2.04), [50] * 4),
        (dict(parts=4, part=2), [52, 58, 64, 71]),
        (dict(start=3.96, end=9.0), [99] * 4),
    ],
)
def test_parts_and_times_choose_the_frames(path, view, expected):
    (found,) = read_views([VideoView(path, **view)], 4, IMAGE)
    assert numbers(found) == expected


def test_a_time_that_binary_fractions_miss_is_still_the_frame_that_is_meant():
    for number in range(49):
        assert span(VideoView("", number * 0.04, (number + 1) * 0.04), PROBE) == range(number, number + 1)
    assert span(VideoView("", start=0.29), PROBE._replace(fps=100.0)).start == 29
    for number in range(49):
        milliseconds = round(number * 1.001 / 30, 3)
        assert span(VideoView("", start=milliseconds), PROBE._replace(fps=30 / 1.001)).start == number


def test_the_parts_of_a_span_cover_it_once():
    for parts in (1, 3, 7):
        spans = [span(VideoView("", 0.2, 1.6, parts, part), PROBE) for part in range(parts)]
        assert [number for part in spans for number in part] == list(range(5, 40))
    assert span(VideoView("", 0.0, 0.08, parts=5, part=4), PROBE) == range(1, 2)


def test_pixels_are_those_of_the_test_recipe(path):
    (found,) = read_views([VideoView(path)], 2, IMAGE)
    box = TEST.box(WIDTH, HEIGHT, np.random.default_rng(0))
    with open(path, "rb") as file:
        np.testing.assert_array_equal(found, read_frames(file.read(), [24, 74], box, IMAGE))


@pytest.mark.parametrize("threads", [1, 3])
def test_views_come_in_their_order_whatever_holds_them(path, tmp_path, threads):
    short = write_video(tmp_path / "short.mp4", frames=10)
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        tar.add(short, "inner/a.mp4")
    payload = (tmp_path / "short.mp4").read_bytes()
    member = f"{tmp_path}/some.tar::inner/a.mp4"
    wanted = [VideoView(path, start=n / 5, end=(n + 1) / 5) for n in range(15)]
    wanted[3:3] = [VideoView(payload), VideoView(member), VideoView(tmp_path / "short.mp4")]
    found = [numbers(frames)[0] for frames in read_views(iter(wanted), 1, IMAGE, threads)]
    assert found == [2, 7, 12, 4, 4, 4, *range(17, 77, 5)]


def test_neighbouring_views_of_one_file_open_it_once(path, tmp_path, monkeypatch):
    opened = []

    class Counted(Video):
        def __init__(self, payload):
            opened.append(len(payload))
            super().__init__(payload)

    monkeypatch.setattr(views, "Video", Counted)
    other = write_video(tmp_path / "other.mp4", frames=10)
    wanted = [VideoView(path, part=n, parts=12) for n in range(12)] + [VideoView(other), VideoView(other)]
    assert all(isinstance(found, np.ndarray) for found in read_views(wanted, 1, IMAGE, 3))
    assert len(opened) == 2


def test_what_cannot_be_read_is_returned_with_its_cause_and_the_rest_goes_on(path, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(b"noise" * 100)
    with open(path, "rb") as file:
        cut = file.read(5000)
    picture = encode_image(coded(7))
    wanted = [
        VideoView(tmp_path / "none.mp4"),
        VideoView(tmp_path / "noise.mp4"),
        VideoView(tmp_path),
        VideoView(b""),
        VideoView(cut),
        VideoView(f"{tmp_path}/none.tar::a.mp4"),
        VideoView(path, start=4.0),
        VideoView(path, start=2.0, end=1.0),
        VideoView(picture, start=0.0, end=1.0),
    ]
    found = list(read_views([*wanted, VideoView(path)], 2, IMAGE))
    causes = [error.cause for error in found[:-1] if isinstance(error, ClipError)]
    assert causes == [
        "missing",
        "unreadable",
        "unreadable",
        "empty",
        "truncated",
        "missing",
        "past the end",
        "wrong times",
        "no frame rate",
    ]
    assert "none.mp4 is not there" in str(found[0]) and numbers(found[-1]) == [24, 74]


def test_a_broken_file_is_read_once_for_all_its_views(tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(views, "fetch", lambda path: fetched.append(path) or b"noise")
    found = list(read_views([VideoView("a", part=n, parts=9) for n in range(9)], 2, IMAGE))
    assert {error.cause for error in found} == {"unreadable"} and len(fetched) == 1


def test_an_image_is_repeated():
    (found,) = read_views([VideoView(encode_image(coded(7)))], 3, IMAGE)
    assert numbers(found) == [7, 7, 7]


def turned(payload, turns=1):
    """The same video with a note that it is to be turned by so many quarters, clockwise."""
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]
    upright, matrix = (
        b"".join((n % 2**16 << 16).to_bytes(4, "big") for n in numbers)
        for numbers in ((1, 0, 0, 0, 1), (cos, sin, 0, -sin, cos))
    )
    head, movie, track = payload.split(upright, 2)
    return head + upright + movie + matrix + track


def test_a_video_that_is_stored_turned_comes_upright():
    payload = turned(encode_video([coded(90)] * 4, Fraction(25)))
    (found,) = read_views([VideoView(payload)], 2, (48, 32))
    assert found.shape == (2, 48, 32, 3) and found.flags.c_contiguous
    across = np.rot90(found, axes=(1, 2))  # a clockwise turn back
    assert numbers(across) == [90, 90]


def test_few_views_are_decoded_ahead_and_leaving_early_ends_the_threads(path):
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield VideoView(path, start=1.0, end=1.1)

    before = threading.active_count()
    found = read_views(endless(), 1, IMAGE, threads=2)
    assert numbers(next(found)) == [25] and len(taken) <= 8
    found.close()
    assert threading.active_count() == before


def test_a_part_that_is_not_there_is_an_error():
    with pytest.raises(UserError, match="view=2 of views=2"):
        VideoView("a.mp4", parts=2, part=2)


def across(width, height):
    """A picture whose columns tell their places by red, whose rows by green."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(20, 235, width)
    picture[..., 1] = np.linspace(20, 235, height)[:, None]
    return picture


@pytest.mark.parametrize("width, height", [(96, 32), (32, 96)])
def test_crops_are_squares_along_the_longer_side(width, height):
    payload = encode_image(across(width, height))
    found = list(read_views([VideoView(payload, crop=Square(n, 3)) for n in range(3)], 1, (16, 16)))
    along, other = (0, 1) if width > height else (1, 0)
    middles = [frames[0, 4:12, 4:12].mean((0, 1)) for frames in found]
    for number, middle in enumerate(middles):
        assert abs(middle[along] - (20 + 215 * (16 + 32 * number) / 96)) < 6
        assert abs(middle[other] - 127.5) < 6


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_crops_of_a_turned_video_are_those_of_the_upright_picture(turns):
    payload = turned(encode_video([across(96, 32)] * 2, Fraction(25)), turns)
    with Video(payload) as video:
        whole = views.read_view(video, VideoView(payload), 1)
        assert whole.shape[1:3] == ((32, 96) if turns == 2 else (96, 32))
        for number in range(3):
            crop = Square(number, 3)
            x, y, side, _ = crop.box(*whole.shape[2:0:-1], np.random.default_rng(0))
            found = views.read_view(video, VideoView(payload, crop=crop), 1)
            expected = whole[:, y : y + side, x : x + side].astype(int)
            assert found.shape == expected.shape and np.abs(found - expected).max() < 8


def test_a_rule_chooses_among_the_frames_of_the_part(path):
    rules = [Dense(2, rate=4, view=n, views=2) for n in range(2)] + [Spread(2, "view", 1, 2)]
    wanted = [VideoView(path, start=1.0, end=2.0, rule=rule) for rule in rules]
    found = [numbers(frames) for frames in read_views(wanted, 2, IMAGE)]
    assert found == [[25, 29], [42, 46], [33, 45]]


def test_views_that_differ_in_their_crops_alone_are_decoded_once(path, monkeypatch):
    decoded = []

    class Counted(Video):
        def decode(self, indices):
            decoded.append(tuple(indices))
            return super().decode(indices)

    monkeypatch.setattr(views, "Video", Counted)
    wanted = [
        VideoView(path, rule=Dense(1, view=clip, views=2), crop=Square(n, 3))
        for clip in range(2)
        for n in range(3)
    ]
    found = list(read_views(wanted, 1, (16, 16), neighbours=6))
    assert decoded == [(0,), (96,)] and len(found) == 6
    assert np.abs(found[3].astype(int) - found[5]).max() > 100  # the bars of its left and right
