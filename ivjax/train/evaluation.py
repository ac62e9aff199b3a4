"""Evaluation between two steps: the loss on clips that are not trained on, and eval suites."""

from typing import Any

import jax
import numpy as np

from ivjax.errors import UserError
from ivjax.experiment.run_options import EvalRun
from ivjax.ops.cut import joined
from ivjax.train.checks import metric_prefix
from ivjax.train.feed import open_feed
from ivjax.train.metrics import console_line
from ivjax.train.session import Session


def evaluate(session: Session, last: bool) -> None:
    """Runs the evaluations that are due after the present step; all of them after the `last` one.

    Their metrics go to the log, and the parameters to RUN/best if `checkpoint.best` says so.
    """
    experiment, step = session.experiment, session.step
    found: dict[str, float] = {}
    with session.ledger.book("eval"):
        if _is_due(experiment.eval_loss.every, step, last):
            found |= eval_loss(session)
        for planned in experiment.evals:
            if _is_due(planned.every, step, last):
                found |= _run_suite(session, planned)
        if not found:
            return
        session.say(console_line(step, experiment.steps, found))
        session.log.write(step, found)
        if line := session.best.consider(step, found, session.state):
            session.say(line)


def _is_due(every: int, step: int, last: bool) -> bool:
    # The last step counts whatever `every` says, so that a finished run has
    # figures for what it leaves behind.
    return every > 0 and (last or step % every == 0)


def eval_loss(session: Session) -> dict[str, float]:
    """Returns the mean loss and its terms over clips that are not trained on, the same ones each time."""
    experiment, program = session.experiment, session.program
    totals: list[dict[str, Any]] = []
    # Opened anew each time, so that every evaluation sees the same clips, whenever the run was restarted.
    feed = open_feed(experiment, program.objective, program.mesh, session.folder, eval_clips=True)
    try:
        for _ in range(experiment.eval_loss.batches):
            loss, terms = program.loss(session.state["params"], session.frozen, next(feed).batch)
            # Running statistics are terms as well, but arrays that mean nothing to a reader.
            shown = {name: term for name, term in terms.items() if name not in program.objective.running}
            totals.append(jax.device_get({"loss": loss, **shown}))
    finally:
        feed.close()
    # The loss first: jax sorts the keys of dicts that it hands back.
    names = ["loss", *(name for name in totals[0] if name != "loss")]
    return {f"eval/{name}": float(np.mean([t[name] for t in totals])) for name in names}


def _run_suite(session: Session, planned: EvalRun) -> dict[str, float]:
    """The metrics of a suite for the present parameters, on the devices that train."""
    params, prefix = joined(session.state["params"], session.frozen), metric_prefix(planned)
    try:
        found = planned.suite.run(session.experiment, params, planned.data, session.program.mesh, session.say)
    except UserError as error:
        # An eval must not end a training: clips may be out of reach for a while, or a vector not be finite.
        # A suite fails in every process or in none, so all of them go on.
        session.say(f"{prefix} failed after step {session.step}, training goes on: {error}")
        return {}
    return {f"{prefix}/{name}": float(value) for name, value in found.items()}
