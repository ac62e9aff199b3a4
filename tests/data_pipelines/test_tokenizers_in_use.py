"""The tokenizers that an experiment's data is read with, and the one that encodes captions."""

from types import SimpleNamespace

import pytest

from ivjax.data_pipelines import data_options as dp
from ivjax.data_pipelines.fields import Caption, Label
from ivjax.data_pipelines.load.mixture import Corpus, Media, Mixture
from ivjax.data_pipelines.load.synthetic import SyntheticClips
from ivjax.data_pipelines.load.tokenizers_in_use import caption_tokenizer, tokenizers_of
from tests.data_pipelines.further_fields import Letters, Turns

TALK, WORDS, OTHERS = Letters(64), Letters(8), Letters(9)
FIELDS = {"dialogue": Turns(TALK), "label": Label(), "text": Caption(WORDS)}


def found(data):
    return {used.path: (used.field, used.tokenizer) for used in tokenizers_of(data)}


def test_every_tokenizer_of_every_medium_and_corpus_is_found_with_its_path():
    corpora = (
        Corpus("a", fields={"label": Label()}),
        Corpus("b", fields={"text": Caption(OTHERS)}),
        Corpus("c", changes=("text.tokenizer.length=10", "dialogue.tokenizer.length=65")),
    )
    clips = Mixture(corpora[:2], FIELDS, eval_corpora=corpora[2:])
    images = Mixture((Corpus("d"),), {"text": Caption(OTHERS)})
    assert found(clips) == {
        "data.fields.dialogue": ("dialogue", TALK),
        "data.fields.text": ("text", WORDS),
        "data.corpora.1.fields.text": ("text", OTHERS),
        "data.eval_corpora.0.changes: text": ("text", Letters(10)),
        "data.eval_corpora.0.changes: dialogue": ("dialogue", Letters(65)),
    }
    both = found(Media({"video": clips, "image": images}))
    assert {path.replace("data.mixtures.video", "data"): used for path, used in both.items()} == {
        **found(clips),
        "data.mixtures.image.fields.text": ("text", OTHERS),
    }
    assert found(SyntheticClips()) == {}


@pytest.mark.parametrize(("names", "expected"), [({"caption_field": "text"}, WORDS), ({}, None)])
def test_captions_are_encoded_by_the_tokenizer_of_the_field_that_the_stage_names(names, expected):
    mixture = Mixture((Corpus("a"),), FIELDS)
    talk_alone = Mixture((Corpus("b"),), {"dialogue": Turns(TALK)})
    for data in (mixture, Media({"long": talk_alone, "video": mixture})):
        assert caption_tokenizer(SimpleNamespace(stage=SimpleNamespace(**names), data=data)) == expected
    assert caption_tokenizer(SimpleNamespace(stage=SimpleNamespace(**names), data=talk_alone)) is None


def test_the_words_of_a_bridge_are_found_beside_those_of_the_language_model():
    turns = dp.Turns(dp.InternVl(), TALK, dp.Seeing(dp.Intervals(2), 4), question=WORDS)
    found = list(tokenizers_of(dp.Dialogues((Corpus("a"),), {"dialogue": turns})))
    assert [(used.path, used.option, used.tokenizer) for used in found] == [
        ("data.fields.dialogue", "tokenizer", TALK),
        ("data.fields.dialogue", "question", WORDS),
    ]
