"""The `ivjax` command: parse, call one function, print. No logic."""

import argparse
import errno
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

# None of them imports jax at its top: that takes a second, and the help should show at once.
from ivjax.cli import (
    bench,
    chat,
    completion,
    convert,
    data,
    embed,
    eval,
    launch,
    ledger,
    plan,
    quickstart,
    report,
    search,
    sweep,
    train,
)
from ivjax.errors import FULL, UserError, readable
from ivjax.version import __version__

_LONGEST_COMPLAINT = 1000  # characters that are said of a command line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status, which is 2 for bad input and 130 after Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # Orbax logs through absl, down to the files that it touches.
    logging.getLogger("absl").setLevel(logging.ERROR)
    options = _parse(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Half a character in a file's name must not end a command that was done.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return int(options.run(options))
    except UserError as error:
        return _refuse(options.command, str(error), error.status)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has seen enough. Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if isinstance(error, OSError) and (why := _refused_by_system(error)):
            return _refuse(options.command, why)
        if _in_job():
            traceback.print_exc()
            _leave_job(1)
        raise


def _refused_by_system(error: OSError) -> str | None:
    """What to say of an error that any part of any command may meet, and that is none of this project's."""
    if error.errno == errno.ENAMETOOLONG:
        return f"{str(error.filename):.60}... is too long for a path"
    if error.errno in FULL:
        return f"{error.filename or 'a file'} cannot be written: {error.strerror}; make room and run again"
    return None


def _refuse(command: str, why: str, status: int = 2) -> int:
    print(f"ivjax {command}: {why}", file=sys.stderr)
    _leave_job(status)
    return status


def _in_job() -> bool:
    """Whether this process has joined others."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _leave_job(status: int) -> None:
    """Ends this process at once if it has joined others."""
    if _in_job():
        sys.stdout.flush()
        sys.stderr.flush()
        # Python's own exit would wait five minutes for the others, which know nothing of the error.
        os._exit(status)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses a command line. Overrides and words may come before and after options, unlike argparse's."""
    parser = _parser()
    # argparse takes positional arguments from one stretch of the line, and leaves later ones as unknown.
    options, rest = parser.parse_known_args(argv)
    if hasattr(options, "words") and not any(word.startswith("-") for word in rest):
        options.words += rest
        return options
    unknown = [word for word in rest if word.startswith("-") or "=" not in word]
    if unknown or (rest and not hasattr(options, "overrides")):
        hint = "; settings are written path=value, without dashes" if _sets(options, unknown) else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}{hint}")
    if rest:
        options.overrides += rest
    return options


def _sets(options: argparse.Namespace, unknown: Sequence[str]) -> bool:
    """Whether unknown words may be settings of a config, which other programs take as flags."""
    return hasattr(options, "overrides") and any(word.startswith("--") for word in unknown)


class _Parser(argparse.ArgumentParser):
    """A parser that repeats no more of a command line than a person reads."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong, and ends the program."""
        super().error(readable(message, _LONGEST_COMPLAINT))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ivjax",
        description="The InternVideo family in JAX.",
        epilog="`ivjax COMMAND --help` shows the options of a command, and an example.",
    )
    parser.add_argument("--version", action="version", version=f"ivjax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    every = (quickstart, train, sweep, ledger, eval, report, chat, plan, convert, embed, search, data, bench)
    for command in every:
        command.add(commands)
    # It checks the command line that it sends elsewhere, and is given the parser because it cannot import it.
    launch.add(commands, _parse)
    # It lists what the parser takes.
    completion.add(commands, parser)
    return parser
