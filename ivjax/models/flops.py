"""Analytic FLOPs of the models' forward passes per clip (two per multiply-add, matrix products only)."""

from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.internvideo2_student import FeatureHeads, PooledHead, Student


def blocks(size: EncoderSize, tokens: int) -> float:
    """All transformer blocks on `tokens` tokens."""
    per_token = 4 * size.width**2 + 2 * size.width * size.mlp_width
    return size.depth * (2.0 * tokens * per_token + 4.0 * tokens**2 * size.width)


def patch_embed(size: EncoderSize, tokens: int) -> float:
    """Embedding of `tokens` patches."""
    return 2.0 * tokens * size.tubelet * size.patch**2 * 3 * size.width


def attention_pool(size: EncoderSize, tokens: int) -> float:
    """Keys and values of all tokens; the one query and its attention."""
    width = size.width
    return 2.0 * width * (width * (2 * tokens + 1) + 2 * tokens + size.pool_width)


def _head(heads: FeatureHeads | PooledHead, width: int) -> float:
    return 2.0 * width * (heads.width + (width if heads.head == "mlp" else 0))


def student_forward(student: Student, tokens: int) -> dict[str, float]:
    """The student on `tokens` visible tokens (class token included), by part."""
    size = student.size
    parts = {
        "patch_embed": patch_embed(size, tokens - 1),
        "blocks": blocks(size, tokens),
        "pool": attention_pool(size, tokens),
        "decoders": 0.0,
    }
    if student.clip:
        parts["decoders"] += student.clip.layers * tokens * _head(student.clip, size.width)
    if student.mae:
        parts["decoders"] += student.mae.layers * (tokens - 1) * _head(student.mae, size.width)
    if student.pooled:
        parts["decoders"] += _head(student.pooled, size.pool_width)
    return parts


def with_backward(forward: dict[str, float]) -> dict[str, float]:
    """Forward + backward: three times the forward, twice where the input (pixels) needs no gradient."""
    return {part: flops * (2 if part == "patch_embed" else 3) for part, flops in forward.items()}
