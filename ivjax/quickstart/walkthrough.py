"""Runs the quickstart's commands in order, resumes where it was stopped, and sums up."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.progress import Say, duration
from ivjax.quickstart.commands import PAGE, QuickstartStep, Scale, steps_of
from ivjax.quickstart.screen import RunningLine, last_lines, result_line

_DONE = "quickstart.json"
_LOGS = "logs"
_REDRAW_SECONDS = 0.25
_TOLD = 12  # lines of the log of a command that failed
_INTERRUPTED = 130  # the usual status after Ctrl-C


def quickstart(folder: Path, scale: Scale, seed: int, say: Say, verbose: bool = False) -> int:
    """Runs all commands in `folder`; returns the exit status of the first that fails, or 0.

    `verbose` shows what the commands print; else it goes to a log each, and the screen has a line for each.
    """
    folder = folder.expanduser().absolute()
    try:
        (folder / _LOGS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}; choose another folder") from None
    steps, began = steps_of(scale, seed), time.monotonic()
    finished = _finished(folder)
    for number, step in enumerate(steps, start=1):
        line, log = step.line, folder / _LOGS / f"{number:02}_{step.name.replace(' ', '_')}.log"
        if verbose:
            say(f"\n[{number}/{len(steps)}] {step.name}\n$ {line}")
        if line in finished:
            say(result_line(step.name, "done before: " + step.result(folder, log), finished[line]))
            continue
        started = time.monotonic()
        status = _run(step, folder, scale.xla_flags, None if verbose else log)
        if status:
            _explain(step, folder, log, status, verbose, say)
            return status
        # Later commands used the old result of this one, so they must run again.
        before = {earlier.line for earlier in steps[: number - 1]}
        finished = {kept: seconds for kept, seconds in finished.items() if kept in before}
        finished[line] = round(time.monotonic() - started, 1)
        store(folder / _DONE, json.dumps(finished, indent=1) + "\n")
        say(result_line(step.name, step.result(folder, log), finished[line]))
    say(_closing(folder, time.monotonic() - began, scale.remark))
    return 0


def _explain(step: QuickstartStep, folder: Path, log: Path, status: int, verbose: bool, say: Say) -> None:
    """Says what failed, how its log ends, and how to go on."""
    if status != _INTERRUPTED:
        say(f"{step.name} failed, with status {status}:\n  $ {step.line}")
        if not verbose:
            say("".join(f"  {line}\n" for line in last_lines(log, _TOLD)) + f"all that it said is in {log}")
    say(f"stopped there; the same `ivjax quickstart {folder}` goes on with this command")


def _run(step: QuickstartStep, folder: Path, xla_flags: str, log: Path | None) -> int:
    """Runs a command in a process of its own, as a user would; returns its exit status."""
    environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()}
    # A process each: jax reads its flags once, and a crash leaves the walkthrough alive.
    command = [sys.executable, "-m", "ivjax", *step.command]
    if log is None:
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    with log.open("w") as file:
        file.write(f"$ {step.line}\n")
        file.flush()
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
        ) as process:
            return _followed(process, RunningLine(step.name, log, sys.stdout))


def _followed(process: subprocess.Popen, line: RunningLine) -> int:
    """Draws the line of a process until it ends; returns its exit status."""
    interrupted = False
    while True:
        try:
            line.draw()
            status = process.wait(_REDRAW_SECONDS)
            line.clear()
            return _INTERRUPTED if interrupted else status
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt:
            # The command was interrupted too: a training saves itself, which takes a moment.
            interrupted = True


def _closing(folder: Path, seconds: float, remark: str) -> str:
    """Returns where the page is, and what to type next."""
    # Of any of them; a name that begins with `-` would be taken for an option.
    videos = sorted((folder / "demo" / "videos").glob("[0-9A-Za-z]*.mp4"))
    video = videos[0].relative_to(folder) if videos else "VIDEO.mp4"
    return "\n".join(
        [
            f"\nDone in {duration(seconds)}{remark}. Open {folder / PAGE}",
            f"\nNext, in {folder}:",
            "  ivjax train quick_stage1 stage.mask.ratio=0.9 --workdir runs/masked",
            f'  ivjax chat {video} --end 3 --weights runs/stage3 "What happens in the video?"',
            "  ivjax train stage1_1b --print    # the released recipe",
        ]
    )


def _finished(folder: Path) -> dict[str, float]:
    """Returns the commands that are done, with their seconds."""
    try:
        found: dict[str, float] = json.loads((folder / _DONE).read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return found
