"""Mixup and CutMix of a batch, and the soft targets that go with them.

A row is mixed with the row half a batch further on, and what is drawn follows from places in the global
batch. Loaders deal the places of a batch to hosts in turn, so as long as each host has an even number of
rows it holds both rows of each of its pairs, and a mixed batch is the same on any number of hosts. The
originals mix the first row with the last one and so on; in a shuffled batch that is as good as any pairing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ivjax.errors import UserError
from ivjax.experiment.ranges import Count, Share

DrawAt = Callable[[int], np.random.Generator]  # random numbers that belong to a place of the global batch


class RowMix(NamedTuple):
    """The mixing of a row: the share that is kept of it, and the box that its partner's pixels go into.

    Without a box all pixels are blended.
    """

    kept: float
    box: tuple[slice, slice] | None = None  # rows and columns


@dataclass(frozen=True)
class Mix:
    """Turns `video` and `label` of a batch into mixed `video` and soft `targets`.

    The arrays have these names: a mixture with a Mix calls its fields of pictures and of classes `video` and
    `label`, and the stage asks for `targets`. All other arrays of a row stay as they are.

    Attributes:
        classes: length of the targets.
        mixup: alpha of mixup's Beta distribution; 0: no mixup.
        cutmix: alpha of CutMix's; 0: no CutMix.
        probability: of mixing at all.
        switch: the share of CutMix where both are on.
        smoothing: of the labels.
        group: how many rows share one draw: 1: each row has its own; 2: both rows of a pair; and so on. In
            the originals it is the rows of one device. None: the whole batch.
        cut: least and most height and width of CutMix's box, as shares of the frame's; None: a box with the
            frame's proportions whose size follows from the Beta distribution.
    """

    classes: Count
    # The originals' defaults, in probing as well as in full tuning.
    mixup: float = 0.8
    cutmix: float = 1.0
    probability: Share = 1.0
    switch: Share = 0.5
    smoothing: Share = 0.1
    group: int | None = None
    cut: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.cut is not None and not 0 < self.cut[0] <= self.cut[1] <= 1:
            raise UserError(f"Mix.cut={self.cut}; it must rise, above 0, to 1 at most")

    def check(self, path: str, batch: int, hosts: int) -> None:
        """Raises UserError if a global batch on so many hosts cannot be mixed; the options are at `path`."""
        if batch % (2 * hosts):
            raise UserError(
                f"{path} pairs rows within a host, and batch={batch} gives each of {hosts} hosts an odd "
                "number of rows; change the batch or the hosts"
            )
        group = batch if self.group is None else self.group
        if group < 1 or batch % group or (group > 1 and group % 2):
            raise UserError(
                f"{path}.group={group} and batch={batch}; a group is 1 row, or an even number of rows that "
                "divides the batch"
            )

    def apply(
        self, video: np.ndarray, labels: np.ndarray, places: np.ndarray, batch: int, draw: DrawAt
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mixes a host's rows of a global batch; `check` says which batches can be.

        Args:
            video: (B, T, H, W, 3) uint8.
            labels: (B,) numbers of classes.
            places: (B,) where the rows stand in the global batch: every n-th place, rising.
            batch: rows of the global batch.
            draw: place in the global batch -> the random numbers that belong to it.

        Returns:
            Mixed video of the same shape, and targets (B, classes) float32 whose rows sum to 1.
        """
        partners = np.roll(np.arange(len(video)), -(len(video) // 2))
        leaders = self._leaders(places, batch)
        drawn = {place: self._draw(video.shape[2:4], draw(place)) for place in sorted(set(leaders))}
        mixes = [drawn[place] for place in leaders]
        mixed = np.empty_like(video)
        for row, (partner, mix) in enumerate(zip(partners, mixes, strict=True)):
            _mix_row(video[row], video[partner], mix, mixed[row])
        return mixed, self._targets(labels, partners, np.array([mix.kept for mix in mixes]))

    def _leaders(self, places: np.ndarray, batch: int) -> list[int]:
        """The place, for each row, whose draw it follows: the first of its group."""
        if self.group == 1:
            return [int(place) for place in places]
        pairs = (batch if self.group is None else self.group) // 2
        # Both rows of a pair are `batch // 2` apart, and belong to the same group.
        return [int(place) % (batch // 2) // pairs * pairs for place in places]

    def _draw(self, size: tuple[int, ...], rng: np.random.Generator) -> RowMix:
        """Draws how the rows of a group are mixed; `size` is height and width."""
        if rng.random() >= self.probability or not (self.mixup or self.cutmix):
            return RowMix(1.0)
        cuts = self.cutmix > 0 and (self.mixup <= 0 or rng.random() < self.switch)
        alpha = self.cutmix if cuts else self.mixup
        kept = float(rng.beta(alpha, alpha))
        if not cuts:
            return RowMix(kept)
        box = _centred_box(size, kept, rng) if self.cut is None else _inner_box(size, self.cut, rng)
        area = math.prod(side.stop - side.start for side in box)
        # What is kept follows from the box: its part outside of the frame does not count.
        return RowMix(1 - area / math.prod(size), box)

    def _targets(self, labels: np.ndarray, partners: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Smoothed one-hot targets of each row (weight `kept`) and its partner: (B, classes) float32."""
        if labels.min() < 0 or labels.max() >= self.classes:
            raise UserError(f"labels reach from {labels.min()} to {labels.max()}, Mix.classes={self.classes}")
        # Spread over all classes, the right one included, as timm does.
        off = self.smoothing / self.classes
        hot = np.full((len(labels), self.classes), off, np.float32)
        hot[np.arange(len(labels)), labels] = 1 - self.smoothing + off
        share = kept[:, None]
        return (share * hot + (1 - share) * hot[partners]).astype(np.float32)


def _mix_row(video: np.ndarray, partner: np.ndarray, mix: RowMix, out: np.ndarray) -> None:
    """Writes a mixed clip (T, H, W, 3) uint8 to `out`."""
    if mix.box is not None:
        out[:] = video
        inside = (slice(None), *mix.box)
        out[inside] = partner[inside]
    elif mix.kept == 1:
        out[:] = video
    else:
        # float32 and one rounding at the end: in uint8 either product would be cut off.
        blended = np.float32(mix.kept) * video
        blended += np.float32(1 - mix.kept) * partner
        out[:] = np.rint(blended, out=blended)


def _centred_box(size: tuple[int, ...], kept: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """A box around any pixel, cut off at the edges of the frame."""
    height, width = size
    share = math.sqrt(1 - kept)
    half_height, half_width = int(height * share) // 2, int(width * share) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    rows = slice(max(y - half_height, 0), min(y + half_height, height))
    return rows, slice(max(x - half_width, 0), min(x + half_width, width))


def _inner_box(
    size: tuple[int, ...], shares: tuple[float, float], rng: np.random.Generator
) -> tuple[slice, slice]:
    """A box of any proportions that lies inside the frame."""
    sides = []
    for length in size:
        side = int(rng.integers(int(length * shares[0]), int(length * shares[1]) + 1))
        start = int(rng.integers(length - side + 1))
        sides.append(slice(start, start + side))
    return sides[0], sides[1]
