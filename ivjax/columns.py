"""Tables as lines of text."""

from collections.abc import Callable, Sequence


def aligned(rows: Sequence[Sequence[str]], others: Callable[[str, int], str] = str.ljust) -> list[str]:
    """Returns a line for each row, whose cells stand below each other: the first column to the left.

    `others` pads the cells of all other columns. A row may lack its last cells.
    """
    full = [[*row, *[""] * (len(rows[0]) - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    lines = ([row[0].ljust(widths[0]), *map(others, row[1:], widths[1:])] for row in full)
    return ["  ".join(line).rstrip() for line in lines]
