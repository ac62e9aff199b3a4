"""The stage of dialogue: packed and unpacked, whole and in micro-batches, on one device and on four."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.dialogue.chat_models import INTERNVIDEO2_5_CHAT
from ivjax.convert.families.dialogue.language_models import LLAMA
from ivjax.convert.formats.tensors import Arrays
from ivjax.convert.origins import read_weights
from ivjax.convert.starting import shapes_of
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.decoder.visual_dropout import VisualDropout
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.ops.layout import batch_spec
from ivjax.ops.trees import paths_of
from ivjax.ops.word_losses import IGNORED, word_losses
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from ivjax.stages.video_dialogue_loss import answer_loss, weighed
from ivjax.stages.visual_dropping import drop_visual_tokens
from ivjax.train.gradients import gradients_of
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import shardings_of
from tests.goldens import Golden, close, close_gradient
from tests.models.params import any_params
from tests.models.test_decoder import exported
from tests.models.test_decoder_dropout import NAME as DROPPING
from tests.models.test_decoder_dropout import Case as Dropping
from tests.models.test_dialogue import Case as Whole
from tests.train import micro
from tests.train.dialogues import batch, conversation, row_of
from tests.train.micro import saved

FLOAT32 = Compute("float32")
PACKED, SINGLE = Bucket("packed", 96, clips=4), Bucket("single", 64, clips=4)
STAGE = VideoDialogue(DIALOGUES["internvideo2_5_chat_8b_tiny"], (PACKED, SINGLE))
# (clips, tokens of a question, tokens of its answers): ragged on purpose.
SHAPES = ((1, 4, (3, 9)), (2, 5, (2,)), (0, 3, (7,)), (1, 3, (1, 1, 12)))


def conversations(stage=STAGE, shapes=SHAPES):
    return [conversation(stage, seed, *shape) for seed, shape in enumerate(shapes)]


def apart(stage=STAGE):
    return batch([row_of(stage, SINGLE, [one], n) for n, one in enumerate(conversations(stage))])


def loss_and_gradients(stage, rows, micro_batches=1, params=None):
    objective = stage.build(FLOAT32)
    params = params or any_params(objective)
    return jax.jit(gradients_of(objective, micro_batches))(params, {}, rows, jax.random.key(0))


def same(found, wanted):
    (loss, terms), gradients = found
    np.testing.assert_allclose(loss, wanted[0][0], rtol=1e-5)
    np.testing.assert_allclose(terms["right"], wanted[0][1]["right"], rtol=1e-5)
    jax.tree.map(lambda a, b: close(a, b, atol=1e-5), gradients, wanted[1])


@pytest.fixture(scope="module")
def unpacked():
    return loss_and_gradients(STAGE, apart())


def test_packed_conversations_have_the_loss_and_the_gradients_of_single_ones(unpacked):
    first, second, third, fourth = conversations()
    rows = [row_of(STAGE, PACKED, [first, second, third]), row_of(STAGE, PACKED, [fourth], 1)]
    same(loss_and_gradients(STAGE, batch(rows)), unpacked)


def on_mesh(stage, rows, **shape):
    mesh = build_mesh(MeshShape(**shape), jax.devices()[:4])
    objective = stage.build(FLOAT32)
    params = any_params(objective)
    split = jax.sharding.NamedSharding(mesh, batch_spec())
    with jax.set_mesh(mesh):
        params = jax.device_put(params, shardings_of(params, mesh, objective.rules))
        return loss_and_gradients(stage, jax.device_put(rows, split), params=params)


@pytest.mark.parametrize(
    "shape",
    [
        {"tensor": 2, "context": 2},
        pytest.param({"fsdp": 2, "context": 2}, marks=pytest.mark.slow),
        pytest.param({"context": 4}, marks=pytest.mark.slow),
        pytest.param({"data": 2, "fsdp": 2}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_four_devices_that_split_tokens_words_and_clips_give_the_numbers_of_one(unpacked, shape):
    same(on_mesh(STAGE, apart(), **{"data": 1, **shape}), unpacked)


@pytest.mark.parametrize("weighting", ["token", "sample", "square_root"])
def test_weights_make_a_sum_over_tokens_the_mean_that_is_asked_for(weighting):
    rows = apart()
    weights = weighed(weighting, jax.tree.map(jnp.asarray, rows))["weights"] / len(rows["ids"])
    lengths = np.array([sum(answers) for _, _, answers in SHAPES])
    power = {"token": 1.0, "sample": 0.0, "square_root": 0.5}[weighting]
    close(weights.sum(1), lengths**power / np.sum(lengths**power))
    assert not np.any(weights[rows["targets"] == IGNORED])


@pytest.mark.slow
def test_micro_batches_of_ragged_answers_have_the_gradient_of_the_whole_batch(unpacked):
    same(loss_and_gradients(STAGE, apart(), micro_batches=2), unpacked)


@pytest.mark.golden
def test_s3_internvideo25_tiny_loss_and_gradients_of_the_stage_are_the_originals():
    case = Whole()
    labels, ids = np.asarray(case.golden["inputs/labels"], np.int32), np.asarray(case.ids)
    targets = np.pad(labels[:, 1:], ((0, 0), (0, 1)), constant_values=IGNORED)
    seen = ids == case.size.visual_token
    rows = {
        "ids": ids,
        "targets": targets,
        "answer_tokens": np.where(targets == IGNORED, 0, np.sum(targets != IGNORED, 1, keepdims=True)),
        "segments": np.zeros_like(ids),
        "places": np.where(seen, np.cumsum(seen, 1) - 1, -1),
        "video": case.video.reshape(1, -1, case.size.least_frames, *case.video.shape[2:]),
    }
    stage = VideoDialogue(case.size, (Bucket("main", ids.shape[1]),))
    rows = weighed("token", jax.tree.map(jnp.asarray, rows))

    loss, gradients = jax.jit(jax.value_and_grad(lambda p: answer_loss(stage, case.model, p, rows)[0]))(
        case.params
    )
    np.testing.assert_allclose(loss, case.golden["losses/loss"], rtol=1e-4)
    leaves = Arrays(dict(paths_of(jax.device_get(gradients))))
    found = {lazy.name: lazy for lazy in INTERNVIDEO2_5_CHAT.original_tensors(leaves, case.size)}
    for name, gradient in case.golden.group("grads").items():
        close_gradient(found[name].read(), gradient)


@pytest.mark.golden
@pytest.mark.parametrize(
    "name", [name for name, case in Golden(DROPPING).config["cases"].items() if case["train"]]
)
def test_s3_visual_dropout_loss_and_gradients_of_packed_rows_are_the_originals(name):
    case = Dropping(name)
    targets = jnp.pad(case.tokens.labels[:, 1:], ((0, 0), (0, 1)), constant_values=IGNORED)
    segments, visual = case.tokens.segments, case.tokens.visual

    def loss(params, x):
        states, left = drop_visual_tokens(case.dropout, 1, case.model, params, x, segments, visual, targets)
        states, kernels = case.model.logit_products(params, case.model.normed(params, states))
        kept = jnp.where(left >= 0, jnp.take_along_axis(targets, jnp.maximum(left, 0), axis=1), IGNORED)
        return word_losses(states, kernels, kept).loss.sum() / jnp.sum(kept != IGNORED)

    value, (gradients, of_x) = jax.jit(jax.value_and_grad(loss, (0, 1)))(case.params, case.x)
    np.testing.assert_allclose(value, case.golden[f"losses/{name}"], rtol=1e-4)
    named = exported(LLAMA, gradients, case.size) | {"inputs_embeds": of_x}
    for tensor, gradient in case.golden.group(f"grads/{name}").items():
        close_gradient(named[tensor], gradient)


MIXED = (Bucket("packed", 128, clips=4, images=3), Bucket("single", 64, clips=4, images=3))
IMAGES = (2, 0, 1, 0)  # of each conversation of SHAPES
DROPPING_HALF = {
    "uniform": VisualDropout((1,), (1.0, 0.5), "uniform"),
    "attention": VisualDropout((1,), (1.0, 0.4), "attention"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, *DROPPING_HALF])
def test_packed_clips_and_images_are_seen_and_dropped_as_in_single_conversations(kind):
    stage = dataclasses.replace(STAGE, buckets=MIXED, dropout=kind and DROPPING_HALF[kind])
    talks = [
        conversation(stage, seed, *shape, images=images)
        for seed, (shape, images) in enumerate(zip(SHAPES, IMAGES, strict=True))
    ]
    first, second, third, fourth = talks
    single = batch([row_of(stage, MIXED[1], [talk], n) for n, talk in enumerate(talks)])
    packed = batch([row_of(stage, MIXED[0], [second, third, first]), row_of(stage, MIXED[0], [fourth], 1)])
    wanted = loss_and_gradients(stage, single)
    same(loss_and_gradients(stage, packed), wanted)
    if kind:
        # A drop is no mere detail: it changes the loss.
        plain = dataclasses.replace(stage, dropout=None)
        objective = plain.build(FLOAT32)
        loss = jax.jit(lambda p, rows: objective.loss(p, objective.prepare(rows), jax.random.key(0))[0])
        assert abs(loss(any_params(objective), single) - wanted[0][0]) > 1e-3


@pytest.mark.slow
def test_four_devices_drop_the_visual_tokens_that_one_drops():
    stage = dataclasses.replace(STAGE, dropout=DROPPING_HALF["attention"])
    rows = apart(stage)
    same(on_mesh(stage, rows, data=1, context=2, tensor=2), loss_and_gradients(stage, rows))


@pytest.mark.parametrize("tensor", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_training_and_evaluation_hold_no_logits_of_all_tokens_and_words(tensor):
    tokens, words = 512, 92553
    language = dataclasses.replace(STAGE.dialogue.language, vocabulary=words)
    size = dataclasses.replace(STAGE.dialogue, language=language)
    stage = dataclasses.replace(STAGE, dialogue=size, buckets=(Bucket("main", tokens, clips=4),))
    objective, key = stage.build(FLOAT32), jax.random.key(0)
    params = jax.eval_shape(objective.init, key)
    spec = objective.main.batch
    rows = {name: jax.ShapeDtypeStruct((8, *one.shape), one.dtype) for name, one in spec.items()}
    with jax.set_mesh(build_mesh(MeshShape(data=1, tensor=tensor), jax.devices()[:tensor])):
        train = jax.make_jaxpr(gradients_of(objective, 1))(params, {}, rows, key)
        evaluate = jax.make_jaxpr(lambda p, b: objective.eval_loss(p, objective.prepare(b), key))(
            params, rows
        )
    for program in (train, evaluate):
        sizes = {variable.aval.size for variable in variables_of(program.jaxpr)}
        # Blocks of words, of 2 ** 25 logits, are the largest with the head and its gradient.
        assert 2**24 < max(sizes) < 8 * tokens * words / 8


def variables_of(jaxpr):
    """All results in a program, those of the programs inside it included."""
    for equation in jaxpr.eqns:
        yield from equation.outvars
        for inner in jax.core.jaxprs_in_params(equation.params):
            yield from variables_of(inner)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"buckets": ()}, "stage.buckets is empty"),
        ({"buckets": (PACKED, PACKED)}, "'packed' is the name of several"),
        ({"buckets": (Bucket("short", 8, clips=1),)}, "8 visual tokens in rows of tokens=8"),
        ({"buckets": (Bucket("short", 8, clips=-1),)}, "is no row of a text"),
        ({"question": 4}, "stage.question=4, and the bridge reads no questions"),
        ({"dropout": VisualDropout((2,), (1.0, 0.5))}, r"stage.dropout.layers=\(2,\) must ascend"),
        ({"dropout": VisualDropout((1,), (0.5, 1.0))}, r"stage.dropout.ratios=.* must begin with 1 and fall"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(STAGE, **changes).build(FLOAT32)


@pytest.mark.parametrize("by_parts", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_starts_from_files_of_its_parts(tmp_path, by_parts):
    earlier = dataclasses.replace(micro.experiment, stage=STAGE)
    params = saved(tmp_path, earlier)
    names = ("vision", "bridge", "language")
    entries = tuple(f"{name}={tmp_path}#{name}" for name in names) if by_parts else (str(tmp_path),)
    later = dataclasses.replace(earlier, init_from=entries)
    objective = STAGE.build(FLOAT32)
    found = read_weights(objective, later, shapes_of(objective, "float32").trained)
    assert found.keys() == params.keys()
    for path, leaf in params.items():
        np.testing.assert_array_equal(found[path], leaf)


def test_a_part_that_a_dialogue_has_not_is_named():
    later = dataclasses.replace(micro.experiment, stage=STAGE, init_from=("text=some.safetensors#language",))
    objective = STAGE.build(FLOAT32)
    with pytest.raises(UserError, match="no branch text; its branches are vision, bridge, language"):
        read_weights(objective, later, shapes_of(objective, "float32").trained)


@pytest.mark.parametrize(
    "name",
    [
        "videochat2_mistral_7b",
        pytest.param("videochat_flash_qwen2_5_2b_448", marks=pytest.mark.slow),
        pytest.param("internvideo2_chat_8b", marks=pytest.mark.slow),
    ],
)
def test_released_models_read_rows_of_clips_images_and_questions(name):
    size = DIALOGUES[f"{name}_tiny"]
    question = 3 if getattr(size.bridge, "reads_text", False) else 0
    images = 1 if size.vision.reads_images else 0
    stage = VideoDialogue(size, (Bucket("mixed", 96, clips=2, images=images),), question=question)
    objective = stage.build(FLOAT32)
    spec = objective.main.batch
    assert ("question" in spec) == bool(question) and ("images" in spec) == bool(images)
    rows = {key: jax.ShapeDtypeStruct((2, *one.shape), one.dtype) for key, one in spec.items()}
    params = jax.eval_shape(objective.init, jax.random.key(0))
    # Traced alone: what the parts compute is compared elsewhere.
    key = jax.random.key(0)
    loss, terms = jax.eval_shape(lambda p, r: objective.loss(p, objective.prepare(r), key), params, rows)
    assert loss.shape == terms["right"].shape == ()
