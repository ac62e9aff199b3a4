"""Fields that the library does not know, in a module of their own because workers import it."""

from dataclasses import dataclass

import numpy as np

from ivjax.data_pipelines.fields import SingleArray
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer, fit
from ivjax.errors import UserError


@dataclass(frozen=True)
class Letters:
    """A tokenizer whose ids are the bytes of a text."""

    length: int = 4
    vocabulary_size: int = 256

    def encode(self, text):
        return fit((), list(text.encode()), (), self.length, 0)


@dataclass(frozen=True)
class SoundLevel(SingleArray):
    """The loudness that a record gives its clip: () float32, with noise of `spread`."""

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


@dataclass(frozen=True)
class Waveform(SingleArray):
    """The sound of a clip: (n,) float32 from -1 to 1, cut or filled up with silence."""

    rate: int = 16_000

    def array(self, clip, spec, draw):
        from ivjax.data_pipelines.video.sound import read_sound  # a config that names the field needs no av

        sound = read_sound(clip.record.payload, self.rate)
        if sound is None:
            raise ClipError("no sound", f"clip {clip.record.id} has none")
        samples = sound.samples[: spec.shape[0]] / np.float32(32768)
        return np.pad(samples, (0, spec.shape[0] - len(samples)))


@dataclass(frozen=True)
class Turns:
    """Two arrays of a conversation: its ids (L,), and which of them the assistant says."""

    tokenizer: Tokenizer

    def arrays(self, name):
        return name, f"{name}_answers"

    def check(self, path, wanted):
        if any(spec.shape != (self.tokenizer.length,) for spec in wanted.values()):
            raise UserError(f"{path}.tokenizer.length={self.tokenizer.length} and the stage wants another")

    def make(self, clip, wanted, draw):
        said = [(turn, self.tokenizer.encode(turn.text)) for turn in clip.record.conversation]
        if not said:
            raise ClipError("no conversation", f"clip {clip.record.id} has none")
        ids = np.concatenate([ids[ids > 0] for _, ids in said])
        answers = np.concatenate([ids[ids > 0] * (turn.role == "assistant") for turn, ids in said]) > 0
        length = self.tokenizer.length
        return {
            name: np.resize(np.append(values, np.zeros(length, values.dtype)), length)
            for name in wanted
            for values in [answers if name.endswith("_answers") else ids]
        }
