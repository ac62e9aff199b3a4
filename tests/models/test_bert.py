"""BERT as the text tower of a pair: it starts from the Hub's files, has rules, and learns."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from ivjax.convert.origins import read_weights
from ivjax.errors import UserError
from ivjax.experiment import load_experiment
from ivjax.experiment.rules import rule_of
from ivjax.models.bert import BertSize
from ivjax.ops.trees import paths_of
from ivjax.train.step import init_state, make_step

HUB = Path(__file__).parents[1] / "golden/hub/bert"
# Of the small BERT in that folder.
SIZE = BertSize(width=16, depth=2, heads=2, mlp_width=32, out=64, context=6, vocabulary=40, places=12)


@pytest.fixture(scope="module")
def experiment():
    pair = load_experiment("viclip_tiny")
    vision = dataclasses.replace(pair.stage.vision, width=32, depth=1, heads=2, image=(32, 32), frames=2)
    stage = dataclasses.replace(pair.stage, vision=vision, text=SIZE)
    return dataclasses.replace(
        pair,
        stage=stage,
        init_from=(f"text={HUB}",),
        init_fresh=("text/proj",),
        schedule=dataclasses.replace(pair.schedule, peak=1e-2, warmup=1),
    )


def test_a_text_tower_starts_from_a_file_of_the_hub(experiment):
    objective = experiment.stage.build(experiment.compute)
    target = jax.eval_shape(objective.init, jax.random.key(0))
    read = read_weights(objective, experiment, target)
    wanted = {path for path, _ in paths_of(target) if path.startswith("text/")}
    assert read.keys() == wanted - {"text/proj/kernel", "text/proj/bias"}
    with pytest.raises(UserError, match="nothing for text/proj/bias, text/proj/kernel; add a file, or name"):
        read_weights(objective, dataclasses.replace(experiment, init_fresh=()), target)


@pytest.mark.slow
def test_it_learns_with_clips(experiment):
    objective = experiment.stage.build(experiment.compute)
    params = jax.jit(objective.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 40, (8, 6)).astype(np.int32)
    ids[:, 4:] = 0
    video = rng.integers(0, 255, (8, 2, 32, 32, 3)).astype(np.uint8)
    numbers = np.arange(8, dtype=np.int32)
    batch = {"index": numbers.astype(np.uint32), "sample": numbers, "video": video, "text": ids}
    state = init_state(params, experiment.recipe)
    step, losses = jax.jit(make_step(objective, experiment.recipe)), []
    for _ in range(12):
        state, metrics = step(state, {}, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]


def test_every_parameter_has_a_rule():
    shapes = jax.eval_shape(SIZE.build(load_experiment("viclip_tiny").compute).init, jax.random.key(0))
    for path, _ in paths_of(shapes):
        assert rule_of(SIZE.rules, path)


def test_a_text_longer_than_its_table_is_refused():
    with pytest.raises(UserError, match="stage.text.context=600 is longer than its table of 512 places"):
        dataclasses.replace(BertSize.PRESETS["base"], context=600).check("text")
