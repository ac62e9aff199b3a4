"""ViCLIP's towers for clips and captions, and their sizes."""

from ivjax.models.viclip.sizes import TextSize, VisionSize

__all__ = ["TextSize", "VisionSize"]
