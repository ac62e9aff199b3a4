"""BERT: texts read in both directions, and fused with what is seen or heard."""

from ivjax.models.bert.fusion_sizes import FusionBertSize
from ivjax.models.bert.sizes import BertSize

__all__ = ["BertSize", "FusionBertSize"]
