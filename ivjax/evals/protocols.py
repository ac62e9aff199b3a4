"""How each public test set is scored by the originals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ivjax.errors import UserError, nearest


@dataclass(frozen=True)
class Protocol:
    """What a set asks for. `frames` and `text_length` are the originals', None where they do not say.

    paragraph: the sentences of a video are one text. trimmed: only the first 30 s. same_text: one text may
    have several right videos, those of all rows that say the same; otherwise every row is a text of its
    own. task: `choice` picks one of each video's own options.
    """

    about: str
    frames: int | None = None
    text_length: int | None = 32
    paragraph: bool = False
    trimmed: bool = False
    same_text: bool = False
    task: Literal["retrieval", "choice"] = "retrieval"

    def source_options(self, kind: str) -> dict[str, Any]:
        """What the reader of the annotation file has to be told."""
        wanted = {"paragraph": self.paragraph and kind != "paragraphs", "trimmed": self.trimmed}
        return {name: True for name, value in wanted.items() if value}


PROTOCOLS: Mapping[str, Protocol] = {
    "msrvtt": Protocol("MSR-VTT, the 1k test: one caption a video", frames=4),
    "msvd": Protocol("MSVD: many captions a video", frames=4, text_length=64),
    "vatex": Protocol("VATEX: many captions a video", frames=4),
    "didemo": Protocol(
        "DiDeMo: paragraphs, the first 30 s", frames=8, text_length=64, paragraph=True, trimmed=True
    ),
    "activitynet": Protocol("ActivityNet captions: paragraphs", frames=8, text_length=150, paragraph=True),
    "lsmdc": Protocol("LSMDC, the 1000 of the test: one caption a clip", frames=8),
    "ssv2": Protocol("Something-Something v2: several videos a caption", same_text=True),
    "msrvtt_mc": Protocol("MSR-VTT multiple choice: 5 captions a video", task="choice"),
    "ssv2_mc": Protocol("Something-Something v2 multiple choice: 174 options", task="choice"),
    "charades_mc": Protocol("Charades: 157 options, several right", task="choice"),
}
OWN = Protocol("no named set", text_length=None, same_text=True)
CHOICE = Protocol("no named set: multiple choice", text_length=None, task="choice")
_ALL = {"none": OWN, "choice": CHOICE, **PROTOCOLS}
NAMES = tuple(_ALL)


def protocol_named(name: str) -> Protocol:
    """By the name on the command line."""
    if name not in _ALL:
        hint = nearest(name, NAMES) or f"; choose one of {', '.join(NAMES)}"
        raise UserError(f"there is no protocol {name!r}{hint}")
    return _ALL[name]
