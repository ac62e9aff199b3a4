"""The parameters that each layer of a video tower reads: what a step costs where some of them are frozen."""

from collections.abc import Iterable

from ivjax.models.sizes import VideoTowerSize
from ivjax.stages.objective import ParameterGroup

_TOWER = "vision"


def unpooled(size: VideoTowerSize) -> ParameterGroup:
    """Returns the parameters of the tower but for its pooling's."""
    return ParameterGroup((_TOWER,), without=_pooling(size))


def tower_modules(size: VideoTowerSize, layers: Iterable[str]) -> dict[str, tuple[ParameterGroup, ...]]:
    """Returns `Medium.modules` of the layers of a stage's tower: the pooling reads all others."""
    rest = unpooled(size)
    return {layer: (ParameterGroup(_pooling(size)), rest) if layer == "pool" else (rest,) for layer in layers}


def _pooling(size: VideoTowerSize) -> tuple[str, ...]:
    return tuple(f"{_TOWER}/{branch}" for branch in size.pool_branches)
