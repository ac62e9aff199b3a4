"""Answers questions about video files: what `ivjax chat` and the evals of dialogue models stand on."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.convert.loading import Loaded
from ivjax.convert.registry import family_named
from ivjax.data_pipelines.dialogue.items import NO_PLACE, encode
from ivjax.data_pipelines.fields.turns import Turns
from ivjax.data_pipelines.load.mixture import readers_of
from ivjax.data_pipelines.store.records import Turn
from ivjax.errors import UserError
from ivjax.generate.decoding import Decoding
from ivjax.generate.generator import Generator
from ivjax.generate.opening import VideoInput
from ivjax.generate.prompts import bucket_length, on_the_right
from ivjax.generate.reading import Prompt, PromptReader, shared_start
from ivjax.generate.texts import AnswerText, TextGenerator
from ivjax.generate.watching import Watched, Watcher
from ivjax.models.bridge import Question
from ivjax.models.dialogue.model import DialogueModel
from ivjax.ops.cut import Params
from ivjax.progress import Progress, Say

_LONG = 8192  # tokens of a prompt from which on its reading shows progress


class AnswerScores(NamedTuple):
    """How likely each of several answers is.

    Attributes:
        log_likelihoods: (n,) float64, the logarithm of the probability of each, without the end of its text.
        tokens: (n,) how many tokens that are.
    """

    log_likelihoods: np.ndarray
    tokens: np.ndarray


class AnswerFacts(NamedTuple):
    """How an answer came about.

    Attributes:
        prompt: tokens of the prompt.
        reused: how many of them had been read before.
        new: tokens of the answer, its end token included.
        seconds: `prefill`, up to the first token, and `generate`, from there on; what is compiled counts.
    """

    prompt: int
    reused: int
    new: int
    seconds: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Tokens a second behind the first one; 0 for an answer of one token."""
        return (self.new - 1) / self.seconds["generate"] if self.new > 1 else 0.0


class ScoreRequest(NamedTuple):
    """Answers to be scored; see `Answerer.score`."""

    watched: Watched | None
    turns: Sequence[Turn]
    answers: Sequence[str]
    begin: str = ""


class Answerer:
    """Answers questions about videos and images, in the style in which a model was trained.

        answerer = Answerer.of(ivjax.load("runs/dialogue_tiny"))
        watched = answerer.watch([VideoInput("clip.mp4")])
        prompt = answerer.prompt(watched, [Turn("user", "What happens?")])
        print("".join(answerer.stream(prompt)))

    `stream` and `score` keep what they have read: the next prompt goes on behind what it has in common with
    the one before, such as a video, or the turns of a chat.
    """

    def __init__(
        self,
        model: DialogueModel,
        params: Params,
        turns: Turns,
        options: Decoding = Decoding(),
        *,
        clips: int = 8,
        limit: int | None = None,
    ):
        """Keeps what all answers share.

        Args:
            model: the dialogue model.
            params: its parameters.
            turns: how its conversations are written, and what it sees of media.
            options: how answers are generated; without stops, they end with the tokenizer's.
            clips: that are encoded at a time.
            limit: tokens of a prompt and its answer, at most (None: what memory holds).
        """
        size, seeing = model.size, turns.seeing
        tokenizer = turns.tokenizer
        if seeing.clip_tokens != size.visual_tokens(size.least_frames):
            raise UserError(
                f"a clip has {seeing.clip_tokens} visual tokens in the data's options, and "
                f"{size.visual_tokens(size.least_frames)} in the model; give them the same number"
            )
        options = options if options.stops else dataclasses.replace(options, stops=tokenizer.stops)
        self.model, self.turns, self.options = model, turns, options
        self.last: AnswerFacts | None = None  # of the last answer of `stream`
        self._params = params
        self._watcher = Watcher(model, params, seeing, clips)
        self._reader = PromptReader(model, params, options, limit)
        self._generator = Generator(
            model.language, params["language"], dataclasses.replace(options, new=1), limit=limit
        )
        self._texts = TextGenerator(
            model.language, params["language"], tokenizer, options, until=turns.style.ends, limit=limit
        )

    @classmethod
    def of(cls, loaded: Loaded, options: Decoding = Decoding(), **more: Any) -> "Answerer":
        """Returns the answerer of a loaded run or file; `more` as in the constructor."""
        return cls(loaded.model, loaded.params, turns_of(loaded), options, **more)

    @property
    def reused(self) -> int:
        """Tokens of the last prompt that had been read before."""
        return self._reader.reused

    def forget(self) -> None:
        """Frees what was read; the next prompt is read whole."""
        self._reader.forget()

    def watch(
        self,
        inputs: Sequence[VideoInput],
        frames: int | None = None,
        turns: Sequence[Turn] = (),
        say: Say | None = None,
    ) -> Watched:
        """Returns what the model sees of videos and images, once for all questions about them.

        Raises ClipError for media that cannot be read, UserError for what is asked of them.

        Args:
            inputs: the media, in the order in which the conversation speaks of them.
            frames: frames of each video at most, spread evenly (None: those of the model's own rule).
            turns: what is asked, for a bridge that reads it.
            say: takes lines about the progress (None: nobody waits).
        """
        words = self.turns.question_words(turns)
        question = None if words is None else Question(*(jnp.asarray(part)[None] for part in words))
        return self._watcher.watch(inputs, frames, question, say)

    def prompt(self, watched: Watched | None, turns: Sequence[Turn], begin: str = "") -> Prompt:
        """Returns the text that an answer follows: token for token as in training.

        Args:
            watched: what was seen of the media (None: there are none).
            turns: the conversation, which ends with the user's turn.
            begin: words that the answer begins with, such as `Best option:(`.
        """
        style, media = self.turns.style, () if watched is None else watched.media
        if not turns or turns[-1].role != "user" or not turns[-1].text.strip():
            raise UserError("there is no question; ask something")
        try:
            items = style.open_items(turns, media, begin)
        except ValueError as error:
            raise UserError(f"{error}; name as many videos as the question has marks") from None
        tokens = encode(items, self.turns.tokenizer, style.always)
        return Prompt.of(tokens, watched, self.model.size.bridge.out)

    def stream(self, prompt: Prompt, seed: int = 0, say: Say | None = None) -> Iterator[str]:
        """Yields the answer's text as soon as it is certain, and sets `last`.

        `seed` is that of sampling; `say` takes lines about the progress of reading a long prompt.
        """
        answer = AnswerText(self.turns.tokenizer.stream(), self.turns.style.ends)
        began, first, count = time.perf_counter(), 0.0, 0
        with contextlib.ExitStack() as stack:
            advance = None
            if say is not None and len(prompt) > _LONG:
                advance = stack.enter_context(Progress(len(prompt), "tokens", say)).advance
            tokens = self._reader.stream(prompt, seed, advance)
            stack.callback(tokens.close)  # gives the cache back, also after an interruption
            for token in tokens:
                count += 1
                first = first or time.perf_counter()
                gain = answer.end() if token in self.options.stops else answer.add(token)
                if gain:
                    yield gain
                if answer.ended:
                    break
        if gain := answer.end():
            yield gain
        seconds = {"prefill": first - began, "generate": time.perf_counter() - first}
        self.last = AnswerFacts(len(prompt), self.reused, count, seconds)

    def generate(self, prompts: Sequence[Prompt], rows: int = 8, seed: int = 0) -> list[str]:
        """Returns the answer to each prompt, `rows` of them at a time, on all devices of a mesh."""
        found: list[str] = []
        for start in range(0, len(prompts), rows):
            part = list(prompts[start : start + rows])
            # Filled up, so that one program does for all.
            whole = part + [part[-1]] * (rows - len(part) if start else 0)
            answers = self._texts.generate([prompt.ids for prompt in whole], self._embed(whole), seed=seed)
            found += answers[: len(part)]
        return found

    def score(
        self, watched: Watched | None, turns: Sequence[Turn], answers: Sequence[str], begin: str = ""
    ) -> AnswerScores:
        """Returns how likely each answer is behind the words `begin`; other arguments as in `prompt`.

        An answer is tokenised together with what it follows. What all answers begin with does not count.
        """
        if not answers or not all(answer.strip() for answer in answers):
            raise UserError("there must be answers to score, and none may be empty")
        whole = [self.prompt(watched, turns, begin + answer) for answer in answers]
        plain = self.prompt(watched, turns, begin)
        shared = min(_fork(whole), shared_start([plain.keys, whole[0].keys]))
        return AnswerScores(self._logs(whole, shared), np.array([len(each) - shared for each in whole]))

    def _logs(self, whole: Sequence[Prompt], shared: int) -> np.ndarray:
        """Returns how likely the ends of texts are (n,) float64 behind the `shared` tokens that begin all."""
        common = whole[0].start(shared)
        logits = self._reader.read(common)
        return np.array([self._reader.log_likelihood(common, logits, each.ids[shared:]) for each in whole])

    def score_all(self, requests: Sequence[ScoreRequest]) -> list[AnswerScores]:
        """Returns the scores of several questions; those about one video should follow each other."""
        return [self.score(*request) for request in requests]

    def score_texts(self, requests: Sequence[ScoreRequest]) -> Iterator[np.ndarray]:
        """Yields how likely each answer to a question is as a whole, with what ends it, as logarithms.

        They are written as in training, so `begin` is left out. What all of them begin with does not count.
        """
        style, tokenizer = self.turns.style, self.turns.tokenizer
        for watched, turns, answers, _ in requests:
            media = () if watched is None else watched.media
            whole = []
            for answer in answers:
                tokens = style.encode([*turns, Turn("assistant", answer)], media, tokenizer)
                last = int(np.flatnonzero(tokens.learned)[-1]) + 1
                whole.append(Prompt.of(tokens.cut(last), watched, self.model.size.bridge.out))
            yield self._logs(whole, _fork(whole))

    def score_first(self, requests: Sequence[ScoreRequest], rows: int = 8) -> list[np.ndarray]:
        """Returns how likely the first token is in which the answers to each question differ, as logarithms.

        For answers such as (A), (B), (C), whose letters decide. `rows` questions are read at a time, on all
        devices of a mesh. Where two answers share that token, all of theirs count, as in `score`.
        """
        found: list[np.ndarray] = []
        whole = [
            [self.prompt(each.watched, each.turns, each.begin + answer) for answer in each.answers]
            for each in requests
        ]
        ends = [_fork(one) for one in whole]
        commons = [one[0].start(end) for one, end in zip(whole, ends, strict=True)]
        for start in range(0, len(requests), rows):
            part = commons[start : start + rows]
            # Filled up, because every other number of rows is compiled anew.
            filled = part + [part[-1]] * (rows - len(part))
            logits = self._generator.logits([prompt.ids for prompt in filled], self._embed(filled))
            for row, one, end in zip(logits, whole[start:], ends[start:], strict=False):
                tokens = [int(prompt.ids[end]) for prompt in one]
                wide = row.astype(np.float64) - row.max()
                logs = (wide - np.log(np.exp(wide).sum()))[tokens]
                distinct = len(set(tokens)) == len(tokens)
                found.append(logs if distinct else self.score(*requests[len(found)]).log_likelihoods)
        return found

    def _embed(self, prompts: Sequence[Prompt]) -> Any:
        """A function from ids (B, L), whose rows end together, to embeddings with the visual tokens."""
        most = max(len(prompt.visual) for prompt in prompts)
        room = bucket_length(max(most, 1), self.options.chunk)
        visual = np.zeros((len(prompts), room, self.model.size.bridge.out), self.model.language.dtype)
        for row, prompt in zip(visual, prompts, strict=True):
            row[: len(prompt.visual)] = prompt.visual

        def embed(ids: jax.Array) -> jax.Array:
            places, _ = on_the_right([prompt.places for prompt in prompts], ids.shape[1], NO_PLACE)
            return _run_embed(self.model, self._params, ids, visual, places)

        return embed


def _fork(texts: Sequence[Prompt]) -> int:
    """Returns how many tokens all texts begin with, so that each of them has a token left."""
    # One that begins another, whole, would have none.
    return min(shared_start([text.keys for text in texts]), min(map(len, texts)) - 1)


def _embedded(
    model: DialogueModel, params: Params, ids: jax.Array, visual: jax.Array, places: jax.Array
) -> jax.Array:
    return model.embed(params, ids, visual, places)


_run_embed = jax.jit(_embedded, static_argnums=0)


def turns_of(loaded: Loaded) -> Turns:
    """Returns how conversations with a loaded model are written, and what it sees."""
    if not isinstance(loaded.model, DialogueModel):
        raise UserError(
            f"{loaded.path} holds a {type(loaded.model).__name__}, which answers no questions about videos; "
            "give the weights of a dialogue model"
        )
    found: Any = None
    if loaded.experiment is not None:
        name: Any = getattr(loaded.experiment.stage, "dialogue_field", None)
        readers = readers_of(loaded.experiment.data).values()
        found = next((reader.fields[name] for reader in readers if name in reader.fields), None)
    elif loaded.family:
        found = family_named(loaded.family).turns(loaded.model.size)
    if not isinstance(found, Turns):
        raise UserError(
            f"{loaded.path} does not say how its conversations are written; give a run of dialogue"
        )
    tokenizer: Any = loaded.tokenizer or found.tokenizer
    return dataclasses.replace(found, tokenizer=tokenizer)
