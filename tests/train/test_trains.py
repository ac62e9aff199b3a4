"""`trains`: which parameters an experiment trains, and how fast."""

import dataclasses

import jax
import numpy as np
import pytest

from ivjax.convert.loading import load
from ivjax.convert.starting import shapes_of
from ivjax.errors import UserError
from ivjax.experiment.rules import Rule
from ivjax.experiment.run_options import AdamW, Trains
from ivjax.ops.trees import paths_of
from ivjax.stages.training_rates import objective_of, rates_of
from ivjax.train.optimizer import init_moments, updated
from tests.train import pairs

PATHS = ("vision/blocks/kernel", "vision/head/kernel", "text/blocks/kernel", "temperature")


def training(*trains: Trains):
    return dataclasses.replace(pairs.experiment, trains=trains, init_fresh=("*",))


def test_the_first_pattern_that_covers_a_path_gives_its_rate():
    rates = rates_of((Trains("vision/head", 2.0), Trains("vision", 0.0), Trains("*/blocks/*", 0.5)), PATHS)
    assert rates == dict(zip(PATHS, (0.0, 2.0, 0.5, 1.0), strict=True))


def test_a_pattern_that_covers_nothing_is_named_with_the_nearest_branch():
    with pytest.raises(
        UserError, match=r"trains: no parameter's path matches 'visoin'; did you mean 'vision'"
    ):
        rates_of((Trains("visoin", 0.0),), PATHS)


def test_rates_multiply_the_step_on_top_of_layer_decay():
    params = {"blocks": {"kernel": np.ones((2, 3))}, "head": {"kernel": np.ones(3)}}
    rules = (Rule("blocks/kernel", decays=True, depth="stacked"), Rule("head/kernel", decays=True))
    gradients = jax.tree.map(lambda x: 0.1 * x, params)
    options = AdamW(layer_decay=0.5, clip=None)

    def moved(rates):
        moments = init_moments(options, params)
        new, _, _ = updated(options, rules, gradients, moments, params, 1e-3, 0.05, rates)
        return {path: np.asarray(leaf) - 1.0 for path, leaf in paths_of(new)}

    plain, faster = moved({}), moved({"blocks/kernel": 3.0})
    np.testing.assert_allclose(
        plain["blocks/kernel"], [[-0.25 * 1.05e-3] * 3, [-0.5 * 1.05e-3] * 3], rtol=1e-4
    )
    np.testing.assert_allclose(faster["blocks/kernel"], 3.0 * plain["blocks/kernel"], rtol=1e-4)
    np.testing.assert_array_equal(faster["head/kernel"], plain["head/kernel"])


def test_frozen_parameters_have_no_moments_and_no_gradient_and_do_not_move(tmp_path):
    experiment = training(Trains("text/blocks", 0.0), Trains("vision", 0.1))
    objective = objective_of(experiment)
    trained, frozen = (dict(paths_of(tree)) for tree in shapes_of(objective, "float32"))
    assert frozen and all(path.startswith("text/blocks/") for path in frozen)
    assert objective.rates == {path: 0.1 for path in trained if path.startswith("vision/")}
    pairs.run(tmp_path, "steps=2", "schedule.warmup=1", base=experiment)
    after, start = (
        dict(paths_of(load(tmp_path).params)),
        dict(paths_of(jax.jit(objective.init)(jax.random.key(0)))),
    )
    still = {path for path in start if np.allclose(after[path], start[path], rtol=0, atol=1e-6)}
    assert frozen.keys() <= still and not any(path.startswith("vision/") for path in still)
