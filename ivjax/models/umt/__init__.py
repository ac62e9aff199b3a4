"""UMT's vision encoder: VideoMAE's network over single frames, with a position table of one grid for all."""

from ivjax.models.umt.sizes import UmtSize

__all__ = ["UmtSize"]
