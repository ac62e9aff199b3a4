"""From text to text: a generator of tokens between a tokenizer's ids and its decoding."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ivjax.data_pipelines.tokenizers.tokenizer import LanguageTokenizer, TextStream
from ivjax.errors import UserError
from ivjax.generate.decoding import ENDED, Decoding
from ivjax.generate.generator import Embed, Generator
from ivjax.generate.prompts import Ids
from ivjax.models.decoder.network import LanguageModel
from ivjax.ops.cut import Params


class TextGenerator:
    """Goes on with texts in words: `TextGenerator(*ivjax.load(FOLDER)).generate(["Once upon a time"])`."""

    def __init__(
        self,
        model: LanguageModel,
        params: Params,
        tokenizer: LanguageTokenizer,
        options: Decoding = Decoding(),
        *,
        until: tuple[str, ...] = (),
        limit: int | None = None,
    ):
        """Keeps what all generations share.

        Args:
            model: the language model.
            params: its parameters.
            tokenizer: its tokenizer.
            options: how tokens are generated; without stops, texts end with those of the tokenizer.
            until: words that end a text too, such as the `###` of VideoChat2 with Vicuna. They are left out.
            limit: tokens of a prompt and its new tokens together, at most (None: what memory holds).
        """
        if isinstance(until, str) or "" in until:
            raise UserError(f"until must be a tuple of words, such as ('###',), got {until!r}")
        self._tokenizer, self._until = tokenizer, until
        self._options = options if options.stops else replace(options, stops=tokenizer.stops)
        self._generator = Generator(model, params, self._options, limit=limit, visual_token=tokenizer.visual)

    def stream(
        self,
        prompts: Sequence[str | Ids],
        embed: Embed | None = None,
        *,
        seed: int = 0,
    ) -> Iterator[list[str]]:
        """Yields what each text gains, as soon as it is certain; "" where nothing is new.

        Args:
            prompts: texts, which get the tokenizer's start token, or ids, which are taken as they are.
            embed: as in `Generator.stream`, for prompts with visual tokens.
            seed: of the random numbers of sampling.
        """
        if isinstance(prompts, str):
            raise UserError("prompts must be a list; put the one text into a list")
        rows = [self._ids(prompt) for prompt in prompts]
        steps = self._generator.stream(rows, embed, seed=seed)
        # Checked here and not at the first token: this function is no generator itself.
        return self._texts(steps, [AnswerText(self._tokenizer.stream(), self._until) for _ in rows])

    def generate(
        self,
        prompts: Sequence[str | Ids],
        embed: Embed | None = None,
        *,
        seed: int = 0,
    ) -> list[str]:
        """Returns what each text goes on with. Arguments are those of `stream`."""
        return ["".join(gains) for gains in zip(*self.stream(prompts, embed, seed=seed), strict=True)]

    def _ids(self, prompt: str | Ids) -> Ids:
        if not isinstance(prompt, str):
            return prompt
        return [*self._tokenizer.opening, *self._tokenizer.pieces(prompt)]

    def _texts(self, steps: Iterator[np.ndarray], answers: list["AnswerText"]) -> Iterator[list[str]]:
        silent = {ENDED, *self._options.stops}
        for tokens in steps:
            gains = []
            for answer, token in zip(answers, tokens.tolist(), strict=True):
                gains.append(answer.end() if token in silent else answer.add(token))
            yield gains
            if all(answer.ended for answer in answers):
                return
        yield [answer.end() for answer in answers]


class AnswerText:
    """One text under way: what may be the beginning of an ending is held back.

    Attributes:
        ended: whether one of the words that end it has come.
    """

    def __init__(self, stream: TextStream, until: tuple[str, ...]):
        self._stream, self._until, self._held = stream, until, ""
        self.ended = False

    def add(self, token: int) -> str:
        """Returns what is certain after a token."""
        if self.ended:
            return ""
        self._held += self._stream.add(token)
        return self._released(max((_overlap(self._held, words) for words in self._until), default=0))

    def end(self) -> str:
        """Returns what was held back."""
        if self.ended:
            return ""
        self._held += self._stream.end()
        shown = self._released(0)
        self.ended = True
        return shown

    def _released(self, kept: int) -> str:
        """The held text up to an ending, or all but its last `kept` characters."""
        ends = [place for words in self._until if (place := self._held.find(words)) >= 0]
        self.ended = bool(ends)
        count = min(ends, default=len(self._held) - kept)
        shown, self._held = self._held[:count], self._held[count:]
        return shown


def _overlap(text: str, words: str) -> int:
    """Returns the length of the longest end of `text` that `words` begins with."""
    return next((n for n in range(min(len(text), len(words)), 0, -1) if text.endswith(words[:n])), 0)
