"""`python -m tests.faults --kills 100 --work DIR` puts ivjax under kills and damages, and prints a table."""

import argparse
import datetime
import os
import random
from collections.abc import Iterator
from pathlib import Path

from tests.faults.damages import damage_runs
from tests.faults.full_disk import fill_disks
from tests.faults.kills import Row, kill_build, kill_hosts, kill_sweep, kill_training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder to work in")
    parser.add_argument("--kills", type=int, default=100, help="kills in all")
    parser.add_argument("--times", type=int, default=3, help="how often each damage is done")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work, rng = options.work.absolute(), random.Random(options.seed)
    work.mkdir(parents=True, exist_ok=True)
    print(f"{datetime.date.today()}, {os.cpu_count()} CPU cores, seed {options.seed}\n")
    print("| what | times | outcome |\n|---|---|---|")
    # Each as soon as it is known: what has been found must not be lost with what fails later.
    for row in _rows(work, options.kills, options.times, rng):
        print(f"| {row.what} | {row.times} | {row.outcome} |", flush=True)


def _rows(work: Path, kills: int, times: int, rng: random.Random) -> Iterator[Row]:
    tenth = max(kills // 10, 1)
    yield kill_build(work, tenth, rng)
    yield kill_training(work, kills - 6 * tenth, rng)
    yield kill_sweep(work, tenth, rng)
    yield kill_hosts(work, 2, 2 * tenth, rng)
    yield kill_hosts(work, 4, 2 * tenth, rng)
    yield from damage_runs(work, times, rng)
    yield fill_disks(work, 5 * times, rng)


if __name__ == "__main__":
    main()
