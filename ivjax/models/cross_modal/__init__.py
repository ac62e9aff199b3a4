"""Stage 2: clips, sounds and texts in one space, and an encoder that reads texts beside them."""

from ivjax.models.cross_modal.sizes import CrossModalSize

__all__ = ["CrossModalSize"]
