"""Fields of a batch: what they refuse, and one that is declared here and read like any other."""

import pickle
from fractions import Fraction

import numpy as np
import pytest

from ivjax.data_pipelines.fields import ArraySpec, Caption, Frames, Label, Tags
from ivjax.data_pipelines.load.classes_in_use import classes_in_use, labels_in_use
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.records import Turn
from ivjax.data_pipelines.video.encode import Audio, encode_video
from ivjax.errors import UserError
from ivjax.experiment.frozen_map import FrozenMap
from ivjax.experiment.overrides import apply_overrides
from tests.data_pipelines.corpora import FPS, corpus_of, make_clip, picture
from tests.data_pipelines.further_fields import FrameCounts, Letters, SoundLevel, Turns, Waveform

VIDEO = ArraySpec((4, 24, 24, 3), np.dtype(np.uint8))
NUMBER = ArraySpec((), np.dtype(np.int32))
FLAG = ArraySpec((), np.dtype(np.uint8))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    clips = [make_clip(n, frames=6 + n, attributes={"loudness": str(n)} if n else {}) for n in range(8)]
    return corpus_of(tmp_path_factory.mktemp("corpus"), clips, shards=1)


def rows_of(data, spec, batch=8):
    loader = data.open(BatchRequest(spec, batch, seed=3))
    rows = next(loader)
    loader.close()
    return rows


@pytest.mark.parametrize("workers", [0, 1])
def test_a_field_declared_outside_the_library_is_read_like_any_other(corpus, workers):
    fields = {"video": Frames(Intervals(4)), "sound_level": SoundLevel(), "frames": FrameCounts()}
    data = Mixture((Corpus(str(corpus)),), fields, workers=workers)
    single = ArraySpec((), np.dtype(np.float32))
    spec = {"video": VIDEO, "sound_level": single, "frames": NUMBER, "frames_even": NUMBER, "sample": NUMBER}
    rows = rows_of(data, spec)
    assert sorted(rows["sound_level"].tolist()) == sorted(rows["sample"].tolist()) != list(range(8))
    np.testing.assert_array_equal(rows["frames"], rows["sample"] + 6)
    np.testing.assert_array_equal(rows["frames_even"], rows["frames"] % 2 == 0)
    changed = apply_overrides(data, ["fields.sound_level.spread=0.1"])
    noisy = rows_of(changed, spec)["sound_level"]
    assert (noisy != rows["sound_level"]).all() and np.abs(noisy - rows["sound_level"]).max() < 0.5


RATE = 8_000


def talking(number):
    """A second of pictures; sound in its quarter `number`; a question and an answer."""
    time = np.arange(RATE) / RATE
    samples = 12_000 * np.sin(2 * np.pi * 440 * time) * (time // 0.25 == number)
    audio = Audio(samples.astype(np.int16), RATE)
    pictures = [picture(number, frame) for frame in range(FPS)]
    turns = (Turn("user", "who"), Turn("assistant", f"n{number}"))
    payload = encode_video(pictures, Fraction(FPS), audio=audio)
    return make_clip(number, conversation=turns, audio=True, payload=payload)


@pytest.mark.parametrize("workers", [0, 1])
def test_sound_and_dialogue_are_fields_of_a_batch_like_any_other(tmp_path, workers):
    silent = make_clip(4, conversation=(Turn("user", "who"),))
    corpus = corpus_of(tmp_path, [*(talking(n) for n in range(4)), silent, make_clip(5)], shards=1)
    fields = {"dialogue": Turns(Letters(8)), "audio": Waveform(RATE // 2), "video": Frames(Intervals(4))}
    data = Mixture((Corpus(str(corpus)),), fields, workers=workers, broken=0.5)
    spec = {
        "audio": ArraySpec((5_000,), np.dtype(np.float32)),  # 1.25 s, longer than the clips
        "dialogue": ArraySpec((8,), np.dtype(np.int32)),
        "dialogue_answers": ArraySpec((8,), np.dtype(bool)),
        "video": VIDEO,
        "sample": NUMBER,
    }
    rows = rows_of(data, spec, batch=6)
    assert set(rows["sample"].tolist()) == set(range(4))  # the others are replaced
    for number, sound, ids, answers in zip(
        rows["sample"], rows["audio"], rows["dialogue"], rows["dialogue_answers"], strict=True
    ):
        loud = np.abs(sound).reshape(5, 1_000).max(1)
        assert loud.argmax() == number and loud[number] == pytest.approx(12_000 / 32_768, abs=0.05)
        assert loud[4] == 0
        assert bytes(ids.astype(np.uint8)) == b"whon%d\0\0\0" % number
        assert answers.tolist() == [False] * 3 + [True] * 2 + [False] * 3


def test_fields_that_the_stage_has_no_use_for_are_not_made(corpus):
    data = Mixture((Corpus(str(corpus)),), {"video": Frames(Intervals(4)), "label": Label()}, workers=0)
    assert set(rows_of(data, {"video": VIDEO})) == {"video"}


def test_a_field_of_another_shape_is_refused(corpus):
    data = Mixture((Corpus(str(corpus)),), {"label": Label()}, workers=0)
    wrong = {"label": ArraySpec((3,), np.dtype(np.int32))}
    with pytest.raises(UserError, match=r"data.fields.label gives \(\) and the stage wants label as \(3,\)"):
        rows_of(data, wrong)


def test_the_tokenizer_must_be_as_long_as_the_stage_wants(corpus):
    data = Mixture((Corpus(str(corpus)),), {"text": Caption(Letters())}, workers=0)
    wrong = {"text": ArraySpec((8,), np.dtype(np.int32))}
    with pytest.raises(UserError, match=r"data.fields.text.tokenizer.length=4 and the stage wants 8 tokens"):
        rows_of(data, wrong)


def test_two_fields_that_make_the_same_array_are_refused(corpus):
    fields = {"frames": FrameCounts(), "frames_even": Label(), "label": Label()}
    data = Mixture((Corpus(str(corpus)),), fields, workers=0)
    with pytest.raises(UserError, match="data.fields.frames_even makes frames_even, and so does frames"):
        rows_of(data, {"label": NUMBER})


def test_the_fields_of_a_mixture_cannot_be_changed_in_place_but_copied_and_pickled():
    data = Mixture((Corpus("x"),), {"label": Label()})
    with pytest.raises(TypeError):
        data.fields["label"] = None
    assert pickle.loads(pickle.dumps(data)) == data and hash(data) == hash(pickle.loads(pickle.dumps(data)))
    assert data.fields == FrozenMap({"label": Label()}) == {"label": Label()}


def test_tags_share_a_row_among_the_words_of_its_attributes(tmp_path):
    said = [
        {"colour": "red", "shape": "ring"},
        {"colour": "blue", "colour2": "red", "shape": "star", "motion": "spins"},
        {"colour": "red", "colour2": "red"},
        {"colour": "green", "mood": "red"},
    ]
    clips = [make_clip(number, attributes=words) for number, words in enumerate(said)]
    tags = Tags(("colour", "colour2", "shape"), ("red", "blue", "ring", "star"))
    data = Mixture((Corpus(str(corpus_of(tmp_path, clips, shards=1))),), {"targets": tags}, workers=0)
    spec = {"targets": ArraySpec((4,), np.dtype(np.float32)), "sample": NUMBER, "replaced": FLAG}
    rows = rows_of(data, spec, batch=16)
    shares = {0: [0.5, 0, 0.5, 0], 1: [1 / 3, 1 / 3, 0, 1 / 3], 2: [1, 0, 0, 0]}
    # Of the last clip no word is said: another one stands in its place.
    kept = rows["replaced"] == 0
    assert set(rows["sample"][kept].tolist()) == {0, 1, 2}
    for sample, targets in zip(rows["sample"][kept], rows["targets"][kept], strict=True):
        np.testing.assert_allclose(targets, shares[sample], rtol=1e-6)
    assert classes_in_use(data) == {"data.fields.targets": tags.words} and labels_in_use(data) == {}


def test_tags_that_cannot_be_learned_are_refused(corpus):
    with pytest.raises(UserError, match="name attributes, and at least two words, each once"):
        Tags(("colour",), ("red", "red"))
    lost = Mixture((Corpus(str(corpus)),), {"targets": Tags(("mood",), ("glad", "sad"))}, workers=0)
    with pytest.raises(UserError, match="has none of the words in its attributes mood"):
        rows_of(lost, {"targets": ArraySpec((2,), np.dtype(np.float32))})
