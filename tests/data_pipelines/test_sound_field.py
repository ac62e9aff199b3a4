"""The field of sounds: tracks of any rate, clips without one, longer and shorter ones."""

import dataclasses
import io
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from ivjax.data_pipelines.fields import Frames, Sound
from ivjax.data_pipelines.fields.field import ArraySpec, RowDraw
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.records import Clip, ClipError
from ivjax.data_pipelines.video.encode import Audio, Encoding, encode_video
from ivjax.data_pipelines.video.filter_bank import filter_bank
from ivjax.errors import UserError
from tests.data_pipelines.corpora import FPS, corpus_of, make_clip, picture

FRAMES, BINS = 98, 64  # one second
SPEC = ArraySpec((FRAMES, BINS), np.dtype(np.float32))


def tone(rate, seconds=1.0, hertz=700.0):
    """A loud tone with an octave above it: (n,) int16."""
    times = np.arange(round(seconds * rate)) / rate
    turns = 2 * np.pi * hertz * times
    return (9000 * (np.sin(turns) + 0.5 * np.sin(2 * turns))).astype(np.int16)


def track(rate, channels):
    """An mp4 with a sound track, and nothing else; the second channel is silent."""
    file, samples = io.BytesIO(), tone(rate)
    with av.open(file, "w", "mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono" if channels == 1 else "stereo")
        parts = np.stack([samples, np.zeros_like(samples)][:channels], -1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(parts, "s16", stream.layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


def sounding(number, seconds=1.0, **fields):
    """A clip that is heard."""
    frames = round(seconds * FPS)
    pictures = (picture(number, frame) for frame in range(frames))
    sound = Audio(tone(16000, seconds, 300.0 + 100 * number), 16000)
    payload = encode_video(pictures, Fraction(FPS), Encoding(preset="ultrafast"), sound)
    return make_clip(number, frames, payload=payload, audio=True, **fields)


def read(record, field=Sound(seconds=1.0), place=0):
    clip = SimpleNamespace(record=record, kept=lambda columns, make: make())
    return field.array(clip, SPEC, RowDraw(0, place, place))


@pytest.mark.parametrize("rate, channels", [(16000, 1), (8000, 1), (44100, 1), (48000, 2)])
def test_tracks_of_any_rate_are_resampled_and_channels_averaged(rate, channels):
    found = read(Clip("a", track(rate, channels), audio=True))
    samples = tone(16000).astype(np.float32) / channels / 2**15
    wanted = filter_bank(samples, BINS, FRAMES)
    # Where it is loud, and away from the ends: coding leaves no silence as it was.
    loud = wanted > wanted.max() - 0.35
    inner = slice(10, -10)
    np.testing.assert_allclose(found[inner][loud[inner]], wanted[inner][loud[inner]], atol=0.06)


def test_a_longer_sound_is_cut_at_random_and_a_shorter_one_filled_up_with_zeros():
    long = sounding(0, 3.0)
    first, again = read(long), read(long)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - read(long, place=1)).max() > 1e-3 and first[-1].any()
    short = read(sounding(0, 0.5))
    assert short[:40].any(-1).all() and not short[60:].any()


def mixture(folder, clips, **options):
    corpus = str(corpus_of(folder, clips, shards=1))
    fields = {"video": Frames(Intervals(2)), "audio": Sound(seconds=1.0, **options)}
    return Mixture((Corpus(corpus),), fields, workers=0)


REQUEST = BatchRequest(
    {
        "video": ArraySpec((2, 16, 16, 3), np.dtype(np.uint8)),
        "audio": SPEC,
        "sample": ArraySpec((), np.dtype(np.int32)),
        "replaced": ArraySpec((), np.dtype(np.bool_)),
    },
    batch=4,
)


def test_clips_without_sound_are_zeros_and_are_counted_and_said(tmp_path):
    loader = mixture(tmp_path, [sounding(0), make_clip(1), sounding(2), make_clip(3)]).open(REQUEST)
    batches = [next(loader) for _ in range(2)]
    for rows in batches:
        heard = rows["audio"].reshape(4, -1).any(-1)
        np.testing.assert_array_equal(heard, rows["sample"] % 2 == 0)
        assert not rows["replaced"].any()
    # Batches that are made ahead are counted too.
    assert loader.report()["data/no_sound"] >= 4
    (line,) = loader.remarks
    assert line.startswith(f"data.corpora.0.path={tmp_path}: 2 of 4 clips that were looked at lack what")
    assert line.endswith(
        "(no sound: clip clip1 has none); zeros stand in for it; missing=broken replaces such clips"
    )
    loader.close()


def test_a_cache_keeps_sounds_and_changes_no_batch(tmp_path, monkeypatch):
    made = []

    def counted(*arguments):
        made.append(1)
        return filter_bank(*arguments)

    monkeypatch.setattr("ivjax.data_pipelines.video.filter_bank.filter_bank", counted)
    data = mixture(tmp_path, [sounding(0), make_clip(1), sounding(2, 2.5), sounding(3, 0.5)])
    plain = data.open(REQUEST)
    wanted = [next(plain)["audio"] for _ in range(4)]
    plain.close()
    made.clear()
    cached = dataclasses.replace(data, cache_gib=0.01).open(REQUEST)
    for rows in wanted:
        np.testing.assert_array_equal(next(cached)["audio"], rows)
    cached.close()
    # Threads that meet at one clip may make it twice.
    assert 3 <= len(made) <= 6


def test_clips_without_sound_may_be_broken(tmp_path):
    data = mixture(tmp_path, [sounding(0), make_clip(1)], missing="broken")
    loader = dataclasses.replace(data, broken=1.0).open(REQUEST)
    rows = next(loader)
    assert rows["audio"].any((1, 2)).all() and rows["replaced"].any()
    report = loader.report()
    assert report["broken/no sound"] and "data/no_sound" not in report and loader.remarks == ()
    loader.close()
    with pytest.raises(ClipError, match="no sound: clip clip1 has none"):
        read(make_clip(1), Sound(1.0, missing="broken"))


def test_a_corpus_without_any_sound_and_sounds_of_another_length_are_refused(tmp_path):
    data = mixture(tmp_path, [make_clip(0), make_clip(1)])
    with pytest.raises(UserError, match="none of 2 clips has what the field audio reads .no sound"):
        data.open(REQUEST)
    with pytest.raises(UserError, match="seconds=2 gives 198 frames and the stage wants audio as .98, 64."):
        Sound(2.0).check("data.fields.audio", {"audio": SPEC})
