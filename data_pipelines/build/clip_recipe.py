"""Options of the steps that make clips of a row, and the results of the steps."""

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ivjax.data_pipelines.store.records import Clip
from ivjax.data_pipelines.video.encode import Encoding
from ivjax.data_pipelines.video.shots import ShotRule
from ivjax.errors import UserError

_SHORTEST = 0.001  # seconds; an endless number of windows would be no error
Captioner = Callable[[Clip], str | Sequence[str]]  # a user's function that writes the captions of a clip


@dataclass(frozen=True)
class WindowRule:
    """Options of cutting long rows into windows. A row that is no longer than a window stays whole.

    Attributes:
        seconds: length of a window.
        stride: seconds from the start of a window to that of the next; None: one begins where another ends.
        rest: what becomes of the end of a row that fills no window: `keep` it as a shorter clip, `drop` it,
            or `shift` the last window back until it ends with the row.
    """

    seconds: float = 10.0
    stride: float | None = None
    rest: Literal["keep", "drop", "shift"] = "keep"


@dataclass(frozen=True)
class ClipRecipe:
    """Options for cutting, filtering and encoding clips.

    Attributes:
        short_side: most pixels of the shorter side; smaller videos are not enlarged.
        fps: highest frame rate; slower videos keep theirs.
        encoding: options of x264.
        deinterlace: makes whole pictures of interlaced frames, which else are combed where something moves.
        audio: keeps the sound, in mono.
        audio_rate: samples of the sound per second.
        min_seconds: shorter clips are dropped.
        max_seconds: longer clips are dropped; None keeps all.
        still: clips whose luma changes less than this on average (of 255, in a quarter of a second) are
            dropped. 0 keeps all, 1 drops pictures with nothing but coding noise.
        shots: splits rows where the camera cuts; None does not.
        windows: cuts rows, or their shots, into windows; None does not.
        captioner: `module:function` that returns the captions of a finished clip.
    """

    short_side: int = 256
    fps: float = 30.0
    encoding: Encoding = Encoding()
    deinterlace: bool = True
    audio: bool = False
    audio_rate: int = 16_000
    min_seconds: float = 0.0
    max_seconds: float | None = None
    still: float = 0.0
    shots: ShotRule | None = None
    windows: WindowRule | None = None
    captioner: str | None = None

    @property
    def splits(self) -> bool:
        """Whether a row may become several clips."""
        return self.shots is not None or self.windows is not None


class Drop(NamedTuple):
    """A row or clip that was dropped: its id, its file and the cause."""

    id: str
    where: str
    cause: str
    detail: str


class Remark(NamedTuple):
    """A clip that is kept and is not quite what its row asks for: its id, its file and the cause."""

    id: str
    where: str
    cause: str
    detail: str


class Outcome(NamedTuple):
    """The result of one row: records of its clips, drops, and remarks."""

    records: tuple[bytes, ...] = ()
    drops: tuple[Drop, ...] = ()
    remarks: tuple[Remark, ...] = ()


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
    if recipe.windows is not None:
        _check_windows(recipe, recipe.windows)
    if recipe.captioner is not None:
        find_captioner(recipe.captioner)


def _check_windows(recipe: ClipRecipe, windows: WindowRule) -> None:
    for name in ("seconds", "stride"):
        value = getattr(windows, name)
        if value is not None and not _SHORTEST <= value < math.inf:
            raise UserError(f"windows.{name}={value} is not above 0; choose a length in seconds")
    if recipe.max_seconds is not None and recipe.max_seconds < windows.seconds:
        raise UserError(
            f"windows.seconds={windows.seconds} is above max_seconds={recipe.max_seconds}, so all windows "
            "would be dropped; make it no longer"
        )
    if windows.seconds < recipe.min_seconds:
        raise UserError(
            f"windows.seconds={windows.seconds} is below min_seconds={recipe.min_seconds}, so all windows "
            "would be dropped; make it no shorter"
        )


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
