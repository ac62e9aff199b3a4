"""Statistics of a corpus: durations, sizes, caption lengths, rates and scores."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.inspect.summary import QUANTILES, Distribution
from ivjax.data_pipelines.store.intact import intact_header
from ivjax.data_pipelines.store.manifest import Manifest
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.store.shards import open_shards
from ivjax.data_pipelines.tokenizers.caption_text import count_words

_RESOLUTIONS = 8  # of the table; the dict has all
_BAR = 30  # characters of the tallest bar


@dataclass
class Stats:
    """Counts and distributions of a corpus. A clip's `duration` is in seconds, its `size` in bytes.

    `manifest` is that of the corpus, and `labels` counts clips by class number; None stands for no class.
    """

    clips: int = 0
    unreadable: int = 0
    captions: int = 0
    with_audio: int = 0
    media: Counter[str] = field(default_factory=Counter)
    resolutions: Counter[str] = field(default_factory=Counter)
    distributions: dict[str, Distribution] = field(default_factory=dict)
    manifest: Manifest = Manifest(())
    labels: Counter[int | None] = field(default_factory=Counter)

    def add(self, header: dict[str, Any]) -> None:
        """Adds the header of one record."""
        self.clips += 1
        self.media[header["media"]] += 1
        self.with_audio += header["audio"]
        self.resolutions[f"{header['width']}x{header['height']}"] += 1
        for name, value in _quantities(header):
            self.distributions.setdefault(name, Distribution()).add(value)
        self.captions += len(header["captions"])
        self.labels[header["label"]] += 1

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as a dict for JSON."""
        return {
            "digest": self.manifest.digest,
            "source_digest": self.manifest.source_digest,
            "libraries": dict(self.manifest.libraries),
            "clips": self.clips,
            "unreadable": self.unreadable,
            "captions": self.captions,
            "conversations": self.manifest.conversations,
            "with_audio": self.with_audio,
            "media": dict(self.media),
            "resolutions": dict(self.resolutions.most_common()),
            "classes": [{"class": number, "name": name, "clips": n} for number, name, n in self._classes()],
            "unlabelled": self.labels[None],
            "distributions": {name: _as_dict(d) for name, d in self._filled()},
        }

    def table(self) -> str:
        """Returns counts, a line of quantiles for each quantity, and a histogram of each that varies."""
        counts = [f"{self.clips} clips ({_joined(self.media)}), {self.with_audio} with sound"]
        counts += [f"{self.captions} captions"]
        counts += [f"{self.manifest.conversations} conversations"] * bool(self.manifest.conversations)
        counts += [f"{self.unreadable} records cannot be read"] * bool(self.unreadable)
        shown = dict(self.resolutions.most_common(_RESOLUTIONS))
        others = self.clips - sum(shown.values())
        counts += [f"sizes: {_joined(shown)}" + f", {others} others" * bool(others)]
        heads = ["mean", "least", *(f"{share:.0%}" for share in QUANTILES), "most"]
        counts += self.manifest.digest_lines()
        lines = [f"{'':24}" + "".join(f"{head:>9}" for head in heads)]
        lines += [f"{name:24}" + "".join(f"{_short(v):>9}" for v in _row(d)) for name, d in self._filled()]
        varied = [(name, d) for name, d in self._filled() if d.least < d.most]
        charts = [line for name, d in varied for line in ("", name, *_bars(d))]
        return "\n".join([*counts, "", *lines, *charts, *self._class_table()])

    def plot(self, file: Path) -> None:
        """Stores a PNG with a histogram of each quantity."""
        # Not pyplot, which would look for a display.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        filled = self._filled()
        rows = max(-(-len(filled) // 2), 1)
        figure = Figure(figsize=(10, 2.6 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        for place, (name, distribution) in enumerate(filled):
            edges, counts = distribution.histogram()
            axes = figure.add_subplot(rows, 2, place + 1)
            axes.stairs(counts, edges, fill=True)
            axes.set(title=name, ylabel="captions" if name == "caption words" else "clips")
        figure.suptitle(f"{self.clips} clips, {self.captions} captions")
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="png")

    def _classes(self) -> list[tuple[int, str, int]]:
        """Returns number, name and clips of each class, named or met."""
        met = {number for number in self.labels if number is not None}
        numbers = met | set(range(len(self.manifest.classes)))
        named = dict(enumerate(self.manifest.classes))
        return [(number, named.get(number, ""), self.labels[number]) for number in sorted(numbers)]

    def _class_table(self) -> list[str]:
        """Returns a line for each class; none where no clip has a class."""
        rows = self._classes()
        lines = [f"{number:>6}  {name:30}{clips:>9}".rstrip() for number, name, clips in rows]
        missing = [f"{'':6}  {'without a class':30}{self.labels[None]:>9}"] * bool(self.labels[None])
        return ["", f"{'class':>6}  {'name':30}{'clips':>9}", *lines, *missing] if rows else []

    def _filled(self) -> list[tuple[str, Distribution]]:
        return [(name, d) for name, d in sorted(self.distributions.items()) if d.count]


def collect(folder: Path) -> Stats:
    """Returns the statistics of a corpus; reads every record once."""
    with open_shards(folder) as shards:
        stats = Stats(manifest=shards.manifest)
        for number in range(len(shards)):
            try:
                stats.add(intact_header(shards[number]))
            except ClipError:
                stats.unreadable += 1
    return stats


def _quantities(header: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield "size (bytes)", header["bytes"]
    yield "captions of a clip", len(header["captions"])
    yield from (("caption words", count_words(caption)) for caption in header["captions"])
    yield from ((f"{side} (pixels)", header[side]) for side in ("width", "height"))
    if header["media"] == "video":
        yield "duration (s)", header["end"] - header["start"]
        yield "frames", header["frames"]
        yield "frames per second", header["fps"]
    yield from ((f"score {name}", score) for name, score in header["scores"].items())


def _as_dict(distribution: Distribution) -> dict[str, Any]:
    edges, counts = distribution.histogram()
    quantiles = zip((f"{share:g}" for share in QUANTILES), distribution.quantiles(), strict=True)
    return {
        "count": distribution.count,
        "mean": distribution.mean,
        "least": distribution.least,
        "most": distribution.most,
        "quantiles": dict(quantiles),
        "histogram": {"edges": edges, "counts": counts},
    }


def _row(distribution: Distribution) -> list[float]:
    return [distribution.mean, distribution.least, *distribution.quantiles(), distribution.most]


def _bars(distribution: Distribution) -> Iterator[str]:
    edges, counts = distribution.histogram(10)
    for edge, end, count in zip(edges, edges[1:], counts, strict=False):
        bar = "#" * round(_BAR * count / max(counts))
        yield f"{_short(edge):>9} - {_short(end):<9}{count:>9} {bar}".rstrip()


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.3g}"


def _joined(counts: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
