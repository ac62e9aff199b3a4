"""A chat about videos: the turns so far, and what a user is told about each answer."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ivjax.convert.loading import load
from ivjax.data_pipelines.sources.media import media_of
from ivjax.data_pipelines.store.records import ClipError, Turn
from ivjax.errors import UserError
from ivjax.experiment.computing import Dtype
from ivjax.generate.answering import Answerer, turns_of
from ivjax.generate.decoding import Decoding
from ivjax.generate.opening import VideoInput
from ivjax.generate.watching import Watched
from ivjax.progress import Say


@dataclass(frozen=True)
class ChatRequest:
    """What a chat is about, and with whom.

    Attributes:
        media: files of videos and images.
        weights: a run folder or a weight file.
        preset: which model the file holds, where it does not say.
        tokenizer: another tokenizer of the language model than lies beside the weights.
        question_tokenizer: the vocabulary of a bridge that reads the instruction.
        dtype: what the model computes in.
        frames: frames of each video at most (None: by the model's own rule).
        start: where the part of each video begins, in seconds.
        end: where it ends.
        frame_rate: images a second of a folder of images.
        system: the instruction at the beginning.
        options: how answers are generated.
        seed: of sampling.
        clips: that are encoded at a time.
        limit: tokens of a prompt and its answer, at most.
    """

    media: tuple[str, ...]
    weights: str
    preset: str | None = None
    tokenizer: str | None = None
    question_tokenizer: str | None = None
    dtype: Dtype = "float32"
    frames: int | None = None
    start: float | None = None
    end: float | None = None
    frame_rate: float | None = None
    system: str = ""
    options: Decoding = Decoding()
    seed: int = 0
    clips: int = 8
    limit: int | None = None

    def check_media(self) -> None:
        """Raises UserError if a video or an image is not there."""
        for name in self.media:
            place = Path(name).expanduser()
            if not place.exists() and not Path(str(place).partition("::")[0]).is_file():
                raise UserError(f"{name} does not exist; name a video or an image")

    def open(self) -> "Chat":
        """Reads the weights and returns the chat."""
        loaded = load(self.weights, self.preset, tokenizer=self.tokenizer, dtype=self.dtype)
        turns = turns_of(loaded)
        if self.question_tokenizer is not None:
            if turns.question is None:
                raise UserError(
                    f"the bridge of {self.weights} reads no words; leave out --question-tokenizer"
                )
            asked: Any = turns.question
            turns = replace(turns, question=replace(asked, path=self.question_tokenizer))
        answerer = Answerer(
            loaded.model, loaded.params, turns, self.options, clips=self.clips, limit=self.limit
        )
        inputs = [VideoInput(name, self.start, self.end, frame_rate=self.frame_rate) for name in self.media]
        return Chat(answerer, inputs, self.frames, self.system, self.seed)


class Chat:
    """A conversation about videos that are watched once, at the first question.

    Attributes:
        turns: what was said so far.
        watched: what the model has seen; None before the first question.
    """

    def __init__(
        self,
        answerer: Answerer,
        inputs: Sequence[VideoInput],
        frames: int | None = None,
        system: str = "",
        seed: int = 0,
    ):
        self._answerer, self._inputs, self._frames, self._seed = answerer, inputs, frames, seed
        self._opening = [Turn("system", system)] if system else []
        self.turns = list(self._opening)
        self.watched: Watched | None = None

    def start_again(self) -> None:
        """Forgets what was said, and not what was seen."""
        self.turns = list(self._opening)

    def ask(self, question: str, say: Say | None = None) -> Iterator[str]:
        """Yields the answer as it comes. An answer that is not read to its end leaves no turns.

        `say` takes what a user is told meanwhile.
        """
        if not question.strip():
            raise UserError("there is no question; ask something")
        turns = [*self.turns, Turn("user", question)]
        if self.watched is None:
            try:
                # With the first question, because some bridges read it.
                self.watched = self._answerer.watch(self._inputs, self._frames, turns, say)
            except ClipError as error:
                raise UserError(str(error)) from None
            if say is not None:
                say(watched_in_words(self.watched, len(self._inputs)))
        prompt = self._answerer.prompt(self.watched, turns)
        said = ""
        try:
            for gain in self._answerer.stream(prompt, self._seed, say):
                said += gain
                yield gain
        except KeyboardInterrupt:
            self._answerer.forget()  # a step may have been cut in two
            raise
        self.turns = [*turns, Turn("assistant", said.strip())]

    def answer_in_words(self) -> str:
        """Returns how long the last answer took."""
        last = self._answerer.last
        assert last is not None
        known = f", {last.reused:,} of them read before," if last.reused else ""
        return (
            f"a prompt of {last.prompt:,} tokens{known} in {last.seconds['prefill']:.1f} s, "
            f"{last.new:,} new tokens at {last.rate:.1f} a second"
        )

    def facts(self) -> dict[str, Any]:
        """Returns the last question and answer, with frames, tokens and seconds, for programs."""
        watched, last = self.watched, self._answerer.last
        assert watched is not None and last is not None
        question, answer = self.turns[-2:]
        seconds = {name: watched.seconds[name] for name in ("decode", "see")} | dict(last.seconds)
        return {
            "question": question.text,
            "answer": answer.text,
            "frames": watched.frames,
            "tokens_before_merging": watched.unmerged,
            "visual_tokens": len(watched.visual),
            "prompt_tokens": last.prompt,
            "reused_tokens": last.reused,
            "new_tokens": last.new,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "tokens_per_s": round(last.rate, 2),
        }


def run_chat(
    request: ChatRequest, questions: Iterable[str], show: Callable[[str], None], say: Say, as_json: bool
) -> None:
    """Answers questions one after the other; `show` takes pieces of the answers, `say` all else.

    The question `/new` forgets what was said before.
    """
    request.check_media()  # before anybody has typed a question
    chat: Chat | None = None
    for question in questions:
        # Opened at the first question, so that an empty one is told at once.
        if not question.strip():
            raise UserError("there is no question; ask something")
        chat = chat or request.open()
        if question.strip() == "/new":
            chat.start_again()
            continue
        gains = chat.ask(question, None if as_json else say)
        if as_json:
            "".join(gains)
            show(json.dumps(chat.facts(), ensure_ascii=False) + "\n")
            continue
        for gain in gains:
            show(gain)
        show("\n")
        say(chat.answer_in_words())


def media_and_question(words: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """Returns the media of a command line, and its last word if that is a question."""
    *others, last = words
    place = Path(last).expanduser()
    try:
        named = bool(last.strip()) and (
            media_of(last) is not None or place.exists() or Path(last.partition("::")[0]).is_file()
        )
    except (OSError, ValueError):  # too long for a path, or with characters that no path has
        named = False
    # The first word is always a video: one that is not there is a mistake, and no question.
    return (tuple(words), None) if named or not others else (tuple(others), last)


def watched_in_words(watched: Watched, media: int) -> str:
    """Returns how much was seen, and how long it took."""
    seconds, what = watched.seconds, "1 medium" if media == 1 else f"{media} media"
    return (
        f"{watched.frames:,} frames of {what}: {watched.unmerged:,} tokens before merging, "
        f"{len(watched.visual):,} after; decoding {seconds['decode']:.1f} s, vision and merging "
        f"{seconds['see']:.1f} s"
    )
