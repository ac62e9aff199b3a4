"""Needles in long videos: where they are hidden, what is watched, and the grid of what is found."""

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from ivjax.data_pipelines.demo.needle_video import NeedleVideo
from ivjax.data_pipelines.dialogue.style import SeenMedia
from ivjax.errors import UserError
from ivjax.evals.dialogue.needles import score
from ivjax.evals.suites import NeedleSearch
from ivjax.generate.watching import Watched
from tests.evals.dialogue.fakes import Scores, asking, model_of

CLIP = 4


class NeedleEyes:
    """Sees of each clip which needle is in it, -1 for none, and finds those that `finds` says."""

    def __init__(self, finds=lambda place, clips: True):
        self.turns = SimpleNamespace(question=None)
        language = SimpleNamespace(flops=lambda tokens: {"all": 1e9 * tokens})
        self.model = SimpleNamespace(size=SimpleNamespace(language=language))
        self._finds = finds
        self.watched, self.seen, self.words = [], [], []

    def watch(self, inputs, frames=None, turns=()):
        """One visual token for a clip: the number of its needle."""
        (asked,) = inputs
        self.watched.append(len(asked.numbers))
        video = asked.media
        tokens = [self._needle(video, number) for number in asked.numbers[::CLIP]]
        visual = np.array(tokens, float)[:, None]
        serials = np.arange(len(tokens)) + 1000 * len(self.watched)
        media = (SeenMedia("video", np.arange(len(tokens)), len(asked.numbers)),)
        return Watched(media, visual, serials, 1, len(asked.numbers), 16 * len(tokens), {})

    @staticmethod
    def _needle(video, frame):
        if not isinstance(video, NeedleVideo):
            return 7 if str(video).endswith("needle.mp4") else -1
        return next((video.number for s in video.starts if s <= frame < s + video.needle), -1)

    def score_all(self, requests):
        """The right letter is the likeliest where the needle is found."""
        found = []
        for request in requests:
            tokens = request.watched.visual[:, 0].astype(int)
            (place, *_) = np.flatnonzero(tokens >= 0)
            self.seen.append((len(tokens), int(place), int(tokens[place]), int((tokens >= 0).sum())))
            self.words.append(request.turns[-1].text)
            right = self._letter(int(tokens[place]), self.words[-1])
            said = right
            if not self._finds(place, len(tokens)):
                said = next(letter for letter in "AB" if letter != right)
            logs = [-1.0 if answer.strip("()") == said else -5.0 for answer in request.answers]
            found.append(Scores(np.array(logs)))
        return found

    @staticmethod
    def _letter(number, words):
        row = NeedleVideo(1, number, 8).row()
        answer = row["options"][ord(row["answer"]) - ord("A")]
        return re.search(rf"\(([A-D])\) {answer}$", words, re.MULTILINE)[1]


def eyes(**fields):
    found = NeedleEyes(**fields)
    return dataclasses.replace(model_of(None), answerer=found, by="likelihood", rows=1), found


def test_each_needle_is_alone_in_its_haystack_at_its_depth(tmp_path):
    model, seen = eyes()
    suite = NeedleSearch(length=(40, 82), depths=3, needles=2)
    result = score(asking(model, "drawn"), suite)
    assert result.metrics["accuracy"] == 100.0 and result.metrics["lowest_cell"] == 100.0
    # (clips, place of the needle, its number, how many clips have one): the deepest first.
    places = {40: (9, 5, 0), 80: (19, 10, 0)}
    assert seen.seen == [
        (frames // CLIP, place, number, 1)
        for frames in (40, 80)
        for place in places[frames]
        for number in (0, 1)
    ]
    # Each haystack is watched once, and cleaned of its own needle; of the rest, single clips.
    assert [count for count in seen.watched if count > CLIP] == [40, 80]
    cells = {(row["frames"], row["depth"]): row for row in result.by_group if row["by"] == "cell"}
    assert set(cells) == {(frames, depth) for frames in (40, 80) for depth in (0.0, 0.5, 1.0)}
    lengths = [row for row in result.by_group if row["by"] == "length"]
    assert [(row["visual_tokens"], row["unmerged_tokens"], row["prefill_gflop"]) for row in lengths] == [
        (10, 160, 10.0),
        (20, 320, 20.0),
    ]
    assert json.loads(result.json())["protocol"]["haystack"] == "the demo's long video number 0 of seed 1"


def test_what_is_not_found_is_seen_in_its_cells_and_in_the_heat_map(tmp_path):
    from PIL import Image

    model, _ = eyes(finds=lambda place, clips: place >= clips // 2)
    suite = NeedleSearch(length=(40,), depths=3, needles=2).beside(tmp_path / "r.json")
    result = score(asking(model, "drawn:0"), suite)
    found = {row["depth"]: row["accuracy"] for row in result.by_group if row["by"] == "cell"}
    assert found == {0.0: 0.0, 0.5: 100.0, 1.0: 100.0} and result.metrics["accuracy"] == 66.67
    with Image.open(tmp_path / "r.png") as picture:
        assert picture.width > 200 and len(set(picture.convert("RGB").getdata())) > 50


def test_a_chain_runs_through_the_whole_video():
    model, seen = eyes()
    score(asking(model, "drawn"), NeedleSearch(length=(80,), hops=3, needles=1))
    assert seen.seen == [(20, 0, 0, 3)]


def test_needles_of_a_list_are_hidden_in_a_long_video(tmp_path):
    from tests.data_pipelines.corpora import make_clip

    for name in ("needle.mp4", "hay.mp4"):
        (tmp_path / name).write_bytes(make_clip(1, frames=12).payload)
    row = NeedleVideo(1, 7, 8).row()
    rows = [{"video": "needle.mp4", **{name: row[name] for name in ("question", "options", "answer")}}]
    (tmp_path / "needles.json").write_text(json.dumps(rows))
    model, seen = eyes()
    suite = NeedleSearch(length=(24,), depths=2, haystack=str(tmp_path / "hay.mp4"))
    result = score(asking(model, tmp_path / "needles.json"), suite)
    assert seen.seen == [(6, 5, 7, 1), (6, 0, 7, 1)] and result.metrics["accuracy"] == 100.0
    with pytest.raises(UserError, match="does not say how deep its needle is in how many frames"):
        score(asking(model, tmp_path / "needles.json"), NeedleSearch())
    with pytest.raises(UserError, match="the haystack .*gone.mp4 does not exist"):
        score(asking(model, tmp_path / "needles.json"), NeedleSearch(haystack=str(tmp_path / "gone.mp4")))


def test_long_videos_of_a_list_are_scored_by_the_nearest_depth(tmp_path):
    rows = []
    for number, depth in enumerate((0.0, 0.05, 0.93, 1.0)):
        (tmp_path / f"{number}.mp4").write_bytes(b"")
        rows.append({**NeedleVideo(1, number, 32, depth).row(), "video": f"{number}.mp4"})
    (tmp_path / "needles_32.json").write_text(json.dumps(rows))
    model = model_of(lambda name, words: rows[int(name)]["answer"] if name != "3" else "none", rows=1)
    model.answerer.stream = lambda prompt: [model.answerer.generate([prompt])[0]]
    result = score(asking(model, tmp_path / "needles_32.json"), NeedleSearch(depths=3))
    cells = {(row["frames"], row["depth"]): row["accuracy"] for row in result.by_group}
    assert cells == {(32, 0.0): 100.0, (32, 1.0): 50.0} and result.metrics["chance"] == 25.0
    # All of them, and not what the model's own rule would read, which could miss the needle.
    assert set(model.answerer.frames) == {32} and result.protocol["frames"] == "of each haystack: all"


def test_a_chain_of_videochat_flash_is_spread_evenly_and_asked_in_its_words(tmp_path):
    from tests.data_pipelines.corpora import make_clip

    for name in ("a_needle.mp4", "b_needle.mp4", "hay.mp4"):
        (tmp_path / name).write_bytes(make_clip(1, frames=12).payload)
    row = NeedleVideo(1, 7, 8).row()
    lines = "\n".join(f"({letter}) {text}" for letter, text in zip("ABCD", row["options"], strict=True))
    asked = f"Find it.\nOptions: {lines}\nOnly give the best option. Best option: ("
    rows = [{"images": ["a_needle.mp4", "b_needle.mp4"]}]
    rows[0] |= {"question1": asked, "answer1": row["answer"], "question2": asked, "answer2": row["answer"]}
    (tmp_path / "chains.json").write_text(json.dumps(rows))
    model, seen = eyes()
    suite = NeedleSearch(length=(24,), haystack=str(tmp_path / "hay.mp4"))
    result = score(asking(model, tmp_path / "chains.json"), suite)
    assert seen.seen == [(6, 0, 7, 2)] * 2 and seen.words == [asked] * 2
    assert result.metrics["accuracy"] == 100.0
    assert [group["name"] for group in result.by_group if group["by"] == "question"] == [
        "caption",
        "question",
    ]


def test_what_cannot_be_searched_is_said_in_a_sentence():
    model, _ = eyes()
    with pytest.raises(UserError, match="a video of 8 frames is too short for 2 odd scenes of 4"):
        NeedleSearch(length=(8,), hops=2).check_source(asking(model, "drawn").data)
    with pytest.raises(UserError, match="length=3 is shorter than a clip of the model, 4 frames"):
        score(asking(model, "drawn"), NeedleSearch(length=(3,)))
    with pytest.raises(UserError, match="the seed of drawn:x is no whole number"):
        score(asking(model, "drawn:x"), NeedleSearch())
    with pytest.raises(UserError, match="videos are drawn; leave out the haystack"):
        score(asking(model, "drawn"), NeedleSearch(haystack="a.mp4"))
    with pytest.raises(UserError, match="leave out frames"):
        NeedleSearch(frames=8)
