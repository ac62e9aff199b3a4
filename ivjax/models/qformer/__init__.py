"""The Q-Former: learned queries that read a vision tower's tokens, and what is asked about them."""

from ivjax.models.qformer.sizes import QFormerSize

__all__ = ["QFormerSize"]
