"""Runs commands in a child process that measures each of them, and may be lost with any of them.

`python -m tests.faults.sandbox CASES ERRORS` is the child: it runs the cases of a JSON file in order, and
prints a line for each.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
CPU_SECONDS = 10  # that a case may take
_WALL_SECONDS = 120  # a case that waits for ever uses no CPU
_ADDRESSES = 8 << 30  # bytes; an allocation beyond that fails, and is a traceback
# What Python says of starting a process. A weight file, a corpus and a setting have no reason to.
_STARTS = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen")


@dataclass(frozen=True)
class Case:
    """A command to run.

    Attributes:
        name: says what is mutated, and how.
        command: arguments of `ivjax`, or of the function that `call` names.
        call: `module:function`, which raises UserError or SystemExit, or returns its status.
        bytes: size of what is read.
        removed: a file that is removed afterwards.
    """

    name: str
    command: Sequence[str]
    call: str = "ivjax.cli:main"
    bytes: int = 0
    removed: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        name: that of the case.
        status: its exit status; -1 if an exception left it, and -2 if it took the process with it.
        out: the end of its standard output.
        err: all of its standard error, the traceback included.
        seconds: CPU time.
        grown: bytes by which the memory in use grew, at most.
        started: the processes that it started.
    """

    name: str
    status: int
    out: str = ""
    err: str = ""
    seconds: float = 0.0
    grown: int = 0
    started: tuple[str, ...] = ()


def run_cases(cases: Sequence[Case], scratch: Path) -> list[Outcome]:
    """Returns the outcomes of the cases; a new child goes on behind a case that takes one with it."""
    scratch.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    while len(outcomes) < len(cases):
        rest = cases[len(outcomes) :]
        (scratch / "cases.json").write_text(json.dumps([asdict(case) for case in rest]))
        command = [sys.executable, "-m", "tests.faults.sandbox", scratch / "cases.json", scratch / "errors"]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        child = subprocess.run(
            list(map(str, command)),
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            text=True,
        )
        outcomes += [_outcome(line) for line in child.stdout.splitlines()]
        if len(outcomes) < len(cases):
            lost = cases[len(outcomes)].name
            said = (scratch / "errors").read_text(errors="replace")[-3000:]
            outcomes.append(Outcome(lost, -2, err=f"the process ended with {child.returncode}\n{said}"))
    return outcomes


def _outcome(line: str) -> Outcome:
    values = json.loads(line)
    return Outcome(**{**values, "started": tuple(values["started"])})


def _main(cases: Path, errors: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    started: list[str] = []
    with os.fdopen(os.dup(1), "w") as report, tempfile.TemporaryFile() as out, errors.open("w+b") as err:
        # Of the whole process and not of Python's streams: libraries in C write there, too.
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout.reconfigure(encoding="utf-8", errors="strict")  # type: ignore[union-attr]
        _warm_up()
        sys.addaudithook(
            lambda event, values: started.append(f"{event} {values}") if event in _STARTS else None
        )
        for case in json.loads(cases.read_text()):
            started.clear()
            outcome = _measured(Case(**case), out, err, started)
            print(json.dumps(asdict(outcome)), file=report, flush=True)


def _warm_up() -> None:
    """Imports what commands import, so that no case is charged for it."""
    import ivjax.cli
    import ivjax.convert.conversion
    import ivjax.data_pipelines.inspect.validate
    import ivjax.data_pipelines.load.mixture_loader  # noqa: F401
    import ivjax.train.distributed

    # A command looks for the others of its job before it has devices. This process has some already.
    ivjax.train.distributed.join = lambda job: None
    with contextlib.suppress(SystemExit):
        ivjax.cli.main(["train", "stage1_synthetic", "--print"])


def _measured(case: Case, out: IO[bytes], err: IO[bytes], started: list[str]) -> Outcome:
    for file in (out, err):
        file.seek(0)
        file.truncate()
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # SIGPROF ends the process, whatever it is doing
    signal.alarm(_WALL_SECONDS)
    before, began = _memory(reset=True), time.process_time()
    status = status_of(case)
    sys.stdout.flush()
    sys.stderr.flush()
    seconds, grown = time.process_time() - began, _memory() - before
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)
    if case.removed:
        Path(case.removed).unlink(missing_ok=True)
    said = [os.pread(file.fileno(), 1 << 16, 0).decode(errors="replace") for file in (out, err)]
    return Outcome(case.name, status, said[0][-300:], said[1], round(seconds, 2), grown, tuple(started))


def status_of(case: Case) -> int:
    """Runs a case in this process; returns its exit status, or -1 after a traceback."""
    from ivjax.errors import UserError

    module, function = case.call.split(":")
    try:
        return int(getattr(importlib.import_module(module), function)(list(case.command)) or 0)
    except UserError as error:
        print(f"ivjax: {error}", file=sys.stderr)
        return 2
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return -1


def _memory(reset: bool = False) -> int:
    """Returns the most bytes of memory that were in use since the last reset."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except OSError:  # not Linux: the most since the process began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
