"""Run folders that are written by hand, and what a page about them holds."""

import json
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ivjax.train.ledger import CATEGORIES

TIMES = dict(zip(CATEGORIES, (30.0, 0.0, 10.0, 50.0, 5.0, 5.0, 0.0), strict=True))


def write_run(
    folder: Path,
    lines: Sequence[Mapping[str, Any]] = (),
    config: Mapping[str, str] | None = None,
    times: Mapping[str, float] | None = None,
    results: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Writes what a run leaves behind, without checkpoints; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if lines:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if config is not None:
        (folder / "experiment.txt").write_text("".join(f"{k} = {v}\n" for k, v in config.items()))
    if times is not None:
        (folder / "ledger.json").write_text(json.dumps({"totals": times, "marks": {}}))
    for name, result in (results or {}).items():
        (folder / name).write_text(json.dumps(result))
    return folder


def result_of(suite: str, weights: str, metrics: Mapping[str, float], **more: Any) -> dict[str, Any]:
    """What `ivjax eval --out` stores."""
    protocol = {"weights": weights, "data": "shards/held_out", **more.pop("protocol", {})}
    rest = {"broken": {"count": 0, "clips": []}, "by_class": [], "by_group": []}
    return {"suite": suite, "protocol": protocol, "metrics": metrics, **rest, **more}


def logged(steps: int, start: float = 4.0) -> list[dict[str, Any]]:
    """Lines of a run that logs every 10 steps, and the held-out loss every 20."""
    lines: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        rates = {
            "clips/s": 100.0 + step,
            "tokens/s": 7.0,
            "TFLOP/s/device": 0.5,
            "MFU": 0.25,
            "data_wait": 0.125,
        }
        lines.append({"step": step, "loss": start / step, "clip": start / step / 2, "lr": 1e-3, **rates})
        if step % 20 == 0:
            lines.append({"step": step, "eval/loss": 1.1 * start / step, "retrieval/t2v_r1": float(step)})
    return lines


class Page(HTMLParser):
    """The elements of a page.

    Attributes:
        elements: tag and attributes of each, in order.
        rows: the cells of each row of each table, by the name of the table.
        texts: all texts outside of scripts and styles.
    """

    def __init__(self, file: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.texts: list[str] = []
        self._inside: list[str] = []
        self._table = ""
        self.feed(file.read_text("utf-8"))

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        """The attributes of all elements of a tag that have the wanted ones."""
        found = (attributes for name, attributes in self.elements if name == tag)
        return [one for one in found if all(one.get(name) == value for name, value in wanted.items())]

    @property
    def charts(self) -> dict[str, dict[str, list[list[float]]]]:
        """The points of the lines of each chart, by its heading and theirs."""
        found = {}
        for svg in self.all("svg"):
            lines = json.loads(svg["data-chart"])["lines"]
            found[svg["aria-label"].split(" by step")[0]] = {one["label"]: one["points"] for one in lines}
        return found

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        self._inside.append(tag)
        if tag == "table":
            self._table = attributes["aria-label"]
            self.rows.setdefault(self._table, [])
        elif tag == "tr":
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self.rows[self._table][-1].append("")

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self._inside and self._inside[-1] in ("script", "style"):
            return
        self.texts.append(data)
        if self._inside and self._inside[-1] in ("td", "th"):
            self.rows[self._table][-1][-1] += data
