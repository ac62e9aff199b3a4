"""Whether the parts of an experiment fit each other: checked at a start, before anything is read."""

import jax

from ivjax.data_pipelines.load.classes_in_use import classes_in_use, labels_in_use
from ivjax.data_pipelines.load.tokenizers_in_use import tokenizers_of
from ivjax.errors import UserError, nearest
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.run_options import EvalRun
from ivjax.stages.objective import Objective
from ivjax.train.program import Program


def check_words(experiment: Experiment, objective: Objective) -> None:
    """Raises if a tokenizer has more words than the stage knows: the rest would share one embedding."""
    for name, path, tokenizer, option in tokenizers_of(experiment.data):
        # A mixture may serve several stages, and hold fields of words that this one does not read.
        known = objective.vocabulary.get(name if option == "tokenizer" else f"{name}.{option}")
        if known is not None and tokenizer.vocabulary_size > known:
            raise UserError(
                f"{path}.{option} has {tokenizer.vocabulary_size} pieces and the stage knows {known} words "
                f"of {name}; make its vocabulary as large, or name the tokenizer that belongs to it"
            )


def check_classes(experiment: Experiment, objective: Objective) -> tuple[str, ...]:
    """Returns the class names of the corpora in the order of their numbers; none if their labels are numbers.

    Raises UserError if corpora number their classes differently, or if the stage has another number of them.
    """
    _check_labels(experiment, objective)
    named = classes_in_use(experiment.data)
    if not objective.classes or not named:
        return ()
    first, names = next(iter(named.items()))
    for folder, others in named.items():
        if others != names:
            raise UserError(
                f"{first} and {folder} number their classes differently; build one with the classes of the "
                f"other: ivjax data build ... --classes {first}"
            )
    for option, count in objective.classes.items():
        if count != len(names):
            raise UserError(
                f"{first} has {len(names)} classes and {option} is {count}; set {option}={len(names)}"
            )
    return names


def _check_labels(experiment: Experiment, objective: Objective) -> None:
    """Raises if a class number is beyond the stage's classes: such a clip would be trained towards none."""
    for option, count in objective.classes.items():
        for folder, labels in labels_in_use(experiment.data).items():
            if labels > count:
                raise UserError(
                    f"{folder} has class numbers up to {labels - 1}, which count from 0, and {option} is "
                    f"{count}; set {option}={labels}"
                )


def check_evals(experiment: Experiment) -> None:
    """Raises if an eval cannot run, or if two would log under one name."""
    for planned in experiment.evals:
        try:
            planned.suite.check(experiment, planned.data)
        except UserError as error:
            raise UserError(f"evals: {metric_prefix(planned)}: {error}") from None
    names = [metric_prefix(planned) for planned in experiment.evals]
    names += ["eval"] if experiment.eval_loss.every else []
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"evals: {twice[0]!r} is the name of several evals; give each a name of its own")


def check_best(experiment: Experiment, program: Program) -> None:
    """Raises if no eval logs `checkpoint.best`; needs the mesh in context.

    Of a suite that does not say what it logs, only the prefix can be checked before it has run.
    """
    best = experiment.checkpoint.best
    if not best:
        return
    logged = {metric_prefix(planned): planned.suite.METRICS for planned in experiment.evals}
    if experiment.eval_loss.every:
        logged["eval"] = ("loss",)
    prefix, _, name = best.removeprefix("-").partition("/")
    if prefix not in logged:
        there = ", ".join(f"{prefix}/..." for prefix in logged) or "no metric: set evals or eval_loss.every"
        raise UserError(f"checkpoint.best={best} is logged by no eval of this run, which logs {there}")
    # The terms of a loss take a trace, so only who asks for one waits for it.
    if prefix == "eval" and name != "loss":
        logged["eval"] = ("loss", *_loss_terms(program))
    if logged[prefix] and name not in logged[prefix]:
        hint = nearest(name, logged[prefix]) or f"; it logs {', '.join(logged[prefix])}"
        raise UserError(f"checkpoint.best={best}: the eval {prefix} logs no {name!r}{hint}")


def _loss_terms(program: Program) -> list[str]:
    batch = next(iter(program.batches.values()))
    _, terms = jax.eval_shape(program.loss, program.state["params"], program.frozen, batch)
    return [name for name in terms if name not in program.objective.running]


def metric_prefix(planned: EvalRun) -> str:
    """Returns the prefix of the metrics of an eval run."""
    return planned.name or planned.suite.name
