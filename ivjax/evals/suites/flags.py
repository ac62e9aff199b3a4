"""The suites' fields as flags of a command, and the suite that a command line asks for."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from ivjax.errors import UserError
from ivjax.evals.suites import SUITES, EvalSuite
from ivjax.evals.suites.fields import OptionField, options_of

_PREFIX = "suite_"  # of the flags' places in the namespace, so that they meet no flag of the command


def add_suite_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --suite and a flag for each option of each suite, in groups by the suites that have it."""
    told = "; ".join(f"{suite.name}: {suite.about}" for suite in SUITES.values())
    parser.add_argument("--suite", choices=tuple(SUITES), required=True, help=told)
    # argparse wants each flag once, though several suites may have it.
    groups: dict[tuple[str, ...], Any] = {}
    for flag, fields in _flags().items():
        if (owners := tuple(fields)) not in groups:
            every = len(owners) == len(SUITES)
            groups[owners] = parser.add_argument_group("all suites" if every else ", ".join(owners))
        first = next(iter(fields.values()))
        groups[owners].add_argument(flag, dest=_PREFIX + first.name, help=_help(fields), **_arguments(first))


def suite_asked(options: argparse.Namespace) -> EvalSuite:
    """Returns the suite with the options of a command line; UserError for one that it does not have."""
    said = {name.removeprefix(_PREFIX): v for name, v in vars(options).items() if name.startswith(_PREFIX)}
    # Tuples, because a suite is a frozen dataclass and must be hashable.
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in said.items() if v is not None}
    suite = SUITES[options.suite]
    for flag, fields in _flags().items():
        if next(iter(fields.values())).name in values:
            check_owner(suite, flag, fields)
        elif suite.name in fields and fields[suite.name].needed:
            raise UserError(f"{suite.name} needs {flag}: {fields[suite.name].help}")
    kind: Any = suite
    found: EvalSuite = kind(**values)
    return found


def check_owner(suite: type[EvalSuite], flag: str, owners: Iterable[str]) -> None:
    """Raises UserError if a suite is not among those that have a flag."""
    if suite.name not in (known := tuple(owners)):
        have = "has it" if len(known) == 1 else "have it"
        names = " and ".join(filter(None, (", ".join(known[:-1]), known[-1])))
        raise UserError(f"the suite {suite.name} has no {flag}; {names} {have}")


def _flags() -> dict[str, dict[str, OptionField]]:
    """The fields of each flag, by the suites that have it."""
    found: dict[str, dict[str, OptionField]] = {}
    for suite in SUITES.values():
        for field in options_of(suite):
            if field.flag is not None:
                found.setdefault(field.flag, {})[suite.name] = field
    return found


def _help(fields: Mapping[str, OptionField]) -> str:
    """Returns the meaning of a flag; where suites differ in it, that of each."""
    told = {name: _told(field) for name, field in fields.items()}
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return "; ".join(f"{name}: {text}" for name, text in told.items())


def _told(field: OptionField) -> str:
    plain = field.needed or field.kind is bool or field.default in (None, ())
    return field.help if plain else f"{field.help} (default {field.default})"


def _arguments(field: OptionField) -> dict[str, Any]:
    # A flag that was not given is None, so that it can be told from one with its default value.
    if field.kind is bool:
        return {"default": None, "action": "store_true"}
    if field.choices:
        return {"default": None, "choices": field.choices}
    if field.repeated:
        return {"default": None, "action": "append", "type": field.kind, "metavar": field.metavar}
    return {"default": None, "type": field.kind, "metavar": field.metavar}
