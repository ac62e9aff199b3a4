"""The stage of dialogue: packed and unpacked, whole and in micro-batches, on one device and on four."""

import jax
import numpy as np
import pytest

from ivjax.experiment.computing import Compute
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.ops.layout import batch_spec
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from ivjax.train.gradients import gradients_of
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import shardings_of
from tests.goldens import close
from tests.models.params import any_params
from tests.train.dialogues import batch, conversation, row_of

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


def test_four_devices_that_split_tokens_words_and_clips_give_the_numbers_of_one(unpacked):
    same(on_mesh(STAGE, apart(), data=1, tensor=2, context=2), unpacked)
    same(on_mesh(STAGE, apart(), data=1, fsdp=2, context=2), unpacked)
    same(on_mesh(STAGE, apart(), data=2, fsdp=2), unpacked)
