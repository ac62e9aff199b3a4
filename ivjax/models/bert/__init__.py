"""BERT: texts read in both directions."""

from ivjax.models.bert.sizes import BertSize

__all__ = ["BertSize"]
