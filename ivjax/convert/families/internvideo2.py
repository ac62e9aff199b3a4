"""The InternVideo2 stage-1 checkpoints: pretrained and distilled students."""

from collections.abc import Mapping
from typing import Any

from ivjax.convert.engine.family import Family, FixtureRun
from ivjax.convert.engine.fits import over_time, places, times, times_and_places
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.layers import PATCH, QKV, linear, norm
from ivjax.convert.families.layerwise import internvideo2_layers
from ivjax.models.internvideo2.sizes import EncoderSize, FeatureHeads, Head, PooledHead, StudentSize


def position_table(source: str, target: str, cls: bool = True) -> list[Row]:
    """Rows of a joint or separable position table; `cls` says whether a joint one has a class-token row."""
    return [
        Row(source, f"{target}/table", fit=times_and_places(kept=int(cls))),
        Row(f"{source}_spatial", f"{target}/spatial", fit=places(kept=0)),
        Row(f"{source}_temporal", f"{target}/temporal", fit=times),
        Row(f"{source}_cls", f"{target}/cls"),
    ]


def trunk(prefix: str = "encoder/") -> list[Row]:
    """Rows of the encoder with its attention pooling."""
    block, to = "blocks.{i}", f"{prefix}blocks"
    pool, to_pool = "clip_projector", f"{prefix}clip_projector"
    cross = f"{pool}.cross_attn"
    rows = [
        Row("cls_token", f"{prefix}cls_token"),
        Row("patch_embed.proj.weight", f"{prefix}patch_embed/kernel", PATCH, fit=over_time),
        Row("patch_embed.proj.bias", f"{prefix}patch_embed/bias"),
        Row(f"{block}.attn.qkv.weight", f"{to}/attn/qkv/kernel", QKV),
        Row(f"{block}.ls1.gamma", f"{to}/ls1/gamma"),
        Row(f"{block}.ls2.gamma", f"{to}/ls2/gamma"),
    ]
    rows += position_table("pos_embed", f"{prefix}pos_embed")
    for name in ("norm1", "norm2", "attn.q_norm", "attn.k_norm"):
        rows += norm(f"{block}.{name}", f"{to}/{name.replace('.', '/')}", bias=False)
    for name in ("attn.proj", "mlp.fc1", "mlp.fc2"):
        rows += linear(f"{block}.{name}", f"{to}/{name.replace('.', '/')}")
    for name in ("q", "k", "v"):
        rows += norm(f"{pool}.norm1_{name}", f"{to_pool}/norm_{name}")
        # The originals keep these biases as parameters beside Linear layers that have none.
        rows += linear(f"{cross}.{name}", f"{to_pool}/{name}", bias=False)
        rows += [Row(f"{cross}.{name}_bias", f"{to_pool}/{name}/bias")]
    return rows + linear(f"{cross}.proj", f"{to_pool}/proj")


def decoder(source: str, target: str) -> list[Row]:
    """Rows of a Linear_Decoder (`head`) or an MLP_Decoder (`head.0`, `head.2`)."""
    linear_head = linear(f"{source}.head", f"{target}/head")
    mlp_head = linear(f"{source}.head.0", f"{target}/fc1") + linear(f"{source}.head.2", f"{target}/fc2")
    return linear_head + mlp_head + norm(f"{source}.norm", f"{target}/norm")


def pretrain_rows() -> list[Row]:
    """Rows of the stage-1 student. Kinds of head and table that a file lacks match nothing."""
    return [
        *trunk(),
        *position_table("clip_pos_embed", "clip_pos_embed"),
        *position_table("mae_pos_embed", "mae_pos_embed", cls=False),
        *decoder("clip_decoder.{i}", "clip_decoder"),
        *decoder("mae_decoder.{i}", "mae_decoder"),
        *decoder("final_clip_decoder", "final_clip_decoder"),
    ]


def _size_of(config: Mapping[str, Any]) -> StudentSize:
    """Sizes of a fixture of a student."""
    encoder = encoder_size({"num_frames": 8} | dict(config))
    final, head = config["clip_teacher_final_dim"], _KINDS[config.get("clip_student_decoder")]
    pooled = PooledHead(final, head, config.get("clip_norm_type", "l2")) if final else None
    mae = _heads(config, "mae", "mlp") if "mae_teacher_embed_dim" in config else None
    return StudentSize(encoder, _heads(config, "clip", head), pooled, mae)


def image_size(config: Mapping[str, Any], key: str = "img_size") -> tuple[int, int]:
    """Height and width of a fixture's frames, which may say one side alone."""
    side = config[key]
    return tuple(side) if isinstance(side, list) else (side, side)


def encoder_size(config: Mapping[str, Any]) -> EncoderSize:
    """Size of a fixture's encoder, with the GELU of its `outputs`."""
    image = image_size(config)
    # The fused kernels of the originals take the tanh approximation.
    fused = config.get("fused_flags_for_outputs", {}).get("use_fused_mlp", False)
    return EncoderSize(
        width=config["embed_dim"],
        depth=config["depth"],
        heads=config["num_heads"],
        mlp_width=int(config["embed_dim"] * config["mlp_ratio"]),
        pool_heads=config["attn_pool_num_heads"],
        pool_width=config["clip_embed_dim"],
        image=image,
        patch=config["patch_size"],
        frames=config["num_frames"],
        tubelet=config.get("tubelet_size", 1),
        positions="separable" if config.get("sep_pos_embed") else "joint",
        layer_scale=config.get("init_values", 1e-5) or None,
        gelu="tanh" if fused else "erf",
    )


_KINDS: dict[str | None, Head] = {None: "linear", "Linear_Decoder": "linear", "MLP_Decoder": "mlp"}


def listed_layers(config: Mapping[str, Any], teacher: str) -> tuple[int, ...] | None:
    """Layers that a fixture lists one by one, ascending; None if it says how many, and at which interval.

    An original takes a list in place of number and interval. The fixtures call it as its constructor does.
    """
    names = (f"{teacher}_student_return_index", f"{teacher}_return_index", f"{teacher}_return_layer")
    listed = next((config[name] for name in names if isinstance(config.get(name), list)), None)
    return tuple(sorted(listed)) if listed else None


def _heads(config: Mapping[str, Any], teacher: str, head: Head) -> FeatureHeads:
    chosen = listed_layers(config, teacher)
    return FeatureHeads(
        width=config[f"{teacher}_teacher_embed_dim"],
        layers=len(chosen) if chosen else config.get(f"{teacher}_return_layer", 1),
        interval=config.get(f"{teacher}_student_return_interval", 1),
        head=head,
        norm=config.get(f"{teacher}_norm_type", "l2"),
        chosen=chosen,
    )


PRETRAIN = Family(
    name="internvideo2_pretrain",
    rows=tuple(pretrain_rows()),
    presets=StudentSize.PRESETS,
    container="module",
    # Stage 1 has 8 frames, stage 2 has 4, and some fine-tuned models have 16.
    frames=(8, 4, 16),
    parity=FixtureRun(_size_of, internvideo2_layers.run),
    about="stage 1's students: pretrained (1B, 6B) and distilled (S14, B14, L14)",
)

FAMILIES = (PRETRAIN,)
