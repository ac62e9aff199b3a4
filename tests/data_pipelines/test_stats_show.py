"""Statistics of a corpus with known contents, and what a contact sheet shows."""

import json
import struct

import numpy as np
import pytest
from PIL import Image

from ivjax.data_pipelines.inspect.show import contact_sheet, describe_clip
from ivjax.data_pipelines.inspect.stats import collect
from ivjax.data_pipelines.inspect.summary import Distribution
from ivjax.data_pipelines.store.manifest import read_manifest, write_manifest
from ivjax.data_pipelines.store.records import Turn, pack, split
from ivjax.errors import UserError
from tests.data_pipelines import damage
from tests.data_pipelines.corpora import corpus_of, make_clip, picture, write_corpus


def distribution_of(values):
    found = Distribution()
    for value in values:
        found.add(value)
    return found


def test_quantiles_are_exact_for_whole_numbers_and_near_for_others():
    rng = np.random.default_rng(0)
    shares = (0.0, 0.1, 0.5, 0.9, 1.0)
    for values, tolerance in ((rng.integers(0, 900, 3001), 0), (rng.lognormal(0, 3, 5000), 0.006)):
        found = distribution_of(values.tolist())
        expected = np.quantile(values, shares, method="inverted_cdf")
        np.testing.assert_allclose(found.quantiles(shares), expected, rtol=tolerance)
        assert (found.count, found.least, found.most) == (len(values), values.min(), values.max())
        np.testing.assert_allclose(found.mean, values.mean())


def test_a_distribution_of_many_values_stays_small():
    found = distribution_of(np.random.default_rng(0).uniform(-1, 1, 200_000).tolist())
    assert len(found._counts) < 8000 and found.count == 200_000
    edges, counts = found.histogram(4)
    np.testing.assert_allclose(edges, [-1, -0.5, 0, 0.5, 1], atol=2e-3)
    assert sum(counts) == 200_000 and min(counts) > 49_000


def test_values_that_are_not_finite_are_left_out():
    assert distribution_of([1.0, float("nan"), float("inf")]).count == 1


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    lengths = (8, 8, 16, 24)
    clips = [
        make_clip(n, frames, captions=("one two three",) * n, scores={"umt": n / 10})
        for n, frames in enumerate(lengths)
    ]
    records = [*map(pack, clips), damage.with_header(clips[0], captions=[7]), b"nothing"]
    return write_corpus(tmp_path_factory.mktemp("corpus"), records)


def test_stats_count_what_is_there(corpus):
    found = json.loads(json.dumps(collect(corpus).as_dict(), allow_nan=False))
    assert {name: found[name] for name in ("clips", "unreadable", "captions", "with_audio")} == {
        "clips": 4,
        "unreadable": 2,
        "captions": 6,
        "with_audio": 0,
    }
    assert found["media"] == {"video": 4} and found["resolutions"] == {"32x32": 4}
    duration = found["distributions"]["duration (s)"]
    assert (duration["least"], duration["mean"], duration["most"]) == (1.0, 1.75, 3.0)
    assert duration["quantiles"]["0.5"] == 1.0 and duration["quantiles"]["0.75"] == 2.0
    assert sum(duration["histogram"]["counts"]) == 4
    assert found["distributions"]["caption words"]["quantiles"]["0.5"] == 3.0
    assert found["distributions"]["caption words"]["count"] == 6
    assert found["distributions"]["score umt"]["most"] == 0.3
    assert found["distributions"]["frames per second"]["mean"] == 8.0


def test_the_table_has_a_line_for_each_quantity(corpus):
    lines = collect(corpus).table().splitlines()
    assert lines[0] == "4 clips (4 video), 0 with sound" and "2 records cannot be read" in lines
    (row,) = (line.split() for line in lines if line.startswith("duration (s) "))
    assert row[2:] == ["1.75", "1", "1", "1", "1", "1", "2", "3", "3", "3"]


def test_stats_count_the_clips_of_each_class(tmp_path):
    records = [pack(make_clip(n, 1, label=label)) for n, label in enumerate((1, 1, 3, None))]
    folder = write_corpus(tmp_path / "corpus", records, 1)
    write_manifest(folder, read_manifest(folder).shards, {}, ("archery", "riding a bike"))
    stats = collect(folder)
    assert stats.table().splitlines()[-5:] == [
        f" class  {'name':30}    clips",
        f"     0  {'archery':30}        0",
        f"     1  {'riding a bike':30}        2",
        f"     3  {'':30}        1",
        f"        {'without a class':30}        1",
    ]
    found = [(row["class"], row["name"], row["clips"]) for row in stats.as_dict()["classes"]]
    assert found == [(0, "archery", 0), (1, "riding a bike", 2), (3, "", 1)]
    assert stats.as_dict()["unlabelled"] == 1


def test_a_sheet_names_the_class_of_a_clip():
    clip = make_clip(0, 1, label=1)
    assert describe_clip(clip, ("archery", "riding a bike"))[0].endswith(", 1 frames, class 1 riding a bike")
    assert describe_clip(clip, ())[0].endswith(", class 1")


def test_an_empty_corpus_has_statistics_too(tmp_path):
    stats = collect(write_corpus(tmp_path / "empty", [], 1))
    assert stats.as_dict()["clips"] == 0 and stats.table().startswith("0 clips")
    stats.plot(tmp_path / "empty.png")


def test_the_plot_is_a_picture_with_bars(corpus, tmp_path):
    collect(corpus).plot(tmp_path / "new" / "stats.png")
    with Image.open(tmp_path / "new" / "stats.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert (31, 119, 180) in colours


def sheet(folder, tmp_path, **options):
    contact_sheet(folder, tmp_path / "sheet.png", **options)
    with Image.open(tmp_path / "sheet.png") as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_sheet_shows_the_first_and_last_frame_of_each_clip_in_a_row(tmp_path):
    folder = corpus_of(tmp_path / "corpus", [make_clip(n) for n in range(3)])
    drawn = sheet(folder, tmp_path, n=3, frames=2)
    height = len(drawn) // 3
    for number in range(3):
        for column, frame in ((0, 0), (1, 7)):
            left = 6 + column * 166
            cell = drawn[number * height + 6 : number * height + 126, left : left + 120]
            expected = np.kron(picture(number, frame)[2::4, 2::4], np.ones((15, 15, 1)))
            assert np.abs(cell - expected).mean() < 12
            others = np.abs(
                cell - np.kron(picture(number + 1, frame)[2::4, 2::4], np.ones((15, 15, 1)))
            ).mean()
            assert others > 20


CAPTIONS = {
    "long": "word " * 300,
    "unbroken": "x" * 900,
    "chinese": "一个男人在骑马。" * 40,
    "mixed": "Привет שלום नमस्ते 😀 \u0000 \ud83d",
    "empty": "",
}


def escaped_header(clip, **changes):
    """A record whose header is plain ASCII: so it can hold half a character."""
    header, payload = split(pack(clip))
    encoded = json.dumps(header | changes).encode()
    return struct.pack("<4sI", b"IVJX", len(encoded)) + encoded + payload


@pytest.mark.parametrize("caption", CAPTIONS.values(), ids=CAPTIONS)
def test_any_caption_stays_on_the_sheet(tmp_path, caption):
    clip = make_clip(0, 2, captions=("a",), conversation=(Turn("user", "why?"),))
    folder = write_corpus(tmp_path / "corpus", [escaped_header(clip, captions=[caption])], 1)
    drawn = sheet(folder, tmp_path, n=1, frames=2)
    assert drawn.shape[1] == 2 * 166 + 6
    assert drawn.shape[0] <= 126 + 8 * 18 + 12
    assert (drawn[:, -5:] == 255).all() and (drawn[-5:] == 255).all()
    assert (drawn[130:] < 100).any()


def test_a_broken_clip_is_shown_with_its_reason(tmp_path):
    records = [pack(make_clip(0)), damage.with_payload(make_clip(1), b"noise" * 50)]
    drawn = sheet(write_corpus(tmp_path / "corpus", records, 1), tmp_path)
    assert ((drawn[..., 0] > 150) & (drawn[..., 1] < 60) & (drawn[..., 2] < 60)).sum() > 20


def test_a_seed_chooses_the_clips(tmp_path):
    folder = corpus_of(tmp_path / "corpus", [make_clip(n, 1) for n in range(12)])
    sheets = [sheet(folder, tmp_path, n=3, seed=seed) for seed in (1, 1, 2)]
    assert (sheets[0] == sheets[1]).all() and (
        sheets[0].shape != sheets[2].shape or (sheets[0] != sheets[2]).any()
    )


def test_a_font_that_is_none_and_a_sheet_of_nothing_are_errors(tmp_path):
    folder = corpus_of(tmp_path / "corpus", [make_clip(0, 1)], 1)
    with pytest.raises(UserError, match="cannot be read as a font"):
        contact_sheet(folder, tmp_path / "sheet.png", font=tmp_path / "none.ttf")
    with pytest.raises(UserError, match="n and frames must be at least 1, got 0"):
        contact_sheet(folder, tmp_path / "sheet.png", n=0)
    assert not (tmp_path / "sheet.png").exists()
