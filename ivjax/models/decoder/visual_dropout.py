"""Options of visual dropout, the video level of HiCo."""

from dataclasses import dataclass
from typing import Literal

from ivjax.errors import UserError


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
    kind: Literal["uniform", "attention", "uniform0_attention", "uniform1_attention"] = "attention"

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
        return tuple(int(visual * ratio) for ratio in self.ratios)

    def check(self, name: str, depth: int) -> None:
        """Raises if a language model of `depth` layers cannot drop so; `name` is its path in messages."""
        inside = all(a < b for a, b in zip((0, *self.layers), (*self.layers, depth), strict=True))
        if not self.layers or not inside:
            raise UserError(
                f"{name}.layers={self.layers} must ascend and lie between 1 and {depth - 1}, below the "
                f"{depth} layers of the language model"
            )
        falling = all(1.0 >= a >= b > 0.0 for a, b in zip(self.ratios, self.ratios[1:], strict=False))
        if len(self.ratios) != len(self.layers) + 1 or self.ratios[0] != 1.0 or not falling:
            raise UserError(
                f"{name}.ratios={self.ratios} must be {len(self.layers) + 1} numbers that begin with 1 and "
                "never rise, all above 0"
            )
