"""A field and a stage that are declared here train in the one loop: no library code names either."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.data_pipelines.fields import Frames
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.rules import Rule
from ivjax.experiment.run_options import Checkpointing, Logging
from ivjax.experiment.schedules import WarmupCosine
from ivjax.stages.objective import Medium, Objective
from tests.data_pipelines.corpora import corpus_of, make_clip
from tests.data_pipelines.further_fields import SoundLevel
from tests.train import micro


@dataclass(frozen=True)
class GuessLoudness:
    """Guesses how loud a clip is from its mean colour."""

    def build(self, compute):
        batch = {
            "video": jax.ShapeDtypeStruct((2, 8, 8, 3), np.uint8),
            "sound_level": jax.ShapeDtypeStruct((), np.float32),
        }

        def loss(params, batch, key):
            colour = batch["video"].astype(jnp.float32).mean((1, 2, 3)) / 255
            error = jnp.mean((colour @ params["colour"] + params["bias"] - batch["sound_level"]) ** 2)
            return error, {"squared": error}

        return Objective(
            init=lambda key: {"colour": jnp.zeros(3), "bias": jnp.zeros(())},
            loss=loss,
            media={"video": Medium(batch, tokens=1, flops={"all": 1.0})},
            rules=(Rule("*"),),
        )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    clips = [make_clip(n, attributes={"loudness": str(n / 8)}) for n in range(8)]
    return corpus_of(tmp_path_factory.mktemp("corpus"), clips, shards=1)


def test_a_new_field_trains_without_a_change_to_the_library(corpus, tmp_path):
    fields = {"video": Frames(Intervals(2)), "sound_level": SoundLevel()}
    experiment = Experiment(
        stage=GuessLoudness(),
        data=Mixture((Corpus(str(corpus)),), fields, workers=0),
        batch=8,
        steps=12,
        schedule=WarmupCosine(peak=0.1, warmup=1),
        dtype="float32",
        checkpoint=Checkpointing(every=12),
        log=Logging(every=1),
    )
    losses = micro.run(tmp_path / "run", base=experiment)
    mean_square = np.mean((np.arange(8) / 8) ** 2)
    assert losses[0] == pytest.approx(mean_square, rel=1e-6) and losses[-1] < 0.5 * losses[0]
    noisy = micro.run(tmp_path / "noisy", "steps=1", "data.fields.sound_level.spread=0.5", base=experiment)
    assert noisy[0] != losses[0]
