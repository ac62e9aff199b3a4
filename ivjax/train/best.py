"""The best checkpoint of a run by a named metric, which outlives the rotation of the others."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from ivjax.convert.formats.seal import sealed
from ivjax.drafts import store
from ivjax.errors import PassingError, UserError, nearest
from ivjax.experiment.buckets import known_as, storage
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.kept_files import hand_on
from ivjax.experiment.run_folder import BEST, CHECKPOINTS
from ivjax.experiment.storing import store_experiment
from ivjax.train.saving import reason
from ivjax.train.step import State

_FILE = "best.json"


class BestCheckpoint:
    """Keeps the parameters with the best value of `checkpoint.best`, and their average, in RUN/best.

    RUN/best is a run folder without optimizer state: eval, load and init_from take it. Its best.json has the
    metric, its value and the step. An equal value does not replace an earlier one, so that a run which takes
    some steps again after a kill keeps the checkpoint that an unbroken run keeps.
    """

    def __init__(self, experiment: Experiment, folder: Path):
        self._experiment = experiment
        self._folder = folder / BEST
        wanted = experiment.checkpoint.best or ""
        self._metric, self._lowest = wanted.removeprefix("-"), wanted.startswith("-")
        self._value = self._stored_value()

    def consider(self, step: int, metrics: Mapping[str, float], state: State) -> str | None:
        """Keeps the state after `step` steps if its metric is the best so far.

        Returns a line that says so, or that the metric is missing.
        """
        if not self._metric or self._metric.split("/")[0] not in {name.split("/")[0] for name in metrics}:
            return None
        if self._metric not in metrics:
            hint = nearest(self._metric, metrics, cutoff=0.3)
            # Said and not raised, as for evals that fail: what a suite logs may depend on its test set.
            return (
                f"no best checkpoint after step {step}: checkpoint.best={self._metric} is not among "
                f"{', '.join(sorted(metrics))}{hint}"
            )
        value = metrics[self._metric]
        # As the first value NaN would stay for good: no number compares as better.
        if math.isnan(value) or (self._value is not None and not self._is_better(value, self._value)):
            return None
        try:
            self._save(step, value, state)
        except (OSError, ValueError, UserError) as error:  # as writers of files raise on a full disk
            if jax.process_count() > 1:
                raise PassingError(f"the best checkpoint could not be kept ({reason(error)})") from None
            return f"the best checkpoint, of step {step}, could not be kept ({reason(error)})"
        self._value = value
        return f"best {self._metric} so far: {value:.4g} after step {step}, kept in {known_as(self._folder)}"

    def _is_better(self, value: float, before: float) -> bool:
        return value < before if self._lowest else value > before

    def _save(self, step: int, value: float, state: State) -> None:
        kept: dict[str, Any] = {name: state[name] for name in ("params", "ema") if name in state}
        items: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in kept.items()}
        items["meta"] = ocp.args.JsonSave(sealed({}, {}, kept))
        place = storage(self._folder) / CHECKPOINTS / str(step)
        # Not asynchronous: best.json must not name a checkpoint that a kill could still take away.
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
            writer.save(place, ocp.args.Composite(**items), force=True)
        # In this order: whenever a kill comes, best.json names a checkpoint that is whole.
        if jax.process_index() == 0:
            store_experiment(self._experiment, self._folder)
            hand_on(self._folder.parent, self._folder)
            best = {"metric": self._metric, "value": value, "step": step}
            store(self._folder / _FILE, json.dumps(best, indent=1) + "\n")
            self._remove_all_but(step)
        # Nobody goes on to write the next one while process 0 still removes.
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"best checkpoint {step}")

    def _stored_value(self) -> float | None:
        """The best value of an earlier start, if it was of the same metric."""
        file = self._folder / _FILE
        if not self._metric or not file.is_file():
            return None
        stored = json.loads(file.read_text())
        # A kill may have come after the file was written and before the older checkpoint was removed.
        if jax.process_index() == 0:
            self._remove_all_but(stored["step"])
        return float(stored["value"]) if stored["metric"] == self._metric else None

    def _remove_all_but(self, step: int) -> None:
        for other in (storage(self._folder) / CHECKPOINTS).iterdir():
            # What saves that were killed or failed have left goes too.
            if other.name != str(step):
                other.rmtree()
