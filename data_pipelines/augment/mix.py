"""Mixup and CutMix of a batch, and the soft targets that go with them."""

import math
from dataclasses import dataclass

import numpy as np

from ivjax.errors import UserError


@dataclass(frozen=True)
class Mix:
    """Rows are mixed in pairs, the first with the last and so on inwards, all in the same way.

    mixup, cutmix: alphas of their Beta distributions; 0 switches one off. switch: the share of CutMix
    where both are on. group: how many neighbouring rows are paired among each other, in the originals
    those of one device; by default all that are given. Where every host holds whole groups and draws
    from the same generator, a global batch does not depend on the number of hosts.
    """

    classes: int
    mixup: float = 0.8
    cutmix: float = 1.0
    probability: float = 1.0
    switch: float = 0.5
    smoothing: float = 0.1
    group: int | None = None

    def apply(
        self, video: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B, T, H, W, 3) uint8, (B,) int -> mixed video, targets (B, classes) float32; rows sum to 1."""
        partners = self.partners(len(video))
        if rng.random() >= self.probability or not (self.mixup or self.cutmix):
            return video, self.targets(labels, partners, 1.0)
        cut = self.cutmix > 0 and (self.mixup <= 0 or rng.random() < self.switch)
        alpha = self.cutmix if cut else self.mixup
        kept = float(rng.beta(alpha, alpha))
        if cut:
            video, kept = _cut(video, partners, kept, rng)
        else:
            video = _mixed(video, partners, kept)
        return video, self.targets(labels, partners, kept)

    def partners(self, rows: int) -> np.ndarray:
        """The number of the row that each row is mixed with: (rows,)."""
        group = rows if self.group is None else self.group
        if group < 2 or group % 2 or rows % group:
            raise UserError(f"mixing wants groups of an even number of rows; {rows} rows, mix.group={group}")
        return np.arange(rows).reshape(-1, group)[:, ::-1].reshape(-1)

    def targets(self, labels: np.ndarray, partners: np.ndarray, kept: float) -> np.ndarray:
        """Smoothed one-hot targets of each row (weight `kept`) and its partner: (B, classes) float32."""
        if labels.min() < 0 or labels.max() >= self.classes:
            raise UserError(f"labels reach from {labels.min()} to {labels.max()}, mix.classes={self.classes}")
        off = self.smoothing / self.classes
        hot = np.full((len(labels), self.classes), off, np.float32)
        hot[np.arange(len(labels)), labels] = 1 - self.smoothing + off
        return (kept * hot + (1 - kept) * hot[partners]).astype(np.float32)


def _mixed(video: np.ndarray, partners: np.ndarray, kept: float) -> np.ndarray:
    mixed = np.empty_like(video)
    for row, partner in enumerate(partners):
        blended = np.float32(kept) * video[row]
        blended += np.float32(1 - kept) * video[partner]
        mixed[row] = np.rint(blended, out=blended)
    return mixed


def _cut(
    video: np.ndarray, partners: np.ndarray, kept: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Pastes the partner's box; the share that is kept follows from the box inside the frame."""
    height, width = video.shape[2:4]
    share = math.sqrt(1 - kept)
    half_height, half_width = int(height * share) // 2, int(width * share) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(y - half_height, 0), min(y + half_height, height)
    left, right = max(x - half_width, 0), min(x + half_width, width)
    pasted = video.copy()
    pasted[:, :, top:bottom, left:right] = video[partners, :, top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)
