"""InternVideo2-CLIP's files, whole or as they were released in part, and its text towers alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ivjax.convert.engine.family import BUFFERS, Family, FixtureRun, Merging
from ivjax.convert.engine.rows import Row, Transform
from ivjax.convert.families.dialogue.language_models import LLAMA, lora_rows
from ivjax.convert.families.dialogue.lora import LORA_PATHS
from ivjax.convert.families.layers import QKV, QKV_BIAS, linear, norm
from ivjax.convert.families.layerwise import iv2clip_layers
from ivjax.convert.families.stage2 import aligned_rows, aligned_size
from ivjax.data_pipelines.tokenizers.clip_bpe import ClipBpe
from ivjax.data_pipelines.tokenizers.spm import SentencePiece
from ivjax.models.decoder.sizes import LanguageSize, Lora, Rotary
from ivjax.models.dual_size import DualSize
from ivjax.models.iv2clip.sizes import LANGUAGE_PAIRS, MOBILE_PAIRS, LanguageTextSize, MobileTextSize

_PLACES = Transform(lambda t: t.reshape(t.shape[-2:]), lambda t: t[None, None])  # (1, 1, L, C) -> (L, C)
_LORA_LAYERS = ("q", "v")
_PEFT = {"q_proj": "q", "v_proj": "v", "k_proj": "k", "o_proj": "o"}


def language_rows(source: str, target: str) -> list[Row]:
    """Rows of the language model as a text tower, with what goes before the names and the paths.

    peft has called a layer that it wraps `q_proj` at first, and `q_proj.base_layer` since.
    """
    rows = []
    for row in LLAMA.rows:
        if row.target.startswith("head"):
            continue
        name = f"{source}transformer.{row.source.removeprefix('model.')}"
        path = f"{target}language/{row.target}"
        *_, layer, kind = ("", *row.target.split("/"))
        if kind == "kernel" and layer in _LORA_LAYERS:
            wrapped = name.replace("_proj.weight", "_proj.base_layer.weight")
            rows.append(replace(row, source=wrapped, target=path))
        rows.append(replace(row, source=name, target=path))
    for row in lora_rows("", "", LLAMA, _LORA_LAYERS):
        name = f"{source}transformer.{row.source.removeprefix('model.')}"
        rows.append(replace(row, source=name, target=f"{target}language/{row.target}"))
    return [*rows, Row(f"{source}text_projection", f"{target}proj/kernel")]


def mobile_rows(source: str, target: str) -> list[Row]:
    """Rows of MobileCLIP's text transformer, with what goes before the names and the paths."""
    block, to = f"{source}transformer.{{i}}", f"{target}blocks"
    attention, feed = f"{block}.pre_norm_mha", f"{block}.pre_norm_ffn"
    return [
        Row(f"{source}embedding_layer.weight", f"{target}word_embed"),
        Row(f"{source}positional_embedding.pos_embed.pos_embed", f"{target}place_embed", _PLACES),
        *norm(f"{attention}.0", f"{to}/norm1"),
        Row(f"{attention}.1.qkv_proj.weight", f"{to}/attn/qkv/kernel", QKV),
        Row(f"{attention}.1.qkv_proj.bias", f"{to}/attn/qkv/bias", QKV_BIAS),
        *linear(f"{attention}.1.out_proj", f"{to}/attn/proj"),
        *norm(f"{feed}.0", f"{to}/norm2"),
        *linear(f"{feed}.1", f"{to}/mlp/fc1"),
        *linear(f"{feed}.4", f"{to}/mlp/fc2"),
        *norm(f"{source}final_layer_norm", f"{target}norm"),
        Row(f"{source}projection_layer", f"{target}proj/kernel"),
    ]


def _vision(config: Mapping[str, Any], align: int | None) -> Any:
    return aligned_size(config, config["vision"], align)


def _language_size(config: Mapping[str, Any]) -> DualSize:
    """Sizes of a fixture with a language model."""
    llama, lora, vision = config["llama"], config["lora"], _vision(config, None)
    layers = tuple(_PEFT[name] for name in lora["targets"])
    language = LanguageSize(
        llama["hidden_size"],
        llama["num_hidden_layers"],
        llama["num_attention_heads"],
        llama["num_key_value_heads"],
        llama["intermediate_size"],
        llama["vocab_size"],
        Rotary(config["rope_theta"]),
        tied=True,
        epsilon=llama["rms_norm_eps"],
        lora=Lora(lora["r"], float(lora["alpha"]), layers),  # type: ignore[arg-type]
    )
    text = LanguageTextSize(language, out=vision.out, context=config["L"], pad=llama["pad_token_id"])
    return DualSize(vision, text)


def _mobile_size(config: Mapping[str, Any]) -> DualSize:
    """Sizes of a fixture with MobileCLIP's text transformer."""
    text, vision = config["text"], _vision(config, config["align_dim"])
    # Rounded up to a multiple of 16.
    hidden = -(-int(text["dim"] * text["ffn_multiplier_per_layer"]) // 16) * 16
    return DualSize(
        vision,
        MobileTextSize(
            width=text["dim"],
            depth=text["n_transformer_layers"],
            heads=text["n_heads_per_layer"],
            mlp_width=hidden,
            out=config["embed_dim"],
            context=text["context_length"],
            vocabulary=text["vocab_size"],
            causal=text["causal_masking"],
        ),
    )


def _reader(size: Any) -> SentencePiece:
    return SentencePiece(length=size.context, prefix="summarize:")


_VISION, _TEXT = "vision_encoder.", "text_encoder."
_IGNORED = {
    **BUFFERS,
    # Of stage 2's or a classifier's file, of which the vision tower is taken.
    f"{_VISION}*clip_decoder*": "only stage 2's own training needs it",
    f"{_VISION}*clip_pos_embed*": "only stage 2's own training needs it",
    f"{_VISION}*img_pos_embed*": "images stand at the mean over time",
}

CLIP_LANGUAGE = Family(
    name="internvideo2_clip",
    rows=(
        Row("temp", "temperature"),
        *(row for row in aligned_rows(_VISION, "vision/") if "img_pos_embed" not in row.target),
        *language_rows(_TEXT, "text/"),
    ),
    presets=LANGUAGE_PAIRS,
    tokenizer=lambda size: _reader(size.text),
    ignored=_IGNORED,
    frames=(8, 4, 16),
    merging=Merging(tuple(f"text/language/{path}" for path in LORA_PATHS), lambda leaves, sizes: leaves),
    # The bias of the sigmoid loss, with which nothing was released.
    added=("bias",),
    parity=FixtureRun(_language_size, iv2clip_layers.run_language),
    about="InternVideo2-CLIP 1B and 6B, with InternVL-C's language model as the text tower",
)

CLIP_MOBILE = Family(
    name="internvideo2_clip_small",
    rows=(
        Row("temp", "temperature"),
        *(row for row in aligned_rows(_VISION, "vision/") if "img_pos_embed" not in row.target),
        *norm("vision_align.0", "vision/align/norm"),
        *linear("vision_align.1", "vision/align/proj"),
        *mobile_rows(_TEXT, "text/"),
    ),
    presets=MOBILE_PAIRS,
    tokenizer=lambda size: ClipBpe(length=size.text.context),
    ignored=_IGNORED,
    frames=(8, 4, 16),
    added=("bias",),
    parity=FixtureRun(_mobile_size, iv2clip_layers.run_mobile),
    about="InternVideo2-CLIP S, B and L, with MobileCLIP's text tower",
)

INTERNVL_C_TEXT = Family(
    name="internvl_c_text",
    rows=tuple(language_rows("", "")),
    presets=LanguageTextSize.PRESETS,
    tokenizer=_reader,
    container="module",
    ignored={
        **BUFFERS,
        **dict.fromkeys(
            ("cls_token", "pos_embed", "patch_embed.*", "blocks.*", "clip_projector.*"),
            "it belongs to the image tower",
        ),
        "logit_scale": "InternVideo2-CLIP has a temperature of its own",
        **dict.fromkeys(
            ("target_pos_embed", "mask_token", "grad_norm_*", "norm3.*"), "only training used it"
        ),
    },
    merging=Merging(tuple(f"language/{path}" for path in LORA_PATHS), lambda leaves, sizes: leaves),
    about="the text tower in InternVL-C's file: a language model, read at the last word",
)

MOBILECLIP_TEXT = Family(
    name="mobileclip_text",
    rows=tuple(mobile_rows(_TEXT, "")),
    presets=MobileTextSize.PRESETS,
    tokenizer=lambda size: ClipBpe(length=size.context),
    ignored={
        **BUFFERS,
        "image_encoder.*": "it belongs to the image tower",
        "logit_scale": "InternVideo2-CLIP has a temperature of its own",
    },
    about="MobileCLIP's text tower",
)

FAMILIES = (CLIP_LANGUAGE, CLIP_MOBILE, INTERNVL_C_TEXT, MOBILECLIP_TEXT)
