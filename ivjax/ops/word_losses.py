"""Cross entropy of the next word, in blocks of words: the logits of all tokens and words never exist.

A language model's logits are its largest array: 8,192 tokens x 92,553 words are 3 GB in float32. Here a block
of words is compared with all tokens at a time, and the backward pass makes its logits again. Blocks of words
rather than of tokens, so that the head's gradient is made and summed over devices once, block by block.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec

from ivjax.ops.layout import activation_spec, one_device, ways

IGNORED = -100  # the label of a token that asks for no word

_LOGITS = 2**25  # logits that a device holds at a time: 128 MiB in float32
_LANES = 128
_LOWEST = -1e30  # of a word that is hidden; finite, because a difference of two infinities is nan


class WordLosses(NamedTuple):
    """For each token, its loss (B, L) float32, 0 where the label is IGNORED; and whether no word is likelier
    than its label (B, L) bool."""

    loss: jax.Array
    right: jax.Array


def word_losses(
    states: tuple[jax.Array, ...], kernels: tuple[jax.Array, ...], labels: jax.Array
) -> WordLosses:
    """Cross entropies of labels (B, L) under logits that are the sum of states (B, L, C) @ kernel (C, V).

    Several pairs of states and kernel are a head and additions of low rank to it. On a mesh, rows are split
    over the batch axes, tokens over `context`, words over `tensor`, the kernels' channels over `fsdp`.
    """
    words = kernels[0].shape[1]
    split = ways("tensor")
    if words % split:
        # Rows of padding are hidden; without them a head whose words do not divide would be whole everywhere.
        kernels = tuple(jnp.pad(kernel, ((0, 0), (0, -words % split))) for kernel in kernels)
    return WordLosses(*_losses(words, states, kernels, labels))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _losses(
    words: int, states: tuple[jax.Array, ...], kernels: tuple[jax.Array, ...], labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return _run(words, states, kernels, labels)[0]


def _run(words: int, states: tuple[jax.Array, ...], kernels: tuple[jax.Array, ...], labels: jax.Array) -> Any:
    """Returns loss and rightness of each token, and the logarithm of its sum of exponentials."""
    split = _Split.of(states, kernels, words)
    rows, columns = split.tokens, split.kernels
    mapped = split.over(functools.partial(_forward, split), (rows, columns, rows), (rows, rows, rows))
    loss, right, total = mapped(states, kernels, labels)
    return (loss, right), total


def _losses_forward(words: int, states: Any, kernels: Any, labels: Any) -> Any:
    # What is frozen needs no gradient, and the head's alone is a third of the backward pass.
    wanted = tuple(tuple(() if x.perturbed else None for x in group) for group in (states, kernels))
    states, kernels = (tuple(x.value for x in group) for group in (states, kernels))
    out, total = _run(words, states, kernels, labels.value)
    return out, (states, kernels, labels.value, total, wanted)


def _losses_backward(words: int, kept: Any, gradients: Any) -> Any:
    states, kernels, labels, total, wanted = kept
    split = _Split.of(states, kernels, words)
    rows, columns = split.tokens, split.kernels
    gradient = gradients[0]
    if isinstance(gradient, SymbolicZero):
        gradient = jnp.zeros(total.shape, jnp.float32)
    wants = tuple(tuple(flag is not None for flag in group) for group in wanted)
    outputs = (
        tuple(rows for want in wants[0] if want),
        tuple(spec for spec, want in zip(columns, wants[1], strict=True) if want),
    )
    local = functools.partial(_backward, split, wants)
    found = split.over(local, (rows, columns, rows, rows, rows), outputs)(
        states, kernels, labels, total, jnp.where(labels == IGNORED, 0.0, gradient)
    )
    return (*(_filled(group, want) for group, want in zip(found, wants, strict=True)), None)


def _filled(found: Sequence[jax.Array], wants: Sequence[bool]) -> tuple[Any, ...]:
    rest = iter(found)
    return tuple(next(rest) if want else None for want in wants)


_losses.defvjp(_losses_forward, _losses_backward, symbolic_zeros=True)


class _Split(NamedTuple):
    """How arrays lie on the mesh in context.

    Attributes:
        words: of the vocabulary, without padding.
        tokens: the spec of arrays (B, L, ...).
        kernels: the spec of each kernel.
        sums: the axes that split tokens.
        tensor: whether words are split.
        gathered: for each kernel, whether its channels are split over fsdp.
    """

    words: int
    tokens: PartitionSpec
    kernels: tuple[PartitionSpec, ...]
    sums: tuple[str, ...]
    tensor: bool
    gathered: tuple[bool, ...]

    @classmethod
    def of(cls, states: tuple[jax.Array, ...], kernels: tuple[jax.Array, ...], words: int) -> "_Split":
        if one_device():
            one = PartitionSpec()
            return cls(words, one, (one,) * len(kernels), (), False, (False,) * len(kernels))
        tokens = activation_spec(states[0].shape[:2], ("batch", "tokens"))
        # jax writes a tuple of one axis as that axis.
        axes = (axis for part in tokens for axis in ((part,) if isinstance(part, str) else part or ()))
        sums = tuple(axis for axis in axes if ways(axis) > 1)
        tensor = "tensor" if ways("tensor") > 1 else None
        # Only where fsdp splits the tokens too, so that the gradient is scattered as it is summed.
        gathered = tuple("fsdp" in sums and kernel.shape[0] % ways("fsdp") == 0 for kernel in kernels)
        specs = tuple(PartitionSpec("fsdp" if whole else None, tensor) for whole in gathered)
        return cls(words, tokens, specs, sums, tensor is not None, gathered)

    def over(self, local: Any, inputs: Any, outputs: Any) -> Any:
        """Runs `local` on each device's part."""
        if one_device():
            return local
        # Nothing is differentiated inside, so the check of what varies has no use.
        return jax.shard_map(local, in_specs=inputs, out_specs=outputs, check_vma=False)


class _Blocks(NamedTuple):
    """Blocks of a device's words: `number` of `size`. The last one reaches back where they do not divide."""

    number: int
    size: int

    @classmethod
    def of(cls, tokens: int, words: int) -> "_Blocks":
        count = -(-words // max(_LOGITS // tokens, _LANES))
        size = min(-(-words // (count * _LANES)) * _LANES, words)
        return cls(-(-words // size), size)


class _Block(NamedTuple):
    """One block of n words.

    Attributes:
        logits: (B, L, n) float32, those of hidden words _LOWEST.
        is_label: (B, L, n) bool, whether a word is a token's label.
        columns: of each kernel, all channels of the block.
        start: its first column among the device's.
    """

    logits: jax.Array
    is_label: jax.Array
    columns: tuple[jax.Array, ...]
    start: jax.Array


def _block(
    split: _Split,
    states: tuple[jax.Array, ...],
    kernels: tuple[jax.Array, ...],
    labels: jax.Array,
    blocks: _Blocks,
    i: jax.Array,
) -> _Block:
    here = kernels[0].shape[1]
    start = jnp.minimum(i * blocks.size, here - blocks.size)
    columns = []
    for x, kernel, gathered in zip(states, kernels, split.gathered, strict=True):
        column = jax.lax.dynamic_slice_in_dim(kernel, start, blocks.size, axis=1).astype(x.dtype)
        columns.append(jax.lax.all_gather(column, "fsdp", tiled=True) if gathered else column)
    products = (
        jnp.einsum("blc,cv->blv", x, column, preferred_element_type=jnp.float32)
        for x, column in zip(states, columns, strict=True)
    )
    logits = functools.reduce(jnp.add, products)
    place = start + jnp.arange(blocks.size)
    first = jax.lax.axis_index("tensor") * here if split.tensor else 0
    word = first + place
    # Columns that the block before has had, and padding of the vocabulary.
    counts = (place >= i * blocks.size) & (word < split.words)
    is_label = (labels[..., None] == word) & counts
    return _Block(jnp.where(counts, logits, _LOWEST), is_label, tuple(columns), start)


def _forward(
    split: _Split, states: tuple[jax.Array, ...], kernels: tuple[jax.Array, ...], labels: jax.Array
) -> Any:
    blocks = _Blocks.of(labels.size, kernels[0].shape[1])

    def add(i: jax.Array, sums: Any) -> Any:
        top, total, mine = sums
        block = _block(split, states, kernels, labels, blocks, i)
        higher = jnp.maximum(top, block.logits.max(-1))
        total = total * jnp.exp(top - higher) + jnp.exp(block.logits - higher[..., None]).sum(-1)
        return higher, total, mine + jnp.where(block.is_label, block.logits, 0.0).sum(-1)

    zeros = jnp.zeros(labels.shape, jnp.float32)
    top, total, mine = jax.lax.fori_loop(0, blocks.number, add, (zeros + _LOWEST, zeros, zeros))
    if split.tensor:
        highest = jax.lax.pmax(top, "tensor")
        total, mine = jax.lax.psum((total * jnp.exp(top - highest), mine), "tensor")
        top = highest
    total = top + jnp.log(total)
    asked = labels != IGNORED
    return jnp.where(asked, total - mine, 0.0), asked & (mine >= top), total


def _backward(
    split: _Split,
    wants: Any,
    states: tuple[jax.Array, ...],
    kernels: tuple[jax.Array, ...],
    labels: jax.Array,
    total: jax.Array,
    gradient: jax.Array,
) -> Any:
    blocks = _Blocks.of(labels.size, kernels[0].shape[1])
    of_states, of_kernels = wants

    def add(i: jax.Array, sums: Any) -> Any:
        block = _block(split, states, kernels, labels, blocks, i)
        slope = gradient[..., None] * (jnp.exp(block.logits - total[..., None]) - block.is_label)
        d_states, d_kernels = list(sums[0]), list(sums[1])
        for n, (x, column) in enumerate(zip(states, block.columns, strict=True)):
            mine = slope.astype(x.dtype)
            if of_states[n]:
                d_states[n] += jnp.einsum("blv,cv->blc", mine, column, preferred_element_type=jnp.float32)
            if of_kernels[n]:
                part = jnp.einsum("blc,blv->cv", x, mine, preferred_element_type=jnp.float32)
                part = _summed(split, part, split.gathered[n])
                # Added to what is there, because the last block reaches back over columns that are done.
                done = jax.lax.dynamic_slice_in_dim(d_kernels[n], block.start, blocks.size, axis=1)
                d_kernels[n] = jax.lax.dynamic_update_slice_in_dim(
                    d_kernels[n], done + part, block.start, axis=1
                )
        return d_states, d_kernels

    zeros = [
        [jnp.zeros(x.shape if want else (), jnp.float32) for x, want in zip(group, flags, strict=True)]
        for group, flags in zip((states, kernels), wants, strict=True)
    ]
    d_states, d_kernels = jax.lax.fori_loop(0, blocks.number, add, tuple(zeros))
    d_states = [d for d, want in zip(d_states, of_states, strict=True) if want]
    if split.tensor:
        d_states = jax.lax.psum(d_states, "tensor")
    wanted = [x for x, want in zip(states, of_states, strict=True) if want]
    d_states = tuple(d.astype(x.dtype) for d, x in zip(d_states, wanted, strict=True))
    found = zip(d_kernels, kernels, of_kernels, strict=True)
    return d_states, tuple(d.astype(kernel.dtype) for d, kernel, want in found if want)


def _summed(split: _Split, part: jax.Array, scatter: bool) -> jax.Array:
    """The sum over devices that hold other tokens; with `scatter` each keeps the channels of its own."""
    others = tuple(axis for axis in split.sums if not (scatter and axis == "fsdp"))
    if scatter:
        part = jax.lax.psum_scatter(part, "fsdp", tiled=True)
    return jax.lax.psum(part, others) if others else part
