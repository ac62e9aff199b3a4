"""Rows of a batch, and how an example is put into one."""

from collections.abc import Mapping

import numpy as np

from ivjax.errors import UserError

Rows = Mapping[str, np.ndarray]

PLACED = frozenset({"index", "replaced"})  # arrays that tell of a row's place, not of its clip


def store(row: Rows, example: Mapping[str, np.ndarray], index: int) -> None:
    """Copies an example into its row, with its global place; both must have the same arrays."""
    for name, target in row.items():
        if name in PLACED:
            target[...] = index % 2**32 if name == "index" else 0
            continue
        value = example[name]
        if value.shape != target.shape or value.dtype != target.dtype:
            raise UserError(
                f"the stage wants {name} as {target.dtype} {target.shape} per clip, "
                f"the data source gives {value.dtype} {value.shape}"
            )
        target[...] = value
