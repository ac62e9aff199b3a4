"""BERT from the Hub, as a text tower."""

from collections.abc import Mapping
from typing import Any

from ivjax.convert.engine.family import BUFFERS, Family, HubConfig
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.layers import apart, linear, norm
from ivjax.data_pipelines.tokenizers.bert import BertWordPiece
from ivjax.errors import UserError
from ivjax.models.bert import BertSize

_UNCASED = 30522  # words of the vocabulary that the tokenizer here reads


def bert_norm(source: str, target: str) -> list[Row]:
    """Rows of a LayerNorm under the names of new and of old files."""
    # The library's oldest files, which are the most used, call a norm's scale and bias gamma and beta.
    old = [Row(f"{source}.gamma", f"{target}/scale"), Row(f"{source}.beta", f"{target}/bias")]
    return [*norm(source, target), *old]


def _rows() -> list[Row]:
    layer, block = "encoder.layer.{i}", "blocks"
    return [
        # No rule for another number of places: a longer table is RoBERTa's, which counts from 2.
        Row("embeddings.word_embeddings.weight", "word_embed"),
        Row("embeddings.position_embeddings.weight", "place_embed"),
        Row("embeddings.token_type_embeddings.weight", "type_embed"),
        *bert_norm("embeddings.LayerNorm", "norm_embed"),
        *apart(f"{layer}.attention.self.{{part}}", f"{block}/attn/qkv", ("query", "key", "value")),
        *linear(f"{layer}.attention.output.dense", f"{block}/attn/proj"),
        *bert_norm(f"{layer}.attention.output.LayerNorm", f"{block}/norm1"),
        *linear(f"{layer}.intermediate.dense", f"{block}/mlp/fc1"),
        *linear(f"{layer}.output.dense", f"{block}/mlp/fc2"),
        *bert_norm(f"{layer}.output.LayerNorm", f"{block}/norm2"),
    ]


def _sizes(config: Mapping[str, Any]) -> BertSize:
    """Sizes of the model that a config.json describes."""
    gelu, positions = config.get("hidden_act", "gelu"), config.get("position_embedding_type", "absolute")
    if gelu != "gelu" or positions != "absolute":
        raise UserError(f"its config.json says hidden_act={gelu} and position_embedding_type={positions}")
    return BertSize(
        width=config.get("hidden_size", 768),
        depth=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        mlp_width=config.get("intermediate_size", 3072),
        context=min(config.get("max_position_embeddings", 512), 32),
        vocabulary=config.get("vocab_size", _UNCASED),
        places=config.get("max_position_embeddings", 512),
        pad=config.get("pad_token_id", 0),
    )


BERT = Family(
    name="bert",
    rows=tuple(_rows()),
    presets=BertSize.PRESETS,
    tokenizer=lambda size: BertWordPiece(length=size.context) if size.vocabulary == _UNCASED else None,
    prefix="bert.",
    ignored={
        **BUFFERS,
        "*pooler.*": "texts are read at their first token, without the pooler",
        "cls.*": "only pretraining used it",
    },
    # Stage 2's projection beside BERT.
    added=("proj/kernel", "proj/bias"),
    about="BERT from the Hugging Face Hub, as a text tower: the start of stage 2's text encoder",
    hub=HubConfig(("bert",), _sizes),
)

FAMILIES = (BERT,)
