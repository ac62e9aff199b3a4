"""Films on the page: their pictures, their words, and the colours of merged patches."""

import base64
import io

import numpy as np
from PIL import Image

from ivjax.report.facts.merged_videos import MergedVideo
from ivjax.report.film import Film, Strip, data_uri, film_html, kept_frames, write_sheet
from ivjax.report.masks import attention_over, masked_frame
from ivjax.report.sections.merging import averaged, spread, tinted


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def picture_in(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_long_and_large_clips_become_small():
    frames = np.repeat(np.arange(100, dtype=np.uint8), 3 * 320 * 200).reshape(100, 200, 320, 3)
    kept = kept_frames(frames)
    assert kept.shape == (16, 100, 160, 3)
    assert [frame[0, 0, 0] for frame in kept[[0, -1]]] == [0, 99] and (np.diff(kept[:, 0, 0, 0]) > 5).all()
    assert kept_frames(frames[:4, :20, :20]).shape == (4, 20, 20, 3)


def test_drawn_pictures_are_stored_without_loss_and_photographs_small():
    drawn = np.zeros((32, 32, 3), np.uint8)
    drawn[8:16] = 200
    assert data_uri(drawn).startswith("data:image/png;") and (picture_in(data_uri(drawn)) == drawn).all()
    assert data_uri(noise(64, 64, 3)).startswith("data:image/jpeg;")


def test_a_film_has_words_for_each_strip_and_a_slider_over_its_frames():
    film = Film('"red" & co', (Strip(noise(20, 8, 8, 3), "what <is> seen", "below"),) * 2, "film")
    html = film_html(film)
    assert html.count('alt="what &lt;is&gt; seen"') == 2 and html.count(">below<") == 2
    assert 'max="16" value="8" aria-label="frame: &quot;red&quot; &amp; co"' in html
    assert "16 of 20 frames" in html and 'width="128"' in html
    uneven = film_html(Film("two", (Strip(noise(2, 8, 8, 3), "a"), Strip(noise(5, 8, 8, 3), "b")), "two"))
    assert uneven.count("--frames:5;") == 2 and 'max="5"' in uneven
    assert "<input" not in film_html(Film("still", (Strip(noise(1, 8, 8, 3), "one"),), "still"))


def test_a_sheet_has_a_row_for_each_strip(tmp_path):
    strips = (Strip(noise(3, 8, 10, 3), "a"), Strip(noise(3, 6, 8, 3), "b"))
    sheet = np.asarray(Image.open(write_sheet(Film("t", strips, "name"), tmp_path)))
    assert (tmp_path / "name.png").is_file() and sheet.shape == (20, 36, 3)
    np.testing.assert_array_equal(sheet[:8, 12:22], strips[0].frames[1])
    np.testing.assert_array_equal(sheet[10:16, 24:32], strips[1].frames[2])


def test_patches_of_one_token_have_one_colour_in_all_frames():
    regions = np.array([[[0, 1], [1, 1]], [[0, 0], [2, 1]]])
    clip = MergedVideo("clip", np.full((2, 8, 8, 3), 100, np.uint8), regions, 3, 1)
    colours = tinted(clip)[:, 30::80, 30::80]  # inside of patches, away from their edges
    assert tinted(clip).shape == (2, 160, 160, 3)
    by_token = {token: {tuple(c) for c in colours[regions == token]} for token in range(3)}
    assert all(len(found) == 1 for found in by_token.values())
    assert len(set.union(*by_token.values())) == 3
    assert (tinted(clip)[0, 40, 80] == 255).all()  # the line between two tokens


def test_what_is_left_of_the_colours_is_the_mean_over_a_token():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[0, :2, :2], frames[1, 2:, 2:] = 100, 200
    regions = np.array([[[0, 1], [1, 1]], [[1, 1], [1, 0]]])
    left = averaged(MergedVideo("clip", frames, regions, 2, 1))
    places = spread(regions, left.shape[1:3])
    assert (left[places == 0] == 150).all() and (left[places == 1] == 0).all()


def test_patches_that_do_not_divide_a_frame_cover_it():
    places = spread(np.arange(6).reshape(1, 2, 3), (5, 7))
    assert places.shape == (1, 5, 7) and set(places.ravel()) == set(range(6))


def test_masks_and_attention_are_drawn_over_the_frame():
    frame = np.full((8, 8, 3), 120, np.uint8)
    shown = masked_frame(frame, np.array([[True, False], [False, False]]))
    assert (shown[:4, :4] == 120).all() and (shown[4:] == 20).all() and (shown[:4, 4:] == 20).all()
    bright = attention_over(frame, np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert bright.dtype == np.uint8 and bright[0, 0].sum() > bright[7, 7].sum()
    assert attention_over(frame, np.zeros((2, 2))).shape == frame.shape
