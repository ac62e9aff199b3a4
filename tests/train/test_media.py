"""Stored clips and stored images in one run, decoded, read and compared."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest

from ivjax.convert.loading import load
from ivjax.data_pipelines.fields import Caption, Frames
from ivjax.data_pipelines.load.mixture import Corpus, Media, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.records import Clip
from ivjax.data_pipelines.tokenizers.sentencepiece_training import END, train_sentencepiece
from ivjax.data_pipelines.tokenizers.spm import SentencePiece
from ivjax.data_pipelines.video.encode import encode_image
from ivjax.errors import UserError
from ivjax.experiment.overrides import apply_overrides
from ivjax.train.feed import open_feed
from ivjax.train.loop import train
from ivjax.train.mesh import build_mesh
from tests.data_pipelines.corpora import SIDE, corpus_of, make_clip, picture
from tests.train import micro
from tests.train.pairs import experiment


def image(number: int) -> Clip:
    payload = encode_image(picture(number, 0))
    facts = {"frames": 1, "width": SIDE, "height": SIDE, "captions": (f"picture {number}",)}
    return Clip(id=f"image{number}", payload=payload, media="image", **facts)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The smallest experiment of two encoders on two corpora, three steps of clips to one of images."""
    folder = tmp_path_factory.mktemp("media")
    clips = corpus_of(folder / "clips", [make_clip(n) for n in range(24)], shards=1)
    images = corpus_of(folder / "images", [image(n) for n in range(8)], shards=1)
    words = [f"{kind} {n}" for kind in ("clip", "number", "picture") for n in range(100)]
    train_sentencepiece(words, folder / "words.model", 300)
    tokenizer = SentencePiece(str(folder / "words.model"), length=8)

    def mixture(corpus, frames):
        fields = {"video": Frames(Intervals(frames)), "text": Caption(tokenizer)}
        return Mixture((Corpus(str(corpus)),), fields, eval_corpora=(Corpus(str(corpus)),), workers=0)

    data = Media({"video": mixture(clips, 4), "image": mixture(images, 1)})
    text = dataclasses.replace(experiment.stage.text, vocabulary=300, end=END)
    stage = dataclasses.replace(experiment.stage, text=text, mask=0.25)
    return dataclasses.replace(experiment, data=data, stage=stage, batch=8, steps=8)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_steps_alternate_media_by_corpus_size_and_resume(both, tmp_path):
    said: list[str] = []
    changed = apply_overrides(both, ["eval_loss.every=8", "eval_loss.batches=4", "checkpoint.every=5"])
    assert train(changed, tmp_path, said.append, jax.devices()[:1]) == 0
    lines = metrics(tmp_path)
    tokens = [line["tokens/s"] / line["clips/s"] for line in lines if "clips/s" in line]
    seen = {1 + 12: 6, 1 + 3: 2}  # tokens of a clip, of an image: how many of the eight steps
    assert {count: sum(abs(t - count) < 1e-6 for t in tokens) for count in seen} == seen
    assert any("eval/loss" in line for line in said)
    (tmp_path / "checkpoints" / "8").rename(tmp_path / "later")
    assert train(changed, tmp_path, said.append, jax.devices()[:1]) == 0
    assert any("continuing from step 5" in line for line in said)
    assert [line["loss"] for line in metrics(tmp_path) if "loss" in line] == [
        line["loss"] for line in lines if "loss" in line
    ]
    model, params, tokenizer = load(tmp_path)
    # Of the copy of the vocabulary that the run keeps.
    named = both.data.mixtures["video"].fields["text"].tokenizer
    assert dataclasses.replace(tokenizer, path=named.path) == named
    assert Path(tokenizer.path).read_bytes() == Path(named.path).read_bytes()
    assert model.size.vision == both.stage.vision and set(params) == {"vision", "text", "temperature"}


def test_resume_with_other_media_is_refused(both, tmp_path):
    one = dataclasses.replace(both, data=both.data.mixtures["video"])
    mesh = build_mesh(one.mesh, jax.devices()[:1])
    feed = open_feed(one, one.stage.build(one.compute), mesh, tmp_path)
    next(feed)
    micro.saved(tmp_path, one, feed.position)
    feed.close()
    with pytest.raises(UserError, match="has been reading video and is now given video, image; put the old"):
        train(both, tmp_path, lambda line: None, jax.devices()[:1])


def test_a_stage_without_images_refuses_them(both, tmp_path):
    wrong = dataclasses.replace(micro.experiment, data=both.data)
    with pytest.raises(
        UserError, match="the stage takes no image batches, only video; leave them out of data.mixtures"
    ):
        train(wrong, tmp_path, lambda line: None, jax.devices()[:1])
