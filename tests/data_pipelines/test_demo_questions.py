"""Questions about the demo corpus: true, of all kinds, with one right option; and how well they pack."""

import json
from collections import Counter

import numpy as np
import pytest

from ivjax.data_pipelines.demo.demo_corpus import Needles, make_needles
from ivjax.data_pipelines.demo.demo_video import DemoVideo
from ivjax.data_pipelines.demo.questions import (
    CHOICES,
    OF_TIME,
    choices_of,
    questions_of,
    training_turns,
)
from ivjax.data_pipelines.dialogue.packing import TalkSize, pack
from ivjax.data_pipelines.dialogue.seeing import ClipForm, Seeing
from ivjax.data_pipelines.dialogue.videochat2 import VideoChat2
from ivjax.data_pipelines.fields import Turns
from ivjax.data_pipelines.sampling import ByDuration
from ivjax.data_pipelines.store.dialogues import Dialogue, MediaPart
from ivjax.data_pipelines.store.records import Turn
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.data_pipelines.video.decode import probe
from tests.goldens import FOLDER

VIDEOS = [DemoVideo(5, number, 5, held_out=False) for number in range(24)]
HELD_OUT = [DemoVideo(5, number, 5, held_out=True) for number in range(6)]
KINDS = {"what", "colour", "number", "background", *OF_TIME}


@pytest.fixture(scope="module")
def scenes():
    return [shot.scene for video in VIDEOS for shot in video._film.shots if shot.captions]


def test_all_kinds_of_questions_are_asked_and_their_answers_are_true(scenes):
    kinds: Counter[str] = Counter()
    for scene in scenes:
        events = {(e.colour, e.shape): e for e in scene.events}
        for question in questions_of(np.random.default_rng(0), scene):
            kinds[question.kind] += 1
            few = question.kind == "when" and len(scene.events) == 2
            assert question.answer not in question.wrong and len(set(question.wrong)) >= CHOICES - 1 - few
            named = [e for e in events.values() if e.colour in question.text and e.shape in question.text]
            match question.kind:
                case "what":
                    assert question.answer in {e.shape for e in events.values() if e.colour in question.text}
                case "colour":
                    assert question.answer in {e.colour for e in events.values() if e.shape in question.text}
                case "number":
                    assert named[0].count == ("one", "two", "three", "four").index(question.answer) + 1
                case "background":
                    assert question.answer == scene.background.pattern
                case "where":
                    side = question.answer.removeprefix("from ")
                    assert side in named[0].motion or named[0].motion in ("falls", "rises")
                case "order":
                    place = 0 if "first" in question.text else -1
                    event = scene.events[place]
                    assert event.colour in question.answer and event.shape in question.answer
                    names = {f"{e.colour} {e.shape}" for e in scene.events}
                    others = names - {f"{event.colour} {event.shape}"}
                    assert all(any(other in wrong for wrong in question.wrong) for other in others)
                case "when":
                    assert (question.answer == "never") == (not named)
    assert set(kinds) == KINDS


def test_options_stand_in_any_order_and_the_letter_is_that_of_the_answer(scenes):
    rng = np.random.default_rng(0)
    letters: Counter[str] = Counter()
    for scene in scenes:
        for question in questions_of(rng, scene):
            options, letter = choices_of(rng, question)
            assert len(set(options)) == min(CHOICES, len(question.wrong) + 1)
            assert options["ABCD".index(letter)] == question.answer
            letters[letter] += 1
    assert min(letters.values()) > 0.2 * letters.total()


def test_the_answers_of_a_kind_are_equally_frequent_so_that_none_is_right_without_the_video(scenes):
    rng = np.random.default_rng(0)
    right: dict[str, Counter[str]] = {kind: Counter() for kind in ("number", "when", "where")}
    for scene in scenes * 5:
        for question in questions_of(rng, scene):
            # The middle is there in scenes of three events alone, whose answers have four options.
            if question.kind in right and "in the middle" not in (question.answer, *question.wrong):
                right[question.kind][question.answer] += 1
    for kind, found in right.items():
        assert max(found.values()) < 1.8 * found.total() / len(found), (kind, found)


def test_one_question_of_each_kind_comes_before_the_second_of_any(scenes):
    for scene in scenes:
        kinds = [question.kind for question in questions_of(np.random.default_rng(1), scene)]
        assert len(set(kinds[: len(set(kinds))])) == len(set(kinds))


def test_conversations_are_a_description_or_questions_that_answer_no_later_one(scenes):
    rng = np.random.default_rng(2)
    described = 0
    for scene in scenes:
        turns = training_turns(rng, questions_of(rng, scene), scene)
        texts = [turn["value"] for turn in turns]
        if "What happens" in texts[0]:
            described += 1
            assert all(event.colour in texts[1] and event.shape in texts[1] for event in scene.events)
            assert scene.background.pattern in texts[1] and len(texts) == 2
            continue
        said = ""
        for asked, answer in zip(texts[::2], texts[1::2], strict=True):
            answer = answer[4:] if answer.startswith("(") else answer
            assert answer not in said
            said += f"{asked.partition(chr(10))[0]} {answer} "
    assert 0.3 < described / len(scenes) < 0.7


def test_conversations_to_train_on_have_turns_and_questions_to_test_on_have_options():
    for video in VIDEOS[:3]:
        rows = video.dialogues()
        assert len(rows) == video.clips and rows == DemoVideo(5, video.number, 5, False).dialogues()
        for row, annotation in zip(rows, video.rows(), strict=True):
            first, *rest = row["conversations"]
            assert first["value"].startswith("<video>\n") and "<video>" not in str(rest)
            assert [turn["from"] for turn in row["conversations"]][:2] == ["human", "gpt"]
            assert row["video"] == f"{annotation['YoutubeID']}.mp4"
            assert row["end"] - row["start"] == pytest.approx(row["duration"])
    tested = [row for video in HELD_OUT for row in video.dialogues()]
    assert len({row["id"] for row in tested}) == len(tested)
    assert {row["type"] for row in tested} <= KINDS
    assert all(row["answer"] in "ABCD" and 3 <= len(row["options"]) <= CHOICES for row in tested)


def test_demo_conversations_leave_less_than_a_tenth_of_their_rows_empty():
    tokenizer = ChatTokenizer(str(FOLDER / "s3_spm_llama.model"))
    field = Turns(VideoChat2("vicuna"), tokenizer, Seeing(ByDuration(16, local=4, least=4), clip_tokens=8))
    roles = {"human": "user", "gpt": "assistant"}
    sizes = []
    for video in VIDEOS:
        for row in video.dialogues():
            turns = tuple(Turn(roles[turn["from"]], turn["value"]) for turn in row["conversations"])
            part = MediaPart(0, "video", 0, max(int(row["duration"] * 8), 4), 8.0, 96, 96)
            sizes.append(field.measure(Dialogue(row["id"], (part,), turns), ClipForm(4, 32, 32)))
    buckets = {"short": TalkSize(512, 16), "long": TalkSize(1024, 32)}
    rows = pack(sizes, buckets, np.random.default_rng(0))
    room = sum(len(rows[name]) * bucket.tokens for name, bucket in buckets.items())
    assert 1 - sum(size.tokens for size in sizes) / room < 0.1


def test_long_videos_are_written_with_their_questions(tmp_path):
    file = make_needles(tmp_path, Needles(3, frames=32), seed=1, workers=1, say=lambda line: None)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["depth"] for row in rows] == [0.0, 0.5, 1.0]
    videos = sorted((tmp_path / "needles_32").glob("*.mp4"))
    assert sorted(path.name for path in videos) == sorted(row["video"] for row in rows)
    assert probe(videos[0].read_bytes()).frames == 32
    trained = make_needles(tmp_path / "train", Needles(2, 32, train=True), 1, 1, lambda line: None)
    talks = [json.loads(line) for line in trained.read_text().splitlines()]
    assert {row["id"] for row in talks}.isdisjoint(row["id"] for row in rows)
    assert all(talk["conversations"][1]["from"] == "gpt" for talk in talks)
