"""The smallest experiment that has everything, for tests of the loop."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax

from ivjax.config import Experiment
from ivjax.data_pipelines.synthetic import SyntheticClips
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.internvideo2_student import FeatureHeads, PooledHead
from ivjax.overrides import apply_overrides
from ivjax.stages.mask import Mask
from ivjax.stages.masked_reconstruction import MaskedReconstruction
from ivjax.train.checkpoint import Checkpointing
from ivjax.train.loop import train
from ivjax.train.metrics import Logging
from ivjax.train.schedule import WarmupCosine

experiment = Experiment(
    stage=MaskedReconstruction(
        student=EncoderSize(
            width=32,
            depth=2,
            heads=4,
            mlp_width=64,
            pool_heads=4,
            pool_width=16,
            image=(42, 42),
            frames=3,
            layer_scale=0.1,
        ),
        clip=FeatureHeads(width=16, layers=1),
        pooled=PooledHead(width=16),
        mae=FeatureHeads(width=16, layers=1, head="mlp"),
        mask=Mask(ratio=0.5),
        drop_path=0.2,
    ),
    data=SyntheticClips(clips=64),
    batch=16,
    steps=20,
    schedule=WarmupCosine(peak=2e-3, warmup=4),
    ema=0.9,
    dtype="float32",
    checkpoint=Checkpointing(every=10),
    log=Logging(every=1),
)


def run(
    folder: Path,
    *overrides: str,
    devices: Sequence[jax.Device] | None = None,
    said: list[str] | None = None,
    base: Experiment = experiment,
) -> list[float]:
    """Trains an experiment, by default the micro one, with overrides; returns the loss of every step."""
    collected = [] if said is None else said
    devices = jax.devices()[:1] if devices is None else devices
    assert train(apply_overrides(base, overrides), folder, collected.append, devices) == 0
    return losses(folder)


def losses(folder: Path) -> list[float]:
    """The loss of every step of a run folder; steps must be 1, 2, 3 ..."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    return [line["loss"] for line in steps]
