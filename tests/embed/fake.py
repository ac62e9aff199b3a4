"""An encoder without weights: colours are its embeddings. And videos of plain colours."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from ivjax.data_pipelines.video.encode import Encoding, encode_video
from tests.evals.fakes import unit

FPS = 10
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "grey": (128, 128, 128)}


class ColourEncoder:
    """A clip is its mean colour, a text the sum of the colours it names; a token is a frame's mean colour."""

    frames = 4
    image = (16, 24)
    width = 3
    feature = "embedding"

    def __init__(self):
        self.seen: list[tuple[int, ...]] = []

    def video(self, clips):
        self.seen.append(clips.shape)
        return unit(clips.mean((1, 2, 3)) - 20)

    def tokens(self, clips):
        self.seen.append(clips.shape)
        return clips.mean((2, 3)).astype(np.float32)

    def video_and_tokens(self, clips):
        return unit(clips.mean((1, 2, 3)) - 20), self.tokens(clips)

    def text(self, texts):
        return unit([np.sum([COLOURS.get(w, (1, 1, 1)) for w in text.split()], 0) - 20.0 for text in texts])


def coloured(*names: str, seconds: float = 1.0) -> bytes:
    """A video that shows each colour for so long, 10 frames a second."""
    pictures = [np.full((48, 64, 3), COLOURS[name], np.uint8) for name in names]
    frames = (picture for picture in pictures for _ in range(round(seconds * FPS)))
    return encode_video(frames, Fraction(FPS), Encoding(preset="ultrafast"))


def write_coloured(path: Path, *names: str, seconds: float = 1.0) -> str:
    """The same as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(coloured(*names, seconds=seconds))
    return str(path)
