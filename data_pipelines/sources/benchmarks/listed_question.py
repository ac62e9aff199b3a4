"""A question of a test set as its file has it, before its video is looked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KIND = "question"  # the attribute with the kind of a question
SEVERAL = "; "  # between the kinds of a question that has several


@dataclass(frozen=True)
class ListedQuestion:
    """A multiple-choice question about a video, or about images.

    Attributes:
        id: names it in its set.
        places: where its video may lie below the folder of videos, the likeliest place first.
        more: further images that the question is about, below the folder of videos.
        name: of the video without its ending, by which it is looked for elsewhere; "": it is not.
        text: the question.
        options: as the file has them.
        answer: the right one: its text, its letter or its number.
        times: start and end, as `columns.times_of` reads them.
        attributes: words by which results are grouped.
    """

    id: str
    places: tuple[str, ...]
    text: str
    options: Any
    answer: Any
    more: tuple[str, ...] = ()
    name: str = ""
    times: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
