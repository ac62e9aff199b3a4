"""Long videos with a needle in them: the video is watched once, and the needle's clips take places in it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ivjax.data_pipelines.demo.needle_video import NeedleVideo
from ivjax.errors import UserError
from ivjax.evals.dialogue.answer_model import AnswerModel
from ivjax.evals.dialogue.questions import EvalQuestion, EvalQuestions, open_questions
from ivjax.evals.items import EvalData
from ivjax.evals.suites.dialogue import NeedleSearch
from ivjax.generate.opening import VideoInput, opened
from ivjax.generate.watching import Watched

DRAWN = "drawn"  # the name of the test set that is drawn; a seed may follow it
_DRAWN_NEEDLES = 5


class Haystack(Protocol):
    """Long videos of any length, and needles to hide in them.

    Attributes:
        needles: a question about each needle.
        protocol: whose prompt the questions have.
        chained: whether each needle is a chain from the first frame to the last, which has no depth.
    """

    needles: Sequence[EvalQuestion]
    protocol: str
    chained: bool

    def whole(self, model: AnswerModel, frames: int) -> Watched:
        """Returns what is seen of a video of so many frames without a needle."""
        ...

    def hidden(self, model: AnswerModel, whole: Watched, number: int, frames: int, depth: float) -> Watched:
        """Returns what is seen of it with needle `number` at a depth, 0 to 1 of the video."""
        ...


class DrawnHaystack:
    """The demo's long videos. All needles are hidden in the first one, which is watched once."""

    def __init__(self, seed: int, needles: int, hops: int):
        self._seed, self._hops = seed, hops
        self.protocol, self.chained = "plain", hops > 1
        self.needles: Sequence[EvalQuestion] = [self._question(number) for number in range(needles)]

    def _video(self, number: int, frames: int, depth: float, hops: int = 1) -> NeedleVideo:
        return NeedleVideo(self._seed, number, frames, depth, hops)

    def _question(self, number: int) -> EvalQuestion:
        # The question is that of the video, whatever its length.
        row = self._video(number, 8 * self._hops, 0.0, self._hops).row()
        right, options = ord(row["answer"]) - ord("A"), tuple(row["options"])
        return EvalQuestion(f"needle {number}", (), row["question"], options[right], options, right=right)

    def whole(self, model: AnswerModel, frames: int) -> Watched:
        """See Haystack."""
        first, last = (self._video(0, frames, depth) for depth in (0.0, 1.0))
        watched = model.answerer.watch([VideoInput(first, numbers=range(frames))])
        # A needle is in every drawn video. Another one, with the needle at its end, has no needle there.
        return _with_frames(model, watched, last, first.starts[0], first.needle)

    def hidden(self, model: AnswerModel, whole: Watched, number: int, frames: int, depth: float) -> Watched:
        """See Haystack."""
        video = self._video(number, frames, depth, self._hops)
        for start in video.starts:
            whole = _with_frames(model, whole, video, start, video.needle)
        return whole


def _with_frames(model: AnswerModel, whole: Watched, video: NeedleVideo, start: int, count: int) -> Watched:
    """Returns what was seen with the clips around some frames as they are in another video."""
    clip = model.frames
    first, stop = start // clip, -(-(start + count) // clip)
    # The last clip of a video that is no whole number of clips is not read.
    stop = min(stop, video.frames // clip)
    numbers = range(first * clip, stop * clip)
    return whole.with_clips(first, model.answerer.watch([VideoInput(video, numbers=numbers)]))


class FileHaystack:
    """A long video from a file, in which images or clips with questions are hidden.

    At one frame a second, as far as the video reaches; beyond that its frames are spread evenly, and repeat.
    """

    def __init__(self, file: Path, questions: EvalQuestions, needles: int | None):
        self._file, self._questions = file, questions
        self.protocol = "niah" if questions.kind == "niah" else "plain"
        found = [each for each in questions if isinstance(each, EvalQuestion)]
        self.needles: Sequence[EvalQuestion] = found[:needles]
        if not self.needles:
            raise UserError("none of the needles can be used; mend their list")
        self.chained = all(len(needle.media) > 1 for needle in self.needles)
        if not self.chained and any(len(needle.media) > 1 for needle in self.needles):
            raise UserError(
                "some needles are chains of images and some are not; give each kind a list of its own"
            )

    def whole(self, model: AnswerModel, frames: int) -> Watched:
        """See Haystack."""
        asked = VideoInput(str(self._file))
        with opened(asked) as video:
            found = video.probe
        numbers = np.round(np.linspace(0, found.frames - 1, frames)).astype(int)
        if found.fps and found.frames / found.fps >= frames:
            numbers = np.minimum(np.round(np.arange(frames) * found.fps).astype(int), found.frames - 1)
        return model.answerer.watch([dataclasses.replace(asked, numbers=numbers)])

    def hidden(self, model: AnswerModel, whole: Watched, number: int, frames: int, depth: float) -> Watched:
        """See Haystack. An image is shown for the frames of a clip; a chain's are spread evenly."""
        media, last = self._questions.inputs(self.needles[number]), frames // model.frames - 1
        places = [min(int(depth * frames) // model.frames, last)]
        if self.chained:
            places = np.round(np.linspace(0, last, len(media))).astype(int).tolist()
        for place, asked in zip(places, media, strict=True):
            with opened(asked) as medium:
                first, stop = medium.part.first, medium.part.stop
            numbers = np.round(np.linspace(first, stop - 1, model.frames)).astype(int)
            needle = model.answerer.watch([dataclasses.replace(asked, numbers=numbers)])
            whole = whole.with_clips(int(place), needle)
        return whole


def open_haystack(suite: NeedleSearch, data: EvalData) -> Haystack | None:
    """Returns what needles are hidden in; None for a list of long videos that have them already."""
    if (seed := drawn_seed(data.path)) is not None:
        if suite.haystack is not None:
            raise UserError(
                f"{data.path} videos are drawn; leave out the haystack, or name a list of needles"
            )
        return DrawnHaystack(seed, suite.needles or _DRAWN_NEEDLES, suite.hops)
    if suite.hops > 1:
        raise UserError("a chain of needles is drawn alone; leave out hops, or take the data `drawn`")
    if suite.haystack is None:
        return None
    file = Path(suite.haystack).expanduser()
    if not file.is_file():
        raise UserError(f"the haystack {file} does not exist; name a long video")
    return FileHaystack(file, open_questions(data), suite.needles)


def drawn_seed(path: str) -> int | None:
    """Returns the seed of a drawn test set, 1 if none is named; None for another test set."""
    name, _, seed = path.partition(":")
    if name != DRAWN:
        return None
    if seed and not seed.isdecimal():
        raise UserError(f"the seed of {path} is no whole number; write {DRAWN} or {DRAWN}:7")
    # Odd seeds are those of videos to test on, as `ivjax data demo --needles` has them.
    return 2 * int(seed or 0) + 1


def check_needles(suite: NeedleSearch, path: str) -> None:
    """Raises UserError if there are no needles, or videos are too short for them."""
    haystack = open_haystack(suite, EvalData(path))
    if haystack is None:
        open_questions(EvalData(path, limit=1))
    if isinstance(haystack, DrawnHaystack):
        for frames in suite.length:
            NeedleVideo(1, 0, frames, 0.0, suite.hops)  # raises for too few
