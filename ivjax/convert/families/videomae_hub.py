"""VideoMAE under the names of the transformers library: its encoder, pre-training model and classifiers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ivjax.convert.engine.family import BUFFERS, HubConfig
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.encoders import VIDEOMAE
from ivjax.convert.families.layers import PATCH, apart, linear, norm
from ivjax.convert.families.videomae_classifier import VIDEOMAE_CLASSIFIER, head_rows, without_norm
from ivjax.convert.families.videomae_pretrain import VIDEOMAE_PRETRAIN
from ivjax.errors import UserError
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.videomae import AutoencoderSize, DecoderSize, VideoMaeSize

# What the library takes where a config.json says nothing.
_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "patch_size": 16,
    "image_size": 224,
    "num_frames": 16,
    "tubelet_size": 2,
    "use_mean_pooling": True,
    "hidden_act": "gelu",
    "decoder_hidden_size": 384,
    "decoder_num_hidden_layers": 4,
    "decoder_num_attention_heads": 6,
    "decoder_intermediate_size": 1536,
}


def _encoder_rows(source: str, target: str) -> list[Row]:
    """Rows of the encoder. The position table is counted, not stored."""
    patch = f"{source}embeddings.patch_embeddings.projection"
    return [
        Row(f"{patch}.weight", f"{target}patch_embed/kernel", PATCH),
        Row(f"{patch}.bias", f"{target}patch_embed/bias"),
        *_blocks(f"{source}encoder.layer.{{i}}", f"{target}blocks"),
        *norm(f"{source}layernorm", f"{target}norm"),
    ]


def _blocks(source: str, target: str) -> list[Row]:
    attention, to = f"{source}.attention.attention", f"{target}/attn"
    return [
        *apart(f"{attention}.{{part}}", f"{to}/qkv", ("query", "key", "value"), bias=False),
        # As files have them, and as the library's newer models name them in memory.
        Row(f"{attention}.q_bias", f"{to}/q_bias"),
        Row(f"{attention}.v_bias", f"{to}/v_bias"),
        Row(f"{attention}.query.bias", f"{to}/q_bias"),
        Row(f"{attention}.value.bias", f"{to}/v_bias"),
        *linear(f"{source}.attention.output.dense", f"{to}/proj"),
        *linear(f"{source}.intermediate.dense", f"{target}/mlp/fc1"),
        *linear(f"{source}.output.dense", f"{target}/mlp/fc2"),
        *norm(f"{source}.layernorm_before", f"{target}/norm1"),
        *norm(f"{source}.layernorm_after", f"{target}/norm2"),
    ]


def _encoder_size(config: Mapping[str, Any]) -> VideoMaeSize:
    found = {**_DEFAULTS, **config}
    if found["hidden_act"] != "gelu":
        raise UserError(f"its config.json says hidden_act={found['hidden_act']}, and VideoMAE here has gelu")
    return VideoMaeSize(
        width=found["hidden_size"],
        depth=found["num_hidden_layers"],
        heads=found["num_attention_heads"],
        mlp_width=found["intermediate_size"],
        patch=found["patch_size"],
        image=(found["image_size"], found["image_size"]),
        frames=found["num_frames"],
        tubelet=found["tubelet_size"],
        final_norm=not found["use_mean_pooling"],
    )


def _pretrain_size(config: Mapping[str, Any]) -> AutoencoderSize:
    found = {**_DEFAULTS, **config}
    decoder = DecoderSize(
        width=found["decoder_hidden_size"],
        depth=found["decoder_num_hidden_layers"],
        heads=found["decoder_num_attention_heads"],
        mlp_width=found["decoder_intermediate_size"],
    )
    return AutoencoderSize(_encoder_size(config), decoder)


def _classifier_size(config: Mapping[str, Any]) -> ClassifierSize:
    encoder = _encoder_size(config)
    if encoder.final_norm:
        raise UserError(
            "its config.json says use_mean_pooling=false, and classifiers here read the mean of all tokens"
        )
    # The library writes no list of classes where there are two without names.
    return ClassifierSize(encoder, len(config.get("id2label") or (0, 1)))


_NOT_DECODED = "an encoder does not decode"

ENCODER_HUB = replace(
    VIDEOMAE,
    name="videomae_encoder_hub",
    rows=tuple(_encoder_rows("", "")),
    container="flat",
    prefix="videomae.",
    ignored={
        **BUFFERS,
        **dict.fromkeys(("decoder.*", "encoder_to_decoder.*", "mask_token"), _NOT_DECODED),
        **dict.fromkeys(("fc_norm.*", "classifier.*"), "an encoder does not classify"),
    },
    parity=None,
    about="a VideoMAE encoder from the Hugging Face Hub, under the names of transformers",
    stores_runs=False,
    hub=HubConfig(("videomae",), _encoder_size),
)

PRETRAIN_HUB = replace(
    VIDEOMAE_PRETRAIN,
    name="videomae_pretrain_hub",
    rows=(
        *_encoder_rows("videomae.", "encoder/"),
        *linear("encoder_to_decoder", "encoder_to_decoder", bias=False),
        Row("mask_token", "mask_token"),
        *_blocks("decoder.decoder_layers.{i}", "decoder/blocks"),
        *norm("decoder.norm", "decoder/norm"),
        *linear("decoder.head", "decoder/head"),
    ),
    container="flat",
    parity=None,
    about="VideoMAE's pre-training model from the Hugging Face Hub: encoder and decoder",
    stores_runs=False,
    hub=HubConfig(("videomae",), _pretrain_size),
)

CLASSIFIER_HUB = replace(
    VIDEOMAE_CLASSIFIER,
    name="videomae_classifier_hub",
    rows=(*without_norm(_encoder_rows("videomae.", "encoder/")), *head_rows("classifier")),
    container="flat",
    about="classifiers that were fine-tuned from VideoMAE, from the Hugging Face Hub",
    stores_runs=False,
    hub=HubConfig(("videomae",), _classifier_size),
)

FAMILIES = (ENCODER_HUB, PRETRAIN_HUB, CLASSIFIER_HUB)
