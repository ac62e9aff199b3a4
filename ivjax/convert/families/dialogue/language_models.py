"""Language models: InternLM2 and Phi-3, which pack several kernels into one, and the models under the names
of LLaMA, which are Vicuna, Mistral and Qwen2 too."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ivjax.convert.engine.family import BUFFERS, Family, HubConfig
from ivjax.convert.engine.packing import Packed, PartRows
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.dialogue.language_configs import decoder_size
from ivjax.convert.families.dialogue.language_tokenizers import (
    internlm2_tokenizer,
    llama_tokenizer,
    phi3_tokenizer,
)
from ivjax.convert.families.dialogue.lora import merging_lora
from ivjax.convert.families.layers import linear, norm
from ivjax.convert.formats.tensors import Tensors
from ivjax.models.decoder.sizes import LanguageSize

# Our layers of a block -> the names in a block of LLaMA, as transformers has them.
LLAMA_LAYERS: Mapping[str, str] = {
    "attn/q": "self_attn.q_proj",
    "attn/k": "self_attn.k_proj",
    "attn/v": "self_attn.v_proj",
    "attn/proj": "self_attn.o_proj",
    "mlp/gate": "mlp.gate_proj",
    "mlp/up": "mlp.up_proj",
    "mlp/down": "mlp.down_proj",
}
# Names with a part in brackets are of tensors that hold several: see `packing`.
INTERNLM2_LAYERS: Mapping[str, str] = {
    "attn/q": "attention.wqkv[q]",
    "attn/k": "attention.wqkv[k]",
    "attn/v": "attention.wqkv[v]",
    "attn/proj": "attention.wo",
    "mlp/gate": "feed_forward.w1",
    "mlp/up": "feed_forward.w3",
    "mlp/down": "feed_forward.w2",
}
PHI3_LAYERS: Mapping[str, str] = {
    **LLAMA_LAYERS,
    "attn/q": "self_attn.qkv_proj[q]",
    "attn/k": "self_attn.qkv_proj[k]",
    "attn/v": "self_attn.qkv_proj[v]",
    "mlp/gate": "mlp.gate_up_proj[gate]",
    "mlp/up": "mlp.gate_up_proj[up]",
}


def llama_rows(source: str = "", target: str = "", layers: Mapping[str, str] = LLAMA_LAYERS) -> list[Row]:
    """Rows of a model under transformers' names, with what goes before the names and the paths."""
    block, to = f"{source}model.layers.{{i}}", f"{target}blocks"
    return [
        Row(f"{source}model.embed_tokens.weight", f"{target}word_embed"),
        *_linears(block, to, layers),
        *norm(f"{block}.input_layernorm", f"{to}/norm1", bias=False),
        *norm(f"{block}.post_attention_layernorm", f"{to}/norm2", bias=False),
        *norm(f"{source}model.norm", f"{target}norm", bias=False),
        *linear(f"{source}lm_head", f"{target}head", bias=False),
    ]


def internlm2_rows(source: str = "", target: str = "") -> list[Row]:
    """Rows of InternLM2, with what goes before the names and the paths."""
    block, to = f"{source}model.layers.{{i}}", f"{target}blocks"
    return [
        Row(f"{source}model.tok_embeddings.weight", f"{target}word_embed"),
        *_linears(block, to, INTERNLM2_LAYERS),
        *norm(f"{block}.attention_norm", f"{to}/norm1", bias=False),
        *norm(f"{block}.ffn_norm", f"{to}/norm2", bias=False),
        *norm(f"{source}model.norm", f"{target}norm", bias=False),
        *linear(f"{source}output", f"{target}head", bias=False),
    ]


def _linears(block: str, to: str, layers: Mapping[str, str]) -> list[Row]:
    """Rows of a block's linear layers; the part of a packed one stands behind the whole name."""
    rows = []
    for ours, theirs in layers.items():
        name, bracket, part = theirs.partition("[")
        rows += [
            replace(row, source=row.source + bracket + part)
            for row in linear(f"{block}.{name}", f"{to}/{ours}")
        ]
    return rows


def _by_group(first: int, count: int | None) -> PartRows:
    """Returns the rows of some of the heads in each group of InternLM2's wqkv: first the query heads that
    share a key head, then the key head, then the value head. `count` None: all query heads."""

    def rows(size: LanguageSize) -> np.ndarray:
        shared = size.heads // size.kv_heads
        places = np.arange(size.kv_heads * (shared + 2) * size.head).reshape(size.kv_heads, shared + 2, -1)
        begin = 0 if count is None else shared + first
        return places[:, begin : begin + (count or shared)].reshape(-1)

    return rows


def _in_turn(place: int, heights: Callable[[LanguageSize], tuple[int, ...]]) -> PartRows:
    """Returns the rows of the part at a place among parts of some heights, one below the other."""
    return lambda size: np.arange(heights(size)[place]) + sum(heights(size)[:place])


def _qkv_heights(size: LanguageSize) -> tuple[int, ...]:
    return size.heads * size.head, size.kv_heads * size.head, size.kv_heads * size.head


def _mlp_heights(size: LanguageSize) -> tuple[int, ...]:
    return size.mlp_width, size.mlp_width


_WQKV: Mapping[str, PartRows] = {"q": _by_group(0, None), "k": _by_group(0, 1), "v": _by_group(1, 1)}
_QKV: Mapping[str, PartRows] = {part: _in_turn(place, _qkv_heights) for place, part in enumerate("qkv")}
_GATE_UP: Mapping[str, PartRows] = {
    part: _in_turn(place, _mlp_heights) for place, part in enumerate(("gate", "up"))
}


def _packed(layers: Mapping[str, Mapping[str, PartRows]]) -> tuple[Packed, ...]:
    """Returns how some layers of a block pack their kernels, their biases, and the factors of their LoRA."""
    found = []
    for layer, parts in layers.items():
        name = f"model.layers.{{i}}.{layer}"
        found += [Packed(f"{name}.{kind}", parts) for kind in ("weight", "bias")]
        for spelling in ("", "default."):
            # One product with a serves all parts of a layer, and b has their rows as the kernel has them.
            found.append(Packed(f"{name}.lora_A.{spelling}weight", dict.fromkeys(parts)))
            found.append(Packed(f"{name}.lora_B.{spelling}weight", parts))
        found.append(Packed(f"{name}.base_layer.weight", parts))
    return tuple(found)


_INTERNLM2_PACKED = _packed({"attention.wqkv": _WQKV})
_PHI3_PACKED = _packed({"self_attn.qkv_proj": _QKV, "mlp.gate_up_proj": _GATE_UP})


def words_in_file(size: LanguageSize, tensors: Tensors, embedding: str) -> LanguageSize:
    """Returns the size with as many words as a file has embeddings: releases add words of their own."""
    if embedding not in tensors or len(tensors.shape(embedding)) != 2:
        return size
    return replace(size, vocabulary=tensors.shape(embedding)[0])


def _measured(embedding: str) -> Callable[[Any, Tensors], Any]:
    return lambda size, tensors: words_in_file(size, tensors, embedding)


_PRESETS = LanguageSize.PRESETS


def _named(*names: str) -> dict[str, LanguageSize]:
    return {name: _PRESETS[name] for name in names}


LLAMA = Family(
    name="llama",
    rows=tuple(llama_rows()),
    presets=_named("vicuna_7b", "mistral_7b", "mistral_7b_v03", "qwen2_7b", "qwen2_5_7b", "qwen2_5_1_5b"),
    prefixes=("module.", "_orig_mod.", "language_model.", "base_model.model."),
    ignored={**BUFFERS, "*rotary_emb*": "rotary frequencies are computed"},
    # Models with tied embeddings have no head of their own; some files repeat the embeddings as one.
    ties={"lm_head.weight": "model.embed_tokens.weight"},
    about="LLaMA, Vicuna, Mistral and Qwen2 (2.5), under the names of transformers",
    hub=HubConfig(("llama", "mistral", "qwen2"), decoder_size),
    measured=_measured("model.embed_tokens.weight"),
    merging=merging_lora(),
    tokenizer=llama_tokenizer,
)

PHI3 = replace(
    LLAMA,
    name="phi3",
    rows=tuple(llama_rows(layers=PHI3_LAYERS)),
    presets=_named("phi3_mini_4k"),
    about="Phi-3-mini, under the names of transformers",
    hub=HubConfig(("phi3",), decoder_size),
    packed=_PHI3_PACKED,
    stores_runs=False,
    tokenizer=phi3_tokenizer,
)

INTERNLM2 = replace(
    LLAMA,
    name="internlm2",
    rows=tuple(internlm2_rows()),
    presets=_named("internlm2_5_7b", "internvl_internlm2_5_7b"),
    ties={"output.weight": "model.tok_embeddings.weight"},
    about="InternLM2 and 2.5",
    hub=HubConfig(("internlm2",), decoder_size),
    packed=_INTERNLM2_PACKED,
    measured=_measured("model.tok_embeddings.weight"),
    stores_runs=False,
    tokenizer=internlm2_tokenizer,
)

FAMILIES: tuple[Family, ...] = (LLAMA, PHI3, INTERNLM2)


def lora_rows(
    source: str, target: str, family: Family, layers: tuple[str, ...], adapter: str = "default."
) -> list[Row]:
    """Rows of the factors of a LoRA in peft's spelling.

    source and target go before the names and the paths of the family's own table. layers: those that have
    factors, as in `Lora.layers`. adapter: what peft calls the factors in a whole model (`default.`); nothing
    in a file of factors alone.
    """
    rows = []
    for row in family.rows:
        *_, layer, kind = ("", *row.target.split("/"))
        if kind != "kernel" or layer not in layers:
            continue
        name, _, part = row.source.partition(".weight")
        path = f"{target}lora/{row.target.removesuffix('/kernel')}"
        for theirs, ours in (("lora_A", "a"), ("lora_B", "b")):
            rows.append(
                replace(row, source=f"{source}{name}.{theirs}.{adapter}weight{part}", target=f"{path}/{ours}")
            )
    return rows
