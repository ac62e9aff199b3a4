"""Analytic FLOPs of the models' forward passes per clip (two per multiply-add, matrix products only)."""

from ivjax.models.clip import TextSize, VisionSize
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.internvideo2_student import FeatureHeads, PooledHead, Student
from ivjax.models.videomae import VideoMaeSize


def blocks(width: int, depth: int, mlp_width: int, tokens: int) -> float:
    """All transformer blocks on `tokens` tokens."""
    per_token = 4 * width**2 + 2 * width * mlp_width
    return depth * (2.0 * tokens * per_token + 4.0 * tokens**2 * width)


def patch_embed(pixels: int, width: int, tokens: int) -> float:
    """Embedding of `tokens` patches of `pixels` pixels in three colours."""
    return 2.0 * tokens * pixels * 3 * width


def attention_pool(size: EncoderSize, tokens: int) -> float:
    """Keys and values of all tokens; the one query and its attention."""
    width = size.width
    return 2.0 * width * (width * (2 * tokens + 1) + 2 * tokens + size.pool_width)


def encoder_forward(size: EncoderSize, tokens: int | None = None) -> dict[str, float]:
    """An InternVideo2 encoder on `tokens` visible tokens (class token included), or on all, by part."""
    tokens = 1 + size.patches if tokens is None else tokens
    return {
        "patch_embed": patch_embed(size.tubelet * size.patch**2, size.width, tokens - 1),
        "blocks": blocks(size.width, size.depth, size.mlp_width, tokens),
        "pool": attention_pool(size, tokens),
    }


def videomae_forward(size: VideoMaeSize, tokens: int | None = None) -> dict[str, float]:
    """A VideoMAE encoder on `tokens` visible tokens, or on all, by part."""
    tokens = size.patches if tokens is None else tokens
    return {
        "patch_embed": patch_embed(size.tubelet * size.patch**2, size.width, tokens),
        "blocks": blocks(size.width, size.depth, size.mlp_width, tokens),
    }


def _head(heads: FeatureHeads | PooledHead, width: int) -> float:
    return 2.0 * width * (heads.width + (width if heads.head == "mlp" else 0))


def student_forward(student: Student, tokens: int) -> dict[str, float]:
    """The student on `tokens` visible tokens (class token included), by part."""
    size = student.size
    parts = encoder_forward(size, tokens) | {"decoders": 0.0}
    if student.clip:
        parts["decoders"] += student.clip.layers * tokens * _head(student.clip, size.width)
    if student.mae:
        parts["decoders"] += student.mae.layers * (tokens - 1) * _head(student.mae, size.width)
    if student.pooled:
        parts["decoders"] += _head(student.pooled, size.pool_width)
    return parts


def vision_tower(size: VisionSize, patches: int) -> dict[str, float]:
    """ViCLIP's video tower on `patches` visible patches, by part."""
    tokens = 1 + patches
    return {
        "patch_embed": patch_embed(size.patch**2, size.width, patches),
        "vision": blocks(size.width, size.depth, 4 * size.width, tokens) + 2.0 * size.width * size.out,
    }


def text_tower(size: TextSize) -> dict[str, float]:
    """ViCLIP's text tower on a whole context; the causal half of the attention counts as all of it."""
    return {
        "text": blocks(size.width, size.depth, 4 * size.width, size.context) + 2.0 * size.width * size.out
    }


def with_backward(forward: dict[str, float]) -> dict[str, float]:
    """Forward + backward: three times the forward, twice where the input (pixels) needs no gradient."""
    return {part: flops * (2 if part == "patch_embed" else 3) for part, flops in forward.items()}
