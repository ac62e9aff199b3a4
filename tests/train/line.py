"""A stage of two small parameters, for tests of the loop to which the model does not matter."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ivjax.data_pipelines.load.synthetic import SyntheticClips
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.rules import Rule
from ivjax.experiment.run_options import AdamW, Checkpointing, Logging
from ivjax.experiment.schedules import WarmupCosine
from ivjax.stages.objective import Medium, Objective
from tests.train import micro


@dataclass(frozen=True)
class Line:
    """Guesses the pooled feature of a clip from its mean colour."""

    width: int = 4
    bias: bool = True

    def build(self, compute):
        """Returns an objective that compares the guess with the clip's feature."""
        batch = {
            "video": jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.uint8),
            "pooled": jax.ShapeDtypeStruct((self.width,), jnp.float32),
        }

        def init(key):
            kernel = jax.random.normal(key, (3, self.width))
            return {"line": {"kernel": kernel} | ({"bias": jnp.zeros(self.width)} if self.bias else {})}

        def loss(params, batch, key):
            error = jnp.mean((self.model(compute)(params, batch["video"]) - batch["pooled"]) ** 2)
            return error, {"squared": error}

        media = {"video": Medium(batch, tokens=1, flops={"line": 18.0 * self.width})}
        return Objective(init, loss, media, (Rule("*/kernel", decays=True), Rule("*")))

    @property
    def size(self):
        """The size of the model, which is of no checkpoint family."""
        return self

    def model(self, compute):
        """Returns the guess as a function of parameters and clips."""

        def guess(params, video):
            colour = video.astype(jnp.float32).mean((1, 2, 3)) / 255
            return colour @ params["line"]["kernel"] + params["line"].get("bias", 0.0)

        return guess


experiment = Experiment(
    stage=Line(),
    data=SyntheticClips(clips=64),
    batch=16,
    steps=6,
    schedule=WarmupCosine(peak=0.02, warmup=2),
    optimizer=AdamW(clip=None),
    ema=0.9,
    dtype="float32",
    checkpoint=Checkpointing(every=2),
    log=Logging(every=1),
)

run = functools.partial(micro.run, base=experiment)
