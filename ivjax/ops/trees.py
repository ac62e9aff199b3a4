"""Leaves of a state by their path, e.g. `params/encoder/blocks/attn/qkv/kernel`."""

from collections.abc import Callable
from typing import Any

import jax


def path_name(path: tuple[Any, ...]) -> str:
    """A jax key path as text."""
    # The one spelling of paths: rules, patterns, weight files, checkpoints and errors all use it.
    return jax.tree_util.keystr(path, simple=True, separator="/")


def paths_of(tree: Any) -> list[tuple[str, Any]]:
    """Returns (path, leaf) pairs."""
    return [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def map_with_path(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Maps function(path, leaf, ...) over one or more trees of the same structure."""
    return jax.tree_util.tree_map_with_path(lambda p, *leaves: function(path_name(p), *leaves), tree, *rest)
