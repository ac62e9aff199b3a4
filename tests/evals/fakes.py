"""Encoders whose answers are known, and a reader that opens no file."""

import json
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ivjax.data_pipelines.store.records import Clip, ClipError
from ivjax.data_pipelines.video.encode import Encoding, encode_video
from ivjax.evals.items import EvalData
from ivjax.evals.scoring.similarity import strips
from ivjax.evals.suites.suite import Scoring
from ivjax.evals.vectors import Setting
from ivjax.evals.views import VideoView

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


def unit(vectors) -> np.ndarray:
    """Rows of length 1."""
    rows = np.asarray(vectors, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def dual_softmax(scores: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Each of the scores (queries, candidates) times its softmax over the queries."""
    each = np.eye(scores.shape[1], dtype=np.float32)  # candidates whose products with the scores are these
    return np.concatenate(list(strips(scores, each, Scoring(dsl=True, dsl_scale=scale))))


class TableEncoder:
    """The clip whose pixels all are `number`, and the text, have the vectors of two tables."""

    frames, image = 2, (4, 6)

    def __init__(self, videos: Sequence[Sequence[float]], texts: Mapping[str, Sequence[float]]):
        self._videos = unit(videos)
        self._texts = {text: unit(vector) for text, vector in texts.items()}
        self.width = self._videos.shape[-1]
        self.read_texts: list[str] = []
        self.batches: list[int] = []

    def video(self, clips: np.ndarray) -> np.ndarray:
        """Returns the embeddings of clips."""
        assert clips.shape[1:] == (self.frames, *self.image, 3) and clips.dtype == np.uint8
        self.batches.append(len(clips))
        return self._videos[clips[:, 0, 0, 0, 0]]

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the embeddings of texts."""
        self.read_texts += texts
        return np.stack([self._texts[text] for text in texts])


class ColourEncoder:
    """A clip's vector is its mean colour, a text's the colours that it names."""

    frames, image, width = 4, (16, 16), 3

    def video(self, clips: np.ndarray) -> np.ndarray:
        """Returns the embeddings of clips."""
        return unit(clips.mean((1, 2, 3)) + 1)

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the embeddings of texts."""
        named = [[COLOURS[word] for word in text.split() if word in COLOURS] for text in texts]
        return unit([np.sum(colours, 0) + 1 if colours else np.ones(3) for colours in named])


def read_numbers(
    views: Iterable[VideoView], frames: int, image: tuple[int, int], neighbours: int = 1
) -> Generator[np.ndarray | ClipError]:
    """Frames full of the number in the file's name (plus the part); a name with `broken` is a fault."""
    for view in views:
        name = Path(str(view.media)).stem
        if "broken" in name:
            yield ClipError("undecodable", "no frames")
            continue
        number = int(re.findall(r"\d+", name)[0]) + view.part
        yield np.full((frames, *image, 3), number, np.uint8)


def setting(encoder, path, **fields) -> Setting:
    """A test on `path` that opens no video."""
    data = {name: fields.pop(name) for name in ("kind", "videos", "options", "limit") if name in fields}
    values = {"read": read_numbers, "weights": "w.safetensors", "say": lambda line: None}
    return Setting(encoder, EvalData(str(path), **data), **(values | fields))


def annotated(folder: Path, rows: Sequence[Mapping[str, object]], name: str = "test.json") -> Path:
    """An annotation file, and an empty file for each video that it names."""
    for row in rows:
        videos = row["video"] if isinstance(row["video"], list) else [row["video"]]
        for video in videos:
            (folder / str(video)).write_bytes(b"")
    path = folder / name
    path.write_text(json.dumps(rows))
    return path


def colour_clip(number: int, colour: str, **fields) -> Clip:
    """A real clip of one colour, which its caption and its attributes tell."""
    picture = np.empty((32, 48, 3), np.uint8)
    picture[:] = COLOURS[colour]
    payload = encode_video([picture] * 8, Fraction(8), Encoding(preset="ultrafast"))
    values = {"captions": (f"it is {colour}",), "attributes": {"colour": colour, "events": "1"}}
    values |= {"video": f"v{number}", "end": 1.0, "frames": 8, "fps": 8.0, "width": 48, "height": 32}
    return Clip(id=f"clip{number}", payload=payload, **(values | fields))
