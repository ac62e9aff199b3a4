"""What a language model's layers cost one device in prefill and in a step of decoding, by its size alone.

The traced programs are of no use here: their loops over the blocks of a cache end where the text does, which
a trace does not know.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax

from ivjax.ops.blockwise import BLOCK
from ivjax.ops.cached_attention import at_once
from ivjax.ops.trees import paths_of
from ivjax.plan.device_costs import Costs
from ivjax.plan.generation.programs import GenerationPrograms

_TURNED = ("attn/q/kernel", "attn/k/kernel", "attn/v/kernel")  # kernels whose products XLA wants heads first


@dataclass(frozen=True)
class WorkSplit:
    """How the mesh splits the work of the layers.

    Attributes:
        rows: rows of a device.
        tensor: devices that share kernels.
        heads: devices that share the heads of queries.
        keys: devices that share the heads of keys and values, and so the cache.
        words: devices that share the vocabulary.
    """

    rows: int
    tensor: int
    heads: int
    keys: int
    words: int


def split_of(programs: GenerationPrograms) -> WorkSplit:
    """Returns how a mesh splits the work: what an axis does not divide stays whole."""
    size, tensor = programs.size.language, int(programs.mesh.shape["tensor"])

    def ways(count: int) -> int:
        return tensor if count % tensor == 0 else 1

    return WorkSplit(programs.rows, tensor, ways(size.heads), ways(size.kv_heads), ways(size.vocabulary))


def bytes_of(tree: Any, gathered: bool = False) -> int:
    """Returns the bytes of a tree on one device; `gathered`: after its fsdp axis is gathered."""
    total = 0
    for _, leaf in paths_of(tree):
        count = math.prod(leaf.sharding.shard_shape(leaf.shape))
        axes = [axis for axis in leaf.sharding.spec if axis]
        if gathered and "fsdp" in axes:
            count *= leaf.sharding.mesh.shape["fsdp"]
        total += count * leaf.dtype.itemsize
    return total


def prefill_flops(programs: GenerationPrograms, length: int) -> dict[str, float]:
    """Returns the FLOPs of a row's prompt of so many tokens, by layer; the head reads its last token."""
    size, found = programs.size.language, Counter[str]()
    shorter = programs.prompt - length
    runs = programs.options.runs(size.depth)
    for (first, last), tokens in zip(runs, programs.options.lengths(programs.prompt), strict=True):
        layers = replace(size, depth=last - first).flops(tokens - shorter)
        found.update({part: layers[part] for part in ("blocks", "attention")})
    return {**found, "head": size.flops(1)["head"]}


def decode_flops(programs: GenerationPrograms) -> float:
    """Returns the FLOPs of a token in the middle of an answer."""
    size, options, found = programs.size.language, programs.options, 0.0
    for (first, last), length in zip(options.runs(size.depth), options.lengths(programs.prompt), strict=True):
        layers = replace(size, depth=last - first).flops(1, length + options.new // 2)
        found += layers["blocks"] + layers["attention"]
    return found + size.flops(1)["head"]


def prefill_costs(programs: GenerationPrograms) -> Costs:
    """Returns what reading the prompts costs a device, their padding included."""
    size, split, options = programs.size.language, split_of(programs), programs.options
    costs = Costs()
    flops = prefill_flops(programs, programs.length)
    costs.flops = split.rows * (
        flops["blocks"] / split.tensor + flops["attention"] / split.heads + flops["head"] / split.words
    )
    blocks, cast = _read_blocks(programs)
    costs.read += cast
    for (first, last), length in zip(options.runs(size.depth), options.lengths(programs.length), strict=True):
        layers, chunk = last - first, min(options.chunk, length)
        chunks, share = -(-length // chunk), layers / size.depth
        seen = _keys_read(programs, chunk, chunks, options.slots(length))
        costs.read += split.rows * layers * seen * _key_bytes(programs) / split.keys
        costs.read += split.rows * layers * chunks * chunk * _activation_bytes(programs)
        costs.read += chunks * share * blocks
        _send(costs, programs, split.rows * chunks * chunk, layers, chunks * share * blocks)
    costs.read += _head_bytes(programs)
    _send_logits(costs, programs)
    return costs


def decode_costs(programs: GenerationPrograms) -> Costs:
    """Returns what a step costs a device: a token of each row. All slots are read, whether filled or not."""
    size, split, options = programs.size.language, split_of(programs), programs.options
    (blocks, cast), costs = _read_blocks(programs), Costs()
    lengths = options.lengths(programs.length)
    for (first, last), length in zip(options.runs(size.depth), lengths, strict=True):
        slots, layers = options.slots(length), last - first
        flops = replace(size, depth=layers, window=None).flops(1, slots)
        costs.flops += split.rows * (flops["blocks"] / split.tensor + flops["attention"] / split.heads)
    costs.flops += split.rows * size.flops(1)["head"] / split.words
    caches = bytes_of([run.cache for run in programs.caches])
    costs.read = blocks + cast + caches + _head_bytes(programs)
    costs.read += split.rows * size.depth * _activation_bytes(programs)
    _send(costs, programs, split.rows, size.depth, blocks)
    _send_logits(costs, programs)
    return costs


def prefill_temporaries(programs: GenerationPrograms, platform: str) -> int:
    """Returns the bytes that reading prompts stores beside prompts and caches: those of a chunk."""
    size, split, options = programs.size.language, split_of(programs), programs.options
    chunk, slots = min(options.chunk, programs.length), options.slots(programs.length)
    whole = at_once(chunk, slots)
    logits = chunk * slots if whole else min(BLOCK, chunk) * min(BLOCK, slots)
    q = size.heads * size.head / split.heads
    tokens = split.rows * chunk
    found = 2 * tokens * (3 * size.width + 2 * size.mlp_width / split.tensor + 3 * q)
    found += 4 * split.rows * logits * size.heads / split.heads
    if platform == "tpu" and not _cast_bytes(programs):
        # XLA lays them out anew before the loop, as its products read them; a cast does it by the way.
        found += sum(bytes_of([leaf]) for path, leaf in _leaves(programs) if path.endswith(_TURNED))
    if options.dropout is not None:
        # States take the place of embeddings in all runs but the last, and are moved together after each.
        found += 2 * bytes_of([programs.prompts.x])
    return int(found + _gathered_layer(programs) + _cast_bytes(programs))


def decode_temporaries(programs: GenerationPrograms, platform: str) -> int:
    """Returns the bytes that a step stores for itself: logits of all slots and of all words."""
    size, split, options = programs.size.language, split_of(programs), programs.options
    slots = max(map(options.slots, options.lengths(programs.length)))
    found = 4 * split.rows * (slots * size.heads / split.heads + size.vocabulary / split.words)
    if platform != "tpu":
        # Elsewhere products read no slices of larger arrays: a layer's keys and values are taken out.
        found += bytes_of([run.cache for run in programs.caches]) / size.depth
    return int(found + _gathered_layer(programs) + _cast_bytes(programs))


def _leaves(programs: GenerationPrograms) -> Iterator[tuple[str, Any]]:
    yield from paths_of(programs.params["language"])


def _cast_bytes(programs: GenerationPrograms) -> int:
    """Bytes of the layers in the dtype that they compute in, if they are stored in another."""
    computed = programs.model.language.dtype.itemsize
    leaves = jax.tree.leaves(programs.params["language"]["blocks"])
    # XLA casts the stack of all layers before the loop, in every call.
    return sum(bytes_of([x]) * computed // x.dtype.itemsize for x in leaves if x.dtype.itemsize != computed)


def _read_blocks(programs: GenerationPrograms) -> tuple[int, int]:
    """Returns the bytes of all layers as they are read, and what a cast of them reads and writes before."""
    stored, cast = bytes_of(programs.params["language"]["blocks"], gathered=True), _cast_bytes(programs)
    return (cast, stored + cast) if cast else (stored, 0)


def _gathered_layer(programs: GenerationPrograms) -> float:
    """Bytes of a layer whose kernels are gathered along fsdp."""
    if programs.mesh.shape["fsdp"] == 1:
        return 0.0
    return bytes_of(programs.params["language"]["blocks"], gathered=True) / programs.size.language.depth


def _head_bytes(programs: GenerationPrograms) -> int:
    params = programs.params["language"]
    return bytes_of(params["word_embed"] if programs.size.language.tied else params["head"], gathered=True)


def _key_bytes(programs: GenerationPrograms) -> float:
    """Bytes of a token's keys and values in the cache of a layer."""
    size = programs.size.language
    # An int8 number each, and a float32 scale for each head.
    each = (
        size.head + 4
        if programs.request.cache == "int8"
        else size.head * programs.model.language.dtype.itemsize
    )
    return 2.0 * size.kv_heads * each


def _keys_read(programs: GenerationPrograms, chunk: int, chunks: int, slots: int) -> float:
    """Keys that the queries of all chunks read, block by block."""
    if at_once(chunk, slots):
        return float(chunks * slots)
    block = min(BLOCK, chunk)
    mean = (chunks * chunk + block) / 2
    if programs.size.language.window is not None:
        mean = min(mean, programs.size.language.window + block)
    return chunks * chunk / block * mean


def _activation_bytes(programs: GenerationPrograms) -> float:
    """Bytes of a token that a layer reads and writes: what goes into each product and comes out of it."""
    size, split = programs.size.language, split_of(programs)
    q, kv = size.heads * size.head / split.heads, size.kv_heads * size.head / split.keys
    numbers = 11 * size.width + 4 * q + 2 * kv + 5 * size.mlp_width / split.tensor
    return numbers * programs.model.language.dtype.itemsize


def _send(costs: Costs, programs: GenerationPrograms, tokens: int, layers: int, gathered: float) -> None:
    """Adds what `tokens` tokens in so many layers send, and kernels that are `gathered` bytes when whole."""
    shape, width = programs.mesh.shape, programs.size.language.width
    if shape["tensor"] > 1:
        # The outputs of attention and MLP are summed over the axis: twice what a gather sends.
        size = tokens * width * programs.model.language.dtype.itemsize
        costs.sent["tensor"] += 2 * layers * 2 * size * (shape["tensor"] - 1) // shape["tensor"]
    if shape["fsdp"] > 1:
        costs.sent["fsdp"] += round(gathered * (shape["fsdp"] - 1) / shape["fsdp"])


def _send_logits(costs: Costs, programs: GenerationPrograms) -> None:
    split = split_of(programs)
    if split.words > 1:
        size = 4 * split.rows * programs.size.language.vocabulary
        costs.sent["tensor"] += size * (split.words - 1) // split.words
