"""ModernBERT from the Hugging Face Hub: some of its layers, as InternVideo-Next's predictor has them."""

from dataclasses import replace

from ivjax.convert.engine.family import BUFFERS, Family
from ivjax.convert.engine.rows import Row, Transform
from ivjax.convert.families.layers import QKV, linear, norm
from ivjax.models.modernbert import ModernBertSize

# Both products of the gated MLP are one matrix there: (2H, C) -> (2, C, H).
_GATES = Transform(
    lambda w: w.reshape(2, -1, w.shape[1]).transpose(0, 2, 1),
    lambda k: k.transpose(0, 2, 1).reshape(-1, k.shape[1]),
)


def modernbert_rows(source: str = "", target: str = "") -> list[Row]:
    """Rows of ModernBERT's layers, with what goes before the names and the paths."""
    layer, block = f"{source}layers.{{i}}", f"{target}blocks"
    return [
        *norm(f"{layer}.attn_norm", f"{block}/norm1", bias=False),
        Row(f"{layer}.attn.Wqkv.weight", f"{block}/attn/qkv/kernel", QKV),
        *linear(f"{layer}.attn.Wo", f"{block}/attn/proj", bias=False),
        *norm(f"{layer}.mlp_norm", f"{block}/norm2", bias=False),
        Row(f"{layer}.mlp.Wi.weight", f"{block}/mlp/gates/kernel", _GATES),
        *linear(f"{layer}.mlp.Wo", f"{block}/mlp/down", bias=False),
    ]


def _last_five() -> list[Row]:
    return [replace(row, first=ModernBertSize.PRESETS["large_last5"].first) for row in modernbert_rows()]


_UNUSED = "InternVideo-Next predicts with the last five layers alone"
MODERNBERT = Family(
    name="modernbert",
    rows=tuple(_last_five()),
    presets=ModernBertSize.PRESETS,
    ignored={
        **BUFFERS,
        # The model has 28 layers: 0 to 22 are these.
        **dict.fromkeys(("*layers.[0-9].*", "*layers.1[0-9].*", "*layers.2[0-2].*"), _UNUSED),
        **dict.fromkeys(("*embeddings.*", "*final_norm.*"), "a predictor reads no words"),
        **dict.fromkeys(("head.*", "decoder.*"), "a predictor writes no words"),
    },
    about="ModernBERT-large from the Hub: its last five layers, which start InternVideo-Next's predictor",
)

FAMILIES = (MODERNBERT,)
