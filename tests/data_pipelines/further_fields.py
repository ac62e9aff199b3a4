"""Fields that the library does not know, in a module of their own because workers import it."""

from dataclasses import dataclass

import numpy as np

from ivjax.data_pipelines.fields import SingleArray
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError


@dataclass(frozen=True)
class SoundLevel(SingleArray):
    """How loud a clip is said to be: () float32, with noise of `spread`."""

    spread: float = 0.0

    @property
    def shape(self):
        return ()

    def array(self, clip, spec, draw):
        level = clip.record.attributes.get("loudness")
        if level is None:
            raise ClipError("no loudness", f"clip {clip.record.id} has none")
        return np.asarray(float(level) + self.spread * draw("loudness").standard_normal())


@dataclass(frozen=True)
class FrameCounts:
    """A field of two arrays: how many frames a clip has, and whether that is an even number."""

    def arrays(self, name):
        return name, f"{name}_even"

    def check(self, path, wanted):
        if any(spec.shape for spec in wanted.values()):
            raise UserError(f"{path} gives single numbers")

    def make(self, clip, wanted, draw):
        count = clip.video.probe.frames
        values = (np.asarray(count), np.asarray(count % 2 == 0))
        return {name: value for name, value in zip(wanted, values, strict=True)}
