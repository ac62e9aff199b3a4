"""`ivjax.chat`: a conversation about videos, turn by turn, and what a user is told about each answer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ivjax.convert.loading import Loaded
from ivjax.data_pipelines.store.records import ClipError, Turn
from ivjax.errors import UserError
from ivjax.generate.answering import Answerer, turns_of
from ivjax.generate.decoding import Decoding
from ivjax.generate.opening import VideoInput
from ivjax.generate.watching import Watched
from ivjax.progress import Say


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

    def answer(self, question: str, say: Say | None = None) -> str:
        """Returns the whole answer to a question."""
        return "".join(self.ask(question, say)).strip()

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


def chat(
    model: Loaded,
    media: Any = (),
    options: Decoding = Decoding(),
    *,
    frames: int | None = None,
    start: float | None = None,
    end: float | None = None,
    frame_rate: float | None = None,
    system: str = "",
    seed: int = 0,
    clips: int = 8,
    limit: int | None = None,
    question_tokenizer: str | Path | None = None,
) -> Chat:
    """Returns a conversation with a dialogue model about videos and images, which are watched once.

    Args:
        model: what `ivjax.load` returns for a run of dialogue training or a released dialogue model.
        media: one or many of: a file, the bytes of one, a folder of images, frames (T, H, W, 3) uint8, or a
            VideoInput, for which start, end and frame_rate stand in it; none for a talk about nothing seen.
        options: how answers are generated.
        frames: frames of each video at most (None: by the model's own rule).
        start: where the part of each video begins, in seconds.
        end: where it ends.
        frame_rate: images a second of a folder of images, or of frames.
        system: the instruction at the beginning.
        seed: of sampling.
        clips: that are encoded at a time.
        limit: tokens of a prompt and its answer, at most (None: what memory holds).
        question_tokenizer: the vocabulary of a bridge that reads the instruction.
    """
    if not isinstance(model, Loaded):
        raise UserError(
            f"a chat is with what ivjax.load returns, not with a {type(model).__name__}; give that"
        )
    turns = turns_of(model)
    if question_tokenizer is not None:
        if turns.question is None:
            raise UserError(f"the bridge of {model.path} reads no words; leave out --question-tokenizer")
        asked: Any = turns.question
        turns = replace(turns, question=replace(asked, path=str(question_tokenizer)))
    answerer = Answerer(model.model, model.params, turns, options, clips=clips, limit=limit)
    one = isinstance(media, str | Path | bytes | VideoInput) or hasattr(media, "ndim")
    inputs = [
        each if isinstance(each, VideoInput) else VideoInput(each, start, end, frame_rate=frame_rate)
        for each in ([media] if one else media)
    ]
    return Chat(answerer, inputs, frames, system, seed)


def watched_in_words(watched: Watched, media: int) -> str:
    """Returns how much was seen, and how long it took."""
    seconds, what = watched.seconds, "1 medium" if media == 1 else f"{media} media"
    return (
        f"{watched.frames:,} frames of {what}: {watched.unmerged:,} tokens before merging, "
        f"{len(watched.visual):,} after; decoding {seconds['decode']:.1f} s, vision and merging "
        f"{seconds['see']:.1f} s"
    )
