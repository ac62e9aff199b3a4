"""Styles with `<|im_start|>` and `<|im_end|>`: InternVL's for InternVideo2.5, LLaVA's for Qwen; and none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ivjax.data_pipelines.dialogue.items import Opening, Slots, SpecialToken, StyleItem, Words
from ivjax.data_pipelines.dialogue.style import Content, SeenMedia, Style, contents, instruction_of, spoken
from ivjax.data_pipelines.store.records import Turn

_START, _END = "<|im_start|>", "<|im_end|>"
# What the released models were told in all of their training.
_SYSTEMS = {
    "internvl2_5": "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的"
    "多模态大语言模型。",
    "internlm2-chat": "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
    "是一个有用无害的人工智能助手。",
}


@dataclass(frozen=True)
class InternVl(Style):
    """InternVL's conversations, in which each frame has a line of its own.

    Attributes:
        template: `internvl2_5` learns a new line after each answer, `internlm2-chat` has none.
        frames: `training` tells the length of the video before its frames, and has no new line after the
            last one; `chat` is that of the model card: a new line after each frame and nothing else.
        slow: tokenises each answer together with its header, as the originals without fast tokenizers do.
    """

    template: Literal["internvl2_5", "internlm2-chat"] = "internvl2_5"
    frames: Literal["training", "chat"] = "training"
    slow: bool = False

    @property
    def writes_frames(self) -> bool:
        """See Style."""
        return True

    def items(self, turns: Sequence[Turn], media: Sequence[SeenMedia]) -> list[StyleItem]:
        """See Style."""
        system = instruction_of(turns) or _SYSTEMS[self.template]
        items = [Opening(), SpecialToken(_START), Words(f"system\n{system}"), *self._end(False)]
        for turn, found in contents(turns, media):
            items.append(SpecialToken(_START))
            if turn.role == "assistant":
                items += [Words("assistant\n"), Words(turn.text, True, self.slow), *self._end(True)]
            else:
                items += [Words("user\n"), *self._contents(found), *self._end(False)]
        if spoken(turns)[-1:] and spoken(turns)[-1].role == "user":
            items += [SpecialToken(_START), Words("assistant\n")]
        return items

    def _end(self, learned: bool) -> list[StyleItem]:
        line = [Words("\n", learned)] if self.template == "internvl2_5" else []
        return [SpecialToken(_END, learned), *line]

    def _contents(self, found: Sequence[Content]) -> Iterator[StyleItem]:
        for number, content in enumerate(found):
            if isinstance(content, str):
                yield Words(content, joined=True)
            elif content.kind == "video":
                yield from self._video(content)
            else:
                yield from _framed(Slots(content.places))
                # An image without a mark in the text has a line of its own before the question.
                if number + 1 < len(found) and _is_leading(found, number):
                    yield Words("\n", joined=True)

    def _video(self, video: SeenMedia) -> Iterator[StyleItem]:
        if self.frames == "training":
            yield Words(
                f"The video lasts for {video.seconds:.2f} seconds, and {video.frames} frames are uniformly "
                "sampled from it.\n",
                joined=True,
            )
        groups = video.groups()
        for number, places in enumerate(groups, 1):
            yield Words(f"Frame{number}: ", joined=True)
            yield from _framed(Slots(places))
            if self.frames == "chat" or number < len(groups):
                yield Words("\n")


def _framed(slots: Slots) -> list[StyleItem]:
    return [SpecialToken("<img>"), slots, SpecialToken("</img>")]


def _is_leading(found: Sequence[Content], number: int) -> bool:
    return not any(isinstance(content, str) for content in found[:number])


@dataclass(frozen=True)
class QwenChat(Style):
    """LLaVA's conversations for Qwen, as VideoChat-Flash has them.

    The tokens that open and end a turn, and all new lines, are learned everywhere, in questions too: a quirk
    of the originals. So is the header of an answer.

    Attributes:
        system: the text of the system's turn, for conversations that bring none.
        times: tells the length of a video and the number of its frames.
    """

    system: str = "You are a helpful assistant."
    times: bool = True

    @property
    def always(self) -> tuple[str, ...]:
        """See Style."""
        return ("\n",)

    def items(self, turns: Sequence[Turn], media: Sequence[SeenMedia]) -> list[StyleItem]:
        """See Style."""
        items = _turn([Words(f"system\n{instruction_of(turns) or self.system}")])
        for turn, found in contents(turns, media):
            if turn.role == "assistant":
                items += _turn([Words(f"assistant\n{turn.text}", learned=True)])
            else:
                items += _turn([Words("user\n"), *self._contents(found)])
        if spoken(turns)[-1:] and spoken(turns)[-1].role == "user":
            items += [SpecialToken(_START, True), Words("assistant\n")]
        return items

    def _contents(self, found: Sequence[Content]) -> Iterator[StyleItem]:
        for number, content in enumerate(found):
            if isinstance(content, str):
                yield Words(content, joined=True)
                continue
            yield Slots(content.places)
            if self.times and content.kind == "video":
                yield Words(
                    f"\nThe video lasts for {content.seconds:.2f} seconds, and {content.frames} frames are "
                    "uniformly sampled from it. ",
                    joined=True,
                )
            elif _is_leading(found, number):
                yield Words("\n", joined=True)


def _turn(items: Sequence[StyleItem]) -> list[StyleItem]:
    return [SpecialToken(_START, True), *items, SpecialToken(_END, True), Words("\n", True)]


@dataclass(frozen=True)
class Plain(Style):
    """No conversation: the media, then the answer and a new line, as connectors are first trained."""

    def items(self, turns: Sequence[Turn], media: Sequence[SeenMedia]) -> list[StyleItem]:
        """See Style. Only the first answer counts."""
        answer = next((turn.text for turn in turns if turn.role == "assistant"), None)
        slots: list[StyleItem] = [Slots(seen.places) for seen in media]
        return [Opening(), *slots, *([] if answer is None else [Words(f"{answer}\n", learned=True)])]
