"""`trains`: which parameters an experiment trains, and how fast."""

import dataclasses

import jax
import numpy as np
import pytest

from ivjax.convert.formats.orbax_files import restore_params
from ivjax.convert.starting import shapes_of
from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment
from ivjax.experiment.rules import Rule
from ivjax.experiment.run_options import AdamW, Starts, Trains
from ivjax.ops.trees import paths_of
from ivjax.stages.training_rates import objective_of, rates_of
from ivjax.train.optimizer import init_moments, updated
from ivjax.train.step import init_state
from tests.train import line

PATHS = ("vision/blocks/kernel", "vision/head/kernel", "text/blocks/kernel", "temperature")


def test_the_first_pattern_that_covers_a_path_gives_its_rate():
    rates = rates_of((Trains("vision/head", 2.0), Trains("vision", 0.0), Trains("*/blocks/*", 0.5)), PATHS)
    assert rates == dict(zip(PATHS, (0.0, 2.0, 0.5, 1.0), strict=True))


def test_a_pattern_that_covers_nothing_is_named_with_the_nearest_branch():
    with pytest.raises(
        UserError, match=r"trains: no parameter's path matches 'visoin'; did you mean 'vision'"
    ):
        rates_of((Trains("visoin", 0.0),), PATHS)


@pytest.mark.parametrize(
    "config, overrides, entry, words",
    [
        (
            "viclip_tiny",
            ["stage.train_text=false"],
            Trains("text", 0.1),
            r"'text' has rate=0.1, .*; set stage.train_text=true, or remove the entry",
        ),
        ("finetune_tiny", ["stage.probe=linear"], Trains("encoder/blocks", 0.1), "set stage.probe=none, or"),
        ("stage1_tiny", [], Trains("mae_teacher", 1.0), "the stage freezes all of it; remove the entry"),
    ],
)
def test_a_rate_for_what_the_stage_freezes_is_refused(config, overrides, entry, words):
    experiment = load_experiment(config, overrides)
    with pytest.raises(UserError, match=words):
        objective_of(dataclasses.replace(experiment, trains=(entry,)))


def test_a_broad_pattern_gives_a_rate_to_what_the_stage_trains_alone():
    experiment = load_experiment("viclip_tiny", ["stage.train_text=false"])
    experiment = dataclasses.replace(experiment, trains=(Trains("*/blocks", 0.1), Trains("text", 0.0)))
    objective = objective_of(experiment)
    trained, _ = shapes_of(objective, "float32")
    assert {path.split("/")[0] for path, _ in paths_of(trained)} == {"vision", "temperature"}
    assert objective.rates["vision/blocks/norm1/scale"] == 0.1


def test_rates_multiply_the_step_on_top_of_layer_decay():
    params = {"blocks": {"kernel": np.ones((2, 3))}, "head": {"kernel": np.ones(3)}}
    rules = (Rule("blocks/kernel", decays=True, depth="stacked"), Rule("head/kernel", decays=True))
    gradients = jax.tree.map(lambda x: 0.1 * x, params)
    options = AdamW(layer_decay=0.5, clip=None)

    def moved(rates):
        moments = init_moments(options, params)
        step = jax.jit(lambda: updated(options, rules, gradients, moments, params, 1e-3, 0.05, rates))
        new, _, _ = step()
        return {path: np.asarray(leaf) - 1.0 for path, leaf in paths_of(new)}

    plain, faster = moved({}), moved({"blocks/kernel": 3.0})
    np.testing.assert_allclose(
        plain["blocks/kernel"], [[-0.25 * 1.05e-3] * 3, [-0.5 * 1.05e-3] * 3], rtol=1e-4
    )
    np.testing.assert_allclose(faster["blocks/kernel"], 3.0 * plain["blocks/kernel"], rtol=1e-4)
    np.testing.assert_array_equal(faster["head/kernel"], plain["head/kernel"])


def test_frozen_parameters_have_no_moments_and_no_gradient_and_do_not_move(tmp_path):
    slow = (Trains("line/bias", 0.0), Trains("line", 0.1))
    experiment = dataclasses.replace(line.experiment, trains=slow, init_fresh=("*",))
    objective = objective_of(experiment)
    trained, frozen = shapes_of(objective, "float32")
    assert [path for path, _ in paths_of(frozen)] == ["line/bias"]
    assert objective.rates == {"line/kernel": 0.1}
    state = jax.eval_shape(lambda zeros: init_state(zeros, experiment.recipe), trained)
    assert [path for path, _ in paths_of(state["moments"].mu)] == ["line/kernel"]
    # The frozen bias starts at zero: without it, the losses are the same as long as it does not move.
    losses = line.run(tmp_path / "frozen", base=experiment)
    without = dataclasses.replace(experiment, trains=(Trains("line", 0.1),))
    assert losses == line.run(tmp_path / "without", "stage.bias=false", base=without)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    ((path, kernel),) = paths_of(restore_params(tmp_path / "frozen", here))
    assert path == "line/kernel"
    start = objective.init(jax.random.key(0))["line"]["kernel"]
    assert np.abs(kernel - start).min() > 0 and np.abs(kernel - start).max() < 0.1 * 6 * 0.02


def test_starts_widens_what_is_drawn():
    experiment = load_experiment("viclip_tiny")
    wide = dataclasses.replace(
        experiment, starts=(Starts("text/blocks/mlp", 1.0), Starts("text/*kernel", 3.0))
    )
    drawn, widened = (dict(paths_of(objective_of(e).init(jax.random.key(1)))) for e in (experiment, wide))
    for path, leaf in drawn.items():
        chosen = path.startswith("text/") and path.endswith("kernel") and "blocks/mlp" not in path
        np.testing.assert_array_equal(widened[path], leaf * (3.0 if chosen else 1.0), err_msg=path)
    assert sum(path.endswith("kernel") for path in drawn) > 4


def test_starts_names_a_pattern_that_covers_nothing():
    experiment = dataclasses.replace(load_experiment("viclip_tiny"), starts=(Starts("txet", 2.0),))
    with pytest.raises(UserError, match=r"starts: no parameter's path matches 'txet'; did you mean 'text'"):
        objective_of(experiment)
    with pytest.raises(UserError, match="starts.0.times=0.0; it must be above 0"):
        dataclasses.replace(experiment, starts=(Starts("text", 0.0),))


def test_flops_count_the_backward_pass_of_what_learns_alone():
    tiny = load_experiment("dialogue_tiny")

    def flops(*trains):
        return objective_of(dataclasses.replace(tiny, trains=trains)).media["packed"].flops

    trained, without_tower = flops(), flops(Trains("vision", 0.0))
    bridge = flops(Trains("vision", 0.0), Trains("language", 0.0))
    assert {layer: without_tower[layer] / cost for layer, cost in trained.items()} == pytest.approx(
        {"vision": 1 / 3, "bridge": 1.0, "blocks": 1.0, "attention": 1.0, "head": 1.0}
    )
    # The gradient on its way to the bridge still passes through the frozen language model.
    assert {layer: bridge[layer] / cost for layer, cost in trained.items()} == pytest.approx(
        {"vision": 1 / 3, "bridge": 1.0, "blocks": 2 / 3, "attention": 2 / 3, "head": 2 / 3}
    )


def test_towers_side_by_side_pass_no_gradients_to_each_other():
    def left(config, branch):
        tiny = load_experiment(config)
        trained, frozen = (
            objective_of(dataclasses.replace(tiny, trains=trains)).main.flops
            for trains in ((), (Trains(branch, 0.0),))
        )
        return {layer: frozen[layer] / cost for layer, cost in trained.items()}

    # Pixels need no gradient, so half of the cost of the patches' kernel is its forward pass.
    vision = {"patch_embed": 1 / 2, "blocks": 1 / 3, "pool": 1 / 3}
    assert left("viclip_tiny", "vision") == pytest.approx(vision | {"text": 1.0})
    assert left("viclip_tiny", "text") == pytest.approx(dict.fromkeys(vision, 1.0) | {"text": 1 / 3})
    # Texts look at clips: the gradient on its way to these still passes through the frozen fusion layers.
    text = {"text": 1 / 3, "fusion": 2 / 3, "words": 2 / 3}
    assert left("stage2_av_tiny", "text") == pytest.approx(dict.fromkeys(vision, 1.0) | {"audio": 1.0} | text)


def test_a_pooling_that_learns_alone_passes_no_gradients_through_its_tower():
    tiny = load_experiment("stage2_av_tiny")
    alone = (Trains("vision/clip_projector", 1.0), Trains("*", 0.0))
    trained, pooling = (
        objective_of(dataclasses.replace(tiny, trains=trains)).main.flops for trains in ((), alone)
    )
    frozen = {"blocks", "audio", "text", "fusion", "words"}
    assert {layer: pooling[layer] / cost for layer, cost in trained.items()} == pytest.approx(
        dict.fromkeys(frozen, 1 / 3) | {"patch_embed": 1 / 2, "pool": 1.0}
    )
