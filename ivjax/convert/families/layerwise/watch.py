"""Looks into a model while it runs: what goes into its layers, what comes out, what each block leaves."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from ivjax.experiment.computing import Compute
from ivjax.models.stacks import run_blocks


def watch(function: Callable[[], Any]) -> tuple[Any, dict[str, tuple[Any, Any]]]:
    """Result of `function`, and by path (first input, output) of every module that it calls outside scans."""
    seen: dict[str, tuple[Any, Any]] = {}

    def look(call: Any, arguments: Any, named: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*arguments, **named)
        if context.method_name == "__call__" and arguments:
            seen["/".join(context.module.path)] = (arguments[0], output)
        return output

    with nn.intercept_methods(look):
        result = function()
    return result, seen


class _Stack(nn.Module):
    """Blocks as a model runs them, with every block's output kept."""

    block: Callable[..., nn.Module]
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # The model's own loop, not one of the parity check's: a mistake in it would otherwise stay unseen.
        every = tuple(range(self.depth))
        return run_blocks(self.block(name="blocks"), self.depth, x, Compute(), taps=every)[1]


def after_blocks(block: Callable[..., nn.Module], params: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Residual streams (depth, B, N, C) after each block; `params` are stacked on a leading layer axis."""
    depth = len(jax.tree.leaves(params)[0])
    return _Stack(block, depth).apply({"params": {"blocks": params}}, x)  # type: ignore[return-value]
