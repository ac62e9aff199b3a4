"""What run folders hold: logged lines, times, the resolved config, results of evals."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from ivjax.errors import UserError
from ivjax.experiment.run_folder import METRICS, PHASES, checkpoint_steps, folder_with_weights, read_metrics
from ivjax.report.facts.eval_results import EvalResult, read_result, results_in
from ivjax.train.ledger import ledger_file, read_times

_CONFIG, _SWEEP = "experiment.txt", "sweep.json"
_LEAF = re.compile(r"([\w./-]+) = (.*)")  # a line of the resolved config; a value may go on below it


@dataclass(frozen=True)
class RunFacts:
    """What the folder of a run holds; of a run in phases, that of one phase.

    Attributes:
        label: names it on the page; no two runs of a page have the same.
        folder: the folder.
        lines: the lines of its metrics file.
        times: seconds by category of its time ledger; empty without one.
        config: the resolved experiment, dotted path -> value.
        checkpoint: the step of its newest checkpoint; None without one.
        results: results of evals.
    """

    label: str
    folder: Path
    lines: tuple[dict[str, Any], ...]
    times: Mapping[str, float]
    config: Mapping[str, str]
    checkpoint: int | None
    results: tuple[EvalResult, ...] = ()

    def points(self, name: str) -> list[tuple[int, float]]:
        """Returns (step, value) of each line that has a number of this name."""
        found = ((line["step"], line.get(name)) for line in self.lines)
        return [(step, value) for step, value in found if isinstance(value, int | float) and isfinite(value)]

    @property
    def stage(self) -> str:
        """The class of what it trains."""
        return self.config.get("stage", "")


@dataclass(frozen=True)
class GivenFolders:
    """The folders that a page is about.

    Attributes:
        runs: all runs, those of phases and sweeps too.
        sweeps: the folders that are sweeps.
        named: how many of the runs were named by themselves, and not by their sweep; these come first.
    """

    runs: tuple[RunFacts, ...]
    sweeps: tuple[Path, ...]
    named: int


def read_folders(paths: Sequence[Path], evals: Sequence[Path] = ()) -> GivenFolders:
    """Returns the facts of runs, of the phases of runs in phases, and of the runs of sweeps.

    `evals` are further results; each belongs to the run that its weights name.
    """
    folders: list[Path] = []
    swept: list[Path] = []
    sweeps = [path for path in paths if (path / _SWEEP).is_file()]
    for path in paths:
        if path in sweeps:
            swept += sorted(run for run in (path / "runs").glob("*") if _is_run(run))
        else:
            folders += _runs_of(path)
    found = list(dict.fromkeys(folders))
    everything = [*found, *(run for run in dict.fromkeys(swept) if run not in found)]
    results = [read_result(file) for file in evals]
    runs = [_read(folder, label) for folder, label in zip(everything, _labels(everything), strict=True)]
    runs = [_with_results(run, results) for run in runs]
    if strangers := [result for result in results if not any(result.is_of(run.folder) for run in runs)]:
        raise UserError(
            f"{strangers[0].file} is a result of {strangers[0].weights}, which is none of the runs; name "
            "that run too, or leave the result out"
        )
    return GivenFolders(tuple(runs), tuple(sweeps), len(found))


def _with_results(run: RunFacts, results: Sequence[EvalResult]) -> RunFacts:
    """Returns the run with those of the results that are its own, and that do not lie in its folder."""
    known = {result.file.absolute() for result in run.results}
    more = (one for one in results if one.is_of(run.folder) and one.file.absolute() not in known)
    return replace(run, results=(*run.results, *more))


def _runs_of(path: Path) -> list[Path]:
    if not path.is_dir():
        raise UserError(f"{path} does not exist; name the folder of a run or of a sweep")
    if phases := sorted((path / PHASES).glob("*_*"), key=_phase_number):
        return [phase for phase in phases if _is_run(phase)]
    if not _is_run(path):
        raise UserError(f"{path} holds no {METRICS} and no {_CONFIG}; name the folder of a run or of a sweep")
    return [path]


def _phase_number(folder: Path) -> int:
    first = folder.name.split("_")[0]
    return int(first) if first.isdecimal() else 0


def _is_run(path: Path) -> bool:
    return (path / METRICS).is_file() or (path / _CONFIG).is_file()


def _read(folder: Path, label: str) -> RunFacts:
    lines = tuple(read_metrics(folder)) if (folder / METRICS).is_file() else ()
    steps, results = checkpoint_steps(folder), results_in(folder)
    whole = folder.parent.parent
    # Results in the folder of a run in phases are of its last phase.
    if folder.parent.name == PHASES and folder_with_weights(whole) == folder:
        results += results_in(whole)
    try:
        times = read_times(ledger_file(folder, 0)).totals
    except (OSError, ValueError):
        times = {}
    newest = max(steps, default=None)
    return RunFacts(label, folder, lines, times, _config(folder), newest, results)


def _config(folder: Path) -> dict[str, str]:
    """Returns the resolved config as it was stored.

    As text and not as an experiment: classes of another version, or of another project, are no hindrance.
    """
    found: dict[str, str] = {}
    try:
        text = (folder / _CONFIG).read_text("utf-8", errors="replace")
    except OSError:
        return found
    path = ""
    for line in text.splitlines():
        if leaf := _LEAF.fullmatch(line):
            path = leaf[1]
            found[path] = leaf[2]
        elif path:
            found[path] += f"\n{line}"
    return found


def _labels(folders: Sequence[Path]) -> list[str]:
    """Returns of each path the shortest end that no other one has."""
    paths = [folder.resolve().parts for folder in folders]
    return [_label(path, [other for other in paths if other != path]) for path in paths]


def _label(path: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    length = 1
    while length < len(path) and any(other[-length:] == path[-length:] for other in others):
        length += 1
    return "/".join(path[-length:])
