"""Schedules, parameter groups and AdamW against the originals and against a plain numpy AdamW."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.engine.rows import Row
from ivjax.convert.families.internvideo2 import linear, norm, pretrain_rows
from ivjax.experiment.rules import Rule, rule_of
from ivjax.experiment.run_options import AdamW
from ivjax.experiment.schedules import FlooredCosine
from ivjax.models.classifier_size import HEAD
from ivjax.models.internvideo2.rules import STUDENT
from ivjax.models.viclip.rules import TEXT
from ivjax.ops.trees import paths_of
from ivjax.train.optimizer import init_moments, layer_scales, updated
from tests.convert.tables import import_tensors
from tests.goldens import Golden, cosine_schedule


def values_of(schedule, steps, total, xp):
    """The values at `steps`; with jax they are computed as in a train step, inside a compiled function."""
    at = functools.partial(schedule.at, total=total, xp=xp)
    return at(steps) if xp is np else jax.jit(at)(steps)


@pytest.mark.golden
@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_stage1_schedules_have_the_originals_values(xp):
    golden = Golden("stage1_schedules")
    for name, config in golden.config["schedules"].items():
        schedule, total = cosine_schedule(config)
        values = values_of(schedule, np.arange(total), total, xp)
        np.testing.assert_allclose(values, golden[f"outputs/{name}"], rtol=1e-6, atol=1e-12, err_msg=name)


@pytest.mark.golden
@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_stage2_data_rules_schedules_have_the_originals_values(xp):
    golden = Golden("stage2_data_rules")
    names = [key for key in golden.tensors if key.startswith("outputs/lr_")]
    assert names
    for name in names:
        warmup, total, floor = re.fullmatch(r"outputs/lr_warm(\d+)_total(\d+)_min([\d.]+)", name).groups()
        schedule, steps = FlooredCosine(1.0, float(floor), int(warmup)), np.arange(len(golden[name]))
        values = values_of(schedule, steps, int(total), xp)
        np.testing.assert_allclose(values, golden[name], rtol=1e-5, atol=1e-6, err_msg=name)


RULES = (*STUDENT, *HEAD)

CLASSIFIER_ROWS: list[Row] = [
    *pretrain_rows(),
    *norm("fc_norm", "fc_norm"),
    *linear("head", "head"),
    *norm("extra_mlp.0", "extra_mlp/norm"),
    *linear("extra_mlp.1.fc1", "extra_mlp/fc1"),
    *linear("extra_mlp.1.fc2", "extra_mlp/fc2"),
]


def shape_of(name: str) -> tuple[int, ...]:
    """Any shape with the right rank does: the rules go by name."""
    if name.endswith("patch_embed.proj.weight"):
        return 4, 3, 1, 2, 2
    if name.endswith("attn.qkv.weight"):
        return 12, 4
    if "pos_embed" in name or name == "cls_token":
        return 1, 5, 4
    is_matrix = re.search(r"(proj|fc\d|head|head\.\d|cross_attn\.[qkv])\.weight$", name)
    return (4, 4) if is_matrix else (4,)


@pytest.mark.golden
def test_stage1_schedules_group_parameters_as_the_original_does():
    golden = Golden("stage1_schedules")
    for group, expected in golden.json["expected_param_groups"].items():
        rate = golden.config["layer_decay"] if group.startswith("finetune") else 1.0
        params = import_tensors(CLASSIFIER_ROWS, {n: np.zeros(shape_of(n)) for n in expected})
        scales, leaves = layer_scales(params, rate, RULES), dict(paths_of(params))
        assert len(expected) > 20
        for name, rules in expected.items():
            row, layer = next(
                (row, row.place_of(name)) for row in CLASSIFIER_ROWS if row.place_of(name) is not None
            )
            scale = np.broadcast_to(scales[row.target], leaves[row.target].shape)
            scale = scale[layer].max() if "{i}" in row.source else scale.max()
            assert scale == pytest.approx(rules["lr_scale"], rel=1e-6), name
            decay = golden.config["weight_decay"] if rule_of(RULES, row.target).decays else 0.0
            assert decay == rules["weight_decay"], name


@pytest.mark.golden
def test_stage2_data_rules_decay_the_originals_parameters():
    cases = Golden("stage2_data_rules").json["cases"]
    found = 0
    for group, decayed in (("weight_decay_zero", False), ("weight_decay_nonzero", True)):
        for name in cases[group]:
            rows = [
                row
                for row in pretrain_rows()
                if row.place_of(name.removeprefix("vision_encoder.")) is not None
            ]
            found += len(rows)
            assert all(rule_of(RULES, row.target).decays == decayed for row in rows), name
    assert found > 40
    assert rule_of(TEXT, "word_embed").decays and not rule_of(TEXT, "place_embed").decays


CASE_RULES = (
    Rule("encoder/cls_token", depth="first"),
    Rule("encoder/blocks/*/kernel", decays=True, depth="stacked"),
    Rule("encoder/blocks", depth="stacked"),
    Rule("head/kernel", decays=True),
)


def plain_adamw(spec, grads, param, lrs, decay, scale):
    """AdamW of one leaf in numpy float64, one clipped gradient after the other."""
    m = v = np.zeros_like(param)
    for t, (g, lr) in enumerate(zip(grads, lrs, strict=True), start=1):
        m = spec.betas[0] * m + (1 - spec.betas[0]) * g
        v = spec.betas[1] * v + (1 - spec.betas[1]) * g**2
        direction = (m / (1 - spec.betas[0] ** t)) / (np.sqrt(v / (1 - spec.betas[1] ** t)) + spec.epsilon)
        param = param - lr * scale * (direction + decay * param)
    return param


def test_update_equals_a_plain_adamw_with_clipping_and_layer_decay():
    rng = np.random.default_rng(0)
    params = {
        "encoder": {
            "cls_token": rng.normal(size=(1, 1, 4)),
            "blocks": {
                "mlp": {"fc1": {"kernel": rng.normal(size=(3, 4, 4)), "bias": rng.normal(size=(3, 4))}}
            },
        },
        "head": {"kernel": rng.normal(size=(4, 2))},
    }
    spec = AdamW(betas=(0.9, 0.98), epsilon=1e-6, decay=0.1, layer_decay=0.5, clip=0.7)
    steps = [jax.tree.map(lambda p: rng.normal(size=p.shape), params) for _ in range(4)]
    lrs = [1e-2, 5e-3, 2e-2, 1e-3]
    state, moments, norms = params, init_moments(spec, params), []
    step = jax.jit(functools.partial(updated, spec, CASE_RULES))
    for gradients, lr in zip(steps, lrs, strict=True):
        state, moments, norm = step(gradients, moments, state, jnp.float32(lr), jnp.float32(spec.decay))
        norms.append(float(norm))
    expected_norms = [np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(s))) for s in steps]
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-5)
    clipped = [jax.tree.map(lambda g, n=n: g * min(1, 0.7 / n), s) for s, n in zip(steps, norms, strict=True)]
    after, before = dict(paths_of(state)), dict(paths_of(params))
    by_path = [dict(paths_of(c)) for c in clipped]
    layers = np.array([0.5**3, 0.5**2, 0.5]).reshape(3, 1, 1)
    cases = {
        "encoder/cls_token": (0.0, 0.5**4),
        "encoder/blocks/mlp/fc1/kernel": (0.1, layers),
        "encoder/blocks/mlp/fc1/bias": (0.0, layers[:, 0]),
        "head/kernel": (0.1, 1.0),
    }
    for path, (decay, scale) in cases.items():
        expected = plain_adamw(spec, [g[path] for g in by_path], before[path], lrs, decay, scale)
        np.testing.assert_allclose(after[path], expected, rtol=1e-4, atol=1e-6, err_msg=path)
