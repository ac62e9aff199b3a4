"""Whether the parts of an experiment fit each other: checked at a start, before anything is read."""

from ivjax.data_pipelines.load.mixture import tokenizers_of
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.run_options import EvalRun
from ivjax.stages.objective import Objective


def check_words(experiment: Experiment, objective: Objective) -> None:
    """Raises if the tokenizer has more words than the text encoder: the rest would share one embedding."""
    if objective.vocabulary is None:
        return
    wanted = {name for medium in objective.media.values() for name in medium.batch}
    for name, tokenizer in tokenizers_of(experiment.data).items():
        # A mixture may serve several stages, and hold fields that this one does not read.
        if name in wanted and tokenizer.vocabulary_size > objective.vocabulary:
            raise UserError(
                f"the tokenizer of data.fields.{name} has {tokenizer.vocabulary_size} pieces and the stage's "
                f"text encoder {objective.vocabulary} words; make stage.text.vocabulary as large"
            )


def check_evals(experiment: Experiment) -> None:
    """Raises if an eval cannot run, if two would log under one name, or if none logs `checkpoint.best`."""
    for planned in experiment.evals:
        try:
            planned.suite.check(experiment, planned.data)
        except UserError as error:
            raise UserError(f"evals: {metric_prefix(planned)}: {error}") from None
    names = [metric_prefix(planned) for planned in experiment.evals]
    names += ["eval"] if experiment.eval_loss.every else []
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"evals: {twice[0]!r} is the name of several evals; give each a name of its own")
    best = experiment.checkpoint.best
    # The first word alone can be checked: the metrics below it are known once the suite has run.
    if best and best.removeprefix("-").split("/")[0] not in names:
        there = ", ".join(f"{name}/..." for name in names) or "no metric: set evals or eval_loss.every"
        raise UserError(f"checkpoint.best={best} is logged by no eval of this run, which logs {there}")


def metric_prefix(planned: EvalRun) -> str:
    """Returns the prefix of the metrics of an eval run."""
    return planned.name or planned.suite.name
