"""The classifiers that were fine-tuned from VideoMAE, under the originals' names."""

from collections.abc import Iterable
from dataclasses import replace

from ivjax.convert.engine.family import Family
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.encoders import videomae_rows
from ivjax.convert.families.internvideo2_classifier import other_classes
from ivjax.convert.families.layers import linear, norm
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.videomae import VideoMaeSize

_CLASSES = {"k400": 400, "k600": 600, "k710": 710, "ssv2": 174}


def head_rows(head: str) -> list[Row]:
    """Rows of what lies above the encoder; `head` is the name of the last layer."""
    kernel = linear(head, "head", bias=False)
    # The rule stands with the bias alone, so that its advice is given once.
    return [*norm("fc_norm", "fc_norm"), *kernel, Row(f"{head}.bias", "head/bias", fit=other_classes)]


def without_norm(rows: Iterable[Row]) -> list[Row]:
    """Returns an encoder's rows without the norm of all tokens, which classifiers lack."""
    return [row for row in rows if not row.target.startswith("encoder/norm/")]


def classifiers() -> dict[str, ClassifierSize]:
    """Returns the released sizes, as SIZE_DATA: the head normalises the mean of all tokens."""
    return {
        f"{name}_{data}": ClassifierSize(replace(encoder, final_norm=False), classes)
        for name, encoder in VideoMaeSize.PRESETS.items()
        for data, classes in _CLASSES.items()
    }


VIDEOMAE_CLASSIFIER = Family(
    name="videomae_classifier",
    rows=(*without_norm(videomae_rows("", "encoder/")), *head_rows("head")),
    presets=classifiers(),
    container="module",
    frames=(16,),
    about="classifiers that were fine-tuned from VideoMAE, both versions",
)

FAMILIES = (VIDEOMAE_CLASSIFIER,)
