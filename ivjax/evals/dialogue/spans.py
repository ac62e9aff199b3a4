"""Reads a span of seconds out of a reply, and compares it with the right one."""

import re
from typing import NamedTuple

_KEYWORDS = ("start", "end", "happen")  # the original lists longer forms too, which hold these
_EXAMPLE = "a specific example is : 20.8 - 30.0 seconds"
_PAIR = re.compile(r"(\d+\.*\d*)\s*-\s*(\d+\.*\d*)")
_NUMBER = re.compile(r"\b(\d+\.\d+\b|\b\d+)\b")
_CLOCK = re.compile(r"\b(\d{1,2}):(\d{2}):(\d{2})\b")
_TIME = r"(?:(\d+):)?(?:(\d+):)?(\d+(?:\.\d+)?)"
_STRICT = re.compile(rf"(?<![\d.:]){_TIME}\s*(?:s|seconds)?\s*(?:-|to|and)\s*{_TIME}(?![\d:])", re.IGNORECASE)


class TimeSpan(NamedTuple):
    """Seconds from `start` to `end`."""

    start: float
    end: float


def strict_span(reply: str) -> TimeSpan | None:
    """Returns the only span of a reply, such as `3.5 - 8 seconds` or `from 0:10 to 1:05`; None if unclear.

    A reply with two different spans, or with one that does not run forwards, names none.
    """
    found = {TimeSpan(_seconds(match[:3]), _seconds(match[3:])) for match in _STRICT.findall(reply)}
    span = found.pop() if len(found) == 1 else None
    return span if span is not None and span.start < span.end else None


def lenient_span(reply: str) -> TimeSpan | None:
    """Returns the span that the originals' script for Charades-STA reads; None if it reads none.

    Any `to` counts as a dash, inside words and times as well: 00:00:18 to 00:00:23 is 18 and 0.
    """
    said = reply.lower().replace(_EXAMPLE, "").replace("to", "-")
    pairs = [(_number(start), _number(end)) for start, end in _PAIR.findall(said)]
    if not pairs:
        told = [part for part in re.split(r"[!?\n]", said) if any(word in part for word in _KEYWORDS)]
        pairs = _paired([float(match[1]) for part in told if (match := _NUMBER.search(part))])
        pairs = pairs or _paired([_clock(match) for part in told if (match := _CLOCK.search(part))])
    return TimeSpan(*sorted(pairs[0])) if pairs else None


def overlap(one: TimeSpan, other: TimeSpan) -> float:
    """Returns the seconds in both spans over those from the first start to the last end.

    That is the intersection over union where they overlap, and 0 elsewhere.
    """
    shared = max(min(one.end, other.end) - max(one.start, other.start), 0.0)
    whole = max(one.end, other.end) - min(one.start, other.start)
    return shared / whole if whole > 0 else float(one == other)


def _paired(times: list[float]) -> list[tuple[float, float]]:
    return list(zip(times[::2], times[1::2], strict=False))


def _number(text: str) -> float:
    # The original's pattern takes any number of dots, of which its script can read one: `3..` is 3 here.
    whole, _, fraction = text.partition(".")
    return float(f"{whole}.{fraction.partition('.')[0]}")


def _clock(match: re.Match[str]) -> float:
    hours, minutes, seconds = (int(part) for part in match.groups())
    return float(3600 * hours + 60 * minutes + seconds)


def _seconds(parts: tuple[str, ...]) -> float:
    first, second, seconds = parts
    # With one colon there is no second group: 1:05 are minutes and seconds.
    hours, minutes = (first, second) if second else ("0", first)
    return 3600 * float(hours or 0) + 60 * float(minutes or 0) + float(seconds)
