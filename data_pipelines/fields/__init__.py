"""The fields that a batch can have; `data.fields` of an experiment names them."""

from ivjax.data_pipelines.fields.annotations import Caption, Label
from ivjax.data_pipelines.fields.field import ArraySpec, Draw, Field, SingleArray
from ivjax.data_pipelines.fields.frames import Frames

__all__ = ["ArraySpec", "Caption", "Draw", "Field", "Frames", "Label", "SingleArray"]
