"""Consequences of another batch size: as many clips in fewer steps, at rates that grow with the batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.overrides import parse_override

_RATES = ("peak", "final", "start")  # the fields of schedules that are learning rates


def follow_batch(
    before: Experiment,
    after: Experiment,
    overrides: Sequence[str],
    say: Callable[[str], None] | None = None,
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
    if not after.follows_batch:
        # Who overrides these as well needs no advice.
        if say is not None and not paths & {"steps", "schedule.peak"}:
            say(
                f"batch is {after.batch} instead of {before.batch}; steps={after.steps} and "
                f"schedule.peak={after.schedule.peak:g} stay as they are (follows_batch=true scales them)"
            )
        return after
    if after.phases and not any(path.startswith("phases") for path in paths):
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
