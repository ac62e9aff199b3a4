"""Consequences of another batch size: as many clips in fewer steps, at rates that grow with the batch."""

from collections.abc import Sequence
from dataclasses import replace

from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.overrides import parse_override
from ivjax.experiment.run_options import Phase
from ivjax.progress import Say

_RATES = ("peak", "final", "start")  # the fields of schedules that are learning rates


def follow_batch(
    before: Experiment,
    after: Experiment,
    overrides: Sequence[str],
    say: Say | None = None,
) -> Experiment:
    """Returns `after`, whose steps and rates follow the batch if `overrides` changed it alone.

    With `follows_batch` the steps and the warm-up shrink and the rates grow by the factor by which the batch
    grew, except those that are overridden too. Without it they stay, and `say` is told so. Phases have to be
    overridden too.
    """
    paths = {parse_override(override)[0] for override in overrides}
    # A schedule that is replaced as a whole has rates of the user's choice.
    if after.batch == before.batch or "schedule" in paths:
        return after
    phases_set = any(path.startswith("phases") for path in paths)
    if not after.follows_batch:
        # Who overrides these as well needs no advice.
        told = phases_set if after.phases else "steps" in paths
        if say is not None and not told and "schedule.peak" not in paths:
            say(_phases_stay(before, after) if after.phases else _steps_stay(before, after))
        return after
    if after.phases and not phases_set:
        raise UserError(
            f"batch={after.batch}: follows_batch scales no phases, which have steps and rates of their own; "
            "set phases.0.steps and so on as well, or follows_batch=false"
        )
    # Linear, as the originals multiply all rates by batch / 256.
    factor = after.batch / before.batch
    changes: dict[str, float] = {
        name: getattr(after.schedule, name) * factor
        for name in _RATES
        if hasattr(after.schedule, name) and f"schedule.{name}" not in paths
    }
    if "schedule.warmup" not in paths:
        # By clips seen, not by steps: a larger batch passes as many in fewer steps.
        changes["warmup"] = round(after.schedule.warmup / factor)
    steps = after.steps if "steps" in paths else max(round(after.steps / factor), 1)
    after = replace(after, steps=steps, schedule=replace(after.schedule, **changes))  # type: ignore[arg-type]
    if say is not None:
        say(
            f"batch is {after.batch} instead of {before.batch}: steps={after.steps}, "
            f"schedule.warmup={after.schedule.warmup}, schedule.peak={after.schedule.peak:g}"
        )
    return after


def _steps_stay(before: Experiment, after: Experiment) -> str:
    return (
        f"batch is {after.batch} instead of {before.batch}; steps={after.steps} and "
        f"schedule.peak={after.schedule.peak:g} stay as they are (follows_batch=true scales them)"
    )


def _phases_stay(before: Experiment, after: Experiment) -> str:
    """As `_steps_stay`, where each phase has its own steps, and maybe its own batch."""
    own = [phase.name for phase in after.phases if _sets_batch(phase)]
    others = {phase.name: number for number, phase in enumerate(after.phases) if not _sets_batch(phase)}
    if not others:
        return f"batch={after.batch} has no effect: every phase sets a batch of its own"
    except_for = f" (not in {', '.join(own)}, with a batch of its own)" if own else ""
    first = min(others.values())
    return (
        f"batch is {after.batch} instead of {before.batch} in {', '.join(others)}{except_for}; the steps of "
        f"phases and schedule.peak={after.schedule.peak:g} stay as they are (phases.{first}.steps=... and "
        "schedule.peak=... change them)"
    )


def _sets_batch(phase: Phase) -> bool:
    return any(parse_override(change)[0] == "batch" for change in phase.changes)
