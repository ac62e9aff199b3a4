"""Clips drawn from their number alone, and features of them for a student to predict.

They replace a corpus and the teachers: nothing is read from disk and every example is a pure function of
its number. The features are a fixed function of the pixels, so a student can learn them.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ivjax.errors import UserError
from ivjax.experiment.ranges import Count

if TYPE_CHECKING:
    from ivjax.data_pipelines.load.loader import BatchRequest, Loader

_SHAPES_PER_CLIP = 3


@dataclass(frozen=True)
class SyntheticClips:
    """Clips of moving coloured rectangles over a colour gradient.

    Attributes:
        clips: how many different ones.
        tubelet: the student's: how many frames one row of token features stands for.
    """

    clips: int = 4096
    tubelet: Count = 1

    def open(self, request: "BatchRequest", eval_clips: bool = False) -> "Loader":
        """Opens a loader over the clips, or over as many others to evaluate on."""
        import grain  # not where only models are run

        from ivjax.data_pipelines.load.loader import InMemory, Loader

        examples = self.examples(request.spec, eval_clips)
        order = grain.MapDataset.range(len(examples)).seed(request.seed % 2**32).shuffle().repeat()
        return Loader(order, InMemory(examples.__getitem__), request, epoch=len(examples))

    def examples(self, spec: Mapping[str, Any], eval_clips: bool = False) -> "SyntheticExamples":
        """Returns examples by number with the arrays of `spec` (name -> shape and dtype of one row)."""
        unknown = set(spec) - {"index", "video", "attention", "clip", "pooled", "mae"}
        if unknown:
            raise UserError(
                f"synthetic clips have no {', '.join(sorted(unknown))}; choose another data source"
            )
        # Other numbers, so that no eval clip is ever trained on.
        numbers = range(self.clips, 2 * self.clips) if eval_clips else range(self.clips)
        return SyntheticExamples(numbers, self.tubelet, spec)


class SyntheticExamples:
    """Examples by number; `index` is left to the loader, which alone knows an example's global place."""

    def __init__(self, numbers: range, tubelet: int, spec: Mapping[str, Any]):
        self._numbers = numbers
        self._spec = {name: s for name, s in spec.items() if name != "index"}
        self._frames, self._height, self._width, _ = spec["video"].shape
        self._times = self._frames // tubelet
        self._patches = self._patches_per_frame()

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        video = self._draw(np.random.default_rng(self._numbers[number]))
        described = _describe(video, self._times, self._patches) if self._patches else None
        features: dict[str, np.ndarray] = {"video": video}
        for name, spec in self._spec.items():
            if name != "video":
                features[name] = self._feature(name, video, described, spec.shape).astype(spec.dtype)
        return features

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        ramp = np.linspace(0, 1, self._width)[None, None, :, None]
        corners = rng.uniform(0, 160, (2, 1, 1, 1, 3))
        video = np.broadcast_to(
            corners[0] + ramp * (corners[1] - corners[0]), (self._frames, self._height, self._width, 3)
        ).copy()
        for _ in range(_SHAPES_PER_CLIP):
            colour, side = rng.uniform(60, 255, 3), rng.uniform(0.15, 0.4)
            start, speed = rng.uniform(0, 1, 2), rng.uniform(-0.15, 0.15, 2)
            for frame in range(self._frames):
                top, left = (start + frame * speed) % 1.0
                rows = slice(int(top * self._height), int((top + side) * self._height))
                columns = slice(int(left * self._width), int((left + side) * self._width))
                video[frame, rows, columns] = colour
        return video.astype(np.uint8)

    def _feature(
        self, name: str, video: np.ndarray, described: np.ndarray | None, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Attention (T, L), pooled (C,), or token features (K, [1+]N, C) of unit length."""
        if name == "pooled" or described is None:
            return _project(video.mean((0, 1, 2)) / 255, "pooled", 0, shape[-1])
        if name == "attention":
            return _saliency(described)
        layers, _, width = shape
        rows = described.reshape(-1, described.shape[-1])
        if name == "clip":  # only these features have a row for the class token
            rows = np.concatenate([rows.mean(0, keepdims=True), rows])
        return np.stack([_project(rows, name, layer, width) for layer in range(layers)])

    def _patches_per_frame(self) -> int:
        """Returns the patches of one temporal position, by the shape of a token feature; 0 without one."""
        tokens = {"attention": lambda s: s[1], "clip": lambda s: (s[1] - 1) // self._times}
        tokens["mae"] = lambda s: s[1] // self._times
        return next((read(self._spec[name].shape) for name, read in tokens.items() if name in self._spec), 0)


def _describe(video: np.ndarray, times: int, patches: int) -> np.ndarray:
    """Mean and deviation of the colours of each patch: (times, patches, 6), about unit size."""
    frames, height, width, _ = video.shape
    patch = round((height * width / patches) ** 0.5)
    cells = video.reshape(times, frames // times, height // patch, patch, width // patch, patch, 3)
    # float32 in place of NumPy's float64: half the memory for numbers of eight bits.
    cells = cells.transpose(0, 2, 4, 6, 1, 3, 5).reshape(times, patches, 3, -1) / np.float32(255)
    mean = cells.mean(-1)
    square = np.einsum("tpcn,tpcn->tpc", cells, cells) / cells.shape[-1]
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return np.concatenate([mean, 2 * deviation], axis=-1)


def _saliency(described: np.ndarray) -> np.ndarray:
    """Returns how far each patch stands out of its frame: (T, L), rows sum to 1."""
    distance = np.linalg.norm(described - described.mean(1, keepdims=True), axis=-1) + 0.02
    return distance / distance.sum(-1, keepdims=True)


def _project(rows: np.ndarray, name: str, layer: int, width: int) -> np.ndarray:
    """A fixed random two-layer map of `rows`, of unit length: what a frozen teacher would say."""
    first, bias, second = _teacher(name, layer, rows.shape[-1], width)
    features = np.tanh((rows - 0.4) @ first + bias) @ second
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


@functools.cache
def _teacher(name: str, layer: int, described: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Seeded by the name's bytes: Python's own hash of a text differs from process to process.
    rng = np.random.default_rng([layer, *name.encode()])
    first, bias = rng.normal(0, 2.0, (described, 32)), rng.normal(0, 0.5, 32)
    return first, bias, rng.normal(0, 1.0, (32, width))
