"""A small stage-2 model that sees, hears and judges, clips of noise for it, and clips of real tones."""

import functools
import io
import re
from fractions import Fraction
from pathlib import Path

import av
import jax
import jax.numpy as jnp
import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.encode import Audio, Encoding, encode_video
from ivjax.evals.hearing import stacked
from ivjax.evals.pair_model import PairModel, media_of
from ivjax.experiment.computing import Compute
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.beats import BeatsSize
from ivjax.models.bert import FusionBertSize
from ivjax.models.internvideo2 import AlignedSize
from ivjax.stages.cross_modal import CrossModal, LossWeights
from ivjax.train.mesh import build_mesh
from tests.models.params import any_params

# Every medium has an embedding and a judge.
STAGE = CrossModal(
    AlignedSize(16, 1, 2, 32, pool_heads=2, pool_width=16, image=(28, 28), frames=2, layer_scale=0.1),
    FusionBertSize(16, 2, 2, 32, 8, 6, 24, places=6, fusion=1, seen=12, start=2, mask=4),
    audio=BeatsSize(16, 1, 2, 32, patch_width=8, patch=8, frames=50, bins=16, place_taps=4, place_groups=2),
    joint_width=12,
    weights=LossWeights(atc=1.0, atm=1.0, avtc=1.0, avtm=1.0),
)


CLIPS = 6
WORDS = tuple(f"{a} {b}" for a, b in zip("abcdef", "mnopqr", strict=True))


class Letters:
    """A tokenizer: a word is its first letter."""

    length, vocabulary_size = 6, 24

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a text (L,)."""
        ids = [2, *(5 + ord(word[0]) % 19 for word in text.split())][: self.length]
        return np.array([*ids, *[0] * (self.length - len(ids))], np.int32)


@functools.cache
def towers():
    """The model and any parameters."""
    model = STAGE.model(Compute("float32"))
    params = any_params(model)
    # Embeddings and logits far from each other, so that an order does not hang on rounding.
    for name in ("vision_proj", "audio_proj", "both_proj", "video_match", "audio_match", "both_match"):
        params[name]["kernel"] = 10 * params[name]["kernel"]
    return model, params


@functools.cache
def pair(medium: str = "video", devices: int = 1) -> PairModel:
    """The model as evals read it."""
    model, params = towers()
    mesh = build_mesh(MeshShape(), jax.devices()[:devices])
    return PairModel(model, params, Letters(), 4, mesh, medium=medium)


def noise(number: int, frames: int, image: tuple[int, int], hearing=None):
    """What is read of the clip of a number."""
    rng = np.random.default_rng(number)
    pictures = rng.integers(0, 256, (frames, *image, 3)).astype(np.uint8)
    if hearing is None:
        return pictures
    sound = rng.normal(size=(hearing.frames, hearing.bins)).astype(np.float32)
    return sound if hearing.alone else (pictures, sound)


def read_noise(views, frames, image, neighbours=1, hearing=None):
    """Noise by the number in the name of each file; a name with `broken` is a fault."""
    for view in views:
        name = Path(str(view.media)).stem
        if "broken" in name:
            yield ClipError("undecodable", "no frames")
        else:
            yield noise(int(re.findall(r"\d+", name)[0]), frames, image, hearing)


@functools.cache
def dense(medium: str, texts: tuple[str, ...] = WORDS, odds: bool = False):
    """The cosines and logits (texts, clips) of texts and the clips of noise, each pair by itself.

    With `odds` the logarithms of the odds of a match in place of its logits.
    """
    model, params = towers()
    ids = np.stack([Letters().encode(text) for text in texts])
    rows = stacked(
        [noise(number, model.frames, model.image, pair(medium).hearing) for number in range(CLIPS)]
    )
    cosines, logits = (np.asarray(x) for x in _scores(medium)(params, ids, *media_of(rows, medium)))
    return cosines, logits[..., 1] - logits[..., 0] if odds else logits[..., 1]


@functools.cache
def _scores(medium: str):
    model, _ = towers()

    def scores(params, ids, video, sound):
        found = model.features(params, medium, video, sound)
        states = model.read(params, ids)
        t, c = (x.ravel() for x in np.indices((len(ids), CLIPS)))
        logits = model.judge(params, states[t], ids[t], found.tokens[c], medium)
        unit = found.embedding / jnp.linalg.norm(found.embedding, axis=-1, keepdims=True)
        return model.unit_words(params, ids) @ unit.T, logits.reshape(len(ids), CLIPS, 2)

    return jax.jit(scores)


def tone(hertz: float, seconds: float = 1.0, rate: int = 16_000) -> Audio:
    """A tone."""
    times = np.arange(round(seconds * rate)) / rate
    return Audio((8000 * np.sin(2 * np.pi * hertz * times)).astype(np.int16), rate)


def sounding(hertz: float | None, seconds: float = 1.0) -> bytes:
    """A grey video with a tone, or without sound."""
    pictures = [np.full((32, 32, 3), 128, np.uint8)] * round(8 * seconds)
    audio = None if hertz is None else tone(hertz, seconds)
    return encode_video(pictures, Fraction(8), Encoding(preset="ultrafast"), audio)


def wav(sound: Audio) -> bytes:
    """A file of sound without pictures."""
    file = io.BytesIO()
    with av.open(file, "w", "wav") as container:
        track = container.add_stream("pcm_s16le", rate=sound.rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound.samples[None], "s16", "mono")
        frame.sample_rate = sound.rate
        for packet in (*track.encode(frame), *track.encode(None)):
            container.mux(packet)
    return file.getvalue()
