"""`python -m tests.faults --kills 100 --work DIR` puts ivjax under kills and damages, and prints a table."""

import argparse
import datetime
import os
import random
from pathlib import Path

from tests.faults.damages import damage_runs
from tests.faults.full_disk import fill_disks
from tests.faults.kills import kill_build, kill_hosts, kill_sweep, kill_training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder to work in")
    parser.add_argument("--kills", type=int, default=100, help="kills in all")
    parser.add_argument("--times", type=int, default=3, help="how often each damage is done")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work, rng = options.work.absolute(), random.Random(options.seed)
    work.mkdir(parents=True, exist_ok=True)
    tenth = max(options.kills // 10, 1)
    rows = [
        kill_build(work, tenth, rng),
        kill_training(work, options.kills - 6 * tenth, rng),
        kill_sweep(work, tenth, rng),
        kill_hosts(work, 2, 2 * tenth, rng),
        kill_hosts(work, 4, 2 * tenth, rng),
        *damage_runs(work, options.times, rng),
        fill_disks(work, 5 * options.times, rng),
    ]
    print(f"{datetime.date.today()}, {os.cpu_count()} CPU cores, seed {options.seed}\n")
    print("| what | times | outcome |\n|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.times} | {row.outcome} |")


if __name__ == "__main__":
    main()
