"""InternVideo2's encoder, its stage-1 student, and their sizes."""

from ivjax.models.internvideo2.aligned_sizes import AlignedSize
from ivjax.models.internvideo2.sizes import (
    EncoderSize,
    FeatureHeads,
    PooledHead,
    StudentSize,
    UnpooledSize,
)

__all__ = ["AlignedSize", "EncoderSize", "FeatureHeads", "PooledHead", "StudentSize", "UnpooledSize"]
