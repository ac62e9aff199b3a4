"""The result of a suite: the metrics, and all that decided them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ivjax.drafts import store
from ivjax.evals.hearing import hearing_of
from ivjax.evals.items import UnscoredClip
from ivjax.evals.suites.retrieval import SIDES
from ivjax.evals.vectors import Setting

_MOST_CLASSES = 20  # that a table lists


@dataclass(frozen=True)
class Result:
    """The result of a suite.

    Attributes:
        suite: its name.
        protocol: what was scored and how, in words and numbers.
        metrics: percentages or ranks.
        broken: clips that could not be scored.
        by_class: number, name, clips and top-1 accuracy in percent of each class of the test set.
        by_group: questions and metrics of each part of the test set: `by` says what of, `name` which one.
    """

    suite: str
    protocol: Mapping[str, Any]
    metrics: Mapping[str, float]
    broken: tuple[UnscoredClip, ...] = ()
    by_class: tuple[Mapping[str, Any], ...] = ()
    by_group: tuple[Mapping[str, Any], ...] = ()

    def json(self) -> str:
        """Returns the result as it is stored."""
        content = asdict(self)
        content["broken"] = {"count": len(self.broken), "clips": content["broken"]}
        # allow_nan=False: Python would write NaN, which is no JSON and breaks other readers.
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Stores the JSON; an interrupted write leaves nothing."""
        store(path, self.json())

    def table(self) -> str:
        """Returns the protocol line by line, then the metrics."""
        facts = {"suite": self.suite, **self.protocol, "broken clips": len(self.broken)}
        width = max(map(len, facts))
        lines = [f"{name:{width}}  {_written(value)}" for name, value in facts.items()]
        groups = _group_lines(self.by_group)
        return "\n".join([*lines, "", *_metric_lines(self.metrics), *_class_lines(self.by_class), *groups])


def facts_of(setting: Setting, videos: int, words: bool = True, silent: int = 0) -> dict[str, Any]:
    """Returns what every suite states: model, test set, sizes, date; with `words` the cleaning of texts.

    `silent` clips of a model that hears have no sound.
    """
    cleaning = {"text cleaning": "as the originals: lower case, most punctuation deleted"}
    encoder, data = setting.encoder, setting.data
    return {
        "weights": setting.weights,
        "data": data.path,
        "limit": data.limit,
        "videos": videos,
        "clips a video": setting.clips,
        "frames": encoder.frames,
        "image": list(encoder.image),
        **setting.read_by.facts(),
        **_heard(setting.encoder, silent),
        **(cleaning if words else {}),
        "broken share allowed": setting.broken,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _heard(encoder: Any, silent: int) -> dict[str, Any]:
    """What is heard of clips; nothing of a model that only sees."""
    hearing = hearing_of(encoder)
    if hearing is None:
        return {}
    facts: dict[str, Any] = {"clips are": "heard" if hearing.alone else "seen and heard"}
    return facts | {"of a sound": hearing.told, **({} if hearing.alone else {"clips without sound": silent})}


def _metric_lines(metrics: Mapping[str, float]) -> list[str]:
    """One column, or one for each direction."""
    split = [name.split("_", 1) for name in metrics if name.split("_")[0] in SIDES]
    sides = dict.fromkeys(side for side, _ in split)
    sided = dict.fromkeys(name for _, name in split)
    both = ", both" if sided else ""
    rest = {name + both: name for name in metrics if name.split("_")[0] not in SIDES}
    width = max(14, *(len(name) + 1 for name in (*sided, *rest)))
    lines = [f"{'':{width}}" + "".join(f"{SIDES[side]:>16}" for side in sides)] if sided else []
    for name in sided:
        lines.append(f"{name:{width}}" + "".join(f"{metrics[f'{side}_{name}']:16.2f}" for side in sides))
    return lines + [f"{title:{width}}{metrics[name]:16.2f}" for title, name in rest.items()]


def _class_lines(classes: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each class, or for the worst ones of many."""
    if not any(one["name"] for one in classes):
        return []
    shown, title = list(classes), "by class"
    if len(classes) > _MOST_CLASSES:
        shown = sorted(classes, key=lambda one: one["top1"])[:_MOST_CLASSES]
        title = f"the worst of {len(classes)} classes"
    names = [str(one["name"] or one["class"]) for one in shown]
    width = max(len(title), *map(len, names))
    lines = [
        f"{name:{width}}{one['clips']:8}{one['top1']:8.2f}" for name, one in zip(names, shown, strict=True)
    ]
    return ["", f"{title:{width}}{'clips':>8}{'top1':>8}", *lines]


def _group_lines(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each thing that the test set is told apart by."""
    lines: list[str] = []
    for kind in dict.fromkeys(group["by"] for group in groups):
        rows = [group for group in groups if group["by"] == kind]
        columns = {name: max(14, len(name) + 2) for name in rows[0] if name not in ("by", "name")}
        title = f"by {kind}"
        width = max(len(title), *(len(str(row["name"])) for row in rows))
        heads = "".join(f"{name.replace('_', ' '):>{wide}}" for name, wide in columns.items())
        lines += ["", f"{title:{width}}{heads}"]
        for row in rows:
            lines.append(f"{row['name']:{width}}" + "".join(f"{row[n]:{w},}" for n, w in columns.items()))
    return lines


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_written(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_written, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
