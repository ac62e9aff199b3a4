"""SigLIP's image tower under the names of the transformers library."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.convert.engine.family import BUFFERS, Family, FixtureRun, HubConfig
from ivjax.convert.engine.fits import over_time, places
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.layers import IMAGE_PATCH, QKV, QKV_BIAS, apart, linear, norm
from ivjax.convert.families.layerwise.watch import watch
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.siglip import SiglipSize
from ivjax.models.sizes import tapped_layers
from ivjax.ops.losses import l2_normalise
from ivjax.ops.video import IMAGENET_MEAN, IMAGENET_STD


def _rows() -> list[Row]:
    seen, layer, head = "embeddings", "encoder.layers.{i}", "head"
    rows = [
        Row(f"{seen}.patch_embedding.weight", "patch_embed/kernel", IMAGE_PATCH, fit=over_time),
        Row(f"{seen}.patch_embedding.bias", "patch_embed/bias"),
        Row(f"{seen}.position_embedding.weight", "pos_embed", fit=places(kept=0)),
        *apart(f"{layer}.self_attn.{{part}}_proj", "blocks/attn/qkv", ("q", "k", "v")),
        *linear(f"{layer}.self_attn.out_proj", "blocks/attn/proj"),
        *norm("post_layernorm", "norm"),
        Row(f"{head}.probe", "head/probe"),
        Row(f"{head}.attention.in_proj_weight", "head/qkv/kernel", QKV),
        Row(f"{head}.attention.in_proj_bias", "head/qkv/bias", QKV_BIAS),
        *linear(f"{head}.attention.out_proj", "head/proj"),
        *norm(f"{head}.layernorm", "head/norm"),
    ]
    for number in (1, 2):
        rows += norm(f"{layer}.layer_norm{number}", f"blocks/norm{number}")
        rows += linear(f"{layer}.mlp.fc{number}", f"blocks/mlp/fc{number}")
        rows += linear(f"{head}.mlp.fc{number}", f"head/mlp/fc{number}")
    return rows


def _sizes(config: Mapping[str, Any]) -> SiglipSize:
    """Sizes of the model that a config.json describes, or a fixture."""
    vision = config.get("vision_config", config)
    gelu = vision.get("hidden_act", "gelu_pytorch_tanh")
    if gelu != "gelu_pytorch_tanh":
        raise UserError(f"its config.json says hidden_act={gelu}, and SigLIP has gelu_pytorch_tanh")
    side = vision.get("image_size", 256)
    return SiglipSize(
        width=vision.get("hidden_size", 768),
        depth=vision.get("num_hidden_layers", 12),
        heads=vision.get("num_attention_heads", 12),
        mlp_width=vision.get("intermediate_size", 3072),
        patch=vision.get("patch_size", 16),
        image=(side, side),
    )


def _run(size: SiglipSize, params: Any, inputs: Mapping[str, Any], dtype: Any) -> dict[str, jax.Array]:
    """Embeddings, last states, pooled features and the attention of the pooling, of single frames."""
    # Fixtures hold pixels with SigLIP's statistics; towers here read those of ImageNet.
    pixels = (inputs["pixel_values"].transpose(0, 2, 3, 1) / 2 + 0.5 - IMAGENET_MEAN) / IMAGENET_STD
    tower = size.build(Compute(dtype), tuple(range(size.depth)))
    encoded, layers = watch(lambda: tower.encode(params, jnp.asarray(pixels[:, None])))
    return {
        "embeddings": layers["patch_embed"][1] + jnp.asarray(params["pos_embed"], dtype),
        "last_hidden": encoded.taps[-1],
        "post_layernorm": encoded.tokens,
        "pooled": encoded.pooled,
        "final": l2_normalise(encoded.pooled),
        "attn": encoded.attention,
    }


def middle_layers(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The layers, ascending, whose inputs a fixture's teacher returns."""
    return tapped_layers(
        config["num_hidden_layers"], config["clip_return_layer"], config["clip_return_interval"]
    )


SIGLIP = Family(
    name="siglip_vision",
    rows=tuple(_rows()),
    presets=SiglipSize.PRESETS,
    prefix="vision_model.",
    ignored={
        **BUFFERS,
        "text_model.*": "it belongs to the text tower",
        **dict.fromkeys(("logit_scale", "logit_bias"), "only comparisons with captions need it"),
    },
    parity=FixtureRun(_sizes, _run),
    about="SigLIP's image tower, both versions, from the Hugging Face Hub: InternVideo-Next's teacher",
    hub=HubConfig(("siglip", "siglip_vision_model"), _sizes),
)

FAMILIES = (SIGLIP,)
