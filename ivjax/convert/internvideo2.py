"""Rows of the InternVideo2 stage-1 checkpoints (joint and separable position tables alike)."""

from ivjax.convert.engine import TRANSPOSE, Row, Transform

QKV = Transform(
    lambda w: w.reshape(3, -1, w.shape[1]).transpose(0, 2, 1),  # (3C, C) -> (3, C, C)
    lambda k: k.transpose(0, 2, 1).reshape(-1, k.shape[1]),
)
PATCH = Transform(
    lambda w: w.transpose(2, 3, 4, 1, 0),  # (C, 3, t, p, p) -> (t, p, p, 3, C)
    lambda k: k.transpose(4, 3, 0, 1, 2),
)


def linear(source: str, target: str, bias: bool = True) -> list[Row]:
    """Rows of a torch Linear."""
    rows = [Row(f"{source}.weight", f"{target}/kernel", TRANSPOSE)]
    return rows + [Row(f"{source}.bias", f"{target}/bias")] if bias else rows


def norm(source: str, target: str, bias: bool = True) -> list[Row]:
    """Rows of a torch LayerNorm, or of an RMSNorm without bias."""
    rows = [Row(f"{source}.weight", f"{target}/scale")]
    return rows + [Row(f"{source}.bias", f"{target}/bias")] if bias else rows


def position_table(source: str, target: str) -> list[Row]:
    """Rows of a joint or separable position table."""
    parts = ("spatial", "temporal", "cls")
    return [Row(source, f"{target}/table")] + [Row(f"{source}_{p}", f"{target}/{p}") for p in parts]


def trunk(prefix: str = "encoder/") -> list[Row]:
    """Rows of the encoder with its attention pooling."""
    block, to = "blocks.{i}", f"{prefix}blocks"
    pool, to_pool = "clip_projector", f"{prefix}clip_projector"
    cross = f"{pool}.cross_attn"
    rows = [
        Row("cls_token", f"{prefix}cls_token"),
        Row("patch_embed.proj.weight", f"{prefix}patch_embed/kernel", PATCH),
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
        *position_table("mae_pos_embed", "mae_pos_embed"),
        *decoder("clip_decoder.{i}", "clip_decoder"),
        *decoder("mae_decoder.{i}", "mae_decoder"),
        *decoder("final_clip_decoder", "final_clip_decoder"),
    ]
