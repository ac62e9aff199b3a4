"""BEATs: sounds as tokens."""

from ivjax.models.beats.sizes import BeatsSize

__all__ = ["BeatsSize"]
