"""Fine-tuning and probing: what is trained, what stays, running statistics, losses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute, Recipe
from ivjax.experiment.rules import Rule
from ivjax.experiment.run_options import AdamW
from ivjax.experiment.schedules import WarmupCosine
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.internvideo2 import EncoderSize
from ivjax.ops.cut import cut
from ivjax.ops.trees import paths_of
from ivjax.stages.classification import Classification, Probe
from ivjax.stages.classification_loss import batch_of
from ivjax.stages.objective import Objective
from ivjax.train.step import init_state, make_step
from tests.evals.test_any_tower import TintSize

ENCODER = EncoderSize(16, 3, 2, 32, pool_heads=2, pool_width=8, image=(28, 28), frames=2, layer_scale=0.1)
SIZE = ClassifierSize(ENCODER, 4)
STAGE = Classification(SIZE, mixed=False)
BATCH = {
    "index": jnp.arange(8, dtype=jnp.uint32),
    "video": jax.random.randint(jax.random.key(0), (8, 2, 28, 28, 3), 0, 256).astype(jnp.uint8),
    "label": jnp.array([0, 1, 2, 3, 0, 1, 2, 3]),
}
PLAIN = AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.5, clip=None)


@functools.cache
def drawn(size: ClassifierSize):
    """Parameters of a classifier. Probes of one size share them: to compile the draw takes a second."""
    return jax.jit(Classification(size).build(Compute("float32")).init)(jax.random.key(1))


class Training:
    """A stage's state, and its compiled step."""

    def __init__(self, stage: Classification, rate: float = 1e-2, accumulate: int = 1):
        self.objective = stage.build(Compute("float32"))
        recipe = Recipe(PLAIN, WarmupCosine(rate, rate), 1000, accumulate)
        trained, self.frozen = cut(drawn(stage.classifier), self.objective.frozen)
        self.state = init_state(trained, recipe)
        self._step = jax.jit(make_step(self.objective, recipe))

    def step(self, batch=BATCH):
        self.state, metrics = self._step(self.state, self.frozen, batch)
        return metrics

    def leaves(self, what: str = "params") -> dict[str, np.ndarray]:
        return {path: np.asarray(leaf) for path, leaf in paths_of(self.state[what])}


def test_a_linear_probe_trains_the_head_alone_and_learns():
    training = Training(dataclasses.replace(STAGE, probe=Probe.PRESETS["linear"], smoothing=0.0), rate=0.3)
    assert set(training.leaves()) == {"fc_norm/scale", "fc_norm/bias", "head/kernel", "head/bias"}
    assert set(training.leaves("moments")) == {"count"} | {
        f"{moment}/{path}" for moment in ("mu", "nu") for path in training.leaves()
    }
    before = training.leaves()
    metrics = [training.step() for _ in range(15)]
    losses, right = [float(m["loss"]) for m in metrics], [float(m["top1"]) for m in metrics]
    assert losses[0] == pytest.approx(np.log(4), rel=1e-3) and losses[-1] < 0.5 * losses[0]
    assert right[-1] > right[0] and {8 * share for share in right} <= set(range(9))
    assert all(np.any(leaf != before[path]) for path, leaf in training.leaves().items())


def test_a_step_leaves_frozen_layers_out_of_the_gradient():
    """Also where the loss itself does not cut them off."""
    params = {"blocks": {"kernel": jnp.arange(1.0, 7).reshape(3, 2)}, "other": jnp.ones(2)}
    objective = Objective(
        init=lambda key: params,
        loss=lambda p, batch, key: (sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p)) / 2, {}),
        media={},
        rules=(Rule("*"),),
        frozen_layers={"blocks": 2},
    )
    recipe = Recipe(PLAIN, WarmupCosine(1e-2, 1e-2), 10)
    state, metrics = jax.jit(make_step(objective, recipe))(init_state(params, recipe), {}, {})
    assert float(metrics["grad_norm"]) == pytest.approx(np.sqrt(5**2 + 6**2 + 1 + 1))
    np.testing.assert_array_equal(state["params"]["blocks"]["kernel"][:2], params["blocks"]["kernel"][:2])
    assert np.all(state["params"]["blocks"]["kernel"][2] < params["blocks"]["kernel"][2])
    assert np.all(state["params"]["other"] < 1)


def test_frozen_blocks_and_branches_stay_bit_for_bit_whatever_the_decay():
    training = Training(dataclasses.replace(STAGE, probe=Probe(open_blocks=1, open_pool=True)))
    assert {path for path, _ in paths_of(training.frozen)} == {
        "encoder/cls_token",
        "encoder/patch_embed/bias",
        "encoder/patch_embed/kernel",
        "encoder/pos_embed/table",
    }
    before = training.leaves()
    for _ in range(2):
        training.step()
    after, moments = training.leaves(), training.leaves("moments")
    for path in before:
        if not path.startswith("encoder/blocks"):
            assert np.any(after[path] != before[path]), path
            continue
        assert after[path][:2].tobytes() == before[path][:2].tobytes(), path
        assert np.any(after[path][2] != before[path][2]), path
        assert not np.any(moments[f"mu/{path}"][:2]) and np.any(moments[f"mu/{path}"][2]), path


@jax.jit
def merged_tokens(encoder_params, video):
    """Returns the input of the batch norm of `cls_avg1`: (B, 2, C)."""
    tokens = ENCODER.build(Compute("float32")).encode(encoder_params, video).tokens
    return jnp.stack([tokens[:, 0], tokens[:, 1:].mean(1)], axis=1)


def test_running_statistics_follow_micro_batches_as_torchs_do():
    count = 2
    size = dataclasses.replace(SIZE, merge="cls_avg1", merge_norm="batch")
    stage = Classification(size, mixed=False, probe=Probe())
    training = Training(stage, accumulate=count)
    mean, variance = np.zeros(16), np.ones(16)
    batches = [BATCH, {**BATCH, "video": 255 - BATCH["video"]}]
    for batch in batches:
        training.step(batch)
        tokens = np.asarray(merged_tokens(training.frozen["encoder"], batch["video"]))
        rows = [tokens[first::count].reshape(-1, 16) for first in range(count)]
        mean = 0.9 * mean + 0.1 * np.mean([micro_batch.mean(0) for micro_batch in rows], axis=0)
        variance = 0.9 * variance + 0.1 * np.mean([tokens.var(0, ddof=1) for tokens in rows], axis=0)
    kept = training.leaves()
    np.testing.assert_allclose(kept["down_norm/mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(kept["down_norm/variance"], variance, rtol=1e-4)
    poisoned = {**BATCH, "video": jnp.full(BATCH["video"].shape, jnp.nan)}
    assert not training.step(poisoned)["finite"]
    assert all(np.array_equal(leaf, kept[path]) for path, leaf in training.leaves().items())


@pytest.mark.slow
def test_accumulation_is_the_whole_batch_and_draws_go_by_sample():
    attentive = Probe.PRESETS["attentive"]
    stage = dataclasses.replace(STAGE, drop_path=0.3, dropout=0.4, mixed=True, probe=attentive)
    targets = jax.nn.softmax(jax.random.normal(jax.random.key(3), (8, 4)))
    batch = {"index": BATCH["index"], "video": BATCH["video"], "targets": targets}
    whole, sliced = Training(stage, rate=1e-3), Training(stage, rate=1e-3, accumulate=4)
    for _ in range(2):
        one, other = whole.step(batch), sliced.step(batch)
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-5)
        assert float(one["grad_norm"]) == pytest.approx(float(other["grad_norm"]), rel=1e-4)
    elsewhere = whole.step({**batch, "index": batch["index"] + 8})
    assert float(elsewhere["loss"]) != pytest.approx(float(sliced.step(batch)["loss"]), rel=1e-6)


def test_the_batch_is_of_targets_or_of_labels():
    assert batch_of(STAGE)["label"].shape == () and "targets" not in batch_of(STAGE)
    mixed = batch_of(dataclasses.replace(STAGE, mixed=True))
    assert mixed["targets"].shape == (4,) and "label" not in mixed


def test_the_cost_of_a_probe_is_forward_but_for_what_learns():
    def cost(probe):
        return dataclasses.replace(STAGE, probe=probe).build(Compute()).main.flops

    whole, linear, above = cost(None), cost(Probe()), cost(Probe(open_blocks=1, open_pool=True))
    assert linear["blocks"] == whole["blocks"] / 3 and linear["pool"] == whole["pool"] / 3
    assert above["blocks"] == pytest.approx(linear["blocks"] * (1 + 2 / 3)) and above["pool"] == whole["pool"]
    assert linear["head"] == whole["head"] == 3 * 2 * 8 * 4


def test_open_blocks_of_a_tower_without_a_stack_are_an_error():
    size = ClassifierSize(TintSize(), 4)
    assert Classification(size, probe=Probe()).build(Compute("float32")).frozen == ("encoder/tint",)
    for count in (1, 2):  # some of the blocks, and all of them
        stage = Classification(size, probe=Probe(open_blocks=count))
        with pytest.raises(UserError, match="needs a tower with .* stack `blocks`, .*TintSize has tint"):
            stage.build(Compute("float32"))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"probe": Probe(open_blocks=4)}, "open_blocks=4; the encoder has 3 blocks"),
        (
            {"classifier": ClassifierSize(dataclasses.replace(ENCODER, image=(30, 28)), 4)},
            "do not divide into tubelets",
        ),
        ({"classifier": ClassifierSize(dataclasses.replace(ENCODER, heads=3), 4)}, "divide into 3 heads"),
    ],
)
def test_sizes_that_cannot_be_are_errors(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(STAGE, **change).build(Compute())
