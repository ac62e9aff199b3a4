"""One step: the non-finite guard, the average, accumulation of anything that is a mean."""

import dataclasses

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.data_pipelines.load.loader import InMemory, Loader
from ivjax.errors import UserError
from ivjax.experiment.computing import Recipe
from ivjax.experiment.rules import Rule
from ivjax.experiment.run_options import AdamW
from ivjax.experiment.schedules import WarmupCosine
from ivjax.stages.objective import Joint, Medium, Objective, joint_loss
from ivjax.train.gradients import gradients_of
from ivjax.train.loop import train
from ivjax.train.step import init_state, make_step
from tests.train.line import experiment, run

RECIPE = Recipe(AdamW(clip=None), WarmupCosine(peak=0.1), steps=10, ema=0.5)


def linear_objective() -> Objective:
    """Mean of w . x: its gradient is the mean of x."""

    def loss(params, batch, key):
        products = batch["x"] @ params["kernel"]
        return jnp.mean(products), {"largest": jnp.mean(products)}

    return Objective(
        init=lambda key: {"kernel": jnp.arange(1.0, 4.0)},
        loss=loss,
        media={"row": Medium({"x": jax.ShapeDtypeStruct((3,), jnp.float32)}, tokens=1, flops={"all": 6.0})},
        rules=(Rule("kernel", decays=True),),
    )


def started(objective, recipe):
    return init_state(objective.init(jax.random.key(0)), recipe)


def test_a_non_finite_step_changes_counters_only():
    objective = linear_objective()
    step = jax.jit(make_step(objective, RECIPE))
    start = started(objective, RECIPE)
    good = {"x": jnp.ones((4, 3))}
    after, metrics = step(start, {}, {"x": good["x"].at[1, 2].set(jnp.nan)})
    assert not metrics["finite"] and int(after["skipped"]) == 1 and int(after["step"]) == 1
    for name in ("params", "moments", "ema"):
        jax.tree.map(np.testing.assert_array_equal, after[name], start[name])
    moved, metrics = step(after, {}, good)
    assert metrics["finite"] and int(moved["skipped"]) == 1
    assert np.all(np.asarray(moved["params"]["kernel"]) < np.asarray(start["params"]["kernel"]))
    expected = 0.5 * (start["params"]["kernel"] + moved["params"]["kernel"])
    np.testing.assert_allclose(moved["ema"]["kernel"], expected, rtol=1e-6)


def test_micro_batches_give_the_gradient_of_the_whole_batch():
    objective = linear_objective()
    batch = {"x": jax.random.normal(jax.random.key(0), (12, 3))}
    results = []
    for parts in (1, 2, 6):
        recipe = Recipe(RECIPE.optimizer, RECIPE.schedule, 10, accumulate=parts)
        state, metrics = jax.jit(make_step(objective, recipe))(started(objective, recipe), {}, batch)
        results.append(
            np.concatenate([state["moments"].mu["kernel"], [metrics["loss"], metrics["grad_norm"]]])
        )
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-5)


def test_micro_batches_give_the_gradient_of_a_loss_that_compares_rows():
    """Also where the loss itself takes parameters, as a temperature, and where some are frozen."""

    def per_clip(params, batch, key):
        return {"out": jnp.tanh(batch["x"] @ params["kernel"]) * params["frozen"]}

    def compare(params, rows, batch, key):
        logits = params["scale"] * rows["out"] @ rows["out"].T
        loss = jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits))
        return loss, {"largest": jnp.max(logits)}

    joint = Joint(per_clip, compare)
    objective = dataclasses.replace(linear_objective(), joint=joint, loss=joint_loss(joint))
    rng = np.random.default_rng(0)
    trained = {"kernel": rng.normal(size=(3, 2)).astype("f"), "scale": np.float32(2)}
    batch, frozen = {"x": rng.normal(size=(12, 3)).astype("f")}, {"frozen": np.float32(1.5)}
    whole, *others = (
        jax.jit(gradients_of(objective, count))(trained, frozen, batch, jax.random.key(0))
        for count in (1, 2, 6)
    )
    assert whole[1].keys() == trained.keys() and np.all(np.abs(whole[1]["scale"]) > 1e-3)
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), other, whole)


def test_weight_decay_follows_its_own_cosine():
    objective = linear_objective()
    recipe = Recipe(AdamW(decay=0.2, decay_end=0.0, clip=None), WarmupCosine(0.1, final=0.1), steps=2)
    step = jax.jit(make_step(objective, recipe))
    state, zero = started(objective, recipe), {"x": jnp.zeros((4, 3))}
    expected = np.arange(1.0, 4.0)
    for decay in (0.2, 0.1):
        state, _ = step(state, {}, zero)
        expected = expected * (1 - 0.1 * decay)
        np.testing.assert_allclose(state["params"]["kernel"], expected, rtol=1e-6)


def test_layer_decay_counts_blocks_that_are_frozen():
    objective = dataclasses.replace(
        linear_objective(),
        rules=(Rule("tower/blocks", depth="stacked"), Rule("kernel", depth="first")),
    )
    recipe = Recipe(AdamW(decay=0.0, layer_decay=0.5, clip=None), WarmupCosine(0.1, final=0.1), steps=2)
    frozen = {"tower": {"blocks": jnp.ones((3, 2))}}
    start = started(objective, recipe)
    state, _ = jax.jit(make_step(objective, recipe))(start, frozen, {"x": jnp.ones((4, 3))})
    # The first direction of Adam is the sign of the gradient.
    moved = start["params"]["kernel"] - state["params"]["kernel"]
    np.testing.assert_allclose(moved, 0.1 * 0.5**4, rtol=1e-4)


@dataclasses.dataclass(frozen=True)
class Poisoned:
    """Synthetic clips whose every row is not a number."""

    def open(self, request, eval_clips=False):
        examples = experiment.data.examples(request.spec, eval_clips)

        def spoilt(number):
            return examples[number] | {"pooled": examples[number]["pooled"] * np.nan}

        return Loader(grain.MapDataset.range(len(examples)).repeat(), InMemory(spoilt), request)


def test_ten_skipped_steps_in_a_row_end_the_run_and_are_listed(tmp_path):
    poisoned = dataclasses.replace(experiment, data=Poisoned(), steps=20)
    with pytest.raises(UserError, match="last 10 steps up to 10 had a non-finite loss"):
        train(poisoned, tmp_path, lambda line: None, jax.devices()[:1])
    lines = (tmp_path / "skipped.jsonl").read_text().splitlines()
    assert (
        lines[2] == '{"step": 3, "medium": "video", "first_index": 32, "last_index": 47}' and len(lines) == 10
    )


def test_eval_loss_is_logged_and_the_profile_window_stored(tmp_path):
    said: list[str] = []
    options = ("eval_loss.every=5", "eval_loss.batches=2", "log.profile_start=3", "log.profile_steps=2")
    run(tmp_path, "steps=10", *options, said=said)
    eval_lines = [line for line in said if "eval/loss" in line]
    assert len(eval_lines) == 2 and eval_lines[0] != eval_lines[1]
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_stop_ends_a_profile_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr("ivjax.train.checkpoint.Checkpoints.stop_requested", lambda self, step: step == 2)
    run(tmp_path, "log.profile_start=1", "log.profile_steps=4")
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
