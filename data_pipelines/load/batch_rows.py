"""One row of a batch, and how an example is put into it."""

from collections.abc import Mapping

import numpy as np

from ivjax.errors import UserError

BatchRow = Mapping[str, np.ndarray]  # views into the arrays of a batch, by name

# Arrays that the loader fills: the row's global place, the number of its clip, whether that clip stands in
# for a broken one.
PLACED = frozenset({"index", "sample", "replaced"})


def fill_row(row: BatchRow, example: Mapping[str, np.ndarray], index: int, number: int) -> None:
    """Copies the example of clip `number` into the row at global place `index`, array by array.

    What the example lacks of PLACED is filled in.
    """
    # Stages take the place as uint32 for their random keys; after 4 billion rows it starts anew.
    placed = {"index": index % 2**32, "sample": number, "replaced": 0}
    for name, target in row.items():
        if name in placed and name not in example:
            target[...] = placed[name]
            continue
        value = example[name]
        if value.shape != target.shape or value.dtype != target.dtype:
            raise UserError(
                f"the stage wants {name} as {target.dtype} {target.shape} per clip, "
                f"the data source gives {value.dtype} {value.shape}"
            )
        target[...] = value
