"""Results of `ivjax eval` as JSON files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.errors import UserError
from ivjax.experiment.run_folder import BEST, folder_with_weights


@dataclass(frozen=True)
class EvalResult:
    """A result of an eval suite.

    Attributes:
        file: the file that it stands in.
        suite: the name of the suite.
        protocol: what was scored and how.
        metrics: percentages or ranks.
        groups: metrics of parts of the test set.
        classes: accuracies of classes.
        broken: how many clips or questions could not be scored.
    """

    file: Path
    suite: str
    protocol: Mapping[str, Any]
    metrics: Mapping[str, float]
    groups: tuple[Mapping[str, Any], ...]
    classes: tuple[Mapping[str, Any], ...]
    broken: int

    @property
    def weights(self) -> str:
        """What was tested: a path, maybe with a branch."""
        return str(self.protocol.get("weights", ""))

    @property
    def data(self) -> str:
        """The test set."""
        return str(self.protocol.get("data", ""))

    @property
    def changed(self) -> str:
        """Which branch of the run was tested, and what was changed of what the model sees; mostly ""."""
        seen = f"{self.protocol.get('visual tokens')} {self.protocol.get('videos')}"
        changes = [name for sign, name in (("unmerged", "unmerged"), ("black", "blind")) if sign in seen]
        branch = self.weights.partition("#")[2]
        of_branch = [f"of {branch}"] if branch else []
        return " ".join([*of_branch, *changes])

    def rows_by(self, kind: str) -> list[Mapping[str, Any]]:
        """Returns the groups of one kind."""
        return [group for group in self.groups if group.get("by") == kind]

    def is_of(self, run: Path) -> bool:
        """Whether it is a result of the run in a folder, or of a branch of it."""
        weights = Path(self.weights.partition("#")[0]).expanduser()
        there = weights.parent if weights.name == BEST else weights
        if not there.exists():
            return there.name == run.name  # a folder that has moved since keeps its name
        # Of a run in phases, its last one is what was tested.
        return folder_with_weights(there).resolve() == run.resolve()


def read_result(file: Path) -> EvalResult:
    """Returns the result in a file; raises UserError if there is none."""
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}; name a file of `ivjax eval --out`"
        ) from None
    except (ValueError, RecursionError):
        content = None
    found = _result(file, content)
    if found is None:
        raise UserError(f"{file} is no result of an eval; name a file of `ivjax eval --out`")
    return found


def results_in(run: Path) -> tuple[EvalResult, ...]:
    """Returns the results that lie in a run folder or in its folder `evals`, by name."""
    found = []
    for file in (*sorted(run.glob("*.json")), *sorted((run / "evals").glob("*.json"))):
        try:
            found.append(read_result(file))
        # The folder has other JSON files too.
        except UserError:
            continue
    return tuple(found)


def _result(file: Path, content: Any) -> EvalResult | None:
    if not isinstance(content, dict):
        return None
    suite, protocol, metrics = (content.get(name) for name in ("suite", "protocol", "metrics"))
    if not isinstance(suite, str) or not isinstance(protocol, dict) or not isinstance(metrics, dict):
        return None
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    broken = content.get("broken")
    count = broken.get("count", 0) if isinstance(broken, dict) else 0
    groups, classes = _rows(content, "by_group"), _rows(content, "by_class")
    return EvalResult(file, suite, protocol, numbers, groups, classes, int(count))


def _rows(content: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(row for row in content.get(name) or () if isinstance(row, dict))
