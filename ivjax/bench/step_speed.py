"""Times a config's train step, against what the same device reaches in a large matmul."""

import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ivjax.bench.timing import in_turn
from ivjax.convert.starting import starting_params
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.overrides import apply_overrides, expand
from ivjax.ops.layout import batch_spec
from ivjax.stages.objective import Objective
from ivjax.train.gradients import gradients_of
from ivjax.train.hardware import peak_flops, peak_memory
from ivjax.train.mesh import build_mesh, check_batch
from ivjax.train.program import program_of
from ivjax.train.sharding import shardings_of
from ivjax.train.step import init_state

# Large enough to fill the device: smaller products would not reach its peak.
_CPU_MATMUL_SIDE, _ACCELERATOR_MATMUL_SIDE = 2048, 8192


def bench_step(
    experiment: Experiment, against: Sequence[str], runs: int, variants: Sequence[str] = ()
) -> Iterator[str]:
    """Yields JSON lines: one per variant, then the ratios of the others to the first.

    Variants are those of `against` (overrides with comma lists), or the experiment as it is followed by
    `variants`, each a line of overrides.
    """
    results = []
    for variant in [(), *map(tuple, map(shlex.split, variants))] if variants else expand(against):
        results.append(
            {"variant": " ".join(variant) or "as is"} | _measure(apply_overrides(experiment, variant), runs)
        )
        yield json.dumps(results[-1])
    first = results[0]
    for other in results[1:]:
        compared = ("step_ms", "forward_backward_ms", "compile_s", "compiled_mib")
        ratios = {name: round(other[name] / first[name], 3) for name in compared if first[name]}
        yield json.dumps({"ratio": f"{other['variant']} / {first['variant']}"} | ratios)


def _measure(experiment: Experiment, runs: int) -> dict[str, Any]:
    mesh = build_mesh(experiment.mesh)
    check_batch(experiment.batch, experiment.accumulate, mesh)
    with jax.set_mesh(mesh):
        program, recipe = program_of(experiment, mesh), experiment.recipe
        objective = program.objective
        trained, frozen = (
            starting_params(objective, tree, {}, recipe.seed, shardings_of(tree, mesh, objective.rules))
            for tree in (program.state["params"], program.frozen)
        )
        state = jax.jit(lambda p: init_state(p, recipe), out_shardings=program.shardings)(trained)
        rows = NamedSharding(mesh, batch_spec())
        batch = jax.jit(lambda: random_batch(objective, experiment.batch), out_shardings=rows)()
        key = jax.random.key(recipe.seed)
        # Without the time to trace random values and start parameters, which a run pays once.
        started = time.perf_counter()
        # Ahead of time, so that compilation is timed alone and the program's memory can be read.
        step = program.lower().compile()
        compile_seconds = time.perf_counter() - started
        gradient = jax.jit(gradients_of(objective, 1))
        matmul, product_flops = _matmul(experiment.dtype, mesh)

        def one_step() -> Any:
            nonlocal state
            # The step donates its state, so each call needs the one before.
            state, metrics = step(state, frozen, batch)
            return metrics

        # The matmul is timed between the calls, so that all of them see the same machine.
        seconds = in_turn((matmul, lambda: gradient(state["params"], frozen, batch, key), one_step), runs)
    product, forward_backward, whole = seconds
    flops = sum(objective.main.flops.values()) * experiment.batch / mesh.size
    # On a shared machine, shares of a matmul timed beside the step mean more than seconds.
    rate, kind = product_flops / product, jax.devices()[0].device_kind
    peak, memory = peak_flops(kind), step.memory_analysis()
    compiled = memory.temp_size_in_bytes + memory.argument_size_in_bytes if memory else 0
    return {
        "device": kind,
        "devices": mesh.size,
        "gflop_per_clip": {part: _giga(cost) for part, cost in objective.main.flops.items()},
        "matmul_tflops": round(rate / 1e12, 4),
        "forward_backward_ms": round(forward_backward * 1e3, 2),
        "forward_backward_of_matmul": round(flops / forward_backward / rate, 3),
        "step_ms": round(whole * 1e3, 2),
        "step_of_matmul": round(flops / whole / rate, 3),
        "clips_per_s": round(experiment.batch / whole, 3),
        "tokens_per_s": round(experiment.batch * objective.main.tokens / whole, 1),
        "tflops_per_device": round(flops / whole / 1e12, 4),
        "mfu": round(flops / whole / peak, 4) if peak else "unknown",
        "compile_s": round(compile_seconds, 1),
        "compiled_mib": _mebibytes(compiled),
        "peak_mib": _mebibytes(peak_memory()),
    }


def _giga(flops: float) -> float:
    return round(flops / 1e9, 3)


def _mebibytes(size: int) -> float:
    return round(size / 2**20, 1)


def random_batch(objective: Objective, batch: int) -> dict[str, jax.Array]:
    """Returns a batch of noise of the shapes that a stage wants; positive, because some are weights."""

    def noise(number: int, spec: jax.ShapeDtypeStruct) -> jax.Array:
        key, shape = jax.random.key(number), (batch, *spec.shape)
        if jnp.issubdtype(spec.dtype, jnp.integer):
            # All bit patterns: the cast wraps around, and gives bytes of every value.
            return jax.random.bits(key, shape, jnp.uint32).astype(spec.dtype)
        return jnp.abs(jax.random.normal(key, shape, spec.dtype)) + jnp.asarray(1e-3, spec.dtype)

    return {name: noise(number, spec) for number, (name, spec) in enumerate(objective.main.batch.items())}


def _matmul(dtype: str, mesh: Mesh) -> tuple[Callable[[], jax.Array], float]:
    """Returns a function that multiplies large square matrices on every device, and its FLOPs per device."""
    side = _CPU_MATMUL_SIDE if jax.default_backend() == "cpu" else _ACCELERATOR_MATMUL_SIDE
    one_each = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    factor = jax.jit(lambda: jnp.ones((mesh.size, side, side), dtype), out_shardings=one_each)()
    product = jax.jit(lambda a: a @ a, out_shardings=one_each)
    return lambda: product(factor), 2.0 * side**3
