"""Models that answer questions about videos: a vision tower, a bridge and a language model."""

from ivjax.models.dialogue.projector_size import ProjectorSize
from ivjax.models.dialogue.sizes import DialogueSize

__all__ = ["DialogueSize", "ProjectorSize"]
