"""A run folder on a disk that fills at a random moment, and is given room again later."""

import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.kills import Row
from tests.faults.started import LOGGED, Started, curve

_SIZE = "96m"


class Disk:
    """A small disk in memory; only commands that `words` begins see it, others by `seen`."""

    def __init__(self, place: Path):
        self.place = place
        place.mkdir()
        mount = f'mount -t tmpfs -o size={_SIZE} tmpfs "$0" && echo mounted && exec sleep infinity'
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(place)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._holder.stdout is not None
        self.there = self._holder.stdout.readline() == "mounted\n"

    @property
    def seen(self) -> Path:
        """The disk's folder for those who are not inside."""
        return Path(f"/proc/{self._holder.pid}/root/{self.place}")

    @property
    def words(self) -> list[str]:
        """What goes before a command that is to see the disk."""
        inside = ["--target", str(self._holder.pid), "--user", "--mount", "--preserve-credentials"]
        return ["nsenter", *inside, f"--wd={self.place.parent}"]

    def fill(self) -> None:
        """Leaves no room."""
        with (self.seen / "other").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                os.truncate(file.fileno(), file.tell() // 4096 * 4096)

    def free(self) -> None:
        """Gives room again."""
        (self.seen / "other").unlink()

    def __enter__(self) -> "Disk":
        return self

    def __exit__(self, *error: object) -> None:
        self._holder.kill()
        self._holder.wait()
        shutil.rmtree(self.place, ignore_errors=True)


def fill_disks(work: Path, times: int, rng: random.Random) -> Row:
    """A run whose disk fills goes on or ends in a sentence; then it has the parameters of one with room."""
    whole, sealed = curve(work / "whole"), _seal(work / "whole")
    ends: Counter[str] = Counter()
    for count in range(times):
        with Disk(work / "disk") as disk:
            if not disk.there:
                return Row("a disk that fills", 0, "not tried: nobody may mount one here")
            ends[_fill_once(work, disk, f"disk.{count}.log", rng)] += 1
            again = Started(work / f"disk.{count}.again.log", *_words(disk), cwd=work, before=disk.words)
            again.finish()
            found = curve(disk.seen / "run")
            # What could not be logged is left out; all else is as it should be, and so are the parameters.
            assert found == {key: values for key, values in whole.items() if key in found}
            assert _seal(disk.seen / "run") == sealed
    how = ", ".join(f"{count} {end}" for end, count in ends.most_common())
    return Row("a disk that fills, with room again later", times, f"{how}; then the same parameters")


def _fill_once(work: Path, disk: Disk, log: str, rng: random.Random) -> str:
    started = Started(work / log, *_words(disk), cwd=work, before=disk.words)
    if rng.random() < 0.7:
        while started.lives and "\nstep " not in started.shown:
            time.sleep(0.005)
        started.wait(rng.uniform(0, 2))
    else:
        started.wait(rng.uniform(0, 6))
    disk.fill()
    started.wait(rng.choice((0.5, 3, 60)))
    disk.free()
    status = started.process.wait(timeout=300)
    assert "Traceback" not in started.shown, started.shown
    assert status == 0 or (status == 2 and "No space left on device" in started.shown), started.shown
    return "went on" if status == 0 else "ended in one sentence"


def _words(disk: Disk) -> list[str]:
    return ["train", LOGGED, "--workdir", str(disk.place / "run")]


def _seal(run: Path) -> Any:
    newest = max(int(entry.name) for entry in (run / "checkpoints").iterdir() if entry.name.isdecimal())
    return json.loads((run / "checkpoints" / str(newest) / "meta" / "metadata").read_text())["seal"]["arrays"]
