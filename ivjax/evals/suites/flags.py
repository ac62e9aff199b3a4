"""The suites' fields as flags of a command, and the suite that a command line asks for."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from ivjax.errors import UserError
from ivjax.evals.suites import SUITES, MultipleChoice, Retrieval, Suite
from ivjax.evals.suites.fields import OptionField, options_of
from ivjax.evals.suites.protocols import is_choice

_PREFIX = "suite_"  # of the flags' places in the namespace, so that they meet no flag of the command


def add_suite_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --suite and a flag for each option of each suite, in groups by the suites that have it."""
    told = "; ".join(f"{suite.name}: {suite.about}" for suite in SUITES.values())
    parser.add_argument("--suite", choices=tuple(SUITES), required=True, help=told)
    # argparse wants each flag once, though several suites may have it.
    groups: dict[tuple[str, ...], Any] = {}
    for flag, (field, owners) in _flags().items():
        if owners not in groups:
            every = len(owners) == len(SUITES)
            groups[owners] = parser.add_argument_group("all suites" if every else ", ".join(owners))
        groups[owners].add_argument(flag, dest=_PREFIX + field.name, **_arguments(field))


def suite_asked(options: argparse.Namespace) -> Suite:
    """Returns the suite with the options of a command line; UserError for one that it does not have."""
    said = {name.removeprefix(_PREFIX): v for name, v in vars(options).items() if name.startswith(_PREFIX)}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in said.items() if v is not None}
    suite = _suite(options.suite, values)
    fields = {field.name: field for field in options_of(suite) if field.flag}
    for flag, (field, owners) in _flags().items():
        if field.name in values and field.name not in fields:
            check_owner(suite, flag, owners)
    for field in fields.values():
        if field.needed and field.name not in values:
            raise UserError(f"{suite.name} needs {field.flag}: {field.help}")
    kind: Any = suite
    found: Suite = kind(**values)
    return found


def check_owner(suite: type[Suite], flag: str, owners: Iterable[str]) -> None:
    """Raises UserError if a suite is not among those that have a flag."""
    if suite.name not in (known := tuple(owners)):
        have = "has it" if len(known) == 1 else "have it"
        names = " and ".join(filter(None, (", ".join(known[:-1]), known[-1])))
        raise UserError(f"the suite {suite.name} has no {flag}; {names} {have}")


def _suite(name: str, values: Mapping[str, Any]) -> type[Suite]:
    # Before multiple choice was a suite, its protocols were asked for as protocols of retrieval.
    if name == Retrieval.name and is_choice(values.get("protocol", "")):
        return MultipleChoice
    return SUITES[name]


def _flags() -> dict[str, tuple[OptionField, tuple[str, ...]]]:
    """Each flag once: the first field that declares it, and the suites that have it."""
    fields: dict[str, OptionField] = {}
    owners: dict[str, list[str]] = {}
    for suite in SUITES.values():
        for field in options_of(suite):
            if field.flag is not None:
                fields.setdefault(field.flag, field)
                owners.setdefault(field.flag, []).append(suite.name)
    return {flag: (field, tuple(owners[flag])) for flag, field in fields.items()}


def _arguments(field: OptionField) -> dict[str, Any]:
    """What argparse is told; a flag that was not given is None, so that it can be told from its default."""
    shown = "" if field.default in (None, ()) or field.needed else f" (default {field.default})"
    common = {"default": None, "help": field.help + shown}
    if field.kind is bool:
        return common | {"action": "store_true", "help": field.help}
    if field.choices:
        return common | {"choices": field.choices}
    if field.repeated:
        return common | {"action": "append", "metavar": field.metavar}
    return common | {"type": field.kind, "metavar": field.metavar}
