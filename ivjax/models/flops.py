"""Analytic FLOPs of the models' forward passes per clip (two per multiply-add, matrix products only)."""

from ivjax.models.internvideo2.classifier import ClassifierSize
from ivjax.models.internvideo2.encoder import EncoderSize
from ivjax.models.internvideo2.student import FeatureHeads, PooledHead, Student
from ivjax.models.viclip.towers import TextSize, VisionSize
from ivjax.models.videomae.autoencoder import DecoderSize
from ivjax.models.videomae.encoder import VideoMaeSize


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


def autoencoder_forward(
    size: VideoMaeSize, decoder: DecoderSize, seen: int, decoded: int
) -> dict[str, float]:
    """VideoMAE's pre-training model that sees `seen` tokens and predicts the pixels of `decoded`, by part."""
    bridge = 2.0 * seen * size.width * decoder.width
    head = patch_embed(size.tubelet * size.patch**2, decoder.width, decoded)
    inner = blocks(decoder.width, decoder.depth, decoder.mlp_width, seen + decoded)
    return videomae_forward(size, seen) | {"decoder": bridge + inner + head}


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


def classifier_forward(size: ClassifierSize) -> dict[str, float]:
    """A classifier on clips of its encoder's size, by part."""
    encoder = size.encoder
    head = 2.0 * size.features * size.classes
    if size.extra_mlp:
        head += 16.0 * encoder.pool_width**2
    if "avgN" in size.merge:
        head += 2.0 * (1 + encoder.grid[0]) * encoder.width * encoder.pool_width
    return encoder_forward(encoder) | {"head": head}


def vision_tower(size: VisionSize, patches: int) -> dict[str, float]:
    """ViCLIP's video tower on `patches` visible patches, by part."""
    tokens = 1 + patches
    return {
        "patch_embed": patch_embed(size.tubelet * size.patch**2, size.width, patches),
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
