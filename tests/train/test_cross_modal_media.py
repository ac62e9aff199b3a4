"""Clips with sound, clips without and images in one run of stage 2, mixed by weight."""

import dataclasses
import json
from collections import Counter

import jax
import numpy as np
import pytest

from ivjax.data_pipelines.fields import Caption, Frames, Sound
from ivjax.data_pipelines.fields.caption_mixer import CaptionMixer, CaptionPart
from ivjax.data_pipelines.load.mixture import Corpus, Media, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.tokenizers.sentencepiece_training import train_sentencepiece
from ivjax.data_pipelines.tokenizers.spm import SentencePiece
from ivjax.errors import UserError
from ivjax.models.beats import BeatsSize
from ivjax.models.bert import FusionBertSize
from ivjax.models.internvideo2 import AlignedSize
from ivjax.stages.cross_modal import CrossModal, LossWeights
from ivjax.train.checks import check_words
from ivjax.train.feed import open_feed
from ivjax.train.loop import train
from ivjax.train.mesh import build_mesh
from tests.data_pipelines.corpora import corpus_of, make_clip
from tests.data_pipelines.test_sound_field import sounding
from tests.train import pairs
from tests.train.test_media import image

SIZE = 300  # of the vocabulary
STAGE = CrossModal(
    AlignedSize(
        16, 1, 2, 32, pool_heads=2, pool_width=16, image=(28, 28), frames=2, layer_scale=0.1, images="table"
    ),
    FusionBertSize(16, 2, 2, 32, 8, 16, SIZE + 1, places=16, fusion=1, seen=16, start=1, mask=SIZE),
    audio=BeatsSize(16, 1, 2, 32, 16, 32, frames=98, place_taps=4, place_groups=2, buckets=8, distance=16),
    joint_width=16,
    weights=LossWeights(vtm=0.0, mlm=0.0, atc=1.0, avtc=1.0, avtm=1.0),
    captions={"avtc": "told", "avtm": "told"},
    train_audio=True,
)
STEPS = {"audio_video": 2, "image": 1, "video": 1}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A run of three media: of every four steps two serve clips with sound."""
    folder = tmp_path_factory.mktemp("media")
    heard = [sounding(n, texts={"audio": (f"number {n} sounds",)}) for n in range(7)]
    heard.append(make_clip(7, texts={"audio": ("nothing sounds",)}))
    corpora = {
        "audio_video": corpus_of(folder / "heard", heard, shards=1),
        "image": corpus_of(folder / "images", [image(n) for n in range(6)], shards=1),
        "video": corpus_of(folder / "clips", [make_clip(n) for n in range(6)], shards=1),
    }
    words = [f"{kind} {n} sounds" for kind in ("clip", "number", "picture", "nothing") for n in range(99)]
    train_sentencepiece(words, folder / "words.model", SIZE)
    tokenizer = SentencePiece(str(folder / "words.model"), length=16)
    mixer = CaptionMixer((CaptionPart("audio"), CaptionPart("video", "and {}")))

    def mixture(medium):
        fields = {
            "video": Frames(Intervals(1 if medium == "image" else 2)),
            "text": Caption(tokenizer),
            "told": Caption(tokenizer, mixer=mixer),
            "audio": Sound(seconds=1.0),
        }
        return Mixture((Corpus(str(corpora[medium])),), fields, workers=0)

    data = Media({medium: mixture(medium) for medium in corpora}, STEPS)
    return dataclasses.replace(pairs.experiment, stage=STAGE, data=data, batch=4, steps=8)


def test_each_step_is_of_one_medium_by_weight_with_what_its_terms_read(experiment, tmp_path):
    objective, mesh = STAGE.build(experiment.compute), build_mesh(experiment.mesh, jax.devices()[:1])
    feed = open_feed(experiment, objective, mesh, tmp_path)
    fed = [next(feed) for _ in range(8)]
    assert Counter(f.medium for f in fed) == {name: 2 * count for name, count in STEPS.items()}
    here = {"index", "sample", "text", "video"}
    for medium, batch in ((f.medium, f.batch) for f in fed):
        assert batch.keys() == (here | {"audio", "told"} if medium == "audio_video" else here)
        assert batch["video"].shape[1] == (1 if medium == "image" else 2)
        if medium == "audio_video":
            # One text tells of the pictures, the other one of both.
            assert (np.asarray(batch["text"]) != np.asarray(batch["told"])).any(-1).all()
    assert feed.report()["audio_video/data/no_sound"] >= 1
    assert len(feed.remarks) == 1 and "1 of 8 clips" in feed.remarks[0]
    feed.close()


def test_a_vocabulary_larger_than_the_towers_is_refused_in_each_field_of_texts(experiment):
    check_words(experiment, STAGE.build(experiment.compute))
    small = dataclasses.replace(STAGE, text=dataclasses.replace(STAGE.text, vocabulary=299, mask=298))
    wrong = dataclasses.replace(experiment, stage=small)
    with pytest.raises(UserError, match="^data.mixtures.audio_video.fields.text.tokenizer has 300 pieces"):
        check_words(wrong, small.build(wrong.compute))


@pytest.mark.slow
def test_three_media_train_in_one_run_each_with_its_terms(experiment, tmp_path):
    said: list[str] = []
    assert train(experiment, tmp_path, said.append, jax.devices()[:1]) == 0
    assert sum("zeros stand in" in line for line in said) == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 8 and np.isfinite([line["loss"] for line in steps]).all()
    heard = [line for line in steps if "avtc" in line]
    assert len(heard) == 4 and all({"atc", "avtm", "vtc"} <= line.keys() for line in heard)
    assert all("atc" not in line for line in steps if "avtc" not in line)
