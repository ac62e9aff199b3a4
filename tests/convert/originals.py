"""Small checkpoints as the original models would save them, and families that have such sizes as presets."""

import dataclasses
import functools
import math
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np

from ivjax.convert.engine.family import Family
from ivjax.convert.families.encoders import ENCODER, STAGE2, VIDEOMAE
from ivjax.convert.families.internvideo2 import PRETRAIN
from ivjax.convert.families.viclip import CLIP, VICLIP
from ivjax.convert.formats import torch_files, writing
from ivjax.convert.formats.tensors import Arrays, LazyTensor
from ivjax.convert.registry import FAMILIES
from ivjax.models.dual_size import DualSize
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead, StudentSize
from ivjax.models.viclip import TextSize, VisionSize
from ivjax.models.videomae import VideoMaeSize

SMALL = DualSize(
    VisionSize(width=12, depth=3, heads=2, out=6, patch=2, image=(8, 8), frames=4),
    TextSize(width=8, depth=2, heads=2, out=6, context=5, vocabulary=11),
)
WIDE = dataclasses.replace(SMALL, vision=dataclasses.replace(SMALL.vision, width=16))
STUDENT = StudentSize(
    EncoderSize(16, 2, 2, 32, 2, 8, image=(28, 28), frames=8), FeatureHeads(8, 2), PooledHead(8)
)
SMALL_VICLIP = dataclasses.replace(VICLIP, presets={"small": SMALL, "wide": WIDE})
SMALL_CLIP = dataclasses.replace(CLIP, presets=SMALL_VICLIP.presets)
SMALL_PRETRAIN = dataclasses.replace(PRETRAIN, presets={"small": STUDENT})
SMALL_ENCODER = dataclasses.replace(ENCODER, presets={"small": STUDENT.encoder})
SMALL_STAGE2 = dataclasses.replace(STAGE2, presets=SMALL_ENCODER.presets)
SMALL_VIDEOMAE = dataclasses.replace(
    VIDEOMAE, presets={"small": VideoMaeSize(12, 2, 2, 20, patch=2, image=(8, 8), frames=4)}
)
_SMALL = SMALL_VICLIP, SMALL_CLIP, SMALL_PRETRAIN, SMALL_ENCODER, SMALL_STAGE2, SMALL_VIDEOMAE


def use_small_families(monkeypatch) -> None:
    """Lets the families have small presets."""
    for family in _SMALL:
        monkeypatch.setitem(FAMILIES, family.name, family)


def originals(family: Family = SMALL_VICLIP, size=SMALL, dtype=np.float32) -> dict[str, np.ndarray]:
    """Random tensors under the original names."""
    rng = np.random.default_rng(0)
    leaves = {path: rng.normal(size=shape).astype(dtype) for path, shape in family.shapes(size).items()}
    return {lazy.name: lazy.read() for lazy in family.original_tensors(Arrays(leaves), size)}


def write_originals(path: Path, tensors: dict[str, np.ndarray], container: str = "model") -> Path:
    """A file of tensors: .safetensors, or as torch writes it."""
    lazy_tensors = [
        LazyTensor(name, array.shape, array.dtype, lambda a=array: [a]) for name, array in tensors.items()
    ]
    if path.suffix == ".safetensors":
        writing.write_safetensors(path, lazy_tensors, {})
    else:
        torch_files.write_torch(path, lazy_tensors, container)
    return path


@functools.cache
def _noise() -> np.ndarray:
    """Any bits; as many as no axis of a model divides into, so that rows of a tensor differ."""
    return np.random.default_rng(0).integers(0, 2**16, 16_777_213, np.uint16)


def pseudo_random(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """bfloat16 of any bits, the same for the same name."""
    count, start = math.prod(shape), zlib.crc32(name.encode()) % (_noise().size // 2)
    stretch = _noise()[start : start + count]
    whole = stretch if stretch.size == count else np.resize(_noise()[start:], count)
    return whole.reshape(shape).view(ml_dtypes.bfloat16)
