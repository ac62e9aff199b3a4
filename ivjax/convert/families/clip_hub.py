"""CLIP under the names of the transformers library, as files on the Hugging Face Hub have them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ivjax.convert.engine.family import BUFFERS, HubConfig
from ivjax.convert.engine.fits import first_rows, over_time, places
from ivjax.convert.engine.rows import TRANSPOSE, Row
from ivjax.convert.families.layers import IMAGE_PATCH, apart, linear, norm
from ivjax.convert.families.viclip import CLIP
from ivjax.errors import UserError
from ivjax.models.dual_size import DualSize
from ivjax.models.viclip.sizes import TextSize, VisionSize

# What the library takes where a config.json says nothing.
_VISION = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 32,
    "image_size": 224,
    "hidden_act": "quick_gelu",
}
_TEXT = {
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "hidden_act": "quick_gelu",
}


def _rows() -> list[Row]:
    """Rows of both towers."""
    seen, read = "vision_model.embeddings", "text_model.embeddings"
    return [
        Row(f"{seen}.class_embedding", "vision/cls_token"),
        Row(f"{seen}.position_embedding.weight", "vision/spatial_embed", fit=places(kept=1)),
        Row(f"{seen}.patch_embedding.weight", "vision/patch_embed/kernel", IMAGE_PATCH, fit=over_time),
        # The first of these names is misspelt in the library, and so in all files.
        *norm("vision_model.pre_layrnorm", "vision/norm_pre"),
        *norm("vision_model.post_layernorm", "vision/norm_post"),
        *_blocks("vision_model.encoder.layers.{i}", "vision/blocks"),
        Row("visual_projection.weight", "vision/proj/kernel", TRANSPOSE),
        Row(f"{read}.token_embedding.weight", "text/word_embed"),
        Row(f"{read}.position_embedding.weight", "text/place_embed", fit=first_rows),
        *norm("text_model.final_layer_norm", "text/norm"),
        *_blocks("text_model.encoder.layers.{i}", "text/blocks"),
        Row("text_projection.weight", "text/proj/kernel", TRANSPOSE),
    ]


def _blocks(source: str, target: str) -> list[Row]:
    rows = apart(f"{source}.self_attn.{{part}}_proj", f"{target}/attn/qkv", ("q", "k", "v"))
    rows += linear(f"{source}.self_attn.out_proj", f"{target}/attn/proj")
    for theirs, ours in (("mlp.fc1", "mlp/fc1"), ("mlp.fc2", "mlp/fc2")):
        rows += linear(f"{source}.{theirs}", f"{target}/{ours}")
    for number in (1, 2):
        rows += norm(f"{source}.layer_norm{number}", f"{target}/norm{number}")
    return rows


def _sizes(config: Mapping[str, Any]) -> DualSize:
    """Sizes of the model that a config.json describes."""
    vision, text = _branch(config, "vision", _VISION), _branch(config, "text", _TEXT)
    out, side = config.get("projection_dim", 512), vision["image_size"]
    return DualSize(
        VisionSize(
            width=vision["hidden_size"],
            depth=vision["num_hidden_layers"],
            heads=vision["num_attention_heads"],
            out=out,
            patch=vision["patch_size"],
            image=(side, side),
        ),
        TextSize(
            width=text["hidden_size"],
            depth=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            out=out,
            context=text["max_position_embeddings"],
            vocabulary=text["vocab_size"],
        ),
    )


def _branch(config: Mapping[str, Any], tower: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of one tower. Older files have them twice, and the second place counts."""
    found = dict(defaults)
    for place in (f"{tower}_config", f"{tower}_config_dict"):
        found |= config.get(place) or {}
    if found["hidden_act"] != "quick_gelu":
        # Such files have the same names and shapes, and their features would be wrong without any error.
        raise UserError(
            f"its config.json says hidden_act={found['hidden_act']} in {tower}_config, and ViCLIP has "
            "quick_gelu, as OpenAI's CLIP; take one of OpenAI's files"
        )
    return found


CLIP_HUB = replace(
    CLIP,
    name="clip_hub",
    rows=tuple(_rows()),
    ignored={**BUFFERS, "logit_scale": CLIP.ignored["logit_scale"]},
    about="CLIP from the Hugging Face Hub, under the names of transformers",
    hub=HubConfig(("clip",), _sizes),
)

FAMILIES = (CLIP_HUB,)
