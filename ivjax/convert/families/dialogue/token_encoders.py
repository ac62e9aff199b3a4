"""Encoders that language models read, alone: UMT's, and InternVideo2 without pooling."""

from ivjax.convert.engine.family import BUFFERS, Family
from ivjax.convert.families.dialogue.bridge_rows import unpooled_rows
from ivjax.convert.families.encoders import videomae_rows
from ivjax.models.internvideo2 import UnpooledSize
from ivjax.models.umt import UmtSize

UMT = Family(
    name="umt_encoder",
    rows=tuple(videomae_rows()),
    presets=UmtSize.PRESETS,
    prefix="encoder.",
    frames=(4, 8),
    about="UMT's vision encoder; its names are VideoMAE's, so name the family",
)

INTERNVIDEO2_UNPOOLED = Family(
    name="internvideo2_unpooled",
    rows=tuple(unpooled_rows("", "")),
    presets=UnpooledSize.PRESETS,
    prefix="vision_encoder.",
    prefixes=("vision_encoder.", "module.", "model."),
    ignored={**BUFFERS, "clip_projector.*": "a language model reads tokens"},
    frames=(8, 4, 16),
    about="InternVideo2 as chat models have it: without pooling, with a position table of images",
)

FAMILIES = (UMT, INTERNVIDEO2_UNPOOLED)
