"""Options of the steps that make clips of a row, and the results of the steps."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ivjax.data_pipelines.store.records import Clip
from ivjax.data_pipelines.video.encode import Encoding
from ivjax.data_pipelines.video.shots import ShotRule
from ivjax.errors import UserError

Captioner = Callable[[Clip], str | Sequence[str]]  # a user's function that writes the captions of a clip


@dataclass(frozen=True)
class ClipRecipe:
    """Options for cutting, filtering and encoding clips.

    Attributes:
        short_side: most pixels of the shorter side; smaller videos are not enlarged.
        fps: highest frame rate; slower videos keep theirs.
        encoding: options of x264.
        audio: keeps the sound, in mono.
        audio_rate: samples of the sound per second.
        min_seconds: shorter clips are dropped.
        max_seconds: longer clips are dropped; None keeps all.
        still: clips whose luma changes less than this on average (of 255, in a quarter of a second) are
            dropped. 0 keeps all, 1 drops pictures with nothing but coding noise.
        shots: splits rows where the camera cuts; None does not.
        captioner: `module:function` that returns the captions of a finished clip.
    """

    short_side: int = 256
    fps: float = 30.0
    encoding: Encoding = Encoding()
    audio: bool = False
    audio_rate: int = 16_000
    min_seconds: float = 0.0
    max_seconds: float | None = None
    still: float = 0.0
    shots: ShotRule | None = None
    captioner: str | None = None


class Drop(NamedTuple):
    """A row or clip that was dropped: its id, its file and the cause."""

    id: str
    where: str
    cause: str
    detail: str


class Outcome(NamedTuple):
    """The result of one row: records of its clips, and drops."""

    records: tuple[bytes, ...] = ()
    drops: tuple[Drop, ...] = ()


def check_recipe(recipe: ClipRecipe) -> None:
    """Raises UserError for wrong options."""
    for name in ("short_side", "fps", "audio_rate"):
        if getattr(recipe, name) <= 0:
            raise UserError(f"{name}={getattr(recipe, name)} is not above 0; choose a positive number")
    if recipe.short_side % 2:
        raise UserError(f"short_side={recipe.short_side} is odd; H.264 wants an even number")
    if recipe.max_seconds is not None and recipe.max_seconds < recipe.min_seconds:
        raise UserError(
            f"max_seconds={recipe.max_seconds} is below min_seconds={recipe.min_seconds}; swap them"
        )
    if recipe.captioner is not None:
        find_captioner(recipe.captioner)


def find_captioner(name: str) -> Captioner:
    """Imports the callable of a `module:function`."""
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise UserError(f"captioner={name!r} is not module:function; write for example captions:describe")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"the captioner {name} is not there ({error}); mend its name or PYTHONPATH") from None
    if not callable(found):
        raise UserError(f"the captioner {name} is a {type(found).__name__}, not a function")
    return found
