"""The suites on a model of stage 2: by cosines and by its judge, of clips, of their sound, and of both."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from ivjax.convert.loading import Loaded
from ivjax.data_pipelines.fields import Sound
from ivjax.data_pipelines.fields.field import ArraySpec, RowDraw
from ivjax.data_pipelines.store.records import Clip, ClipError
from ivjax.errors import UserError
from ivjax.evals import pair_model
from ivjax.evals.hearing import Hearing
from ivjax.evals.scoring.rank_metrics import average_precisions
from ivjax.evals.suites import MultipleChoice, Retrieval, VideoAnswers, ZeroShot
from ivjax.evals.views import VideoView, read_views
from ivjax.experiment.computing import Compute
from ivjax.models.dual_size import DualSize
from tests.data_pipelines.corpora import corpus_of
from tests.evals.fakes import annotated, setting
from tests.evals.small_run import small_experiment
from tests.evals.stage2_model import (
    CLIPS,
    STAGE,
    WORDS,
    Letters,
    dense,
    pair,
    read_noise,
    sounding,
    tone,
    towers,
    wav,
)

FLOAT32 = Compute("float32")
HEARING = Hearing(frames=50, bins=16, alone=True)


def rows(**columns):
    """A row for each clip of noise."""
    return [{"video": f"{n}.mp4", **{k: v[n] for k, v in columns.items()}} for n in range(CLIPS)]


def scored(suite, path, medium="both", broken=0.01, **options):
    tested = setting(pair(medium), path, read=read_noise, batch=4, broken=broken)
    return suite(medium=medium, **options).score(tested)


def test_multiple_choice_takes_the_option_of_the_largest_logit_or_cosine(tmp_path):
    cosines, logits = dense("both")
    answers = [3, 1, 4, 1, 5, 0]
    path = annotated(tmp_path, rows(caption=[list(WORDS)] * CLIPS, answer=answers))
    for compare, scores in (("match", logits), ("cosine", cosines)):
        result = scored(MultipleChoice, path, compare=compare)
        hits = scores.argmax(0) == answers
        assert result.metrics["accuracy"] == round(100 * hits.mean(), 2)
        assert ("logit of a match" in result.protocol["score"]) == (compare == "match")
    several = [[3, 1], [1], [4], [1, 2], [5], [0]]
    hot = [[int(n in some) for n in range(6)] for some in several]
    listed = rows(option=[list(WORDS)] * CLIPS, answer=hot)
    path = annotated(tmp_path, listed, "several.json")
    result = scored(MultipleChoice, path, compare="match")
    right = np.array([[n in some for n in range(len(WORDS))] for some in several])
    shares = np.exp(logits.T) / np.exp(logits.T).sum(1, keepdims=True)
    assert result.metrics["map"] == round(100 * average_precisions(shares, right).mean(), 2)


def test_actions_are_named_by_the_mean_cosine_of_their_prompts(tmp_path):
    """Prompts begin with the class here, so that the tokenizer of letters tells them apart."""
    cosines, _ = dense("both")
    names = [WORDS[n] for n in (3, 1, 4, 1, 5, 0)]
    path = annotated(tmp_path, rows(caption=names))
    result = scored(ZeroShot, path, attribute="caption", prompts=("{}",))
    classes = sorted(set(names))
    kept = cosines[[WORDS.index(name) for name in classes]]
    hits = [classes[place] == name for place, name in zip(kept.argmax(0), names, strict=True)]
    assert result.metrics["top1"] == round(100 * np.mean(hits), 2)
    assert result.protocol["classes"] == 5 and result.protocol["clips are"] == "seen and heard"
    sixteen = scored(ZeroShot, path, attribute="caption")
    assert sixteen.protocol["prompts"] == "the 16 of action recognition" and "top1" in sixteen.metrics


def test_questions_are_answered_by_what_fits_the_clip_best_behind_them(tmp_path):
    options, questions = [word[2] for word in WORDS], ("a", "d")
    answers = np.random.default_rng(0).integers(0, len(options), (len(questions), CLIPS))
    hits = []
    for question, right in zip(questions, answers, strict=True):
        _, logits = dense("both", tuple(f"{question} {option}" for option in options))
        hits.append(logits.argmax(0) == right)
    listed = [
        {"video": f"{clip}.mp4", "question": text, "options": options, "answer": int(right), "type": text}
        for text, some in zip(questions, answers, strict=True)
        for clip, right in enumerate(some)
    ]
    path = annotated(tmp_path, listed)
    result = scored(VideoAnswers, path)
    assert (result.protocol["questions"], result.protocol["videos"]) == (12, CLIPS)
    assert result.metrics["accuracy"] == round(100 * np.mean(hits), 2) and result.metrics["chance"] == 16.67
    kinds = {group["name"]: group["accuracy"] for group in result.by_group}
    assert kinds == {text: round(100 * np.mean(some), 2) for text, some in zip(questions, hits, strict=True)}
    assert scored(VideoAnswers, path, only=("a",)).metrics["accuracy"] == kinds["a"]
    with pytest.raises(UserError, match="no question is of the kind 'b'; they are a, d"):
        scored(VideoAnswers, path, only=("b",))


def test_open_questions_choose_among_the_answers_of_a_file_or_of_the_test_set(tmp_path):
    options = [word[2] for word in WORDS]
    _, logits = dense("both", tuple(f"a {option}" for option in options))
    best = [options[place] for place in logits.argmax(0)]
    wrong = options[logits[:, 1].argmin()]
    told = [best[0], wrong, "z", *best[3:]]  # of clip 2 no answer of the file is right
    path = annotated(tmp_path, [{**row, "question": "a"} for row in rows(answer=told)])
    (tmp_path / "answers.txt").write_text("".join(f"{option}\n" for option in options))
    found = scored(VideoAnswers, path, candidates=str(tmp_path / "answers.txt"))
    assert found.metrics["open_accuracy"] == round(100 * 4 / 6, 2)
    assert found.metrics["open_chance"] == round(100 * 5 / 36, 2) and "accuracy" not in found.metrics
    assert found.protocol["answers to open questions"].startswith("6, of ")
    own = scored(VideoAnswers, path)
    assert own.protocol["answers to open questions"] == f"{len(set(told))}, all of the test set"
    assert own.metrics["open_chance"] == round(100 / len(set(told)), 2)
    (tmp_path / "one.txt").write_text("yes\n")
    with pytest.raises(UserError, match="one.txt has 1 answers; name a file of 2 or more, one a line"):
        scored(VideoAnswers, path, candidates=str(tmp_path / "one.txt"))


def test_a_video_that_cannot_be_read_takes_its_questions_with_it(tmp_path):
    listed = [
        {"video": name, "question": "a", "options": ["m", "n"], "answer": "A"}
        for name in ("0.mp4", "broken.mp4")
    ]
    found = scored(VideoAnswers, annotated(tmp_path, listed * 2), broken=0.5)
    assert found.protocol["questions"] == 2 and [fault.cause for fault in found.broken] == ["undecodable"]


def test_what_a_model_cannot_compare_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"the wording '\{question\}' has no \{answer\} where"):
        VideoAnswers(wording="{question}")
    with pytest.raises(UserError, match="compare=match judges one clip of each video, and clips=2"):
        MultipleChoice(compare="match", clips=2)
    size = DualSize(STAGE.vision, replace(STAGE.text, out=16))
    monkeypatch.setattr(
        pair_model, "load", lambda path, *a, **k: Loaded(size.build(FLOAT32), {}, Letters(), path)
    )
    with pytest.raises(
        UserError, match="^w has no embedding of sounds, only of clips; choose another medium"
    ):
        pair_model.open_pairs("w", medium="audio")
    experiment = small_experiment(tmp_path, tmp_path)
    with pytest.raises(UserError, match="^DualEncoder cannot judge whether a text belongs to clips"):
        Retrieval(rerank=4).check(experiment, "gone")
    with pytest.raises(UserError, match="^DualEncoder has no embedding of clips with their sound"):
        Retrieval(medium="both").check(experiment, "gone")
    model, _ = towers()
    silent = replace(model, size=replace(model.size, fused=False))
    with pytest.raises(UserError, match="of clips with their sound, only of clips and of sounds; choose"):
        pair_model.check_medium("w", silent, "both")
    with pytest.raises(
        UserError, match="w cannot judge whether a text belongs to clips; .*rerank=0, compare"
    ):
        pair_model.check_judges("w", size.build(FLOAT32), "video")


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """A corpus of clips with tones, one of them without; and one that goes on for longer than is heard."""
    clips = [
        Clip(f"clip{n}", sounding(hertz, seconds), captions=(WORDS[n],), audio=hertz is not None, end=seconds)
        for n, (hertz, seconds) in enumerate([(440, 1.0), (None, 1.0), (1200, 1.0), (3000, 2.0)])
    ]
    return clips, str(corpus_of(tmp_path_factory.mktemp("tones") / "corpus", clips, 1))


class Stored:
    """A clip as fields see it."""

    def __init__(self, record):
        self.record = record

    def kept(self, columns, make):
        return make()


def test_evals_hear_what_the_field_of_sounds_makes_in_tests(tones):
    clips, _ = tones
    spec = ArraySpec((50, 16), np.dtype(np.float32))
    for clip in clips:
        wanted = Sound(seconds=0.515).for_tests().array(Stored(clip), spec, RowDraw(0, 0, 0))
        found = replace(HEARING, alone=False).bank(clip.payload, None, None)
        np.testing.assert_allclose(found, wanted, atol=2e-3)
        assert found.any() == clip.audio
    with pytest.raises(ClipError, match="no sound: the clip has none, or none in"):
        HEARING.bank(clips[1].payload, None, None)
    whole, half = (HEARING.bank(clips[3].payload, start, None) for start in (None, 1.5))
    np.testing.assert_allclose(half[5:40].mean(0), whole[5:40].mean(0), atol=0.1)
    parts = [HEARING.bank(clips[3].payload, None, None, 8, part) for part in (1, 6)]
    assert (parts[0][20:22].any(), parts[0][30:].any()) == (True, False)  # a quarter of a second each


def test_views_are_heard_or_seen_and_heard(tones):
    clips, _ = tones
    views = [VideoView(clip.payload) for clip in clips]
    heard = list(read_views(views, 2, (8, 8), hearing=HEARING))
    assert isinstance(heard[1], ClipError) and heard[0].shape == (50, 16)
    both = list(read_views(views, 2, (8, 8), hearing=replace(HEARING, alone=False)))
    assert [pictures.shape for pictures, _ in both] == [(2, 8, 8, 3)] * 4
    np.testing.assert_array_equal(both[0][1], heard[0])
    assert not both[1][1].any()


def test_texts_are_compared_with_sounds_both_ways_and_what_has_none_is_said(tones):
    clips, corpus = tones
    found = Retrieval(medium="audio").score(setting(pair("audio"), corpus, read=read_views, broken=0.3))
    assert {"t2a_r1", "a2t_r1", "t2a_r1_chance", "r_mean"} <= found.metrics.keys() <= set(Retrieval.METRICS)
    assert [(fault.clip, fault.cause) for fault in found.broken] == [("clip1", "no sound")]
    assert found.protocol["clips are"] == "heard" and "text to audio" in found.table()
    model, params = towers()
    banks = np.stack([HEARING.bank(clips[n].payload, None, None) for n in (0, 2, 3)])
    ids = np.stack([Letters().encode(WORDS[n]) for n in (0, 2, 3)])
    cosines = pair("audio").video(banks) @ np.asarray(jax.jit(model.unit_words)(params, ids)).T
    assert found.metrics["a2t_r1"] == round(100 * np.mean(cosines.argmax(1) == np.arange(3)), 2)
    both = Retrieval(medium="both").score(setting(pair("both"), corpus, read=read_views))
    assert both.protocol["clips without sound"] == 1 and both.protocol["videos"] == 4
    assert both.protocol["of a sound"] == "its first 0.5 s, in 16 bins"


def test_lists_of_files_of_sound_are_test_sets_where_nothing_is_seen(tmp_path):
    for number, hertz in enumerate((440, 1200, 3000)):
        (tmp_path / f"{number}.wav").write_bytes(wav(tone(hertz)))
    listed = [{"file": f"{n}.wav", "caption": WORDS[n]} for n in range(3)]
    (tmp_path / "clotho.json").write_text(json.dumps(listed))
    tested = setting(pair("audio"), tmp_path / "clotho.json", read=read_views, options={"sound": True})
    found = Retrieval(medium="audio").score(tested)
    assert found.protocol["videos"] == 3 and not found.broken
    with pytest.raises(UserError, match="is a sound without pictures; where it is heard alone, --set sound"):
        Retrieval(medium="audio").score(setting(pair("audio"), tmp_path / "clotho.json", read=read_views))
