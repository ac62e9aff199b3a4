"""The report of a build: totals by cause in report.json, a line for each in report.jsonl."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ivjax.data_pipelines.build.clip_recipe import Drop, Remark
from ivjax.drafts import store
from ivjax.progress import duration

REPORT, REPORT_LINES = "report.json", "report.jsonl"


@dataclass(frozen=True)
class Report:
    """The result of a build.

    Attributes:
        folder: the corpus.
        rows: rows of the source.
        clips: clips of the corpus.
        bytes: size of all shards.
        shards: number of shards.
        dropped: cause -> rows or clips that were dropped for it.
        remarks: cause -> clips that are kept and not quite as their rows ask for.
        digest: hash of the corpus.
        conversations: conversations about the clips.
        kept_shards: shards that were there before this call.
        seconds: time that this call took.
    """

    folder: Path
    rows: int
    clips: int
    bytes: int
    shards: int
    dropped: Mapping[str, int]
    remarks: Mapping[str, int]
    digest: str
    conversations: int = 0
    kept_shards: int = 0
    seconds: float = 0.0

    def text(self) -> str:
        """Returns the report as text: one line, and one more for each cause."""
        talks = f", {self.conversations:,} conversations" if self.conversations else ""
        lines = [
            f"{self.folder}: {self.clips:,} clips{talks} of {self.rows:,} rows, "
            f"{self.bytes / 1e6:,.1f} MB in {self.shards:,} shards ({self.kept_shards:,} were there), "
            f"{duration(self.seconds)}"
        ]
        lines += [f"  dropped: {count:,} {cause}" for cause, count in self.dropped.items()]
        lines += [f"  kept, {cause}: {count:,}" for cause, count in self.remarks.items()]
        listed = self.dropped or self.remarks
        return "\n".join(lines + ([f"  each one in {self.folder / REPORT_LINES}"] if listed else []))


def count_causes(drops: Iterable[Drop | Remark], not_drawn: int = 0) -> dict[str, int]:
    """Returns the number of drops or remarks for each cause, the most frequent first."""
    counts = Counter(drop.cause for drop in drops)
    if not_drawn:
        counts["not drawn"] = not_drawn
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def write_report(report: Report, drops: Iterable[Drop | Remark]) -> None:
    """Stores both files. They leave out what depends on the call, so equal corpora have equal reports."""
    store(report.folder / REPORT_LINES, report_lines(drops))
    totals = {
        name: getattr(report, name)
        for name in ("rows", "clips", "bytes", "shards", "dropped", "remarks", "digest")
    }
    if report.conversations:
        totals["conversations"] = report.conversations
    store(report.folder / REPORT, json.dumps(totals, indent=1) + "\n")


def report_lines(told: Iterable[Drop | Remark]) -> str:
    """Returns a JSON line for each dropped row or clip, and for each remark on one that is `kept`."""
    lines = (one._asdict() | ({"kept": True} if isinstance(one, Remark) else {}) for one in told)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
