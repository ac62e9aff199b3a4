"""Released dialogue models, and a tiny sibling of each: the same parts and options with few channels."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ivjax.models.decoder.sizes import LanguageSize, Lora
from ivjax.models.dialogue.projector_size import ProjectorSize
from ivjax.models.dialogue.sizes import DialogueSize
from ivjax.models.internvideo2 import UnpooledSize
from ivjax.models.internvit import InternVitSize
from ivjax.models.qformer import QFormerSize
from ivjax.models.umt import UmtSize

_LANGUAGE = LanguageSize.PRESETS
_LORA = Lora(dropout=0.1)
_TINY_LANGUAGE = replace(_LANGUAGE["tiny"], depth=2)


def _shuffled(frame_tokens: int) -> DialogueSize:
    """InternVL2.5 with HiCo: pixel shuffle, merging by the language model's heads, `mlp1`."""
    language = _LANGUAGE["internvl_internlm2_5_7b"]
    bridge = ProjectorSize(
        1024,
        language.width,
        frame_tokens,
        frame_tokens,
        heads=language.heads,
        shuffle=2,
        norm=True,
    )
    image_context = 92546  # the id of <IMG_CONTEXT>
    return DialogueSize(InternVitSize.PRESETS["300M"], bridge, language, visual_token=image_context)


def _flash(vision: UmtSize | UnpooledSize, language: str) -> DialogueSize:
    """VideoChat-Flash: merging by the tower's heads, and an MLP."""
    size = _LANGUAGE[language]
    # UMT has no norm of its own at its end; InternVideo2's tokens are merged as they are.
    bridge = ProjectorSize(
        vision.width, size.width, heads=vision.heads, input_norm=isinstance(vision, UmtSize)
    )
    return DialogueSize(vision, bridge, size)


def _queried(
    vision: UmtSize | UnpooledSize, language: LanguageSize, start_vector: int | None = None
) -> DialogueSize:
    """VideoChat2 and InternVideo2-Chat: 96 queries for each clip."""
    bridge = QFormerSize(vision.width, language.width, dropout=0.1, drop_path=0.2)
    return DialogueSize(vision, bridge, language, start_vector=start_vector)


def _with_lora(name: str) -> LanguageSize:
    return replace(_LANGUAGE[name], lora=_LORA)


_UMT, _UMT_8 = UmtSize.PRESETS["L16_chat"], replace(UmtSize.PRESETS["L16_chat"], frames=8)
_1B = UnpooledSize.PRESETS["1B_chat_f8"]
_1B_4 = UnpooledSize.PRESETS["1B_chat_f4"]

# By vision tower and language model, because each pair has a conversion table of its own.
INTERNVIDEO2_5 = {"internvideo2_5_chat_8b": _shuffled(16), "internvl2_5_hico_r64": _shuffled(64)}
FLASH_UMT = {
    "videochat_flash_qwen2_7b_224": _flash(_UMT, "qwen2_7b"),
    "videochat_flash_qwen2_7b_448": _flash(UmtSize.PRESETS["L16_chat_448"], "qwen2_7b"),
    "videochat_flash_qwen2_5_2b_448": _flash(UmtSize.PRESETS["L16_chat_448"], "qwen2_5_1_5b"),
}
FLASH_INTERNVIDEO2 = {"videochat_flash_qwen2_5_7b_internvideo2_1b": _flash(_1B_4, "qwen2_5_7b")}
# VideoChat2's code writes the id of <s>, 1, into the first slot as a number.
_VICUNA = replace(_LANGUAGE["vicuna_7b"], lora=replace(_LORA, layers=("q", "v")))
VIDEOCHAT2_VICUNA = {"videochat2_vicuna_7b": _queried(_UMT_8, _VICUNA, start_vector=1)}
VIDEOCHAT2_MISTRAL = {"videochat2_mistral_7b": _queried(_UMT_8, _with_lora("mistral_7b"), start_vector=1)}
VIDEOCHAT2_PHI3 = {"videochat2_phi3_mini": _queried(_UMT_8, _with_lora("phi3_mini_4k"), start_vector=1)}
INTERNVIDEO2_CHAT = {"internvideo2_chat_8b": _queried(_1B, _with_lora("mistral_7b_v03"))}
INTERNVIDEO2_CHAT_INTERNLM2 = {
    "internvideo2_chat_8b_internlm2_5": _queried(_1B, _with_lora("internlm2_5_7b"))
}


def tiny(size: DialogueSize) -> DialogueSize:
    """Returns the sibling of a released size that computes the same with few channels, on 4 x 4 patches."""
    language = replace(
        _TINY_LANGUAGE,
        kv_heads=_TINY_LANGUAGE.heads * size.language.kv_heads // size.language.heads or 1,
        qkv_bias=size.language.qkv_bias,
        tied=size.language.tied,
        rotary=replace(size.language.rotary, trained=4096),
        window=size.language.window,
        lora=size.language.lora and replace(size.language.lora, rank=4),
    )
    tower: Any = size.vision  # the protocol does not say that sizes are dataclasses
    image = (4 * tower.patch, 4 * tower.patch)
    vision, bridge = replace(tower, width=32, depth=2, heads=2, mlp_width=64, image=image), size.bridge
    if isinstance(bridge, ProjectorSize):
        heads = language.heads if bridge.shuffle > 1 else vision.heads
        bridge = replace(bridge, width=32, out=language.width, frame_tokens=2, image_tokens=2, heads=heads)
    else:
        bridge = QFormerSize(32, language.width, 32, 4, 2, 64, queries=2, extra_queries=4, vocabulary=64)
    return replace(
        size, vision=vision, bridge=bridge, language=language, visual_token=language.vocabulary - 1
    )


def with_tiny(sizes: Mapping[str, DialogueSize]) -> dict[str, DialogueSize]:
    """Returns sizes by name, each with its tiny sibling NAME_tiny."""
    return {**sizes, **{f"{name}_tiny": tiny(size) for name, size in sizes.items()}}


DIALOGUES = with_tiny(
    INTERNVIDEO2_5
    | FLASH_UMT
    | FLASH_INTERNVIDEO2
    | VIDEOCHAT2_VICUNA
    | VIDEOCHAT2_MISTRAL
    | VIDEOCHAT2_PHI3
    | INTERNVIDEO2_CHAT
    | INTERNVIDEO2_CHAT_INTERNLM2
)
