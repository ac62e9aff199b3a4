"""InternViT, an image encoder that reads the frames of a clip one by one."""

from ivjax.models.internvit.sizes import InternVitSize

__all__ = ["InternVitSize"]
