"""InternVideo 1 beside its towers: the caption decoder, and two towers that read each other."""

from ivjax.models.internvideo1.joined_size import JoinedSize
from ivjax.models.internvideo1.sizes import CaptionDecoderSize, CaptioningSize

__all__ = ["CaptionDecoderSize", "CaptioningSize", "JoinedSize"]
