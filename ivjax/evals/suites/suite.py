"""The base of all eval suites: a suite is a frozen dataclass whose fields are its options and its flags."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from ivjax.errors import UserError
from ivjax.evals.suites.fields import option, options_of
from ivjax.experiment import late
from ivjax.experiment.computing import Dtype
from ivjax.models.sizes import Compared
from ivjax.progress import Say

Aggregate = Literal["embedding", "mean", "max", "logsumexp"]  # what several clips of a video become

# Modules that make of weights, or of an experiment in memory, what a suite reads.
PAIRS = "ivjax.evals.pair_model"  # clips and texts in one space
FEATURES = "ivjax.evals.features"  # one vector of a clip, of any video tower
CLASSES = "ivjax.evals.class_model"  # logits of a clip
# The metrics of suites that name classes. Some depend on the test set: top5 needs more than five classes.
NAMING = (
    *("top1", "top5", "mean", "chance", "times_chance", "most_frequent"),
    *("single_top1", "single_chance"),
)
Comparing = Literal["cosine", "match"]  # by which score texts are compared beside a clip
Preprocessing = Literal["own", "suite"]  # whose frame rule and crop clips are read by
Feature = Literal["pooled", "mean"]  # which vector of a clip is read


@dataclass(frozen=True, kw_only=True)
class EvalSuite:
    """Options of an eval; a subclass adds its own, and `score` or the module that scores for it.

    A subclass may stand in a config, so its module imports no jax at the top: `score` imports what it needs,
    or IMPLEMENTATION names a module with a function `score(setting, suite)`.

    Attributes:
        name: what the command line and the prefix of the metrics call the suite.
        about: one line for the help.
        READER: module whose `of_weights` and `of_experiment` make what the suite reads of a model.
        IMPLEMENTATION: module whose `score` scores for the suite, if it does not itself.
        METRICS: names of all metrics that it may return, so that a misspelt `checkpoint.best` is found at the
            start; empty if they are known only once the suite has run.
        has_tokenizer: whether the model reads texts.
        limit: only the first so many clips of the test set (None: all).
        batch: clips at a time, over all devices.
        broken: share of the clips that may be unusable.
        dtype: what the model computes in.
    """

    # Class variables, so that they are no fields: a stored experiment need not hold them.
    name: ClassVar[str]
    about: ClassVar[str]
    READER: ClassVar[str]
    IMPLEMENTATION: ClassVar[str] = ""
    METRICS: ClassVar[tuple[str, ...]] = ()
    has_tokenizer: ClassVar[bool] = False

    limit: int | None = option(None, "only the first N clips", metavar="N")
    batch: int = option(32, "clips at a time, over all devices", metavar="N")
    broken: float = option(0.01, "share of the clips that may fail", metavar="SHARE")
    # float32, because ranks of near ties differ in bfloat16.
    dtype: Dtype = option("float32", "what the model computes in")

    def __post_init__(self) -> None:
        self.check_at_least_one("batch", "limit")
        self.check_choices()

    def run(
        self,
        experiment: Any,
        params: Any,
        data: str,
        mesh: Any,
        say: Say = print,
    ) -> Mapping[str, float]:
        """Returns the metrics of a model in memory, the same ones in every process.

        Args:
            experiment: whose stage and tokenizer are those of the model.
            params: all parameters of the stage, the frozen ones too, where they lie on `mesh`.
            data: a corpus folder or an annotation file.
            mesh: the devices that compute, of all processes.
            say: takes lines for the person who waits.
        """
        found = late.call("ivjax.evals.running", "run_in_memory", self, experiment, params, data, mesh, say)
        metrics: Mapping[str, float] = found
        return metrics

    def check(self, experiment: Any, data: str) -> None:
        """Raises UserError where `run` would before its first clip: a stage or data that it cannot read."""
        late.call(self.READER, "check_experiment", self, experiment)
        for path in self.sources(data):
            late.call("ivjax.evals.items", "check_data", path)

    def check_source(self, data: Any) -> None:
        """Raises UserError if the first clip of an EvalData cannot be opened."""
        late.call("ivjax.evals.items", "open_items", data)

    def beside(self, out: Path) -> "EvalSuite":
        """Returns the suite that keeps its unfinished work beside its result, if it keeps any."""
        return self

    def sources(self, data: str) -> tuple[str, ...]:
        """Returns everything that the suite reads clips from; `data` is the test set."""
        return (data,)

    def reading(self, own: Any, frames: int) -> Any:
        """Returns the Reading of clips of `frames` frames for a model whose run reads them by `own`.

        None: the model itself knows how it reads videos.
        """
        return None

    def score(self, setting: Any) -> Any:
        """Returns the Result of the model and test set of a Setting."""
        return late.call(self.IMPLEMENTATION, "score", setting, self)

    def check_at_least_one(self, *names: str) -> None:
        """Raises UserError if a count is below 1; None is no count."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be 1 or more, got {value}")

    def check_choices(self) -> None:
        """Raises UserError if the value of a Literal field is none of its choices."""
        for field in options_of(type(self)):
            value = getattr(self, field.name)
            if field.choices and value not in field.choices and value is not None:
                choices = ", ".join(map(str, field.choices))
                raise UserError(f"{field.name} must be one of {choices}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class ClipSuite(EvalSuite):
    """A suite that reads clips of a number of frames that the model says.

    Attributes:
        clips: equal parts of each video, all of which are read.
        preprocessing: `own`: clips are read by the frame rule and the crop of the run that the model comes
            from, without its draws; those of weight files, and with `suite` all, by the rules of the suite.
    """

    clips: int = option(1, "parts of each video that are seen", metavar="N")
    preprocessing: Preprocessing = option(
        "own", "whose frame rule and crop: a run's own, where weights are those of a run, or the suite's"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least_one("clips")

    def reading(self, own: Any, frames: int) -> Any:
        """See EvalSuite."""
        own = own if self.preprocessing == "own" else None
        return late.call("ivjax.evals.own_frames", "reading_of", own, frames, self.clips)


@dataclass(frozen=True, kw_only=True)
class FeatureSuite(ClipSuite):
    """A suite that reads one vector of each clip, from the encoder of any model.

    Attributes:
        features: what the encoder `pooled`, or the `mean` of its last states of all patches (None: what it
            pools, unless it pools nothing or its pooling was never trained).
        branch: which encoder of a run in memory is read; a command names it as PATH#BRANCH.
    """

    READER = FEATURES

    features: Feature | None = option(
        None, "what the encoder pools (default, where it does), or the mean of its last tokens"
    )
    branch: str | None = option(None, "which encoder of a run in memory", flag=None)


@dataclass(frozen=True, kw_only=True)
class PairSuite(ClipSuite):
    """A suite that compares clips with texts.

    Attributes:
        medium: what of a clip is compared: the clip, its sound, or both together.
        aggregate: what several clips of a video become: one embedding (their unit mean), or the mean, max or
            logsumexp of their cosines.
    """

    READER = PAIRS
    has_tokenizer = True

    medium: Compared = option(
        "video", "what of a clip texts are compared with; sound needs a model of stage 2 that hears"
    )
    aggregate: Aggregate = option(
        "embedding", "what several clips become: their mean embedding, or this of their cosines"
    )

    @property
    def judges(self) -> bool:
        """Whether it needs a model that reads texts beside clips."""
        return False

    def check_one_clip(self, told: str) -> None:
        """Raises UserError if several clips of a video would have to be judged; `told` is the option."""
        if self.judges and self.clips > 1:
            raise UserError(f"{told} judges one clip of each video, and clips={self.clips}; set clips to 1")


@dataclass(frozen=True)
class Scoring:
    """Options of comparing two sides.

    Attributes:
        aggregate: what several clips of a video become.
        dsl: dual softmax, which weighs each score by how much of its candidate's softmax over all queries it
            has. It looks at all queries of the test at once.
        dsl_scale: factor of the cosines inside that softmax; the originals use them raw.
        rows: queries of a strip (None: as many as fit into a few megabytes).
    """

    aggregate: Aggregate = "embedding"
    dsl: bool = False
    dsl_scale: float = 1.0
    rows: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.dsl_scale < math.inf:
            raise UserError(f"dsl_scale must be above 0, got {self.dsl_scale}")


@dataclass(frozen=True, kw_only=True)
class RankingSuite(PairSuite):
    """A suite that ranks all candidates of a test for each query.

    Attributes:
        dsl: whether scores are weighed by a dual softmax.
        dsl_scale: factor of the cosines inside it.
    """

    dsl: bool = option(False, "dual softmax over all queries of the test")
    # With raw cosines (1) the softmax is nearly flat and changes little; it is what the originals do.
    dsl_scale: float = option(1.0, "factor of the cosines in it; the originals use 1", metavar="S")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.scoring  # noqa: B018 - checks the scale

    @property
    def scoring(self) -> Scoring:
        """Options of comparing queries with candidates."""
        return Scoring(self.aggregate, self.dsl, self.dsl_scale)
