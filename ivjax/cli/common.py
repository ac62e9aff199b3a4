"""Shared by the commands: the form of their help, and the arguments that several of them have."""

import argparse
import sys
import textwrap
from pathlib import Path

CONFIG_HELP = "a config file (.py), or the name of a shipped one such as stage1_tiny; then :VARIANT+VARIANT"


def add_command(
    commands: argparse._SubParsersAction, name: str, about: str, example: str
) -> argparse.ArgumentParser:
    """Adds a command whose help ends with an example; returns its parser."""
    return commands.add_parser(
        name,
        help=about,
        # Wrapped here, because the formatter that leaves the lines of the example alone wraps nothing.
        description=textwrap.fill(about, 100),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def say(line: str) -> None:
    """Prints a line at once, also where the output goes to a file or a pipe."""
    print(line, flush=True)


def note(line: str) -> None:
    """Prints a line for people to stderr, because programs read the result from stdout."""
    print(line, file=sys.stderr, flush=True)


def pair(text: str) -> tuple[str, str]:
    """Parses an argument name=value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected name=value, got {text!r}")
    return name, value


def folder(text: str) -> Path:
    """Parses the name of a folder."""
    # An empty one would be the current folder, and comes of a shell variable that is not set.
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a folder, got {text!r}")
    return Path(text)


def place(text: str) -> Path | str:
    """Parses the name of a folder, or the address of one in a bucket, which stays a text."""
    # A Path would lose a slash of gs://.
    return text if "://" in text else folder(text)


def add_config(parser: argparse.ArgumentParser, needed: bool = True) -> None:
    """Adds the arguments CONFIG and path=value."""
    parser.add_argument("config", nargs=None if needed else "?", help=CONFIG_HELP)
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="overrides by dotted path")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds what weights may not say of their model: --preset and --tokenizer."""
    parser.add_argument("--preset", help="the model's preset, where the weights do not say")
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="the vocabulary of its text encoder or language model"
    )


def add_job(parser: argparse.ArgumentParser) -> None:
    """Adds how a process joins the others of a job, where the environment does not say it."""
    job = parser.add_argument_group("job of several processes")
    job.add_argument("--coordinator", metavar="HOST:PORT", help="process 0 of the job")
    job.add_argument("--processes", type=int, help="processes of the job")
    job.add_argument("--process", type=int, help="which of them this is, from 0")


def join_job(options: argparse.Namespace) -> bool:
    """Joins the job that a command line or the environment names; returns whether this is process 0."""
    from ivjax.train.distributed import Job, join

    join(Job(options.coordinator, options.processes, options.process))
    import jax

    from ivjax.train import watch

    watch.begin()
    return jax.process_index() == 0
