"""The work of `ivjax chat`: what is asked, of which weights, about which files."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivjax.convert.loading import load
from ivjax.data_pipelines.sources.media import media_of
from ivjax.errors import UserError
from ivjax.experiment.computing import Dtype
from ivjax.generate.chat import Chat, chat
from ivjax.generate.decoding import Decoding
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

    def open(self) -> Chat:
        """Reads the weights and returns the chat."""
        loaded = load(self.weights, self.preset, tokenizer=self.tokenizer, dtype=self.dtype)
        return chat(
            loaded,
            self.media,
            self.options,
            frames=self.frames,
            start=self.start,
            end=self.end,
            frame_rate=self.frame_rate,
            system=self.system,
            seed=self.seed,
            clips=self.clips,
            limit=self.limit,
            question_tokenizer=self.question_tokenizer,
        )


def run_chat(
    request: ChatRequest, questions: Iterable[str], show: Callable[[str], None], say: Say, as_json: bool
) -> None:
    """Answers questions one after the other; `show` takes pieces of the answers, `say` all else.

    The question `/new` forgets what was said before.
    """
    request.check_media()  # before anybody has typed a question
    talk: Chat | None = None
    for question in questions:
        # Opened at the first question, so that an empty one is told at once.
        if not question.strip():
            raise UserError("there is no question; ask something")
        talk = talk or request.open()
        if question.strip() == "/new":
            talk.start_again()
            continue
        if as_json:
            talk.answer(question)
            show(json.dumps(talk.facts(), ensure_ascii=False) + "\n")
            continue
        for gain in talk.ask(question, say):
            show(gain)
        show("\n")
        say(talk.answer_in_words())


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
