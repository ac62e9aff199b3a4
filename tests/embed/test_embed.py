"""`ivjax embed`: what the index holds, in which order, and what broken videos do to it."""

import json
from functools import partial

import numpy as np
import pytest

from ivjax import __version__
from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.store.records import Clip
from ivjax.embed.embed_captions import read_texts
from ivjax.embed.embed_videos import EmbedOptions, embed_videos
from ivjax.embed.index import IndexOrigin, IndexWriter, read_index
from ivjax.embed.media_list import MediaList
from ivjax.embed.windows import Windowing, plan_windows
from ivjax.errors import UserError
from ivjax.evals.items import Item
from ivjax.evals.views import VideoView, read_views
from ivjax.progress import Progress
from tests.data_pipelines.corpora import corpus_of
from tests.embed.fake import COLOURS, ColourEncoder, coloured, write_coloured
from tests.evals.fakes import unit

MADE = IndexOrigin("w", None, None, "/", 4, (16, 24), "0")
ORDER = ("red", "green", "blue", "red", "grey")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_coloured(folder / "a.mp4", *ORDER)
    write_coloured(folder / "b.mp4", "green")
    write_coloured(folder / "c.mp4", "blue", "red", seconds=0.6)
    return folder


def run(words, out, encoder=None, **options):
    windowing = Windowing(options.pop("window", None), options.pop("stride", None))
    encoder = encoder or ColourEncoder()
    outcome = embed_videos(
        encoder, MediaList(words), out, MADE, EmbedOptions(windowing, **options), lambda line: None
    )
    with np.load(out) as file:
        return outcome, dict(file)


def close_to(rows, names):
    np.testing.assert_allclose(rows, unit(np.array([COLOURS[n] for n in names]) - 20.0), atol=0.06)


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_are_the_windows_of_each_video_in_order(videos, tmp_path, threads):
    encoder = ColourEncoder()
    outcome, found = run([str(videos)], tmp_path / "i.npz", encoder, window=1.0, batch=3, threads=threads)
    assert found["video"].tolist() == [
        str(videos / name) for name in ("a.mp4",) * 5 + ("b.mp4", "c.mp4", "c.mp4")
    ]
    np.testing.assert_allclose(found["start"], [0, 1, 2, 3, 4, 0, 0, 0.2])
    np.testing.assert_allclose(found["end"], [1, 2, 3, 4, 5, 1, 1, 1.2])
    assert found["embeddings"].dtype == np.float32 and found["start"].dtype == np.float64
    close_to(found["embeddings"][:6], [*ORDER, "green"])
    assert [shape[0] for shape in encoder.seen] == [3, 3, 2] and encoder.seen[0][1:] == (4, 16, 24, 3)
    assert str(outcome) == "8 embeddings of 3 videos" and not outcome.broken


def test_a_whole_video_is_one_window(videos, tmp_path):
    _, found = run([str(videos / "c.mp4"), str(videos / "b.mp4")], tmp_path / "i.npz")
    np.testing.assert_allclose(found["end"], [1.2, 1.0])
    np.testing.assert_allclose(found["embeddings"][0], unit([105.0, 10, 105]), atol=0.06)


def test_batches_and_threads_change_no_number(videos, tmp_path):
    options = {"window": 0.5, "stride": 0.25}
    one = run([str(videos)], tmp_path / "1.npz", batch=1, threads=1, **options)[1]
    other = run([str(videos)], tmp_path / "4.npz", batch=4, threads=4, **options)[1]
    assert len(one["embeddings"]) > 20
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_clips_of_a_corpus_have_names_that_find_them(tmp_path):
    clips = [Clip(f"id{n}", coloured(name)) for n, name in enumerate(("red", "blue"))]
    folder = str(corpus_of(tmp_path / "corpus", clips, 1))
    _, found = run([folder], tmp_path / "i.npz")
    assert found["video"].tolist() == [f"{folder}::0::id0", f"{folder}::1::id1"]
    close_to(found["embeddings"], ["red", "blue"])


@pytest.mark.parametrize("half, dtype", [(False, np.float32), (True, np.float16)])
def test_tokens_are_stored_instead_of_embeddings(videos, tmp_path, half, dtype):
    _, found = run([str(videos / "a.mp4")], tmp_path / "i.npz", tokens=True, half=half, window=1.0)
    assert "embeddings" not in found
    assert found["tokens"].shape == (5, 4, 3) and found["tokens"].dtype == dtype
    for row, name in zip(found["tokens"], ORDER, strict=True):
        np.testing.assert_allclose(row, np.tile(COLOURS[name], (4, 1)), atol=8)


def test_tokens_and_a_vector_are_stored_together_in_one_pass(videos, tmp_path):
    encoder = ColourEncoder()
    options = {"tokens": True, "half": True, "feature": "pooled", "window": 1.0, "batch": 5}
    _, found = run([str(videos / "a.mp4")], tmp_path / "i.npz", encoder, **options)
    assert found["tokens"].shape == (5, 4, 3) and found["tokens"].dtype == np.float16
    assert found["embeddings"].dtype == np.float32 and encoder.seen == [(5, 4, 16, 24, 3)]
    close_to(found["embeddings"], ORDER)
    np.testing.assert_array_equal(read_index(tmp_path / "i.npz").embeddings, found["embeddings"])


def test_windows_are_read_by_the_view_that_is_given(videos, tmp_path):
    """Here the left half of the picture."""
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture[:, :, 4:] = 255

    class Left:
        def box(self, width, height, rng):
            return Box(0, 0, width // 2, height)

    item = Item("b", str(videos / "b.mp4"))
    (planned,) = plan_windows([item], Windowing(0.5), VideoView("", crop=Left()))
    assert [(view.media, view.start) for view in planned.views] == [(item.media, 0.0), (item.media, 0.5)]
    (pictures,) = read_views([VideoView(picture, crop=planned.views[0].crop)], 1, (2, 2))
    assert pictures.max() == 0


def test_a_log_shows_rate_and_time_left_of_what_the_model_has_seen(videos, tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 11))  # every look at it shows a line
    monkeypatch.setattr("ivjax.embed.embed_videos.Progress", partial(Progress, clock=lambda: next(clock)))
    lines = []
    options = EmbedOptions(Windowing(1.0), batch=2)
    embed_videos(ColourEncoder(), MediaList([str(videos)]), tmp_path / "i.npz", MADE, options, lines.append)
    # Two windows at a time: the fifth of the first video comes with the second video.
    assert [line.split(" of")[0] for line in lines[:5]] == ["0", "0", "2", "3", "3"]
    assert lines[2] == "2 of 3 videos (67%), 1.8 videos/min, 33 s left"


def test_broken_videos_are_left_out_and_named_once(videos, tmp_path):
    whole = (videos / "a.mp4").read_bytes()
    (tmp_path / "noise.mp4").write_bytes(b"noise" * 50)
    damaged = bytearray(whole)
    damaged[len(whole) // 2 :] = b"\xff" * (len(whole) - len(whole) // 2)
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    words = [tmp_path / "noise.mp4", videos / "b.mp4", tmp_path / "damaged.mp4", videos / "c.mp4"]
    outcome, found = run([str(word) for word in words], tmp_path / "i.npz", window=0.5)
    assert found["video"].tolist()[:2] == [str(videos / "b.mp4")] * 2
    assert found["video"].tolist()[-3:] == [str(videos / "c.mp4")] * 3
    close_to(found["embeddings"][:2], ["green"] * 2)
    assert {fault.clip for fault in outcome.broken} == {str(words[0]), str(words[2])}
    assert outcome.given == 4 and "2 of them broken" in str(outcome)


def test_when_nothing_can_be_embedded_nothing_is_left(tmp_path):
    (tmp_path / "noise.mp4").write_bytes(b"noise" * 50)
    with pytest.raises(
        UserError, match="none of 1 videos can be embedded; the first one: .*noise.mp4: unreadable"
    ):
        run([str(tmp_path / "noise.mp4")], tmp_path / "out" / "i.npz")
    assert not list((tmp_path / "out").iterdir())


def test_a_window_shorter_than_a_frame_is_named(videos, tmp_path):
    with pytest.raises(UserError, match="0.05 s is shorter than a frame of 0.100 s"):
        run([str(videos)], tmp_path / "i.npz", window=0.05)


class Broken(ColourEncoder):
    def video(self, clips):
        return super().video(clips) * (np.nan if len(self.seen) == 2 else 1)


def test_states_that_are_not_finite_end_the_run_and_leave_the_old_index(videos, tmp_path):
    (tmp_path / "i.npz").write_bytes(b"before")
    with pytest.raises(UserError, match="not finite; the weights are broken"):
        run([str(videos)], tmp_path / "i.npz", Broken(), window=1.0, batch=3)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("i.npz", b"before")]


def test_tokens_that_float16_cannot_hold_are_an_error(videos, tmp_path):
    class Large(ColourEncoder):
        def tokens(self, clips):
            return super().tokens(clips) * 1e4

    with pytest.raises(UserError, match="may exceed float16"):
        run([str(videos)], tmp_path / "i.npz", Large(), tokens=True, half=True)


def test_an_interrupted_run_leaves_nothing(videos, tmp_path):
    class Interrupted(ColourEncoder):
        def video(self, clips):
            if self.seen:
                raise KeyboardInterrupt
            return super().video(clips)

    with pytest.raises(KeyboardInterrupt):
        run([str(videos)], tmp_path / "i.npz", Interrupted(), window=1.0, batch=1)
    assert not list(tmp_path.iterdir())


def test_an_index_is_written_without_holding_its_rows(tmp_path):
    import tracemalloc

    block = np.arange(2**18, dtype=np.float32).reshape(1024, 256)  # 1 MiB
    tracemalloc.start()
    with IndexWriter(tmp_path / "i.npz") as writer:
        for number in range(64):
            writer.add({"embeddings": block + number}, text=["a"] * 1024)
        writer.finish(MADE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20
    with np.load(tmp_path / "i.npz") as file:
        np.testing.assert_array_equal(file["embeddings"][-1024:], block + 63)
        assert len(file["text"]) == len(file["embeddings"]) == 2**16
    assert [path.name for path in tmp_path.iterdir()] == ["i.npz"]


def test_what_cannot_be_written_is_an_error(videos, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="is a folder; name a file"):
        run([str(videos)], tmp_path)
    with pytest.raises(UserError, match="cannot be written: .*; make room or choose another folder"):
        run([str(videos)], tmp_path / "file" / "i.npz")


def test_options_that_do_not_fit_are_errors():
    with pytest.raises(UserError, match="--float16 needs --tokens"):
        EmbedOptions(half=True)
    with pytest.raises(UserError, match="batch must be 1 or more, got 0"):
        EmbedOptions(batch=0)


def test_lines_of_a_file_are_texts(tmp_path):
    (tmp_path / "t.txt").write_bytes("\ufeffA red square\n\n  blå  \n".encode())
    assert read_texts(tmp_path / "t.txt") == ["A red square", "blå"]
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    for name in ("bad.txt", "none.txt"):
        with pytest.raises(UserError, match=f"{name} cannot be read: .*UTF-8"):
            read_texts(tmp_path / name)


def test_the_origin_of_an_index_is_stored_as_json(tmp_path):
    with IndexWriter(tmp_path / "i.npz") as writer:
        writer.add({"embeddings": np.ones((1, 2))}, text=["a"])
        writer.finish(MADE)
    with np.load(tmp_path / "i.npz") as file:
        found = json.loads(file["metadata"].item())
    assert found["weights"] == "w" and found["image"] == [16, 24] and found["frames"] == 4
    assert __version__ and found["version"] == "0"
