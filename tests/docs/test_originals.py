"""The page of differences from the originals: each switch exists, and changes what it says."""

import dataclasses
import re
import shlex

import pytest

from ivjax.data_pipelines import data_options as dp
from ivjax.experiment import diff, leaves, load_experiment, parse_name, shipped_configs
from tests.commands import check_command
from tests.docs.pages import text_of

ROWS = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", text_of("docs/originals.md"), re.M)
SWITCHES = [switch for _, _, switch in ROWS if switch != "switch"]
CODE = re.compile(r"`([^`]+)`(, the recipe has it)?")


def changes(name: str) -> list[str]:
    """What a config with overrides changes of its file."""
    config, *overrides = shlex.split(name)
    changed = leaves(load_experiment(config, overrides))
    return diff(leaves(load_experiment(parse_name(config).file)), changed)


def is_switch(text: str) -> bool:
    """Whether code in the column is a switch: a command, a class or a config."""
    first = text.split()[0]
    return first == "ivjax" or first.startswith("dp.") or first.split(":")[0] in shipped_configs()


def check(text: str, in_recipe: bool) -> None:
    """Fails if a switch does not exist, or changes nothing."""
    words = shlex.split(text)
    if words[0] == "ivjax":
        check_command(words[1:])
    elif found := re.fullmatch(r"dp\.(\w+)\((\w+)=True\)", text):
        fields = {field.name: field for field in dataclasses.fields(getattr(dp, found[1]))}
        assert fields[found[2]].default is False
    else:
        config, *overrides = words
        base = leaves(load_experiment(config))
        changed = diff(base, leaves(load_experiment(config, overrides)))
        assert (changed == []) == in_recipe if overrides else changes(text), text


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_difference_has_a_switch_that_works_or_says_why_not(switch):
    switches = [(text, bool(recipe)) for text, recipe in CODE.findall(switch) if is_switch(text)]
    if switch.startswith("no: "):
        assert len(switch) > len("no: it")
        return
    assert switches, f"neither a switch nor `no: why`: {switch}"
    for text, in_recipe in switches:
        check(text, in_recipe)


def test_every_table_row_is_read_and_there_are_many():
    rows = [line for line in text_of("docs/originals.md").splitlines() if line.startswith("| ")]
    assert len(rows) == len(ROWS) > 50
