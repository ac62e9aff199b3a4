"""MLflow, set up by its own environment variables: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, ..."""

import importlib.util
import os
import re
import time
from collections.abc import Mapping

from ivjax.train.trackers.tracker import TrackedRun

_TAG = "ivjax_run"
_PARAMS_AT_ONCE, _LONGEST_PARAM = 100, 500  # what servers of any version take
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]", re.ASCII)


class MlflowTracker:
    """A run there, found again by a tag. A later start of the run continues it.

    Attributes:
        place: where its numbers can be seen.
    """

    def __init__(self, run: TrackedRun):
        # Here and not above: only who asks for it has it installed.
        from mlflow import MlflowClient, get_tracking_uri

        # What MLflow falls back on, and what its small package, which is our extra, lacks the database for.
        if get_tracking_uri().startswith("sqlite:") and importlib.util.find_spec("sqlalchemy") is None:
            raise ConnectionError(
                "name its server in MLFLOW_TRACKING_URI, or pip install mlflow to keep runs in a file"
            )
        # A client, because the functions of the package would change what a notebook around us has chosen.
        self._client = MlflowClient()
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "ivjax"))
        earlier = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{run.key}'", max_results=1)
        if earlier:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            new = self._client.create_run(experiment, run_name=run.name, tags={_TAG: run.key})
            self._id = new.info.run_id
            self._describe(run.settings)
        self.place = f"run {self._id} of {self._client.tracking_uri}"

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values of one step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        names = {name: _NOT_IN_NAMES.sub("_", name) for name in values}
        self._client.log_batch(self._id, [Metric(names[n], v, now, step) for n, v in values.items()])

    def close(self, finished: bool) -> None:
        """Says how the run has ended."""
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException:
                # Another run of a sweep may have made it just now.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id

    def _describe(self, settings: Mapping[str, str | float | None]) -> None:
        """Stores the settings; those of a later start cannot replace them there."""
        from mlflow.entities import Param

        params = [Param(path, str(value)[:_LONGEST_PARAM]) for path, value in settings.items()]
        for first in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(self._id, params=params[first : first + _PARAMS_AT_ONCE])
