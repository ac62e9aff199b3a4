"""The language model: embeddings, a stack of blocks, norm and head."""

from dataclasses import dataclass
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute, Remat
from ivjax.models.decoder.blocks import DecoderBlock, Linear, Text, Turns, Written, added, turns, without_some
from ivjax.models.decoder.cache import Cache
from ivjax.models.decoder.sizes import LanguageSize
from ivjax.models.layers import RMSNorm
from ivjax.models.stacks import checkpointed
from ivjax.ops.cut import Params
from ivjax.ops.randomness import folded


class _Decoder(nn.Module):
    """All parameters, for `init`."""

    size: LanguageSize

    @nn.compact
    def __call__(self, ids: jax.Array) -> None:
        size = self.size
        words = self.param("word_embed", nn.initializers.normal(0.02), (size.vocabulary, size.width))
        text = Text(turns(size.rotary, size.head, jnp.arange(1)[None], 1))
        stack = nn.scan(
            lambda block, x, _: (block(x, text)[0], None),
            variable_axes={"params": 0, "lora": 0},
            split_rngs={"params": True},
            length=size.depth,
        )
        x, _ = stack(DecoderBlock(size, name="blocks"), words[ids], None)
        x = RMSNorm(size.epsilon, name="norm")(x)
        if not size.tied:
            Linear(size.vocabulary, size.lora, jnp.float32, name="head")(x)


@dataclass(frozen=True)
class LanguageModel:
    """A decoder-only language model: a frozen size; parameters are passed in.

    Attributes:
        size: its size.
        compute: precision, and what is computed again in the backward pass.
    """

    size: LanguageSize
    compute: Compute

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        found = _Decoder(self.size).init(key, jnp.zeros((1, 1), jnp.int32))
        return {**found["params"], **({"lora": found["lora"]} if "lora" in found else {})}

    @property
    def dtype(self) -> Any:
        """What the layers compute in."""
        return jnp.dtype(self.compute.dtype)

    def embed(self, params: Params, ids: jax.Array) -> jax.Array:
        """Token ids (B, L) -> embeddings (B, L, C)."""
        return params["word_embed"][ids].astype(self.dtype)

    def turns(self, positions: jax.Array, length: jax.Array | int) -> Turns:
        """Returns the angles of positions (B, L) in texts of `length` tokens; see the function `turns`."""
        return turns(self.size.rotary, self.size.head, positions, length)

    def layers(
        self,
        params: Params,
        x: jax.Array,
        text: Text,
        first: int = 0,
        last: int | None = None,
        keys: jax.Array | None = None,
    ) -> Any:
        """Runs the blocks from `first` to before `last`: x (B, L, C) -> (B, L, C).

        `keys` (B,) are those of the rows' dropout, given in training alone.
        """
        last = self.size.depth if last is None else last
        if self.size.lora is None or not self.size.lora.dropout:
            keys = None  # so that nothing is traced for them
        # A scan has one policy for all of its layers, so two policies are two scans.
        cut = last if self.compute.remat_blocks is None else min(max(self.compute.remat_blocks, first), last)
        x = self._run(params, x, text, first, cut, self.compute.remat, keys)
        return self._run(params, x, text, cut, last, "none", keys)

    def _run(
        self,
        params: Params,
        x: jax.Array,
        text: Text,
        first: int,
        last: int,
        policy: Remat,
        keys: jax.Array | None,
    ) -> Any:
        if first == last:
            return x
        block, looped = DecoderBlock(self.size, self.dtype), self.compute.scan and last - first > 1
        stacked = stacked_variables(params)
        whole, frozen = (first, last) == (0, self.size.depth), jax.lax.stop_gradient(stacked)

        def one(own: Params, x: jax.Array, number: jax.Array) -> jax.Array:
            variables = own if whole else entry_with_gradient_of(frozen, number, own)
            drop = None if keys is None else folded(keys, number)
            return cast(jax.Array, block.apply(variables, x, text, drop=drop)[0])

        run = checkpointed(one, policy, looped)
        layers = jax.tree.map(lambda leaf: leaf[first:last], stacked), jnp.arange(first, last)
        unroll = 1 if self.compute.scan else last - first
        return jax.lax.scan(lambda x, layer: (run(layer[0], x, layer[1]), None), x, layers, unroll=unroll)[0]

    def cached_layers(
        self, params: Params, x: jax.Array, text: Text, cache: Cache, written: Written, first: int, last: int
    ) -> tuple[jax.Array, Cache]:
        """As `layers`, with the keys and values of the tokens before; returns the cache with these tokens."""
        block = DecoderBlock(self.size, self.dtype)

        def layer(carry: tuple[jax.Array, Cache], i: jax.Array) -> tuple[Any, None]:
            x, cache = carry
            # Of the whole stack: a part of it, sliced before the loop, would be a copy of those weights.
            variables = _entry(stacked_variables(params), first + i)
            # The whole cache, in the carry: a donated buffer is updated in place, where tokens are new.
            return block.apply(variables, x, text, cache, written._replace(layer=i)), None

        return jax.lax.scan(layer, (x, cache), jnp.arange(last - first))[0]

    def normed(self, params: Params, x: jax.Array) -> jax.Array:
        """The final norm: (B, L, C) -> (B, L, C)."""
        norm = RMSNorm(self.size.epsilon, self.dtype)
        return cast(jax.Array, norm.apply({"params": params["norm"]}, x))

    def logit_products(
        self, params: Params, states: jax.Array, keys: jax.Array | None = None
    ) -> tuple[Any, Any]:
        """Returns states (B, ..., C) and kernels (C, vocabulary) whose products, added up, are the logits.

        `keys` (B,) are those of the rows' dropout, given in training alone.
        """
        head = params["word_embed"].T if self.size.tied else params["head"]["kernel"]
        factors = params.get("lora", {}).get("head")
        if factors is None:
            return (states,), (head,)
        assert self.size.lora is not None
        read = without_some(states, self.size.lora, "head", keys)
        low = read @ factors["a"].astype(states.dtype) * self.size.lora.scale
        return (states, low), (head, factors["b"])

    def logits(self, params: Params, states: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Normed states (B, ..., C) -> logits of the next token (B, ..., vocabulary) float32.

        `keys` (B,) are those of the rows' dropout, given in training alone.
        """
        head = params["word_embed"].T if self.size.tied else params["head"]["kernel"]
        logits: jax.Array = jnp.dot(states, head.astype(states.dtype), preferred_element_type=jnp.float32)
        factors = params.get("lora", {}).get("head")
        if factors is None:
            return logits
        assert self.size.lora is not None
        states = without_some(states, self.size.lora, "head", keys)
        return logits + added(states, factors["a"], factors["b"], self.size.lora.scale).astype(jnp.float32)


def _entry(stacked: Any, number: jax.Array) -> Any:
    """Returns entry `number` of the leading axes of a tree."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, keepdims=False), stacked)


@jax.custom_jvp
def entry_with_gradient_of(stacked: Any, number: jax.Array, own: Any) -> Any:
    """Returns entry `number` of the leading axes of a tree; `own`, an equal entry, gets the gradient.

    A loop over a part of a stack would read a copy of those weights, sliced before it. An index into the
    whole stack makes none, but its gradient is as large as the stack, once for each layer. Here the value
    comes by the index, and the gradient goes to the slice, which the compiler leaves out as no one reads it.
    """
    return _entry(stacked, number)


@entry_with_gradient_of.defjvp
def _gradient_of_own(primals: Any, tangents: Any) -> Any:
    return entry_with_gradient_of(*primals), tangents[2]


def stacked_variables(params: Params) -> Params:
    """Returns the variables of all blocks, stacked on a leading axis, as a block's `apply` takes them."""
    lora = params.get("lora", {}).get("blocks")
    return {"params": params["blocks"], **({} if lora is None else {"lora": lora})}


def build(size: LanguageSize, compute: Compute) -> LanguageModel:
    """Returns the model of a size; see LanguageSize.build."""
    return LanguageModel(size, compute)
