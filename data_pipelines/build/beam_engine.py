"""The engine for many machines: Apache Beam with any runner. All machines mount the output folder."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from ivjax.data_pipelines.build.shard_jobs import BuildSettings, ShardJob, build_shard, finished
from ivjax.errors import UserError

_LOOK_SECONDS = 2.0


def run_beam(
    jobs: Sequence[ShardJob],
    work: BuildSettings,
    runner: str,
    arguments: Sequence[str],
    tick: Callable[[int], None],
) -> None:
    """Builds all shards with Beam's options `arguments`; calls `tick` with the rows of finished shards."""
    check_beam()
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions([f"--runner={runner}", *arguments])
    with _watching(jobs, work, tick), beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "jobs" >> beam.Create(jobs)
            # Without it Beam fuses the steps, and one worker would build all shards.
            | "spread" >> beam.Reshuffle()
            | "build" >> beam.Map(build_shard, work)
        )


def check_beam() -> None:
    """Raises UserError if Beam is not installed."""
    try:
        import apache_beam  # noqa: F401
    except ImportError:
        raise UserError(
            # Beam caps pyarrow and protobuf below what the other packages install.
            "engine=beam needs Apache Beam, which is not installed: pip install 'ivjax[beam]' in an "
            "environment of its own, or use engine=pool"
        ) from None


@contextlib.contextmanager
def _watching(jobs: Sequence[ShardJob], work: BuildSettings, tick: Callable[[int], None]) -> Iterator[None]:
    """Reports shards that workers of any machine have finished, while the block runs."""
    over = threading.Event()

    def watch() -> None:
        waiting = list(jobs)
        while waiting and not over.wait(_LOOK_SECONDS):
            # By the files, which every runner leaves behind alike.
            done = {job.number for job in waiting if finished(job, work) is not None}
            tick(sum(len(job.rows) for job in waiting if job.number in done))
            waiting = [job for job in waiting if job.number not in done]

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
