"""Times training on dialogue, and its parts: vision tower, bridge, language model; with HiCo and without."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from ivjax.bench.drawn_dialogues import drawn_rows
from ivjax.bench.memory import free_memory
from ivjax.bench.timing import in_turn
from ivjax.convert.starting import starting_params
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.ops.cut import Params, joined
from ivjax.ops.layout import batch_spec, clips_over_context
from ivjax.progress import Say
from ivjax.stages.video_dialogue import VideoDialogue
from ivjax.stages.video_dialogue_loss import language_loss, visual_tokens
from ivjax.train.gradients import gradients_of
from ivjax.train.hardware import peak_flops
from ivjax.train.mesh import build_mesh, check_batch
from ivjax.train.program import program_of
from ivjax.train.sharding import shardings_of

PARTS = ("vision", "bridge", "language")


@dataclass(frozen=True)
class DialogueBench:
    """The measurements to make.

    Attributes:
        experiment: what is trained; its first bucket is measured.
        runs: timed runs of the whole and of each part.
        seconds: time for one of them.
        limit_gib: memory of the whole; if more is needed, it is only compiled. None: half of what is free.
    """

    experiment: Experiment
    runs: int = 5
    seconds: float = 30.0
    limit_gib: float | None = None

    def __post_init__(self) -> None:
        for name in ("runs", "seconds"):
            if getattr(self, name) <= 0:
                raise UserError(f"--{name} must be above 0, got {getattr(self, name):g}")
        stage = self.experiment.stage
        if not isinstance(stage, VideoDialogue):
            raise UserError(
                f"the config trains {type(stage).__name__}, and this benchmark a VideoDialogue; give one of "
                "those, such as dialogue_tiny"
            )
        if not stage.buckets or not stage.buckets[0].clips:
            raise UserError(
                "stage.buckets.0 has no clips, so there is nothing to compare; give one with clips"
            )


def bench_dialogue(wanted: DialogueBench, say: Say = print) -> Iterator[str]:
    """Yields JSON lines: with HiCo, without it, and what the first takes of the second."""
    stage: Any = wanted.experiment.stage  # a VideoDialogue; see DialogueBench.check
    lines = []
    for name, one in (("on", stage), ("off", unmerged(stage))):
        if one is not None:
            say(f"HiCo {name}: compiling, which can take minutes, then {wanted.runs} rounds")
            experiment = dataclasses.replace(wanted.experiment, stage=one)
            lines.append({"hico": name, **_measure(wanted, experiment)})
            yield json.dumps(lines[-1])
    if len(lines) == 2:
        on, off = lines
        names = ("visual_tokens", "tokens", "gflop_per_row", "temporary_mib", "forward_backward_ms")
        ratios = {name: round(on[name] / off[name], 4) for name in names if on[name] and off[name]}
        yield json.dumps({"ratio": "hico on / off", **ratios})


def unmerged(stage: VideoDialogue) -> VideoDialogue | None:
    """Returns the stage whose bridge merges nothing, with as many words; None if that is the stage itself."""
    size = stage.dialogue.unmerged()
    if size is None:
        return None
    whole = dataclasses.replace(stage, dialogue=size)
    buckets = tuple(
        dataclasses.replace(b, tokens=b.tokens - stage.visual_tokens(b) + whole.visual_tokens(b))
        for b in stage.buckets
    )
    return dataclasses.replace(whole, buckets=buckets)


def _measure(wanted: DialogueBench, experiment: Experiment) -> dict[str, Any]:
    stage, mesh = experiment.stage, build_mesh(experiment.mesh)
    assert isinstance(stage, VideoDialogue)
    bucket = stage.buckets[0]
    check_batch(experiment.batch, experiment.accumulate, mesh)
    with jax.set_mesh(mesh):
        program = program_of(experiment, mesh)
        objective, rows = program.objective, NamedSharding(mesh, batch_spec())
        batch: Any = drawn_rows(stage, bucket, experiment.batch)
        there = float(np.mean(batch["segments"] >= 0))
        shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows) for name, x in batch.items()}
        key = jax.random.key(experiment.seed)
        whole = jax.jit(gradients_of(objective, experiment.accumulate))
        compiled = whole.lower(program.state["params"], program.frozen, shapes, key).compile()
        flops = sum(objective.media[bucket.name].flops.values())
        line: dict[str, Any] = {
            "device": jax.devices()[0].device_kind,
            "devices": mesh.size,
            "rows": experiment.batch,
            "tokens": bucket.tokens,
            "visual_tokens": stage.visual_tokens(bucket),
            "padding": round(1 - there, 4),
            "gflop_per_row": round(flops / 1e9, 3),
            "temporary_mib": _mebibytes(compiled),
            "forward_backward_ms": None,
        }
        if told := _too_much(wanted, compiled):
            return line | {"not_run": told}
        params: list[Any] = [
            starting_params(objective, tree, {}, experiment.seed, shardings_of(tree, mesh, objective.rules))
            for tree in (program.state["params"], program.frozen)
        ]
        batch = objective.prepare(jax.device_put(batch, rows))
        calls = [lambda: compiled(*params, {name: batch[name] for name in shapes}, key)]
        calls += _parts(stage, experiment, params[0], params[1], batch)
        seconds, *parts = in_turn(calls, wanted.runs, wanted.seconds)
    rate, peak = flops * experiment.batch / mesh.size / seconds, peak_flops(line["device"])
    tokens = experiment.batch * bucket.tokens / seconds
    return line | {
        "forward_backward_ms": round(seconds * 1e3, 2),
        "tokens_per_s": round(tokens * there, 1),
        "tokens_per_s_with_padding": round(tokens, 1),
        "tflops_per_device": round(rate / 1e12, 4),
        "mfu": round(rate / peak, 4) if peak else "unknown",
        **{f"{name}_ms": round(part * 1e3, 2) for name, part in zip(PARTS, parts, strict=True)},
        **{f"{name}_share": round(part / sum(parts), 4) for name, part in zip(PARTS, parts, strict=True)},
    }


def _too_much(wanted: DialogueBench, compiled: Any) -> str:
    """The reason not to run a program that needs more memory than the limit; empty if it fits."""
    limit = free_memory(jax.devices()[0]) / 2 if wanted.limit_gib is None else wanted.limit_gib * 2**30
    memory = compiled.memory_analysis()
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    if needed <= limit:
        return ""
    return f"{needed / 2**30:.1f} GiB exceed the limit of {limit / 2**30:.1f} GiB (--limit-gib)"


def _mebibytes(compiled: Any) -> float:
    return round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 1)


def _parts(
    stage: VideoDialogue, experiment: Experiment, trained: Params, frozen: Params, batch: Any
) -> list[Callable[[], Any]]:
    """Returns calls of each part by itself, forward and backward, on what the parts before it make."""
    model, video = stage.model(experiment.compute), batch["video"]
    clips = video.reshape(-1, *video.shape[2:])
    frames, grid = stage.dialogue.segment(clips.shape[1])

    # The batch is an argument: of constants the compiler would compute pixels and masks beforehand.
    def see(params: Params, clips: jax.Array, batch: Any) -> jax.Array:
        with clips_over_context():
            return model.tower.encode(params["vision"], clips.reshape(-1, frames, *clips.shape[2:])).tokens

    def project(params: Params, tokens: jax.Array, batch: Any) -> jax.Array:
        with clips_over_context():
            tokens = tokens.reshape(len(clips), -1, *tokens.shape[1:])
            return model.bridge.project(params["bridge"], tokens, grid)

    def speak(params: Params, visual: jax.Array, batch: Any) -> jax.Array:
        return language_loss(stage, model, params, batch, visual)[0]

    whole = joined(trained, frozen)
    tokens = jax.jit(see)(whole, clips, batch)
    visual = jax.jit(functools.partial(visual_tokens, model))(whole, batch)
    given = zip(PARTS, (see, project, speak), (clips, tokens, visual), strict=True)
    return [_part(function, name, trained, frozen, inputs, batch) for name, function, inputs in given]


def _part(
    function: Callable[[Params, jax.Array, Any], jax.Array],
    name: str,
    trained: Params,
    frozen: Params,
    inputs: jax.Array,
    batch: Any,
) -> Callable[[], Any]:
    mine = {name: trained[name]} if name in trained else {}
    rest = {name: frozen[name]} if name in frozen else {}

    def loss(mine: Params, inputs: jax.Array, rest: Params, batch: Any) -> jax.Array:
        return jnp.sum(jnp.square(function(joined(mine, rest), inputs, batch).astype(jnp.float32)))

    # A gradient goes back to what trains below; the tower's pixels have none.
    below = PARTS[: PARTS.index(name)]
    wanted = (*([0] if mine else []), *([1] if any(part in trained for part in below) else []))
    program = jax.jit(jax.grad(loss, wanted) if wanted else loss)
    # Compiled here, so that no timed call compiles.
    compiled = program.lower(mine, inputs, rest, batch).compile()
    return lambda: compiled(mine, inputs, rest, batch)
