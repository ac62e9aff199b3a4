"""Measures the three forms of the contrastive loss, forward and backward, by batch size: time and memory."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from ivjax.bench.memory import memory_limit
from ivjax.bench.timing import in_turn
from ivjax.errors import UserError
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.ops.contrastive import Form, Kind, contrastive_loss
from ivjax.ops.layout import batch_spec
from ivjax.train.mesh import build_mesh, check_batch

_FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True)
class LossBench:
    """The measurements to make.

    Attributes:
        rows: batch sizes.
        width: size of an embedding.
        kind: the loss.
        devices: how many devices share the batch; None takes all.
        runs: timed runs of each form.
        seconds: time for one form at one size; forms that would take longer are only compiled.
        limit_gib: memory for one form; larger ones are only compiled. None: half of what is free.
    """

    rows: tuple[int, ...] = (1024, 4096, 16384, 65536)
    width: int = 512
    kind: Kind = "info_nce"
    devices: int | None = None
    runs: int = 5
    seconds: float = 30.0
    limit_gib: float | None = None

    def __post_init__(self) -> None:
        for name in ("width", "runs", "seconds"):
            if getattr(self, name) <= 0:
                raise UserError(f"--{name} must be above 0, got {getattr(self, name):g}")


def bench_loss(wanted: LossBench) -> Iterator[str]:
    """Yields JSON lines: one per size and form, then the ratios of the other forms to dense."""
    mesh = build_mesh(MeshShape(data=-1), _devices(wanted.devices))
    limit = memory_limit(wanted.limit_gib, mesh.devices.flat[0])
    results: list[dict[str, Any]] = []
    with jax.set_mesh(mesh):
        for rows in sorted(wanted.rows):
            check_batch(rows, 1, mesh)  # before it compiles for a minute
            found = _measure(wanted, rows, mesh, limit, results)
            results += found
            yield from map(json.dumps, found)
    yield from map(json.dumps, _ratios(results))


def _measure(
    wanted: LossBench, rows: int, mesh: Mesh, limit: float, smaller: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Returns one line for each form at one size; its time is predicted from the size before."""
    values = _draw(rows, wanted.width, mesh)
    lines, steps = [], []
    for form in _FORMS:
        step = _gradient(wanted.kind, form).lower(*values).compile()
        memory = step.memory_analysis()
        line = _describe(wanted, rows, form, mesh, memory.temp_size_in_bytes if memory else 0)
        reason = _too_large(line, mesh, limit) or _too_slow(line, smaller, wanted.seconds)
        if reason is None:
            steps.append((line, lambda step=step: step(*values)))
        else:
            line["not_run"] = reason
        lines.append(line)
    times = in_turn([step for _, step in steps], wanted.runs, wanted.seconds)
    for (line, _), seconds in zip(steps, times, strict=True):
        line["ms"] = round(seconds * 1e3, 3)
    return lines


def _draw(rows: int, width: int, mesh: Mesh) -> tuple[jax.Array, ...]:
    """Returns embeddings (N, D) twice, ids (N,) without repeats, scale and bias, drawn on the devices."""
    split = NamedSharding(mesh, batch_spec())

    def noise(seed: int) -> jax.Array:
        return jax.random.normal(jax.random.key(seed), (rows, width))

    left, right, ids = jax.jit(lambda: (noise(0), noise(1), jnp.arange(rows)), out_shardings=split)()
    # About the scale and bias of a trained model: at their extremes the loss would saturate.
    return left, right, ids, jnp.float32(14.0), jnp.float32(-10.0)


def _gradient(kind: Kind, form: Form) -> Any:
    def loss(
        left: jax.Array, right: jax.Array, ids: jax.Array, scale: jax.Array, bias: jax.Array
    ) -> jax.Array:
        return contrastive_loss(left, right, ids, scale, bias, kind, form)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 3, 4)))


def _describe(wanted: LossBench, rows: int, form: Form, mesh: Mesh, size: int) -> dict[str, Any]:
    return {
        "rows": rows,
        "form": form,
        "kind": wanted.kind,
        "width": wanted.width,
        "device": mesh.devices.flat[0].device_kind,
        "devices": mesh.size,
        "temporary_mib": round(size / 2**20, 3),
        "ms": None,
    }


def _too_large(line: dict[str, Any], mesh: Mesh, limit: float) -> str | None:
    """Returns why a form does not fit, or None. Fake CPU devices share the memory of the machine."""
    shared = mesh.size if _is_cpu(mesh) else 1
    gib = line["temporary_mib"] * shared / 2**10
    if gib * 2**30 <= limit:
        return None
    return f"temporaries of {gib:.1f} GiB exceed the limit of {limit / 2**30:.1f} GiB (--limit-gib)"


def _too_slow(line: dict[str, Any], smaller: Sequence[dict[str, Any]], seconds: float) -> str | None:
    """Returns why a form is not run, or None: time grows with the square of the batch."""
    known = [s for s in smaller if s["form"] == line["form"] and s["ms"] is not None]
    if not known:
        return None
    predicted = known[-1]["ms"] / 1e3 * (line["rows"] / known[-1]["rows"]) ** 2
    if predicted <= seconds:
        return None
    return f"one run would take about {predicted:.0f} s, more than {seconds:g} s (--seconds)"


def _ratios(results: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    dense = {line["rows"]: line for line in results if line["form"] == "dense"}
    for line in results:
        reference = dense[line["rows"]]
        if line is not reference:
            yield {
                "ratio": f"{line['form']} / dense",
                "rows": line["rows"],
                "memory": _share(line["temporary_mib"], reference["temporary_mib"]),
                "time": _share(line["ms"], reference["ms"]),
            }


def _share(value: float | None, whole: float | None) -> float | None:
    return round(value / whole, 4) if value and whole else None


def _devices(count: int | None) -> Sequence[jax.Device]:
    devices = jax.devices()
    if count is None:
        return devices
    if not 1 <= count <= len(devices):
        raise UserError(
            f"--devices {count} of {len(devices)}; a CPU counts as more with "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={max(count, 1)}"
        )
    return devices[:count]


def _is_cpu(mesh: Mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu"
