"""The train loop. It is given an experiment and knows no stage by name."""

import contextlib
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import jax

from ivjax.experiment.buckets import opened, push
from ivjax.experiment.experiment import Experiment
from ivjax.progress import Say
from ivjax.train.evaluation import evaluate
from ivjax.train.phases import unfinished_runs
from ivjax.train.profiling import Profiler
from ivjax.train.program import Build, program_of
from ivjax.train.reporting import Reporter
from ivjax.train.session import Session, start_session
from ivjax.train.stop import StopRequest, catch_stop_signals
from ivjax.train.watch import watched

_STEPS_AHEAD = 2  # more queued steps would hold more batches in device memory and hide where time goes
_WARM_UP_STEPS = 2  # the first steps may still move constants to the devices


def train(
    experiment: Experiment,
    folder: str | Path,
    say: Say = print,
    devices: Sequence[jax.Device] | None = None,
    *,
    verbose: bool = False,
    build: Build = program_of,
) -> int:
    """Trains an experiment in a run folder, or continues the run that is there.

    Args:
        experiment: What is trained.
        folder: The run folder, or its address in a bucket (gs://BUCKET/RUN); several hosts share it. Phases
            have run folders of their own inside it.
        say: Receives the lines for a person.
        devices: The devices to use; all by default.
        verbose: Whether to print the table of all parameters as well.
        build: Makes the jitted step of an experiment on a mesh.

    Returns:
        The exit status: 130 after Ctrl-C, else 0, also after a SIGTERM that was obeyed.
    """
    at_work: list[Session] = []

    def where() -> tuple[int, str]:
        return (at_work[0].step, at_work[0].ledger.running) if at_work else (0, "start")

    def train_one(run: Experiment, place: Path) -> bool:
        with (
            start_session(run, place, say, devices, verbose, build) as session,
            contextlib.closing(Profiler(run.log, place)) as profiler,
        ):
            at_work.append(session)
            finished = _take_steps(session, request, profiler)
            _leave(session, finished)
        # Or the state of a phase would lie beside that of the next one.
        at_work.clear()
        return finished

    with opened(str(folder), say) as whole, catch_stop_signals() as request, watched(where):
        # Each host has its part of a bucket's files, and may have to say so; of the run one speaks for all.
        say = say if jax.process_index() == 0 else lambda line: None
        for run, place in unfinished_runs(experiment, whole, say):
            if not train_one(run, place):
                break
    return 130 if request.interrupt else 0


def _take_steps(session: Session, request: StopRequest, profiler: Profiler) -> bool:
    """Trains to the last step, or until asked to stop. Returns whether the last step was reached."""
    experiment, ledger = session.experiment, session.ledger
    reporter = Reporter(session)
    in_flight: deque[jax.Array] = deque()
    first = session.step
    while session.step < experiment.steps and not request.stop:
        profiler.before(session.step)
        ledger.enter("data wait")
        fed = next(session.feed)  # while the devices are still busy with the step before
        ledger.enter("step")
        with _no_transfers() if session.step - first >= _WARM_UP_STEPS else contextlib.nullcontext():
            session.state, metrics = session.steps[fed.medium](session.state, session.frozen, fed.batch)
        session.step, session.position = session.step + 1, fed.position
        last = session.step == experiment.steps
        reporter.add(session.step, fed, metrics)
        profiler.after(session.step, metrics["loss"], last)
        # Waited for by a result of the step: the state itself is donated to the next one.
        in_flight.append(metrics["loss"])
        # Waits for an older step, never for the one just queued: the devices always have work.
        if len(in_flight) > _STEPS_AHEAD:
            jax.block_until_ready(in_flight.popleft())
        if last or session.step % experiment.log.every == 0:
            reporter.report()
        # Before the checkpoint: a run that is killed in between takes the step, and its evaluation, again.
        evaluate(session, last)
        if session.checkpoints.due(session.step):
            with ledger.book("checkpoint"):
                _save(session)
        # The processes of a job must all stop after the same step; jax's preemption service picks it.
        if session.checkpoints.stop_requested(session.step):
            break
    reporter.report()
    return session.step >= experiment.steps  # more, if the run is given fewer steps than it has taken


def _leave(session: Session, finished: bool) -> None:
    with session.ledger.book("checkpoint"):
        _save(session, last=True)
    session.say(session.ledger.describe())
    if not finished:
        session.say(f"stopped by request after step {session.step}; the same command continues")


def _save(session: Session, last: bool = False) -> None:
    if session.owner is not None:
        session.owner.check()
    # Before the checkpoint becomes valid: a start on another machine finds all lines up to its step.
    push(session.folder)
    session.checkpoints.save(session.step, session.state, session.position, session.meta(), last)
    session.ledger.mark(session.step)


def _no_transfers() -> contextlib.AbstractContextManager[None]:
    """Makes a hidden transfer between host and devices an error: it would stall every step."""
    return jax.transfer_guard("disallow")
