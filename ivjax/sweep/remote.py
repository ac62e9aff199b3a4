"""Runs of a sweep as commands of their own, for machines that this one only starts."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence

from ivjax.sweep.book import Book
from ivjax.sweep.trials import Trial

Command = tuple[str, ...]
_LONGEST = 30  # characters of a job's name before its number; clusters take a few more


def train_commands(book: Book) -> dict[int, Command]:
    """The arguments of `ivjax` that train each run which is not at its end, by its number in the sweep."""
    pairs = zip(book.trials(), book.histories(), strict=True)
    return {n: _train(book, trial) for n, (trial, history) in enumerate(pairs) if not history.finished}


def launch_commands(book: Book, where: str, target: str) -> list[Command]:
    """The arguments that start them as jobs, each with a name and files of its own."""
    stem = re.sub(r"[^a-z0-9]+", "-", book.folder.absolute().name.lower()).strip("-")
    stem = (stem if stem[:1].isalpha() else f"sweep-{stem}")[:_LONGEST].rstrip("-")
    trials = book.trials()
    return [
        ("launch", where, "--target", target, "--set", f"name={stem}-{number}")
        + ("--out", str(book.folder / "jobs" / trials[number].name), *command)
        for number, command in train_commands(book).items()
    ]


def launch_all(book: Book, where: str, target: str, say: Callable[[str], None]) -> int:
    """Starts one job for each run; one that cannot start does not stop the rest. 1 if there is one."""
    book.check()
    commands = launch_commands(book, where, target)
    book.write()
    failed = 0
    for command in commands:
        say(f"$ {shown(command)}")
        failed += subprocess.run([sys.executable, "-m", "ivjax.cli", *command], check=False).returncode != 0
    say(f"when jobs are done: {shown(('sweep', '--table-only', '--workdir', str(book.folder)))}")
    return int(failed > 0)


def shown(command: Sequence[str]) -> str:
    """A command as it is typed."""
    return shlex.join(["ivjax", *command])


def _train(book: Book, trial: Trial) -> Command:
    return "train", book.config, *trial.overrides, "--workdir", str(book.run_folder(trial))
