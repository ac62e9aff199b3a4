"""Times as annotation files write them."""

import re

_CLOCK = re.compile(r"(?:(\d+):)?(?:(\d+):)?(\d+(?:[.,]\d+)?)")


def parse_time(value: object) -> float:
    """Seconds of 75.5, "75.5", "01:15.500" or "00:01:15.500"; ValueError for anything else."""
    if isinstance(value, bool) or value is None:
        raise ValueError(f"{value!r} is not a time")
    if isinstance(value, int | float):
        if value != value or value < 0:
            raise ValueError(f"{value!r} is not a time")
        return float(value)
    match = _CLOCK.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is not a time")
    first, second, seconds = match.groups()
    hours, minutes = (first, second) if second is not None else ("0", first or "0")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds.replace(",", "."))


def clip_id(video: str, start: float | None, end: float | None) -> str:
    """The name of a clip as InternVid's files have it: <video>_<start>_<end>, seconds to the millisecond."""
    if start is None and end is None:
        return video
    return f"{video}_{start or 0.0:.3f}_{'end' if end is None else f'{end:.3f}'}"
