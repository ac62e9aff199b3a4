"""The smallest experiment of clips and captions: a coloured clip, and ids that name its colour."""

import functools
from dataclasses import dataclass

import grain
import numpy as np

from ivjax.data_pipelines.load.loader import InMemory, Loader
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.run_options import AdamW, Checkpointing, Logging
from ivjax.experiment.schedules import FlooredCosine
from ivjax.models.viclip import TextSize, VisionSize
from ivjax.stages.dual_encoder import Contrast, DualEncoder
from tests.train import micro


@dataclass(frozen=True)
class ColouredClips:
    """`clips` clips; the first two of every sixteen show the same, and have the same ids."""

    clips: int = 64

    def open(self, request, eval_clips=False):
        """Returns the loader of the clips."""
        frames, height, width, _ = request.spec["video"].shape
        length = request.spec["text"].shape[0]

        def example(number):
            shown = number - 1 if number % 16 == 1 else number
            rng = np.random.default_rng([shown, eval_clips])
            colours = rng.integers(0, 256, (2, 3))
            ramp = np.linspace(0, 1, width)[:, None]
            row = colours[0] * (1 - ramp) + colours[1] * ramp
            video = np.broadcast_to(row, (frames, height, width, 3)).astype(np.uint8)
            text = np.zeros(length, np.int32)
            text[: 1 + 6] = [*(2 + colours.reshape(-1) // 8), 63]
            return {"video": video, "text": text, "sample": np.asarray(shown, np.int32)}

        order = grain.MapDataset.range(self.clips).seed(request.seed).shuffle().repeat()
        return Loader(order, InMemory(example), request, epoch=self.clips)


experiment = Experiment(
    stage=DualEncoder(
        vision=VisionSize(width=32, depth=2, heads=4, out=16, patch=7, image=(14, 14), frames=4),
        text=TextSize(width=24, depth=2, heads=4, out=16, context=8, vocabulary=64),
        contrast=Contrast(temperature=0.07),
        mask=0.5,
        train_text=True,
    ),
    data=ColouredClips(),
    batch=16,
    steps=20,
    schedule=FlooredCosine(peak=2e-3, warmup=4),
    optimizer=AdamW(decay=0.2, epsilon=1e-8, clip=None),
    dtype="float32",
    checkpoint=Checkpointing(every=10),
    log=Logging(every=1),
)

run = functools.partial(micro.run, base=experiment)
