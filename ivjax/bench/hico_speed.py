"""Measures merging of tokens (HiCo) beside other forms of it and cheaper things, by size and dtype."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from ivjax.bench.hico_forms import pooled, scores_alone, step_by_step
from ivjax.bench.memory import memory_limit
from ivjax.bench.timing import in_turn
from ivjax.errors import UserError
from ivjax.ops import hico

Pass = Literal["forward", "forward_backward"]
# tokens (B, N, C), tokens that are left, heads -> an array
MergeForm = Callable[[jax.Array, int, int], jax.Array]


def _op(x: jax.Array, target: int, heads: int) -> jax.Array:
    return hico.merge(x, target, heads).tokens


FORMS: dict[str, MergeForm] = {
    "op": _op,
    "step_by_step": step_by_step,
    "scores": scores_alone,
    "pooling": pooled,
}


class ClipSize(NamedTuple):
    """What is merged: clips of tokens of `width` channels, compared by the mean over `heads`."""

    clips: int
    tokens: int
    width: int
    heads: int


SIZES = (
    ClipSize(1, 1024, 1024, 16),
    ClipSize(8, 1024, 1024, 16),
    ClipSize(8, 1024, 4096, 32),
    ClipSize(64, 1024, 4096, 32),
)


@dataclass(frozen=True)
class HicoBench:
    """The measurements to make.

    Attributes:
        sizes: what is merged.
        target: tokens that are left of a clip.
        dtypes: of the tokens.
        runs: timed runs of each form.
        seconds: time for one form at one size.
        limit_gib: memory for one form; larger ones are only compiled. None: half of what is free.
    """

    sizes: tuple[ClipSize, ...] = SIZES
    target: int = 64
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    runs: int = 5
    seconds: float = 30.0
    limit_gib: float | None = None

    def __post_init__(self) -> None:
        for name in ("runs", "seconds"):
            if not getattr(self, name) > 0:  # nor NaN
                raise UserError(f"--{name} must be above 0, got {getattr(self, name):g}")
        if self.limit_gib is not None and not self.limit_gib > 0:
            raise UserError(f"--limit-gib must be above 0, got {self.limit_gib:g}")
        for size in self.sizes:
            if not 1 <= self.target <= size.tokens:
                raise UserError(f"--target {self.target} must be 1 to {size.tokens}, the tokens of a clip")


def clip_sizes(words: Sequence[str]) -> tuple[ClipSize, ...]:
    """Reads sizes such as 8,1024,4096,32."""
    found = []
    for word in words:
        numbers = [int(part) if part.isdecimal() else 0 for part in word.split(",")]
        if len(numbers) != 4 or min(numbers) < 1:
            raise UserError(f"--sizes {word}: a size is CLIPS,TOKENS,WIDTH,HEADS, such as 8,1024,4096,32")
        size = ClipSize(*numbers)
        if size.width % size.heads:
            raise UserError(f"--sizes {word}: {size.width} channels do not divide into {size.heads} heads")
        found.append(size)
    return tuple(found)


def bench_hico(wanted: HicoBench) -> Iterator[str]:
    """Yields JSON lines: for each size, dtype and pass one per form, and what of another the op takes."""
    for size in wanted.sizes:
        for dtype in wanted.dtypes:
            for done in get_args(Pass):
                lines = _measure(wanted, size, dtype, done)
                yield from map(json.dumps, [*lines, *_ratios(lines)])


def _measure(wanted: HicoBench, size: ClipSize, dtype: str, done: Pass) -> list[dict[str, Any]]:
    """Returns one line for each form."""
    limit = memory_limit(wanted.limit_gib, jax.devices()[0])
    tokens = jax.ShapeDtypeStruct((size.clips, size.tokens, size.width), jnp.dtype(dtype))
    lines, programs = [], []
    for name, form in FORMS.items():
        line: dict[str, Any] = {"form": name, **size._asdict(), "target": wanted.target, "dtype": dtype}
        line |= {"pass": done, "device": jax.devices()[0].device_kind, "ms": None}
        lines.append(line)
        # Choices carry no gradient, so whatever is trained, their scores are computed once.
        form_pass: Pass = "forward" if name == "scores" else done
        program = _program(form, form_pass, wanted.target, size.heads).lower(tokens).compile()
        memory = program.memory_analysis()
        sent = memory.argument_size_in_bytes + memory.output_size_in_bytes if memory else 0
        line["temporary_mib"] = round(memory.temp_size_in_bytes / 2**20, 3) if memory else None
        needed = sent + (memory.temp_size_in_bytes if memory else 0)
        if needed > limit:
            line["not_run"] = (
                f"{needed / 2**30:.1f} GiB exceed the limit of {limit / 2**30:.1f} GiB (--limit-gib)"
            )
            continue
        programs.append((line, program))
    if programs:
        x = jax.random.normal(jax.random.key(0), tokens.shape, tokens.dtype)
        steps = [lambda program=program: program(x) for _, program in programs]
        times = in_turn(steps, wanted.runs, wanted.seconds)
        for (line, _), seconds in zip(programs, times, strict=True):
            line["ms"] = round(seconds * 1e3, 3)
    return lines


def _program(form: MergeForm, done: Pass, target: int, heads: int) -> Any:
    if done == "forward":
        return jax.jit(lambda x: form(x, target, heads))

    def loss(x: jax.Array) -> jax.Array:
        # Its gradient differs from token to token: one that is the same everywhere would be folded away.
        return jnp.sum(jnp.square(form(x, target, heads).astype(jnp.float32)))

    return jax.jit(jax.value_and_grad(loss))


def _ratios(lines: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The op's time as a share of other forms', and of four times its scores and a pass over the tokens."""
    told = {key: lines[0][key] for key in ("clips", "tokens", "width", "heads", "target", "dtype", "pass")}
    times = {line["form"]: line["ms"] for line in lines}
    op, scores, pooling = times["op"], times["scores"], times["pooling"]
    for name in FORMS:
        if name != "op" and times[name] is not None:
            yield {"ratio": f"op / {name}", **told, "time": round(op / times[name], 4) if op else None}
    if scores is not None and pooling is not None:
        share = round(op / (4 * scores + pooling), 4) if op else None
        yield {"ratio": "op / (4 scores + pooling)", **told, "time": share}
