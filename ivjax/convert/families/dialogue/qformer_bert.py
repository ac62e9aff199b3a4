"""BERT from the Hub as the start of a Q-Former: queries get a copy of its MLPs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ivjax.convert.engine.family import Family, HubConfig
from ivjax.convert.engine.fits import one_more_row
from ivjax.convert.engine.packing import Packed
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.bert import BERT, bert_norm
from ivjax.convert.families.layers import apart, linear
from ivjax.models.qformer import QFormerSize

_LAYER = "encoder.layer.{i}"
# The MLP behind the attention, and its norm: read twice, for words and for queries.
_TWICE = (
    *(f"{_LAYER}.intermediate.dense.{kind}" for kind in ("weight", "bias")),
    *(f"{_LAYER}.output.dense.{kind}" for kind in ("weight", "bias")),
    *(f"{_LAYER}.output.LayerNorm.{kind}" for kind in ("weight", "bias", "gamma", "beta")),
)
_CROSS = (
    *(f"{name}/{kind}" for name in ("q", "k", "v", "proj") for kind in ("kernel", "bias")),
    "norm/scale",
    "norm/bias",
)


def _rows() -> list[Row]:
    rows = [
        # VideoChat2 adds [DEC], which starts a caption.
        Row("embeddings.word_embeddings.weight", "word_embed", fit=one_more_row),
        Row("embeddings.position_embeddings.weight", "place_embed"),
        *bert_norm("embeddings.LayerNorm", "norm"),
        *apart(f"{_LAYER}.attention.self.{{part}}", "blocks/attn/qkv", ("query", "key", "value")),
        *linear(f"{_LAYER}.attention.output.dense", "blocks/attn/proj"),
        *bert_norm(f"{_LAYER}.attention.output.LayerNorm", "blocks/norm1"),
    ]
    for part, ours in (("words", ""), ("queries", "_query")):
        doubled = [
            *linear(f"{_LAYER}.intermediate.dense", f"blocks/mlp{ours}/fc1"),
            *linear(f"{_LAYER}.output.dense", f"blocks/mlp{ours}/fc2"),
            *bert_norm(f"{_LAYER}.output.LayerNorm", f"blocks/norm2{ours}"),
        ]
        rows += [replace(row, source=f"{row.source}[{part}]") for row in doubled]
    return rows


def _checked(config: Mapping[str, Any]) -> None:
    """Raises for a BERT of another arithmetic. It does not tell the size: no tower, no queries."""
    assert BERT.hub is not None
    BERT.hub.sizes(config)


QFORMER_BERT = Family(
    name="qformer_bert",
    rows=tuple(_rows()),
    presets={
        "videochat2": QFormerSize(1024, 768, extra_queries=0),
        "videochat2_tiny": QFormerSize(32, 32, 32, 4, 2, 64, queries=2, extra_queries=0, vocabulary=64),
    },
    prefix="bert.",
    ignored={
        **BERT.ignored,
        "*token_type_embeddings*": "a Q-Former's words are of one type",
    },
    added=(
        "query_tokens",
        "extra_query_tokens",
        "input_norm/scale",
        "input_norm/bias",
        "proj/kernel",
        "proj/bias",
        *(f"cross/{name}" for name in _CROSS),
    ),
    about="BERT from the Hugging Face Hub, as the start of a Q-Former's first training",
    stores_runs=False,
    hub=HubConfig(("bert",), _checked),
    packed=tuple(Packed(source, {"words": None, "queries": None}) for source in _TWICE),
)

FAMILIES = (QFORMER_BERT,)
