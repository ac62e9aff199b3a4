"""InternVideo 1's stages: what trains, closed gates, interrupted blocks, files of both towers, refusals."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.origins import read_weights
from ivjax.errors import UserError
from ivjax.experiment import load_experiment
from ivjax.experiment.overrides import apply_overrides
from ivjax.models.classifier import Classifier
from ivjax.ops.cut import cut, joined
from ivjax.ops.trees import paths_of
from tests.convert.tables import save_weights
from tests.models.params import any_params

JOINED, CAPTIONED = "joined_tiny", "internvideo1_tiny"


@functools.cache
def tiny():
    experiment = apply_overrides(load_experiment(JOINED), ["stage.dropout=0"])
    model = experiment.stage.model(experiment.compute)
    params = any_params(model)
    video = np.random.default_rng(0).normal(size=(2, 8, 56, 56, 3)).astype(np.float32)
    return experiment, model, params, video


def closed(params):
    """The parameters with all gates at zero."""

    def shut(tree):
        return {name: np.zeros_like(leaf) if name.startswith("gate") else leaf for name, leaf in tree.items()}

    return params | {"cross": shut(params["cross"]), "back": shut(params["back"])}


def test_with_closed_gates_the_scores_are_exactly_those_of_both_towers():
    _, model, params, video = tiny()

    @jax.jit
    def scores(params):
        alone = (
            model.masked.logits(params["masked"], video),
            Classifier(model.multimodal.size, model.multimodal.tower, model.multimodal.head).logits(
                params["multimodal"], video[:, ::2]
            ),
        )
        return model.scores(params, video), alone

    together, alone = scores(closed(params))
    for mine, theirs in zip(together, alone, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    opened, _ = scores(params)
    for mine, theirs in zip(opened, alone, strict=True):
        assert np.abs(mine - theirs).max() > 1e-4


@pytest.mark.slow
def test_fresh_models_start_closed_and_give_the_mean_of_both_scores():
    _, model, _, video = tiny()
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    fresh = jax.jit(lambda key: {n: model.init(key)[n] for n in ("cross", "back", "mix")})(jax.random.key(0))
    assert jax.tree.structure({**shapes, **fresh}) == jax.tree.structure(shapes)
    gates = [leaf for path, leaf in paths_of(fresh) if "gate" in path]
    assert len(gates) == 4 and not any(np.any(gate) for gate in gates)
    assert fresh["mix"].tolist() == [0.5, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize("heads", [True, False])
def test_gradients_reach_what_trains_and_nothing_else(heads):
    experiment, model, params, video = tiny()
    stage = apply_overrides(experiment, [f"stage.train_heads={str(heads).lower()}"]).stage
    objective = stage.build(experiment.compute)
    trained, frozen = cut(params, objective.frozen)
    batch = {"index": np.arange(2, dtype=np.uint32), "video": video, "label": np.array([1, 2], np.int32)}
    gradients = jax.jit(jax.grad(lambda t: objective.loss(joined(t, frozen), batch, jax.random.key(0))[0]))(
        trained
    )
    reached = {path for path, leaf in paths_of(gradients) if np.any(leaf)}
    silent = {path for path, _ in paths_of(gradients)} - reached
    # A bias of keys adds the same to all logits of a query, which a softmax takes out again, up to rounding.
    assert silent <= {"cross/k/bias", "back/k/bias"}
    tops = {path.split("/")[0] for path in reached}
    assert tops == {"cross", "back", "mix"} | ({"masked", "multimodal"} if heads else set())
    assert not any(path.startswith(("masked/encoder", "multimodal/encoder")) for path in reached)


@pytest.mark.slow
@pytest.mark.parametrize("final_norm", [True, False])
def test_a_videomae_that_is_run_in_stretches_gives_the_same_tokens(final_norm):
    experiment, _, _, video = tiny()

    size = replace(experiment.stage.joined.masked.encoder, final_norm=final_norm)
    tower = size.build(experiment.compute)
    params = any_params(tower)

    @jax.jit
    def both(params):
        x = tower.through(params, tower.entering(params, video), 0, 2)
        return tower.leaving(params, tower.through(params, x, 2, 3)), tower.encode(params, video).tokens

    np.testing.assert_array_equal(*both(params))


@pytest.mark.slow
def test_files_of_both_classifiers_fill_the_towers(tmp_path):
    experiment, _, params, _ = tiny()
    stage, names = experiment.stage, {"masked": "videomae_classifier", "multimodal": "uniformerv2_classifier"}
    given = {}
    for branch, family in names.items():
        size = getattr(stage.joined, branch)
        if branch == "masked":
            # The released classifiers have no norm of all tokens.

            size = replace(size, encoder=replace(size.encoder, final_norm=False))
            given[branch] = any_params(size.build(experiment.compute))
        else:
            given[branch] = params[branch]
        save_weights(tmp_path / f"{branch}.safetensors", given[branch], family, size)
    changes = [
        "stage.joined.masked.encoder.final_norm=false",
        f"init_from=('masked={tmp_path}/masked.safetensors','multimodal={tmp_path}/multimodal.safetensors')",
    ]
    changed = apply_overrides(experiment, changes)
    objective = changed.stage.build(changed.compute)
    found = read_weights(objective, changed, jax.eval_shape(objective.init, jax.random.key(0)))
    wanted = {f"{branch}/{path}": leaf for branch in names for path, leaf in paths_of(given[branch])}
    assert found.keys() == wanted.keys()
    for path, leaf in wanted.items():
        np.testing.assert_array_equal(found[path], leaf)


@pytest.mark.parametrize(
    "change, words",
    [
        ("stage.joined.places=(0,2,1)", "must name some of 3 blocks, ascending"),
        ("stage.joined.read=(0,1)", "must be equally many"),
        ("stage.joined.multimodal.classes=9", "the towers know 8 and 9 classes"),
        ("stage.joined.multimodal.encoder.frames=3", "3 frames are no n-th part of 8"),
        ("stage.joined.heads=3", "does not divide into 3 heads of a reading"),
        ("stage.dropout=1", "must be at least 0 and below 1"),
    ],
)
def test_towers_that_do_not_go_together_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        experiment = apply_overrides(load_experiment(JOINED), [change])
        experiment.stage.build(experiment.compute)


@pytest.mark.slow
def test_contrast_with_captions_can_be_differentiated_and_logs_its_terms():
    experiment = load_experiment(CAPTIONED)
    objective = experiment.stage.build(experiment.compute)
    assert set(objective.media) == {"video", "image"} and objective.vocabulary == {"text": 400}
    struct = jax.ShapeDtypeStruct
    batch = {n: struct((4, *row.shape), row.dtype) for n, row in objective.main.batch.items()}
    params = jax.eval_shape(objective.init, jax.random.key(0))
    gradients = jax.grad(objective.loss, has_aux=True)
    found, terms = jax.eval_shape(gradients, params, batch, jax.random.key(0))
    assert terms.keys() == {"contrast", "caption", "temperature"}
    assert "temperature" not in params and jax.tree.structure(found) == jax.tree.structure(params)
    frozen = apply_overrides(experiment, ["stage.train_text=false"]).stage.build(experiment.compute)
    assert frozen.frozen == ("text",)


def test_a_mask_is_refused_by_a_tower_that_needs_whole_frames():
    size = load_experiment(CAPTIONED).stage.vision
    tower = size.build(load_experiment(CAPTIONED).compute)
    with pytest.raises(UserError, match="set stage.mask=0"):
        jax.eval_shape(
            tower.encode,
            jax.eval_shape(tower.init, jax.random.key(0)),
            jax.ShapeDtypeStruct((1, 4, 64, 64, 3), jnp.uint8),
            jax.ShapeDtypeStruct((1, 4), jnp.int32),
        )
