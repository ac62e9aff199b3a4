"""The train loop. It is given an experiment and knows no stage by name."""

import contextlib
import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.stages.objective import Metrics
from ivjax.train.metrics import console_line
from ivjax.train.rates import Rates
from ivjax.train.session import Compiling, Run, Say, Session, opened
from ivjax.train.stop import StopRequest, listening

_STEPS_AHEAD = 2  # steps that the host may queue before it waits for the devices
_WARM_UP_STEPS = 2  # steps after which a hidden transfer is an error
_GIVE_UP_AFTER = 10  # skipped steps in a row that end the run
_FREELY = contextlib.nullcontext()


class Done(NamedTuple):
    """A step that was taken: its number, and the medium and first place of its clips."""

    step: int
    medium: str
    first: int


def train(
    experiment: Experiment, folder: Path, say: Say = print, devices: Sequence[jax.Device] | None = None
) -> int:
    """Trains in run folder `folder`, or continues there, on `devices` (all by default).

    Returns the exit status: 130 after Ctrl-C, else 0, also after a SIGTERM that was obeyed.
    """
    return train_run(Run(experiment, folder), say, devices)


def train_run(
    run: Run,
    say: Say,
    devices: Sequence[jax.Device] | None = None,
    compiling: Compiling = _FREELY,
) -> int:
    """As `train`; the steps compile inside `compiling`, so that processes can take turns."""
    with listening() as request, opened(run, say, devices, compiling) as session:
        asked = _steps(session, request)
        session.ledger.enter("checkpoint")
        _save(session)
        session.checkpoints.wait()
        if not asked:
            run.leave(session)
        session.ledger.mark(session.done)
        session.say(session.ledger.describe())
        if asked:
            session.say(f"stopped by request after step {session.done}; the same command continues")
        return 130 if request.interrupt else 0


def _steps(session: Session, request: StopRequest) -> bool:
    """Steps until the end or until asked to stop; returns whether it was asked."""
    experiment, ledger, program = session.experiment, session.ledger, session.program
    rates = Rates(program.objective, experiment.batch * session.run.runs, program.mesh.size, ledger)
    started, skips = session.done, np.zeros((), int)
    pending: list[tuple[Done, Metrics]] = []
    in_flight: deque[jax.Array] = deque()
    ledger.enter("data wait")
    fed = next(session.feed) if session.done < experiment.steps else None
    while fed is not None and not request.stop:
        _start_profile(session)
        ledger.enter("step")
        warm = session.done - started >= _WARM_UP_STEPS
        with jax.transfer_guard("disallow") if warm else contextlib.nullcontext():
            session.state, metrics = session.steps[fed.medium](
                session.state, session.frozen, fed.batch, session.numbers
            )
        session.done, session.position = session.done + 1, dict(fed.position)
        session.taken[fed.medium] += 1
        rates.count(fed.medium)
        pending.append((Done(session.done, fed.medium, fed.first), metrics))
        in_flight.append(metrics["loss"])
        ledger.enter("data wait")
        fed = next(session.feed) if session.done < experiment.steps else None
        ledger.enter("step")
        _stop_profile(session, last=fed is None)
        if len(in_flight) > _STEPS_AHEAD:
            jax.block_until_ready(in_flight.popleft())
        if session.done % experiment.log.every == 0 or fed is None:
            skips = _report(session, pending, skips, rates)
        if experiment.eval_loss.every and session.done % experiment.eval_loss.every == 0:
            with ledger.book("eval"):
                _evaluate(session)
        if session.checkpoints.due(session.done):
            with ledger.book("checkpoint"):
                _save(session)
        if session.checkpoints.stop_requested(session.done):
            break
    if pending:
        _report(session, pending, skips, rates)
    return fed is not None


def _report(
    session: Session, pending: list[tuple[Done, Metrics]], skips: np.ndarray, rates: Rates
) -> np.ndarray:
    """Logs the last of the pending steps and looks through all of them for skipped ones.

    `skips` are how many were skipped in a row, () or (runs,) where several are trained together.
    """
    steps, fetched = [done for done, _ in pending], jax.device_get([metrics for _, metrics in pending])
    pending.clear()
    for done, metrics in zip(steps, fetched, strict=True):
        skips = np.where(metrics["finite"], 0, skips + 1)
        if skips.any():
            _note_skip(session, done, skips > 0)
    step, metrics = steps[-1].step, fetched[-1]
    values: dict[str, Any] = {"loss": _number(metrics["loss"])}
    values |= {name: _number(value) for name, value in metrics.items() if name not in ("loss", "finite")}
    values |= {"skipped": _number(jax.device_get(session.state["skipped"]), int)}
    values |= rates.since_last() | session.feed.report()
    session.say(console_line(step, session.experiment.steps, values))
    spent = {f"time/{name}": round(seconds, 3) for name, seconds in session.ledger.totals().items()}
    session.log.write(step, values | {"flops": session.flops()} | spent)
    session.ledger.write()
    if skips.min() >= _GIVE_UP_AFTER:
        raise UserError(
            f"the last {skips.min()} steps up to {step} had a non-finite loss or gradient and were skipped; "
            f"lower schedule.peak or optimizer.clip, or look at clips in {session.folder / 'skipped.jsonl'}"
        )
    return skips


def _number(value: np.ndarray, kind: type = float) -> Any:
    """A metric as a number; those of several runs (runs,) as an array."""
    return kind(value) if np.ndim(value) == 0 else np.asarray(value, kind)


def _note_skip(session: Session, done: Done, skipped: np.ndarray) -> None:
    """Keeps the global places of the clips of a step whose update was skipped, and in which runs it was."""
    last = done.first + session.experiment.batch - 1
    line = {"step": done.step, "medium": done.medium, "first_index": done.first, "last_index": last}
    line |= {"runs": np.flatnonzero(skipped).tolist()} if skipped.ndim else {}
    where = f" in {skipped.sum()} of {skipped.size} runs" if skipped.ndim else ""
    why = f"non-finite loss or gradient (clips {done.first}.. of the order)"
    session.say(f"step {done.step} was skipped{where}: {why}")
    if jax.process_index() == 0:
        with (session.folder / "skipped.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def _evaluate(session: Session) -> None:
    """The loss on clips that are not trained on, the same ones each time."""
    experiment, running = session.experiment, session.program.objective.running
    feed = session.run.feed(session.program, eval_clips=True)
    params = session.state["params"]
    totals: list[dict[str, Any]] = []
    for _ in range(experiment.eval_loss.batches):
        value, terms = session.loss(params, session.frozen, next(feed).batch, session.numbers)
        shown = {name: term for name, term in terms.items() if name not in running}
        totals.append(jax.device_get({"loss": value, **shown}))
    feed.loader.close()
    means = {f"eval/{n}": _number(np.mean([t[n] for t in totals], axis=0)) for n in totals[0]}
    session.say(console_line(session.done, experiment.steps, means))
    session.log.write(session.done, means)


def _save(session: Session) -> None:
    session.checkpoints.save(session.done, session.state, session.position, session.meta())
    session.ledger.mark(session.done)


def _start_profile(session: Session) -> None:
    if session.done == session.experiment.log.profile_start:
        jax.profiler.start_trace(str(session.folder / "profile"))
        session.profiling_until = session.done + session.experiment.log.profile_steps


def _stop_profile(session: Session, last: bool) -> None:
    if session.profiling_until is not None and (last or session.done >= session.profiling_until):
        jax.block_until_ready(session.state["step"])
        jax.profiler.stop_trace()
        session.profiling_until = None
