"""Weights & Biases, set up by its own environment variables: WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE, ..."""

import os
from collections.abc import Mapping

from ivjax.train.trackers.tracker import TrackedRun

_INIT_SECONDS, _FINISH_SECONDS = 60.0, 60.0


class WandbTracker:
    """A run there. A later start of the run continues it; its files lie in RUN/wandb.

    Attributes:
        place: where its numbers can be seen.
    """

    def __init__(self, run: TrackedRun):
        # Here and not above: only who asks for it has it installed.
        import wandb

        quiet = wandb.Settings(silent=True)
        mode = wandb.setup(quiet).settings.mode
        # Asked here, because `init` would ask for a key on the terminal, where nobody may sit.
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise ConnectionError("there is no key; run `wandb login`, or set WANDB_MODE=offline")
        self._run = wandb.init(
            id=run.key,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", "ivjax"),
            name=os.environ.get("WANDB_NAME", run.name),
            dir=os.environ.get("WANDB_DIR", str(run.folder)),
            config=dict(run.settings),
            # The output of the run is its own; a network that hangs must not hold up its end.
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=_INIT_SECONDS, finish_timeout=_FINISH_SECONDS
            ),
        )

        self.place = self._run.url or self._run.dir

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values of one step."""
        self._run.log(dict(values), step=step)

    def close(self, finished: bool) -> None:
        """Sends the rest. A run that is not finished counts as failed there until it is continued."""
        self._run.finish(exit_code=0 if finished else 1)
