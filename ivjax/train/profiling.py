"""A profile of a few steps, for TensorBoard or Perfetto."""

from pathlib import Path

import jax

from ivjax.experiment.run_options import Logging


class Profiler:
    """Traces `profile_steps` steps from `profile_start` on into the run folder, if that is set."""

    def __init__(self, options: Logging, folder: Path):
        self._options = options
        self._folder = folder / "profile"
        self._until: int | None = None

    def before(self, step: int) -> None:
        """Starts the trace if `step` steps are done at its beginning."""
        if step == self._options.profile_start:
            jax.profiler.start_trace(str(self._folder))
            self._until = step + self._options.profile_steps

    def after(self, step: int, result: jax.Array, last: bool) -> None:
        """Ends the trace after its last step, once the devices have finished it (`result`)."""
        if self._until is not None and (last or step >= self._until):
            # Steps are dispatched ahead: the trace would end before the devices have run them.
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends a trace that still runs, as after a stop: it would be lost, and refuse the next one."""
        if self._until is not None:
            jax.profiler.stop_trace()
            self._until = None
