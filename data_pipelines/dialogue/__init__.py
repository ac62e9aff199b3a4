"""Conversations about videos as token ids: styles, what of a video is seen, and packing into rows."""

from ivjax.data_pipelines.dialogue.templates import InternVl, Plain, QwenChat
from ivjax.data_pipelines.dialogue.videochat2 import VideoChat2

# All styles, so that an override may name any of them in place of another.
__all__ = ["InternVl", "Plain", "QwenChat", "VideoChat2"]
