"""Every parameter of the shipped configs keeps its place on the mesh, its decay, its layer and its bounds.

`python -m tests.records` writes the recorded tables.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ivjax.convert.starting import shapes_of
from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment, shipped_configs
from ivjax.experiment.rules import Rule, Rules, prefixed, rule_of, stated_in
from ivjax.ops.cut import joined
from ivjax.ops.trees import paths_of
from ivjax.train.optimizer import layer_scales

# The table of each config, in the file of the first config that has it: most share theirs with others.
RECORDED = Path(__file__).with_name("parameter_rules")


def write_tables(names: Sequence[str] = ()) -> None:
    """Writes the tables of the configs of these names that no other config has; without names, of all."""
    for pattern in [f"{name}.txt" for name in names] or ["*.txt"]:
        for old in RECORDED.glob(pattern):
            old.unlink()
    known = recorded_tables()
    for name in names or sorted(shipped_configs()):
        table = table_of(*rules_and_shapes(name))
        if table not in known:
            known.append(table)
            (RECORDED / f"{name}.txt").write_text(table)


def recorded_tables() -> list[str]:
    return [file.read_text() for file in sorted(RECORDED.glob("*.txt"))]


def rules_and_shapes(name: str) -> tuple[Rules, dict]:
    """The rules of a config, and the shapes of all its parameters."""
    experiment = load_experiment(name)
    objective = experiment.stage.build(experiment.compute)
    return objective.rules, joined(*shapes_of(objective, "bfloat16"))


def table_of(rules: Rules, tree: dict) -> str:
    """A line for each parameter: path, mesh axes, decay, depth and bounds."""
    lines = []
    for path, _ in paths_of(tree):
        rule = rule_of(rules, path)
        axes = ",".join(axis or "-" for axis in rule.axes) or "whole"
        bounds = "-" if rule.bounds is None else "{}..{}".format(*rule.bounds)
        lines.append(f"{path} {axes} {'decays' if rule.decays else '-'} {rule.depth} {bounds}\n")
    return "".join(lines)


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_rules_of_a_shipped_config_are_as_recorded(name):
    rules, tree = rules_and_shapes(name)
    file = RECORDED / f"{name}.txt"
    if file.is_file():
        assert table_of(rules, tree) == file.read_text()
    else:
        assert table_of(rules, tree) in recorded_tables()
    scales = layer_scales(tree, 0.5, rules)
    for path, leaf in paths_of(tree):
        rule = rule_of(rules, path)
        assert len(rule.axes) <= len(leaf.shape)
        if rule.depth == "last":
            assert scales[path] == 1.0
        elif rule.depth == "stacked":
            assert scales[path].shape == (leaf.shape[0], *[1] * (len(leaf.shape) - 1))
            assert float(scales[path].reshape(-1)[-1]) == 0.5


def test_the_first_layer_counts_the_blocks_of_its_own_model():
    one = (Rule("blocks", depth="stacked"), Rule("cls_token", depth="first"))
    rules = (*prefixed("a", one), *prefixed("b", one))
    params = {"a": {"blocks": Leaf(3), "cls_token": Leaf(1)}, "b": {"blocks": Leaf(5), "cls_token": Leaf(1)}}
    scales = layer_scales(params, 0.5, rules)
    assert scales["a/cls_token"] == 0.5**4 and scales["b/cls_token"] == 0.5**6


def test_frozen_blocks_still_count_for_the_layers_below_them():
    one = (Rule("blocks", depth="stacked"), Rule("cls_token", depth="first"))
    rules = (*prefixed("text", one), *prefixed("vision", one))
    token = {"vision": {"cls_token": Leaf(1)}}
    frozen = {"vision": {"blocks": Leaf(12)}}
    beside = token | {"text": {"blocks": Leaf(4)}}
    assert layer_scales(token, 0.5, rules, frozen) == {"vision/cls_token": 1 / 8192}
    assert layer_scales(beside, 0.5, rules, frozen)["vision/cls_token"] == 1 / 8192
    both = {**frozen, "text": {"blocks": Leaf(4)}}
    assert layer_scales(token, 0.5, rules, both) == {"vision/cls_token": 1 / 8192}


def test_a_path_without_a_rule_names_the_modules_that_have_its_branch():
    rules = (*prefixed("vision", stated_in("a.vision", [Rule("x")])), *stated_in("a.text", [Rule("text/y")]))
    with pytest.raises(UserError, match="vision/new; add one to a/vision.py$"):
        rule_of(rules, "vision/new")
    with pytest.raises(UserError, match="audio/new; add one to a/text.py or a/vision.py$"):
        rule_of(rules, "audio/new")


class Leaf:
    """Stands for an array of `layers` entries."""

    def __init__(self, layers):
        self.shape, self.ndim = (layers,), 1
