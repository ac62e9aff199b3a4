"""`ivjax search`, and both commands from end to end with an encoder of colours."""

import argparse
import dataclasses
import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from ivjax import __version__
from ivjax.cli import embed as embed_command
from ivjax.cli import search as search_command
from ivjax.embed.index import Index, IndexOrigin, IndexWriter, read_index
from ivjax.embed.index_search import nearest, search
from ivjax.embed.media_list import found_from
from ivjax.errors import UserError
from tests.embed.fake import ColourEncoder, write_coloured
from tests.evals.fakes import unit

MADE = IndexOrigin("w", None, None, "/", 4, (16, 24), "0")


def command(*words):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    embed_command.add(commands)
    search_command.add(commands)
    options = parser.parse_args([str(word) for word in words])
    return options.run(options)


@pytest.fixture
def opened(monkeypatch):
    """The arguments of `open_pairs` and `open_embedder`, which give the encoder of colours."""
    calls = []

    def open_encoder(*arguments):
        calls.append(arguments)
        return ColourEncoder()

    for name, function in (("pair_model", "open_pairs"), ("features", "open_embedder")):
        module = types.ModuleType(f"ivjax.evals.{name}")
        setattr(module, function, open_encoder)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_coloured(tmp_path / "videos" / "a.mp4", "grey", "red", "blue")
    write_coloured(tmp_path / "videos" / "b.mp4", "green", "grey")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def index_of(vectors, **columns):
    return Index("i.npz", np.asarray(vectors, np.float32), {k: np.array(v) for k, v in columns.items()}, MADE)


def test_of_windows_that_overlap_the_best_is_shown():
    reds = [0.2, 0.8, 0.95, 0.75, 0.1, 0.9, 0.3]
    vectors = unit([[r, 1 - r, 0] for r in reds])
    index = index_of(
        vectors, video=["a"] * 5 + ["b"] * 2, start=[0, 1, 2, 3, 4, 2, 4], end=[2, 3, 4, 5, 6, 4, 6]
    )
    (hits,) = search(index, ColourEncoder(), ["red"], top=9)
    assert [(hit.video, hit.start) for hit in hits] == [("a", 2), ("b", 2), ("b", 4), ("a", 0), ("a", 4)]
    np.testing.assert_allclose(
        [hit.score for hit in hits], vectors[[2, 5, 6, 0, 4]] @ unit([200, 10, 10]), rtol=1e-5
    )
    assert [hit.video for hit in search(index, ColourEncoder(), ["red"], top=2)[0]] == ["a", "b"]


def test_a_large_index_gives_the_hits_of_a_plain_sort():
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(9001, 3)))
    times = np.arange(9001.0)
    index = index_of(vectors, video=["v"] * 9001, start=times, end=times + 1)
    queries = ["red", "blue", "green red"]
    found = search(index, ColourEncoder(), queries, top=20)
    for hits, query in zip(found, ColourEncoder().text(queries), strict=True):
        expected = np.argsort(-(vectors @ query))[:20]
        assert [hit.start for hit in hits] == expected.tolist()


@pytest.mark.parametrize(
    "queries, top, message",
    [(["red", "?!"], 5, "the query '\\?!' has no words"), (["red"], 0, "--top must be 1 or more, got 0")],
)
def test_queries_that_ask_nothing_are_errors(queries, top, message):
    with pytest.raises(UserError, match=message):
        search(index_of(np.eye(3), text=["a", "b", "c"]), ColourEncoder(), queries, top)


def test_an_index_of_another_width_is_an_error():
    with pytest.raises(UserError, match=r"embeddings of 4 numbers and the model makes 3; .*\(w\)"):
        search(index_of(np.eye(4), text=["a"] * 4), ColourEncoder(), ["red"])


def write(path, rows, kind="embeddings", **columns):
    with IndexWriter(path, {kind: np.float32}) as writer:
        writer.add({kind: rows}, **columns)
        writer.finish(MADE)


def test_files_that_are_no_index_are_errors(tmp_path):
    path = tmp_path / "i.npz"
    with pytest.raises(UserError, match=r"there is no index .*i\.npz; make one with `ivjax embed`"):
        read_index(path)
    for content in (b"", b"noise" * 30, b"PK\x03\x04" + b"\0" * 50):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a complete index"):
            read_index(path)
    np.savez(path, embeddings=np.ones((1, 3)))
    with pytest.raises(UserError, match="is not a complete index"):
        read_index(path)
    np.savez(path, embeddings=np.ones((0, 3)), metadata=np.array(json.dumps(MADE.__dict__)))
    with pytest.raises(UserError, match="is empty; embed some videos"):
        read_index(path)
    write(path, np.ones((2, 3)), video=["a", "b"])
    with pytest.raises(UserError, match="does not say what each embedding is"):
        read_index(path)
    write(path, np.ones((2, 5, 3)), "tokens", video=["a", "b"], start=[0, 0], end=[1, 1])
    with pytest.raises(UserError, match="holds no embeddings to search; embed the videos with --pooled too"):
        read_index(path)


def test_a_search_finds_the_red_clip(folder, opened, capsys):
    assert command("embed", "videos", "--weights", "w", "--preset", "p", "--window", 1, "--out", "i.npz") == 0
    assert capsys.readouterr().out == "i.npz: 5 embeddings of 2 videos\n"
    assert command("search", "i.npz", "Red!", "green", "--top", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[3]] == ["Red!:", "green:"] and len(lines) == 6
    assert lines[1].endswith("  videos/a.mp4  1.00-2.00 s") and lines[4].endswith(
        "  videos/b.mp4  0.00-1.00 s"
    )
    assert opened[0] == ("w", "p", 16, None, "video") and opened[1][:3] == ("w", "p", None)
    origin = read_index(folder / "i.npz").origin
    assert (origin.version, origin.folder, origin.window, origin.stride) == (__version__, str(folder), 1, 1)


def test_a_search_by_video_finds_what_looks_like_it_in_any_index(folder, opened, capsys):
    write_coloured(folder / "query.mp4", "blue")
    command("embed", "videos", "--weights", "w", "--window", 1, "--out", "i.npz")
    capsys.readouterr()
    assert command("search", "i.npz", "green", "--video", "query.mp4", "--top", 1, "--json") == 0
    green, blue = map(json.loads, capsys.readouterr().out.splitlines())
    assert green["query"] == "green" and green["hits"][0]["video"] == "videos/b.mp4"
    assert blue["query"] == "query.mp4" and (blue["hits"][0]["video"], blue["hits"][0]["start"]) == (
        "videos/a.mp4",
        2.0,
    )
    assert 0.99 < blue["hits"][0]["score"] <= 1.0001
    assert opened[-1] == ("w", None, 8, None, "video")
    (folder / "noise.mp4").write_bytes(b"noise" * 50)
    with pytest.raises(UserError, match="the video noise.mp4 cannot be looked for: .*; name another one"):
        command("search", "i.npz", "--video", "noise.mp4")
    with pytest.raises(
        UserError, match="nothing to look for; give words, a video with --video FILE or a sound with --audio"
    ):
        command("search", "i.npz")


def test_features_that_are_no_unit_vectors_are_ranked_by_their_cosine():
    rows = np.array([[100.0, 90, 90], [0.1, 0, 0], [0, 5, 0]])
    origin = dataclasses.replace(MADE, feature="mean")
    index = Index("i.npz", rows.astype(np.float32), {"text": np.array(["grey", "red", "green"])}, origin)
    ((first, second, third),) = nearest(index, np.array([[1.0, 0, 0]], np.float32), 3)
    assert (first.text, second.text, third.text) == ("red", "grey", "green")
    np.testing.assert_allclose(first.score, 1, rtol=1e-6)


def test_a_search_prints_json(folder, opened, capsys):
    command("embed", "videos/*.mp4", "--weights", "w", "--window", 1, "--out", "i.npz")
    capsys.readouterr()
    assert command("search", "i.npz", "blue", "red", "--top", 1, "--json", "--weights", "other") == 0
    blue, red = map(json.loads, capsys.readouterr().out.splitlines())
    assert blue["query"] == "blue" and red["hits"][0]["start"] == 1.0
    assert blue["hits"][0].keys() == {"score", "video", "start", "end"}
    assert 0.97 < blue["hits"][0]["score"] <= 1.0001 and opened[-1][:2] == ("other", None)


def test_a_search_from_elsewhere_finds_weights_and_videos(folder, opened, monkeypatch, capsys):
    (folder / "w").write_bytes(b"")
    command("embed", "videos", "--weights", "w", "--window", 1, "--out", "i.npz")
    (folder / "away").mkdir()
    monkeypatch.chdir(folder / "away")
    assert command("search", "../i.npz", "red", "--top", 1, "--png", "hits.png") == 0
    assert opened[-1][0] == str(folder / "w")
    assert found_from("w#encoder", str(folder)) == f"{folder}/w#encoder"  # a branch of a file
    assert found_from("gone#encoder", str(folder)) == "gone#encoder"
    with Image.open("hits.png") as image:
        assert np.abs(np.asarray(image)[60, 80].astype(int) - (220, 30, 30)).max() < 20


def test_the_sheet_shows_frames_of_each_hit_and_why_some_are_missing(folder, opened, capsys):
    command("embed", "videos", "--weights", "w", "--window", 1, "--out", "i.npz")
    (folder / "videos" / "b.mp4").unlink()
    assert command("search", "i.npz", "red", "green", "--top", 1, "--png", "new/hits.png") == 0
    with Image.open(folder / "new" / "hits.png") as image:
        drawn = np.asarray(image.convert("RGB")).astype(int)
    assert drawn.shape[1] == 6 * 166 + 6
    height = 126 + 2 * 18 + 12
    for place in range(6):
        cell = drawn[6:126, 6 + place * 166 : 166 + place * 166]
        assert np.abs(cell - (220, 30, 30)).max() < 25
    assert (drawn[130:height] < 100).all(-1).any()
    lost = drawn[height:]
    assert 3 * 18 <= len(lost) < 120
    assert ((lost[..., 0] > 150) & (lost[..., 1] < 60)).sum() > 20


def test_captions_are_embedded_and_searched(folder, opened, capsys):
    (folder / "more.txt").write_text("blue sky\nGreen, green!\n")
    words = ("--text", "a red car", "--texts", "more.txt", "--weights", "w", "--out", "t.npz")
    assert command("embed", *words) == 0
    assert capsys.readouterr().out == "t.npz: 3 embeddings of 3 texts\n"
    assert read_index(folder / "t.npz").columns["text"].tolist() == ["a red car", "blue sky", "Green, green!"]
    command("search", "t.npz", "GREEN green", "--top", 1)
    assert capsys.readouterr().out == "GREEN green:\n  1.0000  Green, green!\n"
    with pytest.raises(UserError, match="holds texts, of which there are no pictures"):
        command("search", "t.npz", "green", "--png", "hits.png")


def test_broken_videos_are_listed_and_fail_unless_skipped(folder, opened, capsys):
    (folder / "videos" / "noise.mp4").write_bytes(b"noise" * 50)
    words = ("embed", "videos", "--weights", "w", "--out", "i.npz")
    assert command(*words) == 1
    printed = capsys.readouterr()
    assert "  videos/noise.mp4: unreadable: " in printed.err
    assert printed.out == "i.npz: 2 embeddings of 3 videos, 1 of them broken\n"
    assert command(*words, "--skip-broken") == 0
    assert len(read_index(folder / "i.npz").embeddings) == 2


@pytest.mark.parametrize(
    "words, message",
    [
        (("videos", "--text", "a"), "name videos, or texts"),
        ((), "name videos, or texts"),
        (("none.mp4",), "none.mp4 does not exist"),
        (("--text", "...", "--text", "a"), "the text '...' has no words"),
        (("--texts", "empty.txt"), "there are no texts"),
        (("--text", "a", "--window", "1"), "are for videos"),
        (("videos", "--stride", "1"), "add --window SECONDS"),
    ],
)
def test_inputs_that_name_nothing_to_embed_are_errors(folder, opened, words, message):
    (folder / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match=message):
        command("embed", *words, "--weights", "w", "--out", "i.npz")
    assert not (folder / "i.npz").exists()
