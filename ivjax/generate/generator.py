"""A generator of texts: compiled programs around prefill and decoding, and tokens as they come."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.errors import UserError
from ivjax.generate.decoding import ENDED, Decoding, decode
from ivjax.generate.prefill import prefill, prompt_logits
from ivjax.generate.prompts import Ids, Prompts, bucket_length, id_rows, on_the_right, tokens_in
from ivjax.models.decoder.network import LanguageModel
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain

Embed = Callable[[jax.Array], jax.Array]  # token ids (B, L) of prompts -> their embeddings (B, L, C)


def _behind(
    model: LanguageModel, params: Params, prompts: Prompts, keys: jax.Array, options: Decoding
) -> jax.Array:
    # Whole on every device, for the host that reads them.
    return constrain(prompt_logits(model, params, prompts, keys, options)[0], None, None)


# Compiled once for each length of prompts, number of rows and options, whichever generator asks for them.
run_prefill = jax.jit(prefill, static_argnums=(0, 4))
run_logits = jax.jit(_behind, static_argnums=(0, 4))
# The state is donated: its caches are updated in place.
run_decode = jax.jit(decode, static_argnums=(0, 3, 4), donate_argnums=2)


class Generator:
    """Goes on with texts, token by token.

    On a mesh (`jax.set_mesh`), rows are split over its batch axes and heads over `tensor`; parameters lie on
    it as the model's rules say.
    """

    def __init__(
        self,
        model: LanguageModel,
        params: Params,
        options: Decoding,
        *,
        limit: int | None = None,
        visual_token: int | None = None,
    ):
        """Keeps what all generations share.

        Args:
            model: the language model.
            params: its parameters. Stored in the dtype that the model computes in, they are read without a
                cast at each token.
            options: how tokens are generated; `visual` is counted in the prompts.
            limit: tokens of a prompt and its new tokens together, at most (None: what memory holds).
            visual_token: the id at whose places visual tokens stand in prompts (None: there are none).
        """
        if not isinstance(model, LanguageModel) or "word_embed" not in params:
            raise UserError(
                f"a {type(model).__name__} and these parameters are no language model; of a dialogue model "
                'give model.language and params["language"]'
            )
        options.check(model.size)
        self._model, self._params, self._options = model, params, options
        self._limit, self._visual_token = limit, visual_token

    def stream(
        self,
        rows: Sequence[Ids],
        embed: Embed | None = None,
        *,
        seed: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[np.ndarray]:
        """Yields the tokens of each step (B,) int32, until all texts have ended or `new` tokens are there.

        A stop token is the last of its text; after it, ENDED stands for the row.

        Args:
            rows: token ids of each prompt.
            embed: makes embeddings of ids (B, L) whose rows end together; None: the word embeddings.
            seed: of the random numbers of sampling.
            numbers: of the rows. A row draws by (seed, its number, step) alone (None: counted from 0).
        """
        prompts = id_rows(rows)
        options = self._checked(prompts, embed)
        numbers = range(len(rows)) if numbers is None else numbers
        if len(numbers) != len(rows):
            raise UserError(f"{len(rows)} prompts have {len(numbers)} numbers; give one for each")
        # Checked here and not at the first token: this function is no generator itself.
        return self._tokens(prompts, embed, options, row_keys(seed, numbers))

    def generate(
        self,
        rows: Sequence[Ids],
        embed: Embed | None = None,
        *,
        seed: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> list[list[int]]:
        """Returns the new tokens of each row, without its stop token. Arguments are those of `stream`."""
        steps = np.stack(list(self.stream(rows, embed, seed=seed, numbers=numbers)), axis=1)
        silent = {ENDED, *self._options.stops}
        return [[int(token) for token in row if int(token) not in silent] for row in steps]

    def logits(self, rows: Sequence[Ids], embed: Embed | None = None) -> np.ndarray:
        """Returns logits (B, V) float32 of the token behind each prompt. Arguments are those of `stream`."""
        prompts = id_rows(rows)
        options = self._checked(prompts, embed)
        batch = self._prompts(prompts, self.prompt_length(prompts), embed, options)
        keys = row_keys(0, range(len(prompts)))
        return np.asarray(run_logits(self._model, self._params, batch, keys, options), np.float32)

    def _tokens(
        self, rows: Sequence[np.ndarray], embed: Embed | None, options: Decoding, keys: jax.Array
    ) -> Iterator[np.ndarray]:
        model, params = self._model, self._params
        length = self.prompt_length(rows)
        state, told = run_prefill(model, params, self._prompts(rows, length, embed, options), keys, options)
        ended = np.zeros(len(rows), bool)
        for _ in range(options.new - 1):
            told.copy_to_host_async()
            # The next step is under way while the host reads this one: the device does not wait for it.
            state, following = run_decode(model, params, state, length, options)
            tokens = np.asarray(told)
            yield tokens
            ended |= np.isin(tokens, (ENDED, *options.stops))
            if ended.all():
                return
            told = following
        yield np.asarray(told)

    def prompt_length(self, rows: Sequence[Ids]) -> int:
        """Returns the length that these prompts are filled up to; each is compiled for once."""
        length = bucket_length(max(map(len, rows)), self._options.chunk)
        if self._limit is None:
            return length
        return min(length, self._limit - self._options.new)

    def _prompts(
        self, rows: Sequence[np.ndarray], length: int, embed: Embed | None, options: Decoding
    ) -> Prompts:
        model = self._model
        ids, starts = on_the_right(rows, length)
        x = model.embed(self._params, jnp.asarray(ids)) if embed is None else embed(jnp.asarray(ids))
        visual = seen = None
        if options.dropout is not None and self._visual_token is not None:
            visual = jnp.asarray((ids == self._visual_token) & (np.arange(length) >= starts[:, None]))
        if options.sampling.repetition_penalty != 1:
            seen = jnp.asarray(tokens_in(rows, model.size.vocabulary))
        return Prompts(x, jnp.asarray(starts), visual, seen)

    def _checked(self, rows: Sequence[np.ndarray], embed: Embed | None) -> Decoding:
        """The options with the number of visual tokens; raises if these prompts cannot be gone on with."""
        new, limit = self._options.new, self._limit
        for number, row in enumerate(rows):
            if not len(row):
                raise UserError(f"prompt {number} is empty; it needs a token to go on from")
            if limit is not None and len(row) + new > limit:
                raise UserError(
                    f"prompt {number} has {len(row)} tokens, which with {new} new ones exceed the limit of "
                    f"{limit}; shorten it, ask for fewer new tokens or raise the limit"
                )
            self._check_ids(number, row, embed)
        if self._options.dropout is None or self._visual_token is None:
            return self._options
        counts = [int(np.sum(row == self._visual_token)) for row in rows]
        for number, count in enumerate(counts):
            if count != counts[0]:
                raise UserError(
                    f"prompt {number} has {count} visual tokens and prompt 0 has {counts[0]}; with visual "
                    "dropout all prompts of a batch must have equally many"
                )
        # Texts without a video are read whole, by the same program as without dropout.
        return replace(self._options, visual=counts[0], dropout=self._options.dropout if counts[0] else None)

    def _check_ids(self, number: int, row: np.ndarray, embed: Embed | None) -> None:
        words = row if embed is None else row[row != self._visual_token]
        unknown = words[(words < 0) | (words >= self._model.size.vocabulary)]
        if len(unknown):
            raise UserError(
                f"prompt {number} has token {unknown[0]}, which is no token of the model, whose ids are 0 to "
                f"{self._model.size.vocabulary - 1}"
            )


def row_keys(seed: int, numbers: Sequence[int]) -> jax.Array:
    """Returns the keys (B,) of rows by their numbers."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.asarray(numbers))
