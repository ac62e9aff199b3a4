"""VideoChat2's styles: `###Human:` for Vicuna, `[INST]` for Mistral and Phi-3."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ivjax.data_pipelines.dialogue.items import Ending, Opening, Slots, StyleItem, Words
from ivjax.data_pipelines.dialogue.style import SeenMedia, Style, instruction_of, spoken, words_of
from ivjax.data_pipelines.store.records import Turn


@dataclass(frozen=True)
class VideoChat2(Style):
    """VideoChat2's conversations: an instruction, the media, then questions and answers.

    Attributes:
        language: `vicuna`, or `mistral`, whose style Phi-3 has too.
        system: what stands before the instruction.
        times: tells how many frames there are and when.
        question_too: the bridge reads the first question after the instruction (None: with Vicuna, where
            there is an instruction, it does).
    """

    language: Literal["vicuna", "mistral"] = "mistral"
    system: str = ""
    times: bool = False
    question_too: bool | None = None

    @property
    def ends(self) -> tuple[str, ...]:
        """See Style."""
        return ("###",) if self.language == "vicuna" else ()

    @property
    def writes_times(self) -> bool:
        """See Style."""
        return self.times

    def items(self, turns: Sequence[Turn], media: Sequence[SeenMedia]) -> list[StyleItem]:
        """See Style. All media stand before the first question, each in a message of its own."""
        vicuna = self.language == "vicuna"
        instruction = instruction_of(turns)
        before = self.system + (f"{instruction} " if instruction else "")
        items: list[StyleItem] = [Opening()]
        for seen in media:
            name = "Video" if seen.kind == "video" else "Image"
            # One text up to the visual tokens, and another one behind them, as the originals tokenise.
            opening = "###Human:" if vicuna else "[INST]"
            items += [Words(f"{before}{opening} <{name}>", joined=True), Slots(seen.places)]
            closing = "" if vicuna else " [/INST]"
            items.append(Words(f"</{name}>{self._time_message(seen)}{closing}"))
            before = " "
        if not media and before:
            items.append(Words(before.rstrip()))
        talk = [(turn.role, words_of(turn)) for turn in spoken(turns)]
        return [*items, *(_vicuna(talk) if vicuna else _mistral(talk))]

    def question(self, turns: Sequence[Turn]) -> str:
        """See Style."""
        instruction = instruction_of(turns)
        too = self.question_too
        if too is None:
            too = self.language == "vicuna" and bool(instruction)
        first = next((words_of(turn) for turn in turns if turn.role == "user"), "")
        return f"{instruction} {first}".strip() if too else instruction

    def _time_message(self, seen: SeenMedia) -> str:
        if not self.times or seen.kind == "image":
            return ""
        times = ", ".join(str(round(time, 1)) for time in seen.times)
        return f" The video contains {seen.frames} frames sampled at {times} seconds."


_Talk = Sequence[tuple[str, str]]  # role and words of each turn


def _vicuna(talk: _Talk) -> Iterator[StyleItem]:
    """Yields the turns. What opens a user's turn is learned too: it ends the answer before."""
    role = ""
    for role, words in talk:
        if role == "assistant":
            yield Words(f" ###Assistant: {words}", learned=True, joined=True)
        elif words:
            yield Words(" ###Human:", learned=True, joined=True)
            yield Words(f" {words}", joined=True)
    if role == "assistant":
        yield Words(" ###", learned=True, joined=True)
    else:
        yield Words(" ###Assistant:", joined=True)


def _mistral(talk: _Talk) -> Iterator[StyleItem]:
    for role, words in talk:
        if role == "assistant":
            yield Words(f" {words} ", learned=True, joined=True)
            # Phi-3 has a token of its own for this, and another one that ends its texts.
            yield Ending("</s>", learned=True)
        elif words:
            yield Words(f" [INST] {words} [/INST]", joined=True)
