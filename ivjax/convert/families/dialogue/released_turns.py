"""How conversations with released dialogue models are written, and what the models see of videos."""

from collections.abc import Callable
from typing import Any, Literal

from ivjax.data_pipelines.dialogue import InternVl, QwenChat, VideoChat2
from ivjax.data_pipelines.dialogue.seeing import Seeing
from ivjax.data_pipelines.dialogue.style import Style
from ivjax.data_pipelines.dialogue.tiling import Tiling
from ivjax.data_pipelines.fields.turns import Turns
from ivjax.data_pipelines.sampling import INTERNVIDEO25_TEST, VIDEOCHAT_FLASH, FrameRule, Intervals
from ivjax.data_pipelines.tokenizers.bert import BertWordPiece
from ivjax.models.dialogue import DialogueSize

_Tokenizer = Callable[[DialogueSize], Any]


def internvl_turns(tokenizer: _Tokenizer) -> Callable[[DialogueSize], Turns]:
    """Returns InternVideo2.5's conversations, as its model card has them."""
    return lambda size: _turns(InternVl(frames="chat"), tokenizer, size, INTERNVIDEO25_TEST)


def flash_turns(tokenizer: _Tokenizer) -> Callable[[DialogueSize], Turns]:
    """Returns VideoChat-Flash's conversations; large images are cut into tiles."""
    tiling = Tiling("any", tiles=6, videos=False)
    return lambda size: _turns(QwenChat(), tokenizer, size, VIDEOCHAT_FLASH, tiling)


def videochat2_turns(
    language: Literal["vicuna", "mistral"], tokenizer: _Tokenizer
) -> Callable[[DialogueSize], Turns]:
    """Returns VideoChat2's conversations, whose bridge reads the instruction."""

    def turns(size: DialogueSize) -> Turns:
        reads = getattr(size.bridge, "reads_text", False)
        question = BertWordPiece(length=512, vocabulary_size=30522) if reads else None
        # With Mistral the words stand at the end of their array.
        return _turns(
            VideoChat2(language),
            tokenizer,
            size,
            Intervals(size.vision.frames, "middle"),
            question=question,
            question_end=language == "mistral",
        )

    return turns


def _turns(
    style: Style,
    tokenizer: _Tokenizer,
    size: DialogueSize,
    rule: FrameRule,
    tiling: Tiling | None = None,
    **question: Any,
) -> Turns:
    images = size.visual_tokens(1) if size.vision.reads_images else 0
    seeing = Seeing(rule, size.visual_tokens(size.least_frames), images, tiling=tiling)
    return Turns(style, tokenizer(size), seeing, **question)
