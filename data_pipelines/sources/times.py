"""Times in the formats of annotation files."""

import math
import re

_LONGEST = 1e12  # seconds; larger whole numbers would overflow a float
_CLOCK = re.compile(r"(?:(\d+):)?(?:(\d+):)?(\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)", re.IGNORECASE)


def parse_time(value: object) -> float:
    """Returns the seconds of 75.5, "75.5", "01:15.500" or "00:01:15.500"; ValueError for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if value < _LONGEST else math.inf
    else:
        seconds = _clock(value)
    if not (0 <= seconds < math.inf):
        raise ValueError(f"{value!r} is not a time")
    return seconds


def _clock(value: object) -> float:
    match = None if value is None or isinstance(value, bool) else _CLOCK.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is not a time")
    first, second, seconds = match.groups()
    hours, minutes = (first, second) if second is not None else ("0", first or "0")
    return 3600 * float(hours) + 60 * float(minutes) + float(seconds.replace(",", "."))


def check_span(start: float | None, end: float | None) -> None:
    """Raises ValueError unless the end comes after the start; None is the start or the end of the file."""
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"it ends at {end:g} s, not after its start at {start or 0.0:g} s")


def clip_id(video: str, start: float | None, end: float | None) -> str:
    """Returns the name of a clip as InternVid has it: <video>_<start>_<end>, times in seconds."""
    if start is None and end is None:
        return video
    return f"{video}_{start or 0.0:.3f}_{'end' if end is None else f'{end:.3f}'}"
