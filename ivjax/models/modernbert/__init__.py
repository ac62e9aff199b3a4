"""Layers of ModernBERT, which predict what a masked encoder has not seen."""

from ivjax.models.modernbert.sizes import ModernBertSize

__all__ = ["ModernBertSize"]
