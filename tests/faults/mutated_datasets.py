"""Mutated datasets of the Hugging Face Hub: damaged tables, and descriptions that say something else."""

import random
from collections.abc import Sequence
from pathlib import Path

from ivjax.data_pipelines.sources.media import media_size, read_media
from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.data_pipelines.sources.row import SourceRow
from tests.data_pipelines.sources.hub_files import save_to_disk, small_table, write_parquet
from tests.faults.mutated_safetensors import mutated_json

_CARD = (
    "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n"
)


def read(command: Sequence[str]) -> int:
    """Plans a build and reads all media that it would read: `read([FOLDER])`."""
    for row in open_source(command[0], "hf"):
        if isinstance(row, SourceRow):
            try:
                read_media(row.path)
                media_size(row.path)
            except OSError:  # a build drops such a row and says why
                pass
    return 0


def mutated(rng: random.Random, folder: Path, number: int) -> str:
    """Makes a dataset in a folder, and damages it; returns what was done."""
    table = small_table()
    if number % 2:
        path = write_parquet(folder / "data/train-00000-of-00001.parquet", table, rng.choice([1, 2, 9]))
        described = folder / "README.md"
        described.write_text(_CARD)
    else:
        save_to_disk(folder, table)
        path, described = folder / "data-00000-of-00001.arrow", folder / "state.json"
    if number % 10 == 8:
        described.write_text(mutated_json(rng, described.read_text()))
        return described.name
    if number % 10 == 9:
        lines = described.read_text().splitlines()
        lines[rng.randrange(len(lines))] = rng.choice(
            ["", "- [", "x: *y", "\0", "path: ../**", "- - - -", "!!a b"]
        )
        described.write_text("\n".join(lines))
        return described.name
    data = bytearray(path.read_bytes())
    # Headers lie at either end; the middle is videos, which are read as they are.
    begin, end = rng.choice([(0, 1), (0, 0.3), (0.7, 1)])
    for _ in range(rng.choice([1, 3, 30])):
        data[int((begin + rng.random() * (end - begin)) * (len(data) - 1))] = rng.choice(
            [0, 255, rng.randrange(256)]
        )
    if rng.random() < 0.2:
        data = data[: rng.randrange(len(data))]
    path.write_bytes(data)
    return path.name
