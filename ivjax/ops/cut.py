"""Cuts a tree of parameters by path into what is trained and what is frozen, and joins both again."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ivjax.errors import UserError
from ivjax.experiment.patterns import covers
from ivjax.ops.trees import paths_of

Params = dict[str, Any]  # parameters in nested dicts, or other leaves at their places


class Cut(NamedTuple):
    """Two parts of one tree of nested dicts; neither has empty dicts."""

    trained: Params
    frozen: Params


def cut(params: Params, frozen: Sequence[str]) -> Cut:
    """Leaves whose path matches one of the patterns `frozen` on one side, the rest on the other."""
    paths = [path for path, _ in paths_of(params)]
    for pattern in frozen:
        if not any(covers([pattern], path) for path in paths):
            raise UserError(f"no parameter's path matches {pattern!r}, which is to be frozen")
    chosen = {path for path in paths if covers(frozen, path)}
    if len(chosen) == len(paths):
        raise UserError(f"every parameter is frozen by {', '.join(frozen)}; leave some to train")
    return Cut(_kept(params, "", chosen, inside=False), _kept(params, "", chosen, inside=True))


def joined(trained: Params, frozen: Params) -> Params:
    """The tree that was cut."""
    both = trained.keys() & frozen.keys()
    return {**trained, **frozen, **{name: joined(trained[name], frozen[name]) for name in both}}


def _kept(tree: Params, prefix: str, chosen: set[str], inside: bool) -> Params:
    found: Params = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            # Empty dicts are part of a tree's structure for jax: trees of the same leaves would not match.
            if part := _kept(value, f"{prefix}{name}/", chosen, inside):
                found[name] = part
        elif (f"{prefix}{name}" in chosen) == inside:
            found[name] = value
    return found
