"""The rules by which the originals score each public test set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ivjax.errors import UserError, nearest

Task = Literal["ranking", "choice"]  # what a test set asks of a model


@dataclass(frozen=True)
class ScoringProtocol:
    """The scoring rules of a public test set.

    Attributes:
        about: the set in a few words.
        frames: frames of a clip in the originals (None: they do not say).
        text_length: tokens of a caption in the originals (None: they do not say).
        paragraph: whether the sentences of a video are joined to one text.
        trimmed: whether only the first 30 s of a video count.
        same_text: whether the captions of several rows that read the same are one text with several right
            videos; otherwise the caption of every row is a text of its own.
        task: `choice` picks one of each video's own options, `ranking` ranks all candidates of the test.
    """

    about: str
    frames: int | None = None
    # 32 is what the originals take for a test set that does not say.
    text_length: int | None = 32
    paragraph: bool = False
    trimmed: bool = False
    same_text: bool = False
    task: Task = "ranking"

    def source_options(self, kind: str) -> dict[str, Any]:
        """Returns the options that the reader of an annotation file of a kind needs."""
        wanted = {"paragraph": self.paragraph and kind != "paragraphs", "trimmed": self.trimmed}
        return {name: True for name, value in wanted.items() if value}


# Frames and lengths of the released zero-shot evaluations: 4 frames, and 8 of the sets of longer videos.
PROTOCOLS: Mapping[str, ScoringProtocol] = {
    "msrvtt": ScoringProtocol("MSR-VTT, the 1k test: one caption a video", frames=4),
    "msvd": ScoringProtocol("MSVD: many captions a video", frames=4, text_length=64),
    "vatex": ScoringProtocol("VATEX: many captions a video", frames=4),
    "didemo": ScoringProtocol(
        "DiDeMo: paragraphs, the first 30 s", frames=8, text_length=64, paragraph=True, trimmed=True
    ),
    "activitynet": ScoringProtocol(
        "ActivityNet captions: paragraphs", frames=8, text_length=150, paragraph=True
    ),
    "lsmdc": ScoringProtocol("LSMDC, the 1000 of the test: one caption a clip", frames=8),
    # Its captions come from templates, so that many videos share one.
    "ssv2": ScoringProtocol("Something-Something v2: several videos a caption", same_text=True),
    "msrvtt_mc": ScoringProtocol("MSR-VTT multiple choice: 5 captions a video", task="choice"),
    "ssv2_mc": ScoringProtocol("Something-Something v2 multiple choice: 174 options", task="choice"),
    "charades_mc": ScoringProtocol("Charades: 157 options, several right", task="choice"),
}
_UNNAMED = {
    "none": ScoringProtocol("no named set", text_length=None, same_text=True),
    "choice": ScoringProtocol("no named set: multiple choice", text_length=None, task="choice"),
}
_ALL: Mapping[str, ScoringProtocol] = {**_UNNAMED, **PROTOCOLS}
RANKING_NAMES = tuple(name for name, protocol in _ALL.items() if protocol.task == "ranking")
CHOICE_NAMES = tuple(name for name, protocol in _ALL.items() if protocol.task == "choice")


def protocol_named(name: str, task: Task) -> ScoringProtocol:
    """Returns the protocol of a name on the command line, which must be one of the task."""
    names = CHOICE_NAMES if task == "choice" else RANKING_NAMES
    if name not in _ALL:
        hint = nearest(name, names) or f"; choose one of {', '.join(names)}"
        raise UserError(f"there is no protocol {name!r}{hint}")
    if name not in names:
        other = "retrieval" if task == "choice" else "choice"
        raise UserError(
            f"protocol {name!r} is not one of {task}; choose one of {', '.join(names)}, or the suite {other}"
        )
    return _ALL[name]
