"""What VideoChat2's first stage trains: UMT-L and the Q-Former, with the heads of its three losses."""

from ivjax.convert.engine.family import BUFFERS, Family
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.dialogue.bridge_rows import qformer_rows
from ivjax.convert.families.encoders import videomae_rows
from ivjax.convert.families.layers import linear, norm
from ivjax.models.qformer import QFormerSize
from ivjax.models.qformer.pretraining_size import QueryPretrainSize
from ivjax.models.umt import UmtSize

_UMT = UmtSize.PRESETS["L16_chat"]
_TINY = UmtSize(width=32, depth=2, heads=2, mlp_width=64, image=(64, 64))
_CAPTION = "qformer.cls.predictions"

QUERY_PRETRAINING = Family(
    name="videochat2_stage1",
    rows=(
        *videomae_rows("vision_encoder.encoder.", "vision/"),
        *(row for row in qformer_rows("none", "bridge/") if not row.target.startswith("bridge/proj/")),
        Row("vision_temp_embed", "time_embed"),
        *linear("vision_proj", "heads/video"),
        *linear("text_proj", "heads/text"),
        *linear("itm_head", "heads/match"),
        *linear(f"{_CAPTION}.transform.dense", "heads/caption"),
        *norm(f"{_CAPTION}.transform.LayerNorm", "heads/caption_norm"),
        Row(f"{_CAPTION}.bias", "heads/word_bias"),
        Row("temp", "temperature"),
    ),
    presets={
        "umt_l16": QueryPretrainSize(_UMT, QFormerSize(_UMT.width, 768, extra_queries=0)),
        "umt_tiny": QueryPretrainSize(
            _TINY, QFormerSize(32, 32, 32, 4, 2, 64, queries=2, extra_queries=0, vocabulary=64), embed=16
        ),
    },
    container="model",
    ignored=BUFFERS,
    ties={
        f"{_CAPTION}.decoder.weight": "qformer.bert.embeddings.word_embeddings.weight",
        f"{_CAPTION}.decoder.bias": f"{_CAPTION}.bias",
    },
    frames=(4, 8),
    about="VideoChat2's first stage: UMT-L, Q-Former, heads",
)

FAMILIES = (QUERY_PRETRAINING,)
