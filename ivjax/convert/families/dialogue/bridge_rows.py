"""Rows of bridges, under the names of the originals."""

from dataclasses import replace

from ivjax.convert.engine.fits import places, times_and_places
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.internvideo2 import trunk
from ivjax.convert.families.layers import apart, linear, norm


def projector_rows(first: str, second: str, target: str = "") -> list[Row]:
    """Rows of a projector's MLP, by the names of its two Linear layers."""
    return [*linear(first, f"{target}mlp/fc1"), *linear(second, f"{target}mlp/fc2")]


def qformer_rows(proj: str, target: str = "", cross_every: int = 2) -> list[Row]:
    """Rows of the Q-Former with the norm before it and `proj`, the linear layer behind it.

    The originals have cross-attention in every `cross_every` layers alone.
    """
    bert = "qformer.bert"
    layer, to = f"{bert}.encoder.layer.{{i}}", f"{target}blocks"
    crossed = f"{layer}.crossattention"
    parts = ("query", "key", "value")
    rows = [
        Row("query_tokens", f"{target}query_tokens"),
        Row("extra_query_tokens", f"{target}extra_query_tokens"),
        Row(f"{bert}.embeddings.word_embeddings.weight", f"{target}word_embed"),
        Row(f"{bert}.embeddings.position_embeddings.weight", f"{target}place_embed"),
        *norm(f"{bert}.embeddings.LayerNorm", f"{target}norm"),
        *norm("vision_layernorm", f"{target}input_norm"),
        *apart(f"{layer}.attention.self.{{part}}", f"{to}/attn/qkv", parts),
        *linear(f"{layer}.attention.output.dense", f"{to}/attn/proj"),
        *norm(f"{layer}.attention.output.LayerNorm", f"{to}/norm1"),
        *linear(proj, f"{target}proj"),
    ]
    for ours in ("", "_query"):
        rows += linear(f"{layer}.intermediate{ours}.dense", f"{to}/mlp{ours}/fc1")
        rows += linear(f"{layer}.output{ours}.dense", f"{to}/mlp{ours}/fc2")
        rows += norm(f"{layer}.output{ours}.LayerNorm", f"{to}/norm2{ours}")
    cross = [row for part in parts for row in linear(f"{crossed}.self.{part}", f"{target}cross/{part[0]}")]
    cross += linear(f"{crossed}.output.dense", f"{target}cross/proj")
    cross += norm(f"{crossed}.output.LayerNorm", f"{target}cross/norm")
    return rows + [replace(row, step=cross_every) for row in cross]


def unpooled_rows(source: str, target: str) -> list[Row]:
    """Rows of InternVideo2 as chat models have it: without pooling, with a table of images."""
    # Their code calls LayerScale `weight`.
    rows = [
        replace(row, source=row.source.replace(".gamma", ".weight"))
        for row in trunk("")
        if not row.target.startswith("clip_projector") and not row.target.startswith("pos_embed/")
    ]
    rows.append(Row("pos_embed", "pos_embed/table", fit=times_and_places(kept=1)))
    rows.append(Row("img_pos_embed", "img_pos_embed/table", fit=places(kept=1)))
    return [replace(row, source=f"{source}{row.source}", target=f"{target}{row.target}") for row in rows]
