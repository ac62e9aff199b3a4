"""Small checkpoints as the original models would save them, and families that have such sizes as presets."""

import dataclasses
from pathlib import Path

import ml_dtypes
import numpy as np

from ivjax.convert import torch_files, writing
from ivjax.convert.engine import export_tensors, unflatten
from ivjax.convert.families import FAMILIES
from ivjax.convert.family import Family
from ivjax.convert.internvideo2 import PRETRAIN, StudentSize
from ivjax.convert.tensors import Lazy
from ivjax.convert.viclip import CLIP, VICLIP, ViClipSize
from ivjax.models.clip import TextSize, VisionSize
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.internvideo2_student import FeatureHeads, PooledHead

SMALL = ViClipSize(
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


def use_small_families(monkeypatch) -> None:
    """Lets the families have small presets."""
    monkeypatch.setitem(FAMILIES, "viclip", SMALL_VICLIP)
    monkeypatch.setitem(FAMILIES, "clip", SMALL_CLIP)
    monkeypatch.setitem(FAMILIES, "internvideo2_pretrain", SMALL_PRETRAIN)


def originals(family: Family = SMALL_VICLIP, size=SMALL, dtype=np.float32) -> dict[str, np.ndarray]:
    """Random tensors under the original names."""
    rng = np.random.default_rng(0)
    leaves = {path: rng.normal(size=shape).astype(dtype) for path, shape in family.shapes(size).items()}
    return export_tensors(family.rows, unflatten(leaves))


def write_originals(path: Path, tensors: dict[str, np.ndarray], container: str = "model") -> Path:
    """A file of tensors: .safetensors, or as torch writes it."""
    lazies = [Lazy(name, array.shape, array.dtype, lambda a=array: [a]) for name, array in tensors.items()]
    if path.suffix == ".safetensors":
        writing.write_safetensors(path, lazies, {})
    else:
        torch_files.write_torch(path, lazies, container)
    return path


def pseudo_random(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """bfloat16 of any bits, the same for the same name."""
    rng = np.random.default_rng(list(name.encode()))
    return rng.integers(0, 2**16, shape, np.uint16).view(ml_dtypes.bfloat16)
