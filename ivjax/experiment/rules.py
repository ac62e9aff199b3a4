"""Rules of parameters: stated by the family that has the parameter, found by its path."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ivjax.errors import UserError
from ivjax.experiment.patterns import covers

Axes = tuple[str | None, ...]  # the mesh axis that splits each dimension, from the first; None splits none


@dataclass(frozen=True)
class Rule:
    """A rule of the parameters that a pattern covers. The first rule that covers a path decides.

    Attributes:
        pattern: a pattern of parameter paths, as in ivjax/experiment/patterns.py.
        axes: the mesh axis that splits each dimension; dimensions beyond it stay whole.
        decays: whether weight decay applies.
        depth: where the parameter stands in layer-wise learning-rate decay: `first` below the first block,
            `stacked` with one layer per entry of the leading axis, `last` above all blocks, at the full rate.
        bounds: least and largest value, which every step is clipped to.
        module: the module that states the rule, for messages.
    """

    pattern: str
    axes: Axes = ()
    decays: bool = False
    depth: Literal["first", "stacked", "last"] = "last"
    bounds: tuple[Any, Any] | None = None
    module: str = ""


Rules = tuple[Rule, ...]  # of all parameters; the first that covers a path decides


def stated_in(module: str, rules: Iterable[Rule]) -> Rules:
    """Returns the rules with the module (`__name__`) that states them, unless they name one already."""
    return tuple(rule if rule.module else replace(rule, module=module) for rule in rules)


def prefixed(branch: str, rules: Iterable[Rule]) -> Rules:
    """Returns the rules of a model whose parameters lie below `branch`."""
    return tuple(replace(rule, pattern=f"{branch}/{rule.pattern}") for rule in rules)


def rule_of(rules: Sequence[Rule], path: str) -> Rule:
    """Returns the first rule that covers a parameter's path; without one, raises with the file to mend."""
    for rule in rules:
        if covers([rule.pattern], path):
            return rule
    top = path.split("/")[0]
    # Rules of the same branch first: their family is the one that lacks a rule.
    near = [rule for rule in rules if rule.pattern.split("/")[0] == top] or rules
    files = " or ".join(sorted({f"{rule.module.replace('.', '/')}.py" for rule in near if rule.module}))
    raise UserError(f"no rule covers parameter {path}; add one to {files or 'the rules of its stage'}")
