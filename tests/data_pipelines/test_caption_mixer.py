"""Captions of what is seen, heard and said: from tables into records, and fused into one text."""

import dataclasses
import json

import numpy as np
import pytest

from ivjax.data_pipelines.build.build_corpus import build
from ivjax.data_pipelines.build.options import BuildOptions
from ivjax.data_pipelines.fields import Caption
from ivjax.data_pipelines.fields.caption_mixer import CaptionMixer, CaptionPart
from ivjax.data_pipelines.fields.field import ArraySpec, RowDraw
from ivjax.data_pipelines.inspect.show import describe_clip
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.data_pipelines.store.clips import open_clips
from ivjax.data_pipelines.store.intact import intact_clip
from ivjax.data_pipelines.store.records import Clip, ClipError, pack, unpack
from ivjax.data_pipelines.tokenizers.sentencepiece_training import corpus_captions
from ivjax.errors import UserError
from ivjax.experiment.overrides import apply_overrides
from tests.data_pipelines.corpora import corpus_of, make_clip
from tests.data_pipelines.further_fields import Letters

TOLD = Clip(
    "a",
    b"x",
    captions=("A dog runs.", "A brown dog runs by."),
    texts={"audio": ("a dog barks",), "speech": ("Good boy, come here!",)},
)
SEEN = dataclasses.replace(TOLD, texts={})


def drawn(place=0):
    return RowDraw(0, place, place)


def mixed(mixer, record, places=range(40)):
    return [mixer.mix(record, drawn(place), first=False) for place in places]


def test_the_parts_are_told_in_order_and_speech_may_be_missing():
    first = CaptionMixer().mix(TOLD, drawn(), first=True)
    assert first == "A dog runs. while a dog barks and someone says Good boy, come here!"
    silent = dataclasses.replace(TOLD, texts={"audio": ("a dog barks",), "speech": ()})
    assert CaptionMixer().mix(silent, drawn(), first=True) == "A dog runs. while a dog barks"


def test_captions_of_the_pictures_alone_go_before_the_clips_own():
    told = dataclasses.replace(TOLD, texts={"video": ("something runs",)} | dict(TOLD.texts))
    assert CaptionMixer().mix(told, drawn(), first=True).startswith("something runs while")


def test_each_visit_draws_a_caption_of_each_kind_and_the_parts_by_chance():
    parts = CaptionPart("video"), CaptionPart("audio", "and {}", chance=0.25)
    found = mixed(CaptionMixer(parts), TOLD, range(400))
    assert {text.partition(" and ")[0] for text in found} == set(TOLD.captions)
    assert 0.18 < np.mean(["barks" in text for text in found]) < 0.32
    assert mixed(CaptionMixer(parts), TOLD) == found[:40]


def test_long_parts_are_cut_and_short_captions_do_not_count():
    parts = CaptionPart("video"), CaptionPart("speech", "says {}", most=2, needed=False, least=3)
    assert CaptionMixer(parts).mix(TOLD, drawn(), first=True) == "A dog runs. says good boy"
    short = dataclasses.replace(TOLD, texts={"speech": ("Good boy!",)})
    assert CaptionMixer(parts).mix(short, drawn(), first=True) == "A dog runs."


@pytest.mark.parametrize(
    "kind, record", [("audio", SEEN), ("video", dataclasses.replace(TOLD, captions=("?",)))]
)
def test_a_clip_without_a_caption_that_is_needed_is_broken(kind, record):
    with pytest.raises(ClipError, match=f"no {kind} caption: clip a has none of 2 words or more"):
        CaptionMixer().mix(record, drawn(), first=False)


@pytest.mark.parametrize(
    "parts, message",
    [
        ((CaptionPart("video", chance=0.5),), "text.mixer.parts are all left out at times"),
        ((CaptionPart("video"), CaptionPart("audio", "loud")), "parts.1.form='loud' must have {} once"),
        ((CaptionPart("video"), CaptionPart("audio", chance=0.0)), "parts.1.chance=0.0 is no share"),
    ],
)
def test_parts_that_give_no_text_are_one_sentence(parts, message):
    field, wanted = Caption(Letters(8, 64), mixer=CaptionMixer(parts)), {"text": ArraySpec((8,), np.int32)}
    with pytest.raises(UserError, match=message):
        field.check("data.fields.text", wanted)


def test_a_caption_without_words_is_not_taken_and_clips_without_any_other_are_broken():
    class Opened:
        record = dataclasses.replace(TOLD, captions=("...", "a dog runs", "-"))

    field, spec = Caption(Letters(8, 64)), ArraySpec((8,), np.dtype(np.int32))
    wanted = Letters(8, 64).encode("a dog runs")
    for place in range(8):
        np.testing.assert_array_equal(field.array(Opened, spec, drawn(place)), wanted)
    Opened.record = dataclasses.replace(TOLD, captions=("...", " - "))
    with pytest.raises(ClipError, match="no words: the captions of clip a are marks and blanks alone"):
        field.array(Opened, spec, drawn())


def test_a_corpus_without_words_or_captions_of_sound_is_refused_at_the_start(tmp_path):
    corpus = str(corpus_of(tmp_path, [make_clip(n, frames=2, captions=("?!",)) for n in range(3)], shards=1))
    request = BatchRequest({"text": ArraySpec((8,), np.dtype(np.int32))}, 1)
    for mixer, why in ((None, "no words"), (CaptionMixer(), "no video caption")):
        data = Mixture((Corpus(corpus),), {"text": Caption(Letters(8, 64), mixer=mixer)}, workers=0)
        with pytest.raises(UserError, match=f"none of 3 clips has what the field text reads .{why}"):
            data.open(request)


def test_records_without_further_texts_have_the_bytes_that_they_had():
    assert b"texts" not in pack(SEEN)
    assert unpack(pack(SEEN)) == SEEN and unpack(pack(TOLD)) == TOLD == intact_clip(pack(TOLD))
    assert describe_clip(TOLD, ())[3:] == ["audio: a dog barks", "speech: Good boy, come here!"]


def test_a_build_keeps_the_captions_of_each_kind(tmp_path):
    payload = make_clip(0).payload
    (tmp_path / "abc.mp4").write_bytes(payload)
    row = {
        "video_name": "abc",
        "selected_video_caption": "high waves",
        "selected_audio_caption": "wind blows",
        "asr_captions": ["hello", ""],
        "avs_captions": "wind over waves",
    }
    table = tmp_path / "rows.json"
    table.write_text(json.dumps([row]))
    options = BuildOptions(str(table), tmp_path / "out", videos=str(tmp_path))
    options = dataclasses.replace(options, source_options={"caption_from": "avs_captions"}, workers=1)
    build(options, lambda line: None)
    clips = open_clips(str(tmp_path / "out"))
    clip = clips[0]
    clips.close()
    assert clip.captions == ("wind over waves",)
    assert clip.texts == {"video": ("high waves",), "audio": ("wind blows",), "speech": ("hello",)}
    assert set(corpus_captions(tmp_path / "out")) == {"wind over waves", "high waves", "wind blows", "hello"}
    found = CaptionMixer().mix(clip, drawn(), first=True)
    assert found == "high waves while wind blows and someone says hello"
    # Another caption of the sound makes another shard.
    (first,) = open_source(table, videos=tmp_path, caption_from="avs_captions")
    other = dataclasses.replace(first, texts={"audio": ("wind",)})
    assert repr(first) == repr(other) and first.texts_hashed() != other.texts_hashed()
    assert dataclasses.replace(first, texts={}).texts_hashed() == ""


def test_options_of_the_mixer_have_paths():
    field = Caption(Letters(8, 64), mixer=CaptionMixer())
    changed = apply_overrides(field, ["mixer.parts.1.chance=0.5"])
    assert [part.chance for part in changed.mixer.parts] == [1.0, 0.5, 1.0]
