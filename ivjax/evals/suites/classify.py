"""Options of classification in several views."""

from dataclasses import dataclass
from typing import Any, Literal

from ivjax.evals.suites.fields import option
from ivjax.evals.suites.suite import CLASSES, NAMING, ClipSuite
from ivjax.experiment import late

Sampling = Literal["kinetics", "ssv2", "ucf"]
Labels = Literal["one", "several"]


@dataclass(frozen=True, kw_only=True)
class ViewClassification(ClipSuite):
    """Softmax of every view of a video, their mean, the class with the most.

    Attributes:
        crops: square windows along the longer side (None: the run's crop, or one square).
        sampling: whose test rule chooses the frames of a clip (None: the run's, or kinetics).
        labels: `several`: rows of one part of a file are one video with all their labels.
        classes: a file of the model's class names (None: those of its run).
        predictions: a file for what was said of each video, one JSON object a line.
    """

    name = "classify"
    about = "classes from several views of each video: accuracies, mAP"
    READER = CLASSES
    IMPLEMENTATION = "ivjax.evals.scoring.classifying"
    METRICS = (*NAMING, "map", "mean_class")

    crops: int | None = option(
        None, "square windows along the longer side (default: the crop of the run, or 1)", metavar="N"
    )
    sampling: Sampling | None = option(
        None, "whose rule chooses the frames of a clip (default: that of the run, or kinetics)"
    )
    labels: Labels = option("one", "labels of a video; several: those of all its rows")
    classes: str | None = option(
        None, "class names: a name a line, JSON, or a corpus's", metavar="FILE|CORPUS"
    )
    predictions: str | None = option(
        None, "store what was said of each video, a JSON object a line", metavar="FILE"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least_one("crops")

    def reading(self, own: Any, frames: int) -> Any:
        """Returns the Reading of a clip's views."""
        own = own if self.preprocessing == "own" else None
        return late.call(self.IMPLEMENTATION, "reading_of_views", self, own, frames)
