"""InternVideo-Next: its encoder, what its two stages train, and their sizes."""

from ivjax.models.internvideo_next.sizes import (
    DiffusionSize,
    LatentPredictorSize,
    NextSize,
    NextStudentSize,
)

__all__ = ["DiffusionSize", "LatentPredictorSize", "NextSize", "NextStudentSize"]
