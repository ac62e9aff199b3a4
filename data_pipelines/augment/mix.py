"""Mixup and CutMix of a batch, and the soft targets that go with them."""

import math
from dataclasses import dataclass

import numpy as np

from ivjax.errors import UserError


@dataclass(frozen=True)
class Mix:
    """Each row is mixed with the row as far from the other end of the batch, all in the same way.

    mixup, cutmix: alphas of their Beta distributions; 0 switches one off. switch: the share of CutMix
    where both are on. On several hosts each mixes the rows that it holds, as the originals' processes do.
    """

    classes: int
    mixup: float = 0.8
    cutmix: float = 1.0
    probability: float = 1.0
    switch: float = 0.5
    smoothing: float = 0.1

    def apply(
        self, video: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B, T, H, W, 3) uint8, (B,) int -> mixed video, targets (B, classes) float32; rows sum to 1."""
        if len(video) % 2:
            raise UserError(f"mixing wants an even number of rows on each host, not {len(video)}")
        if labels.min() < 0 or labels.max() >= self.classes:
            raise UserError(f"labels reach from {labels.min()} to {labels.max()}, mix.classes={self.classes}")
        if rng.random() >= self.probability or not (self.mixup or self.cutmix):
            return video, self.targets(labels, 1.0)
        cut = self.cutmix > 0 and (self.mixup <= 0 or rng.random() < self.switch)
        alpha = self.cutmix if cut else self.mixup
        kept = float(rng.beta(alpha, alpha))
        video, kept = _cut(video, kept, rng) if cut else (_mixed(video, kept), kept)
        return video, self.targets(labels, kept)

    def targets(self, labels: np.ndarray, kept: float) -> np.ndarray:
        """Smoothed one-hot targets of each row (weight `kept`) and its partner: (B, classes)."""
        off = self.smoothing / self.classes
        hot = np.full((len(labels), self.classes), off, np.float32)
        hot[np.arange(len(labels)), labels] = 1 - self.smoothing + off
        return (kept * hot + (1 - kept) * hot[::-1]).astype(np.float32)


def _mixed(video: np.ndarray, kept: float) -> np.ndarray:
    blended = kept * video.astype(np.float32)
    blended += (1 - kept) * video[::-1]
    return np.rint(blended).astype(np.uint8)


def _cut(video: np.ndarray, kept: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Pastes the partner's box; the share that is kept follows from the box inside the frame."""
    height, width = video.shape[2:4]
    share = math.sqrt(1 - kept)
    half_height, half_width = int(height * share) // 2, int(width * share) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(y - half_height, 0), min(y + half_height, height)
    left, right = max(x - half_width, 0), min(x + half_width, width)
    pasted = video.copy()
    pasted[:, :, top:bottom, left:right] = video[::-1, :, top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)
