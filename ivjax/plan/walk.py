"""Walks through a traced step and adds up what it costs one device: bytes alive, FLOPs, bytes read and sent.

Nothing is compiled. The walk treats the program roughly as XLA would:

- Elementwise results are not stored, but fused into what uses them.
- Loops, matrix products, reductions and gathers store their results.
- A split parameter is gathered where it meets activations that the same mesh axis splits.
- Sums over a split batch are reduced over the devices.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from ivjax.plan import kernels, loops, partitioning
from ivjax.plan.device_costs import SimulatedDevice, on_host
from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.loops import CALLS, open_jaxpr, sources_of
from ivjax.plan.products import product
from ivjax.plan.propagation import COLLECTIVES, REDUCTIONS, count_sums, splits_of

_VIEWS = frozenset(
    ("reshape", "transpose", "squeeze", "expand_dims", "sharding_constraint", "name", "stop_gradient")
)
# XLA updates an operand where it lies if nobody else uses it, which these are written for.
_IN_PLACE = frozenset(("dynamic_update_slice", "scatter", "scatter-add", "scatter_add"))
_DIVISIONS = frozenset(("div", "tanh", "erf", "erfc", "logistic"))
_STORED = (
    REDUCTIONS
    | COLLECTIVES
    | {"gather", "concatenate", "sort", "top_k", "cumsum", "split", "dynamic_slice"}
    | {"conv_general_dilated", "device_put"}
)


class Walk(SimulatedDevice):
    """One walk through a program: a Frame for each sequence of instructions, `costs` for all of them."""

    def run(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value], frame: Frame) -> list[Value]:
        """Costs an open jaxpr inside `frame`; returns its results."""
        known: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, const in zip(jaxpr.constvars, consts, strict=True):
            known[variable] = frame.outside(self.value(jax.typeof(const), partitioning.whole(const.ndim)))
        uses: Counter[Any] = Counter()
        for read_by in (*(equation.invars for equation in jaxpr.eqns), jaxpr.outvars):
            # A set per equation: an operand that one instruction reads twice is fused into it all the same.
            uses.update({v for v in read_by if not hasattr(v, "val")})

        def read(variable: Any) -> Value:
            if hasattr(variable, "val"):
                return self.value(variable.aval, partitioning.whole(len(getattr(variable.aval, "shape", ()))))
            return known[variable]

        for equation in jaxpr.eqns:
            operands = [read(v) for v in equation.invars]
            repeated = any(uses[v] > 1 for v in equation.outvars)
            results = self._equation(equation, operands, frame, repeated)
            _describe(equation, operands, results, frame)
            known.update(zip(equation.outvars, results, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def _equation(self, equation: Any, operands: list[Value], frame: Frame, repeated: bool) -> list[Value]:
        name = equation.primitive.name
        if name in CALLS:
            return self.run(*open_jaxpr(equation.params[CALLS[name]]), operands, frame)
        # It orders instructions and computes nothing.
        if name == "optimization_barrier":
            return operands
        if name == "scan":
            return loops.scan(self, equation, operands, frame)
        # Only an unrolled loop takes the slices one by one; anything else needs them as one array.
        frame.store([v for v in operands if v.slices])
        special = _SPECIAL.get(name)
        if special:
            return special(self, equation, operands, frame)
        return self._plain(equation, operands, frame, repeated)

    def _plain(self, equation: Any, operands: list[Value], frame: Frame, repeated: bool) -> list[Value]:
        name, sources = equation.primitive.name, sources_of(operands)
        splits = splits_of(self, equation, operands)
        results = [self.value(v.aval, s, sources) for v, s in zip(equation.outvars, splits, strict=True)]
        if name in _IN_PLACE:
            frame.store(operands[:1])
            frame.resize(operands[0], results[0].bytes)
            frame.step(operands)
            results[0].sources = operands[0].sources
        elif name in _STORED:
            self._stored(equation, operands, results, frame)
        elif name in _VIEWS and len(operands) == 1:
            results[0].view = operands[0].view or bool(operands[0].stored)
            results[0].stored = operands[0].stored
        elif repeated and len(results) == 1 and self._is_stored(name, results[0], frame):
            self.count(operands, results)
            frame.step(operands, results, in_place=True)
        return results

    def _is_stored(self, name: str, result: Value, frame: Frame) -> bool:
        """Whether an elementwise result that is used more than once is stored.

        It is stored where computing it again would keep more bytes alive than the value itself has. XLA for
        CPUs never repeats a division, and its tanh and erf end in one.
        """
        if self.platform == "cpu" and name in _DIVISIONS:
            return True
        # 1.5, found by comparison with compiled steps (docs/plan.md): XLA does not store on a near tie.
        return frame.size_of(result.sources) > 1.5 * result.bytes

    def _stored(self, equation: Any, operands: list[Value], results: list[Value], frame: Frame) -> None:
        self.count(operands, results)
        frame.step(operands, results)
        count_sums(self, equation, operands, results)
        for variable, operand in zip(equation.outvars, operands, strict=False):
            if on_host(variable.aval):
                self.costs.parked += operand.bytes


_SPECIAL: Mapping[str, Callable[[Walk, Any, list[Value], Frame], list[Value]]] = {
    "while": loops.while_loop,
    "cond": loops.cond,
    "shard_map": kernels.shard_map,
    "pallas_call": kernels.kernel,
    "dot_general": product,
}


def _describe(equation: Any, operands: Sequence[Value], results: Sequence[Value], frame: Frame) -> None:
    """Labels the results, and marks those that depend on the batch."""
    of_batch = any(operand.of_batch for operand in operands)
    for variable, result in zip(equation.outvars, results, strict=True):
        result.of_batch = result.of_batch or of_batch
        kind, where = variable.aval.str_short(short_dtypes=True), equation.source_info.name_stack
        result.label = result.label or f"{kind} {equation.primitive.name} {where}"
        for name in result.sources & frame.sizes.keys():
            frame.labels[name] = frame.labels[name] or result.label
