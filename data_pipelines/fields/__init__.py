"""The fields that a batch can have; `data.fields` of an experiment names them."""

from ivjax.data_pipelines.fields.annotations import Caption, Label, Tags
from ivjax.data_pipelines.fields.field import ArraySpec, Field, RowDraw, SingleArray
from ivjax.data_pipelines.fields.frames import Frames
from ivjax.data_pipelines.fields.sound import Sound
from ivjax.data_pipelines.fields.turns import Turns

__all__ = [
    "ArraySpec",
    "Caption",
    "Field",
    "Frames",
    "Label",
    "RowDraw",
    "SingleArray",
    "Sound",
    "Tags",
    "Turns",
]
