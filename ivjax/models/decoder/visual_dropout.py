"""Options of visual dropout, the video level of HiCo."""

from dataclasses import dataclass
from typing import Literal, get_args

from ivjax.errors import UserError

DropKind = Literal[
    "uniform", "attention", "uniform0_attention", "uniform1_attention"
]  # how tokens are chosen


@dataclass(frozen=True)
class VisualDropout:
    """After which layers visual tokens are dropped, and how.

    Attributes:
        layers: how many layers have run before each drop, ascending.
        ratios: which share of all visual tokens is there before the first drop (1) and after each.
        kind: how tokens are chosen: `uniform`, evenly spaced; `attention`, by how much the tokens before an
            answer attend to them in the next layer; `uniform0_attention` and `uniform1_attention`, the first
            or the first two drops uniform and the others by attention.
    """

    layers: tuple[int, ...]
    ratios: tuple[float, ...]
    kind: DropKind = "attention"

    @property
    def uniform_drops(self) -> int:
        """How many of the first drops are uniform."""
        known = {
            "uniform": len(self.layers),
            "attention": 0,
            "uniform0_attention": 1,
            "uniform1_attention": 2,
        }
        return min(known[self.kind], len(self.layers))

    def counts(self, visual: int) -> tuple[int, ...]:
        """Returns how many of `visual` tokens are there before the first drop and after each."""
        # Each is a share of all tokens, rounded down as in the original.
        return tuple(int(visual * ratio) for ratio in self.ratios)

    def check(self, depth: int, name: str = "dropout") -> None:
        """Raises if a model of `depth` layers cannot drop tokens so; `name` is its path in messages."""
        layers, ratios = self.layers, self.ratios
        edges = (0, *layers, depth)
        if not all(first < last for first, last in zip(edges, edges[1:], strict=False)):
            raise UserError(f"{name}.layers={layers} must ascend and lie between the model's {depth} layers")
        if len(ratios) != len(layers) + 1:
            raise UserError(
                f"{name}.ratios={ratios} must be {len(layers) + 1} numbers: before the first of "
                f"{len(layers)} drops and after each"
            )
        if ratios[0] != 1 or not all(
            0 <= later <= ratio for ratio, later in zip(ratios, ratios[1:], strict=False)
        ):
            raise UserError(f"{name}.ratios={ratios} must begin with 1 and fall, none below 0")
        if self.kind not in get_args(DropKind):
            raise UserError(f"{name}.kind={self.kind} must be one of {', '.join(get_args(DropKind))}")
