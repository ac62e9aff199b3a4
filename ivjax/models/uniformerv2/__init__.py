"""UniFormerV2: CLIP's image tower with local and global blocks over time."""

from ivjax.models.uniformerv2.sizes import UniFormerV2Size

__all__ = ["UniFormerV2Size"]
