"""InternViT, alone and as the vision tower of chat models."""

from collections.abc import Mapping
from typing import Any, Literal

from ivjax.convert.engine.family import Family, FixtureRun
from ivjax.convert.engine.fits import over_time, places
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.layers import IMAGE_PATCH, QKV, QKV_BIAS, linear, norm
from ivjax.convert.families.layerwise import internvit_layers
from ivjax.errors import UserError
from ivjax.models.internvit import InternVitSize

# What a config.json calls the norms and activations.
_NORMS: Mapping[str, Literal["layer", "rms"]] = {"layer_norm": "layer", "rms_norm": "rms"}
_GELUS: Mapping[str, Literal["erf", "tanh", "quick"]] = {
    "gelu": "erf",
    "gelu_pytorch_tanh": "tanh",
    "quick_gelu": "quick",
}


def internvit_rows(source: str = "", target: str = "") -> list[Row]:
    """Rows of InternViT, with what goes before the names and the paths."""
    block, to = f"{source}encoder.layers.{{i}}", f"{target}blocks"
    rows = [
        Row(f"{source}embeddings.class_embedding", f"{target}cls_token"),
        Row(f"{source}embeddings.position_embedding", f"{target}pos_embed", fit=places(kept=1)),
        Row(
            f"{source}embeddings.patch_embedding.weight",
            f"{target}patch_embed/kernel",
            IMAGE_PATCH,
            fit=over_time,
        ),
        Row(f"{source}embeddings.patch_embedding.bias", f"{target}patch_embed/bias"),
        Row(f"{block}.ls1", f"{to}/ls1/gamma"),
        Row(f"{block}.ls2", f"{to}/ls2/gamma"),
        Row(f"{block}.attn.qkv.weight", f"{to}/attn/qkv/kernel", QKV),
        Row(f"{block}.attn.qkv.bias", f"{to}/attn/qkv/bias", QKV_BIAS),
    ]
    for name in ("norm1", "norm2"):
        rows += norm(f"{block}.{name}", f"{to}/{name}")
    for name in ("attn.q_norm", "attn.k_norm"):
        rows += norm(f"{block}.{name}", f"{to}/{name.replace('.', '/')}", bias=False)
    for name in ("attn.proj", "mlp.fc1", "mlp.fc2"):
        rows += linear(f"{block}.{name}", f"{to}/{name.replace('.', '/')}")
    return rows


def internvit_size(config: Mapping[str, Any], image: tuple[int, int] | None = None) -> InternVitSize:
    """Size of the model that the original's configuration describes, for frames of height and width `image`
    (None: those that its position table is for)."""
    side, patch = config["image_size"], config["patch_size"]
    # The class of the originals has this activation where a config.json names none.
    config = {"hidden_act": "gelu", **config}
    for name, known in (("norm_type", _NORMS), ("hidden_act", _GELUS)):
        if (given := config[name]) not in known:
            raise UserError(
                f"its config.json says {name}={given} of the vision tower; here there are {', '.join(known)}"
            )
    table = (side // patch, side // patch)
    image = image or (side, side)
    return InternVitSize(
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        mlp_width=config["intermediate_size"],
        patch=patch,
        image=image,
        table=None if (image[0] // patch, image[1] // patch) == table else table,
        norm=_NORMS[config["norm_type"]],
        qkv_bias=config["qkv_bias"],
        qk_norm=config["qk_normalization"],
        gelu=_GELUS[config["hidden_act"]],
        epsilon=config.get("layer_norm_eps", 1e-6),
    )


def _fixture_size(config: Mapping[str, Any]) -> InternVitSize:
    return internvit_size(config["constructor"], (config["input_height"], config["input_width"]))


INTERNVIT = Family(
    name="internvit",
    rows=tuple(internvit_rows()),
    presets=InternVitSize.PRESETS,
    # Chat models name their tower so.
    prefixes=("vision_model.", "module.", "model."),
    frames=(1,),
    parity=FixtureRun(_fixture_size, internvit_layers.run),
    about="InternViT (300M, 6B), the image encoder of InternVL and of InternVideo2.5's chat models",
)

FAMILIES = (INTERNVIT,)
