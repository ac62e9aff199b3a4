"""SigLIP's image tower, which teaches InternVideo-Next."""

from ivjax.models.siglip.sizes import SiglipSize

__all__ = ["SiglipSize"]
