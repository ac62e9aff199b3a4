"""Every parameter of the shipped configs keeps its place on the mesh, its decay, its layer and its bounds."""

from pathlib import Path

import pytest

from ivjax.convert.starting import shapes_of
from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment, shipped_configs
from ivjax.experiment.rules import Rule, prefixed, rule_of, stated_in
from ivjax.ops.cut import joined
from ivjax.ops.trees import paths_of
from ivjax.train.optimizer import layer_scales

# Recorded before the rules moved from one table of the trainer to the families.
RECORDED = Path(__file__).with_name("parameter_rules.txt")


def recorded() -> dict[str, list[str]]:
    """Axes, decay, depth and bounds by path."""
    return {path: rest for path, *rest in map(str.split, RECORDED.read_text().splitlines())}


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_rules_of_a_shipped_config_are_as_recorded(name):
    experiment = load_experiment(name)
    objective, known = experiment.stage.build(experiment.compute), recorded()
    tree = joined(*shapes_of(objective, "bfloat16"))
    scales = layer_scales(tree, 0.5, objective.rules)
    for path, leaf in paths_of(tree):
        rule = rule_of(objective.rules, path)
        axes = ",".join(axis or "-" for axis in rule.axes) or "whole"
        bounds = "-" if rule.bounds is None else "{}..{}".format(*rule.bounds)
        assert [axes, "decays" if rule.decays else "-", rule.depth, bounds] == known[path], path
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
