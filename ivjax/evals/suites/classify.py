"""Options of classification in several views."""

from dataclasses import dataclass
from typing import Literal

from ivjax.evals.suites.fields import option
from ivjax.evals.suites.suite import CLASSES, NAMING, EvalSuite

Sampling = Literal["kinetics", "ssv2", "ucf"]
Labels = Literal["one", "several"]


@dataclass(frozen=True, kw_only=True)
class ViewClassification(EvalSuite):
    """Softmax of every view of a video, their mean, the class with the most.

    Attributes:
        crops: square windows along the longer side.
        sampling: whose test rule chooses the frames of a clip.
        labels: `several`: rows of one part of a file are one video with all their labels.
        predictions: a file for what was said of each video, one JSON object a line.
    """

    name = "classify"
    about = "classes from several views of each video: accuracies, mAP"
    READER = CLASSES
    IMPLEMENTATION = "ivjax.evals.scoring.classifying"
    METRICS = (*NAMING, "map", "mean_class")

    crops: int = option(1, "square windows along the longer side", metavar="N")
    sampling: Sampling = option("kinetics", "whose rule chooses the frames of a clip")
    labels: Labels = option("one", "labels of a video; several: those of all its rows")
    predictions: str | None = option(
        None, "store what was said of each video, a JSON object a line", metavar="FILE"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least_one("crops")
