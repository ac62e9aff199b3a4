"""InternVideo 1's multimodal branch: both towers and the decoder of captions."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ivjax.convert.engine.family import BUFFERS, Family, FixtureRun
from ivjax.convert.engine.fits import first_rows
from ivjax.convert.engine.packing import Packed, PartRows
from ivjax.convert.engine.rows import TRANSPOSE, Row
from ivjax.convert.families.internvideo2 import image_size
from ivjax.convert.families.layers import linear, norm
from ivjax.convert.families.layerwise import internvideo1_layers
from ivjax.convert.families.uniformerv2 import tower_rows
from ivjax.convert.families.viclip import blocks
from ivjax.data_pipelines.tokenizers.clip_bpe import ClipBpe
from ivjax.models.internvideo1 import CaptionDecoderSize, CaptioningSize
from ivjax.models.uniformerv2 import UniFormerV2Size
from ivjax.models.viclip import TextSize

_LAYER = "caption_decoder.multimodal_layers.{i}"
# What one matrix of the originals holds, in this order.
_FUSED = f"{_LAYER}.0.fn.fused_attn_ff_proj.weight"
_GATED = f"{_LAYER}.1.fn.ff.0.weight"


def _rows_between(first: Callable[[Any], int], last: Callable[[Any], int]) -> PartRows:
    return lambda sizes: np.arange(first(sizes), last(sizes))


def _width(sizes: Any) -> int:
    return int(sizes.text.width)


def _after_keys(sizes: Any) -> int:
    """Rows of queries, and of the one head of keys and of values that all query heads share."""
    return _width(sizes) + 2 * _width(sizes) // int(sizes.decoder.heads)


_PACKED = (
    Packed(
        _FUSED,
        {
            "q": _rows_between(lambda s: 0, _width),
            "kv": _rows_between(_width, _after_keys),
            "up": _rows_between(_after_keys, lambda s: _after_keys(s) + 4 * _width(s)),
            "gate": _rows_between(
                lambda s: _after_keys(s) + 4 * _width(s), lambda s: _after_keys(s) + 8 * _width(s)
            ),
        },
    ),
    Packed(
        _GATED,
        {
            "up": _rows_between(lambda s: 0, lambda s: 4 * _width(s)),
            "gate": _rows_between(lambda s: 4 * _width(s), lambda s: 8 * _width(s)),
        },
    ),
)


def _decoder_rows() -> list[Row]:
    to, pool, block = "caption_decoder", "caption_decoder.visual_attn_pooler", "caption_decoder/blocks"
    words, clip, head = f"{_LAYER}.0.fn", f"{_LAYER}.1.fn", "caption_decoder.predictor"
    return [
        Row("caption_decoder.visual_queries", f"{to}/queries"),
        Row(f"{pool}.norm.gamma", f"{to}/pool/norm/scale"),
        Row(f"{pool}.context_norm.gamma", f"{to}/pool/norm_context/scale"),
        *(_kernel(f"{pool}.to_{x}.weight", f"{to}/pool/attn/{y}") for x, y in _ATTENTION.items()),
        *norm("caption_decoder.visual_pooler_norm", f"{to}/norm_pooled"),
        *norm("caption_decoder.text_norm", f"{to}/norm_text"),
        Row(f"{words}.norm.gamma", f"{block}/norm1/scale"),
        _kernel(f"{_FUSED}[q]", f"{block}/attn1/q"),
        _kernel(f"{_FUSED}[kv]", f"{block}/attn1/kv"),
        _kernel(f"{words}.attn_out.weight", f"{block}/attn1/proj"),
        _kernel(f"{_FUSED}[up]", f"{block}/mlp1/up"),
        _kernel(f"{_FUSED}[gate]", f"{block}/mlp1/gate"),
        _kernel(f"{words}.ff_out.1.weight", f"{block}/mlp1/down"),
        Row(f"{clip}.norm.gamma", f"{block}/norm2/scale"),
        *(_kernel(f"{clip}.to_{x}.weight", f"{block}/attn2/{y}") for x, y in _ATTENTION.items()),
        _kernel(f"{_GATED}[up]", f"{block}/mlp2/up"),
        _kernel(f"{_GATED}[gate]", f"{block}/mlp2/gate"),
        _kernel(f"{clip}.ff.2.weight", f"{block}/mlp2/down"),
        *norm(f"{head}.0", f"{to}/head/norm1"),
        *linear(f"{head}.1", f"{to}/head/fc1"),
        *norm(f"{head}.3", f"{to}/head/norm2"),
        *linear(f"{head}.4", f"{to}/head/fc2"),
    ]


_ATTENTION = {"q": "q", "kv": "kv", "out": "proj"}


def _kernel(source: str, target: str) -> Row:
    return Row(source, f"{target}/kernel", TRANSPOSE)


def _tower_rows() -> list[Row]:
    clip = "clip."
    return [
        Row(f"{clip}logit_scale", "logit_scale"),
        *tower_rows(f"{clip}visual.", "vision/"),
        *norm(f"{clip}visual_ln_post", "vision/norm_post"),
        Row(f"{clip}visual_proj", "vision/proj/kernel"),
        Row(f"{clip}token_embedding.weight", "text/word_embed"),
        Row(f"{clip}positional_embedding", "text/place_embed", fit=first_rows),
        Row(f"{clip}text_projection", "text/proj/kernel"),
        *norm(f"{clip}ln_final", "text/norm"),
        *blocks(f"{clip}transformer.resblocks.{{i}}", "text/blocks"),
    ]


def _size_of(config: Mapping[str, Any]) -> CaptioningSize:
    """Sizes of a fixture; its global blocks have MLPs of four times the width."""
    vision, text, decoder = config["vision"], config["text"], config["caption_decoder"]
    return CaptioningSize(
        UniFormerV2Size(
            width=vision["width"],
            depth=vision["layers"],
            heads=vision["heads"],
            returned=tuple(vision["return_list"]),
            global_heads=vision["n_head"],
            global_mlp=4 * vision["width"],
            patch=vision["patch_size"],
            image=image_size(vision, "input_resolution"),
            frames=config["num_frames"],
            projection=text["embed_dim"],
        ),
        TextSize(
            width=text["width"],
            depth=text["layers"],
            heads=text["heads"],
            out=text["embed_dim"],
            context=config["context_length"],
            vocabulary=text["vocab"],
        ),
        decoder=CaptionDecoderSize(decoder["layers"], decoder["heads"], decoder["queries"]),
    )


INTERNVIDEO1 = Family(
    name="internvideo1_multimodal",
    rows=(*_tower_rows(), *_decoder_rows()),
    presets=CaptioningSize.PRESETS,
    tokenizer=lambda size: ClipBpe(length=size.text.context),
    container="state_dict",
    ignored={
        **BUFFERS,
        "*.beta": "it is always zero",
        "clip.text_mask_embedding": "no loss of the originals reads it",
    },
    packed=_PACKED,
    parity=FixtureRun(_size_of, internvideo1_layers.run),
    about="InternVideo 1's multimodal branch (B/16, L/14): both towers and the decoder of captions",
)

FAMILIES = (INTERNVIDEO1,)
