"""Dialogue models as a whole: vision tower, bridge and language model under the names of each release."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ivjax.convert.engine.family import BUFFERS, Family, FixtureRun, HubConfig, InnerModel
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.dialogue.bridge_rows import projector_rows, qformer_rows, unpooled_rows
from ivjax.convert.families.dialogue.chat_configs import fixture_size, internvl_size
from ivjax.convert.families.dialogue.internvit import internvit_rows
from ivjax.convert.families.dialogue.language_configs import LANGUAGE_KINDS, decoder_size
from ivjax.convert.families.dialogue.language_models import (
    INTERNLM2,
    LLAMA,
    PHI3,
    internlm2_rows,
    llama_rows,
    lora_rows,
    words_in_file,
)
from ivjax.convert.families.dialogue.language_tokenizers import inner_tokenizer, internvl_tokenizer
from ivjax.convert.families.dialogue.lora import merging_lora
from ivjax.convert.families.dialogue.released_turns import flash_turns, internvl_turns, videochat2_turns
from ivjax.convert.families.encoders import videomae_rows
from ivjax.convert.families.layers import norm
from ivjax.convert.families.layerwise import dialogue_layers
from ivjax.convert.formats.tensors import Tensors
from ivjax.models.decoder.sizes import LORA_LAYERS
from ivjax.models.dialogue import DialogueSize
from ivjax.models.dialogue.presets import (
    FLASH_INTERNVIDEO2,
    FLASH_UMT,
    INTERNVIDEO2_5,
    INTERNVIDEO2_CHAT,
    INTERNVIDEO2_CHAT_INTERNLM2,
    VIDEOCHAT2_MISTRAL,
    VIDEOCHAT2_PHI3,
    VIDEOCHAT2_VICUNA,
    with_tiny,
)

_IGNORED = {**BUFFERS, "*rotary_emb*": "rotary frequencies are computed"}
# Task heads, which dialogue does not need.
_TASKS = (
    "action_embed*",
    "temporal_embed*",
    "track_embed*",
    "box_token*",
    "temporal_token*",
    "track_token*",
    "cg_criterion*",
    "cg_model*",
    "loc_encoder*",
    "loc_decoder*",
    "sam.*",
)


def _around(kind: Family, prefix: str) -> dict[str, Any]:
    """Options of a family whose models have, below a prefix, a language model of the family `kind`."""
    embedding = next(row.source for row in kind.rows if row.target == "word_embed")

    def measured(size: DialogueSize, tensors: Tensors) -> DialogueSize:
        language = words_in_file(size.language, tensors, f"{prefix}{embedding}")
        # Beside a language model in a file of its own, which alone says how its positions are scaled.
        if tensors.config.get("model_type") in LANGUAGE_KINDS:
            told = decoder_size(tensors.config)
            language = replace(language, rotary=told.rotary, window=told.window)
        return replace(size, language=language)

    packed = tuple(pack.below(prefix, lambda size: size.language) for pack in kind.packed)
    return {"language": InnerModel(kind, prefix), "packed": packed, "measured": measured}


def _with_base(rows: Sequence[Row], layers: Sequence[str]) -> list[Row]:
    """Rows of a language model in which peft has wrapped some layers, and of one in which it has not."""
    found = []
    for row in rows:
        *_, layer, kind = ("", *row.target.split("/"))
        if kind == "kernel" and layer in layers:
            name, _, part = row.source.partition(".weight")
            found.append(replace(row, source=f"{name}.base_layer.weight{part}"))
        found.append(row)
    return found


INTERNVIDEO2_5_CHAT = Family(
    name="internvideo2_5_chat",
    rows=(
        *internvit_rows("vision_model.", "vision/"),
        *norm("mlp1.0", "bridge/norm"),
        *projector_rows("mlp1.1", "mlp1.3", "bridge/"),
        *internlm2_rows("language_model.", "language/"),
    ),
    presets=with_tiny(INTERNVIDEO2_5),
    ignored=_IGNORED | dict.fromkeys(_TASKS, "only the task heads need it"),
    frames=(1,),
    about="InternVideo2.5-Chat and InternVL2.5 with HiCo: InternViT, merged tokens, InternLM2.5",
    hub=HubConfig(("internvl_chat",), internvl_size),
    parity=FixtureRun(fixture_size, dialogue_layers.run),
    merging=merging_lora("language/"),
    **_around(INTERNLM2, "language_model."),
    tokenizer=internvl_tokenizer,
    turns=internvl_turns(internvl_tokenizer),
)


def _flash_tokenizer(repository: str) -> Callable[[DialogueSize], Any]:
    return lambda size: inner_tokenizer(LLAMA.tokenizer(size.language), size, repository)


_TOWER = "model.vision_tower.vision_tower."
_FLASH = (
    *projector_rows("model.mm_projector.mlp.0", "model.mm_projector.mlp.2", "bridge/"),
    *llama_rows("", "language/"),
)

VIDEOCHAT_FLASH = Family(
    name="videochat_flash",
    rows=(
        *videomae_rows(f"{_TOWER}encoder.", "vision/"),
        *norm(f"{_TOWER}encoder.vision_layernorm", "bridge/input_norm"),
        *_FLASH,
    ),
    presets=with_tiny(FLASH_UMT),
    ignored=_IGNORED,
    frames=(4, 8),
    ties={"lm_head.weight": "model.embed_tokens.weight"},
    about="VideoChat-Flash with UMT-L: merged tokens, Qwen2",
    merging=merging_lora("language/"),
    **_around(LLAMA, ""),
    tokenizer=_flash_tokenizer("VideoChat-Flash-Qwen2-7B_res448"),
    turns=flash_turns(_flash_tokenizer("VideoChat-Flash-Qwen2-7B_res448")),
)

VIDEOCHAT_FLASH_INTERNVIDEO2 = replace(
    VIDEOCHAT_FLASH,
    name="videochat_flash_internvideo2",
    rows=(*unpooled_rows(_TOWER, "vision/"), *_FLASH),
    presets=with_tiny(FLASH_INTERNVIDEO2),
    about="VideoChat-Flash with InternVideo2-1B: merged tokens, Qwen2.5",
    tokenizer=_flash_tokenizer("VideoChat-Flash-Qwen2_5-7B_InternVideo2-1B"),
    turns=flash_turns(_flash_tokenizer("VideoChat-Flash-Qwen2_5-7B_InternVideo2-1B")),
)


# Released files of VideoChat2 hold what was trained; the language model is in a file of its own.
_ABOUT = "what VideoChat2 trains on {}: UMT-L, Q-Former, LoRA"


def _query_positions(size: Any) -> dict[str, np.ndarray]:
    """Returns the positions of the words that a Q-Former reads, which BERT stores."""
    return {"qformer.bert.embeddings.position_ids": np.arange(size.bridge.places, dtype=np.int64)[None]}


def _queried(
    name: str,
    language: str,
    proj: str,
    vision: Sequence[Row],
    presets: Mapping[str, DialogueSize],
    about: str,
    kind: Family,
    repository: str | None = None,
) -> Family:
    """A family with a Q-Former and, in peft's wrapper `language`, a language model of the family `kind`."""

    def tokenizer(size: DialogueSize) -> Any:
        return inner_tokenizer(kind.tokenizer(size.language), size, repository)

    inner = [
        replace(row, source=f"{language}{row.source}", target=f"language/{row.target}") for row in kind.rows
    ]
    return Family(
        name=name,
        rows=(
            *vision,
            *qformer_rows(proj, "bridge/"),
            *_with_base(inner, LORA_LAYERS),
            *lora_rows(language, "language/", kind, LORA_LAYERS),
        ),
        presets=with_tiny(presets),
        ignored=_IGNORED | {"project_down.*": "the model does not use it"},
        frames=(8, 4, 16),
        about=about,
        buffers=_query_positions,
        **_around(kind, language),
        tokenizer=tokenizer,
        turns=videochat2_turns("vicuna" if language.startswith("llama") else "mistral", tokenizer),
    )


_UMT = videomae_rows("vision_encoder.encoder.", "vision/")
_1B = unpooled_rows("vision_encoder.", "vision/")
_PEFT = "base_model.model."

VIDEOCHAT2_FAMILIES = tuple(
    replace(
        _queried(name, f"{language}_model.{_PEFT}", f"{proj}_proj", _UMT, presets, _ABOUT.format(told), kind),
        container="model",
    )
    for name, language, proj, presets, told, kind in (
        ("videochat2_mistral", "mistral", "mistral", VIDEOCHAT2_MISTRAL, "Mistral", LLAMA),
        ("videochat2_phi3", "phi3", "mistral", VIDEOCHAT2_PHI3, "Phi-3-mini", PHI3),
        ("videochat2_vicuna", "llama", "llama", VIDEOCHAT2_VICUNA, "Vicuna", LLAMA),
    )
)

INTERNVIDEO2_CHAT_FAMILIES = tuple(
    _queried(
        name, f"lm.{_PEFT}", "project_up", _1B, presets, f"InternVideo2-Chat with {told}", kind, repository
    )
    for name, presets, told, kind, repository in (
        ("internvideo2_chat", INTERNVIDEO2_CHAT, "Mistral", LLAMA, "InternVideo2-Chat-8B"),
        (
            "internvideo2_chat_internlm2",
            INTERNVIDEO2_CHAT_INTERNLM2,
            "InternLM2.5",
            INTERNLM2,
            "InternVideo2_Chat_8B_InternLM2_5",
        ),
    )
)

FAMILIES = (
    INTERNVIDEO2_5_CHAT,
    VIDEOCHAT_FLASH,
    VIDEOCHAT_FLASH_INTERNVIDEO2,
    *VIDEOCHAT2_FAMILIES,
    *INTERNVIDEO2_CHAT_FAMILIES,
)
