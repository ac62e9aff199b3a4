"""How fast a config's train step is, against what the same device reaches in a large matmul."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ivjax.config import Experiment
from ivjax.ops.layout import batch_spec
from ivjax.overrides import apply_overrides, expand
from ivjax.stages.objective import Objective
from ivjax.train import sharding
from ivjax.train.hardware import peak_flops, peak_memory
from ivjax.train.mesh import build_mesh, check_batch
from ivjax.train.step import init_state, make_step

_MATMUL_SIDE = {"cpu": 2048}  # elsewhere large enough to fill an accelerator
_MATMUL_SIDE_ELSEWHERE = 8192


def bench_step(experiment: Experiment, against: Sequence[str], runs: int) -> Iterator[str]:
    """JSON lines: one per variant in `against` (comma lists of overrides), then their ratios."""
    results = []
    for variant in expand(against):
        results.append({"variant": " ".join(variant) or "as is"} | _measure(apply_overrides(experiment, variant), runs))
        yield json.dumps(results[-1])
    first = results[0]
    for other in results[1:]:
        compared = ("step_ms", "forward_backward_ms", "compile_s", "compiled_mib")
        ratios = {name: round(other[name] / first[name], 3) for name in compared if first[name]}
        yield json.dumps({"ratio": f"{other['variant']} / {first['variant']}"} | ratios)


def _measure(experiment: Experiment, runs: int) -> dict[str, Any]:
    objective, recipe = experiment.stage.build(experiment.compute), experiment.recipe
    mesh = build_mesh(experiment.mesh)
    check_batch(experiment.batch, experiment.accumulate, mesh)
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(lambda: init_state(objective, recipe))
        shardings = sharding.shardings_of(shapes, mesh)
        state = jax.jit(lambda: init_state(objective, recipe), out_shardings=shardings)()
        rows = NamedSharding(mesh, batch_spec())
        batch = jax.jit(lambda: random_batch(objective, experiment.batch), out_shardings=rows)()
        key = jax.random.key(recipe.seed)
        gradient = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
        gradient = gradient.lower(state["params"], batch, key).compile()
        replicated = sharding.replicate(mesh)
        step = jax.jit(make_step(objective, recipe), donate_argnums=0, out_shardings=(shardings, replicated))
        started = time.perf_counter()
        step = step.lower(state, batch).compile()
        compile_seconds = time.perf_counter() - started
        matmul, product_flops = _matmul(experiment.dtype, mesh)
        # The accelerator's rate is measured between the timed calls, so that both see the same machine.
        pair_a = _in_turn(matmul, lambda: gradient(state["params"], batch, key), runs)

        def one_step() -> Any:
            nonlocal state
            state, metrics = step(state, batch)
            return metrics

        pair_b = _in_turn(matmul, one_step, runs)
    analysis = step.memory_analysis()
    rate = product_flops / statistics.median(pair_a[0] + pair_b[0])
    flops = sum(objective.flops.values()) * experiment.batch / mesh.size
    forward_backward, whole = statistics.median(pair_a[1]), statistics.median(pair_b[1])
    peak = peak_flops(jax.devices()[0].device_kind)
    return {
        "device": jax.devices()[0].device_kind,
        "devices": mesh.size,
        "matmul_tflops": round(rate / 1e12, 4),
        "forward_backward_ms": round(forward_backward * 1e3, 2),
        "forward_backward_of_matmul": round(flops / forward_backward / rate, 3),
        "step_ms": round(whole * 1e3, 2),
        "step_of_matmul": round(flops / whole / rate, 3),
        "clips_per_s": round(experiment.batch / whole, 3),
        "tflops_per_device": round(flops / whole / 1e12, 4),
        "mfu": round(flops / whole / peak, 4) if peak else "unknown",
        "compile_s": round(compile_seconds, 1),
        "compiled_mib": round((analysis.temp_size_in_bytes + analysis.argument_size_in_bytes) / 2**20, 1),
        "peak_mib": round(peak_memory() / 2**20, 1),
    }


def random_batch(objective: Objective, batch: int) -> dict[str, jax.Array]:
    """A batch of noise in the shapes that a stage wants; positive, so that it can serve as weights."""

    def noise(number: int, spec: jax.ShapeDtypeStruct) -> jax.Array:
        key, shape = jax.random.key(number), (batch, *spec.shape)
        if jnp.issubdtype(spec.dtype, jnp.integer):
            return jax.random.bits(key, shape, jnp.uint32).astype(spec.dtype)
        return jnp.abs(jax.random.normal(key, shape, spec.dtype)) + jnp.asarray(1e-3, spec.dtype)

    return {name: noise(number, spec) for number, (name, spec) in enumerate(objective.batch.items())}


def _matmul(dtype: str, mesh: Mesh) -> tuple[Callable[[], jax.Array], float]:
    """A large square product on every device at once, and the FLOPs of one device."""
    side = _MATMUL_SIDE.get(jax.default_backend(), _MATMUL_SIDE_ELSEWHERE)
    one_each = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    factor = jax.jit(lambda: jnp.ones((mesh.size, side, side), dtype), out_shardings=one_each)()
    product = jax.jit(lambda a: a @ a, out_shardings=one_each)
    return lambda: product(factor), 2.0 * side**3


def _in_turn(
    first: Callable[[], Any], second: Callable[[], Any], runs: int
) -> tuple[list[float], list[float]]:
    """Seconds of each of `runs` calls of two functions, called in turn after one warm-up each."""
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + 1):
        for function, kept in zip((first, second), times, strict=True):
            started = time.perf_counter()
            jax.block_until_ready(function())
            if run:
                kept.append(time.perf_counter() - started)
    return times
