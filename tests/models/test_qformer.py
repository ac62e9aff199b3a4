"""The Q-Former against the original: with a text and without, padded on either side; and its stacks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.dialogue.bridge_rows import qformer_rows
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.bridge import Question
from ivjax.models.internvit import InternVitSize
from ivjax.models.qformer import QFormerSize, network
from ivjax.models.qformer.layers import JointAttention
from ivjax.models.qformer.network import run_layers
from ivjax.ops.randomness import Dropout
from ivjax.ops.trees import paths_of
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden, close, close_gradient
from tests.models.params import any_params

FLOAT32 = Compute("float32")
SMALL = QFormerSize(
    16, 8, hidden=12, depth=3, heads=2, mlp_width=20, queries=2, extra_queries=3, vocabulary=9
)


BRIDGE = SMALL.build(FLOAT32)
project = jax.jit(BRIDGE.project, static_argnums=2)


@pytest.fixture(scope="module")
def golden():
    return Golden("s3_qformer")


@pytest.fixture(scope="module")
def size(golden):
    bert = golden.config["bert"]
    assert bert["hidden_act"].startswith("gelu") and "exact" in bert["hidden_act"]
    assert bert["layer_norm_eps"] == network.EPSILON
    return QFormerSize(
        width=bert["encoder_width"],
        out=golden.config["llm_hidden"],
        hidden=bert["hidden_size"],
        depth=bert["num_hidden_layers"],
        heads=bert["num_attention_heads"],
        mlp_width=bert["intermediate_size"],
        queries=golden.config["num_query_token"],
        extra_queries=golden.config["extra_num_query_token"],
        reads_text=golden.config["qformer_text_input"],
        vocabulary=bert["vocab_size"],
        places=bert["max_position_embeddings"],
        cross_every=bert["cross_attention_freq"],
    )


def rows_of(golden):
    return qformer_rows("llama_proj", cross_every=golden.config["bert"]["cross_attention_freq"])


def params_of(golden):
    named = {name: x for name, x in golden.group("params").items() if not name.endswith("position_ids")}
    return import_tensors(rows_of(golden), named)


def question(golden):
    """The instructions of a fixture; None if its model reads none."""
    if not golden.config["qformer_text_input"]:
        return None
    return Question(golden["inputs/text_ids"].astype(np.int32), golden["inputs/text_mask"])


@pytest.mark.golden
def test_s3_qformer_tokens_loss_and_gradients_are_the_originals(golden, size):
    bridge = size.build(FLOAT32)

    def loss(params):
        tokens = golden["inputs/image_embeds"][:, None]
        found = bridge.project(params, tokens, (1, 1, 1), question(golden))
        alone = bridge.project(params, tokens, (1, 1, 1))
        return jnp.mean(found * golden["inputs/loss_weight"]), (found, alone)

    (value, (found, alone)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params_of(golden))
    close(found, golden["outputs/llm_tokens"])
    if "outputs/llm_tokens_no_text" in golden:
        close(alone, golden["outputs/llm_tokens_no_text"])
    np.testing.assert_allclose(value, golden["losses/loss"], rtol=1e-4)
    exported = export_tensors(rows_of(golden), jax.device_get(gradients))
    wanted = golden.group("grads")
    assert wanted and exported.keys() <= golden.group("params").keys()
    for name, gradient in wanted.items():
        close_gradient(exported[name], gradient, stated=1e-5)


@pytest.mark.slow
@pytest.mark.golden
def test_s3_qformer_states_after_each_layer_are_the_originals(golden, size, monkeypatch):
    params, bridge, given = params_of(golden), size.build(FLOAT32), []
    monkeypatch.setattr(network, "run_layers", lambda *told, keys: given.append(told[3:]) or told[3])
    bridge.project(params, golden["inputs/image_embeds"][:, None], (1, 1, 1), question(golden))
    x, seen, mask = given[0]
    close(x, golden["outputs/hidden_states/0"])
    close(seen, golden["outputs/vision_ln"])
    for depth in range(1, size.depth + 1):
        some = dataclasses.replace(size, depth=depth)
        cut = {
            "blocks": jax.tree.map(lambda leaf, depth=depth: leaf[:depth], params["blocks"]),
            "cross": jax.tree.map(lambda leaf, n=some.crosses: leaf[:n], params["cross"]),
        }
        found = run_layers(some, FLOAT32, cut, x, seen, mask)
        close(found, golden[f"outputs/hidden_states/{depth}"])
    close(found, golden["outputs/last_hidden_state"])


def test_segments_of_a_video_have_queries_of_their_own():
    tokens = np.random.default_rng(0).normal(size=(2, 3, 5, 16)).astype(np.float32)
    asked = Question(np.array([[1, 2, 0], [3, 4, 5]], np.int32), np.array([[1, 1, 0], [1, 1, 1]]))
    params = any_params(BRIDGE)
    found = project(params, tokens, (1, 2, 2), asked)
    assert found.shape == (2, SMALL.tokens(3, (1, 2, 2)), 8) == (2, 15, 8)
    last = project(params, tokens[:, 2:], (1, 2, 2), asked)
    close(found[:, 10:], np.asarray(last))


def test_words_behind_the_mask_change_nothing():
    params = any_params(BRIDGE)
    tokens = np.random.default_rng(0).normal(size=(2, 1, 5, 16)).astype(np.float32)
    words, mask = np.array([[1, 2, 3], [3, 4, 5]], np.int32), np.array([[1, 0, 1], [1, 1, 1]])
    one = project(params, tokens, (1, 2, 2), Question(words, mask))
    hidden, seen = words.copy(), words.copy()
    hidden[0, 1], seen[0, 2] = 7, 7
    np.testing.assert_array_equal(project(params, tokens, (1, 2, 2), Question(hidden, mask)), one)
    other = project(params, tokens, (1, 2, 2), Question(seen, mask))
    assert np.abs(other - one)[0].max() > 1e-3
    np.testing.assert_array_equal(other[1], one[1])


def test_a_question_that_is_too_long_is_refused():
    words = np.zeros((1, 513), np.int32)
    with pytest.raises(UserError, match="the question has 513 tokens and the Q-Former reads 512; shorten it"):
        BRIDGE.project({}, np.zeros((1, 1, 5, 16), np.float32), (1, 2, 2), Question(words, words))


def test_without_a_text_the_parts_that_read_it_are_missing():
    shapes = jax.eval_shape(
        dataclasses.replace(SMALL, reads_text=False).build(FLOAT32).init, jax.random.key(0)
    )
    assert shapes["blocks"].keys() == {"attn", "norm1", "mlp_query", "norm2_query"}
    assert not {"word_embed", "place_embed"} & shapes.keys()
    assert shapes["cross"]["k"]["kernel"].shape == (2, 16, 12)  # layers 0 and 2 of three


@pytest.mark.parametrize(
    ("width", "text", "parameters"),
    [
        (1024, True, 182_121_216),
        (1024, False, 101_598_720),
        (1408, True, 185_660_160),
        (1408, False, 105_137_664),
    ],
)
def test_released_sizes_have_as_many_parameters_as_the_originals(width, text, parameters):
    size = QFormerSize(width, 8, reads_text=text)
    shapes = jax.eval_shape(size.build(FLOAT32).init, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    # The originals count neither the queries, the norm before nor the linear layer behind.
    assert count - 96 * 768 - 2 * width - 769 * 8 == parameters


def test_a_qformer_that_does_not_fit_its_tower_is_refused():
    with pytest.raises(UserError, match="bridge.width=16, but the tower's tokens have 32 channels"):
        SMALL.check("bridge", InternVitSize(32, 1, 2, 24, image=(28, 28)))
    with pytest.raises(UserError, match="bridge.hidden=12 does not divide into 5 heads"):
        dataclasses.replace(SMALL, heads=5).check("bridge", InternVitSize(16, 1, 2, 24, image=(28, 28)))
    with pytest.raises(UserError, match="bridge.cross_every=0 must be 1 or more"):
        dataclasses.replace(SMALL, cross_every=0).check("bridge", InternVitSize(16, 1, 2, 24))


def test_drop_path_drops_each_branch_of_the_last_layer_at_its_rate_and_none_of_the_first():
    size = dataclasses.replace(SMALL, dropout=0.1, drop_path=0.5)
    drop, keep = network._left_out(size, jax.random.split(jax.random.key(0), 400))
    assert drop.rate == 0.1 and keep.shape == (3, 4, 400)
    assert np.all(keep[0] == 1) and set(np.unique(keep[2])) == {0.0, 2.0}
    np.testing.assert_allclose(keep.mean(-1), 1, atol=0.2)
    assert np.abs(np.corrcoef(keep[2]) - np.eye(4)).max() < 0.2


@pytest.mark.slow
def test_everything_learns_with_dropout():
    size = dataclasses.replace(SMALL, dropout=0.1, drop_path=0.5)
    bridge, keys = size.build(FLOAT32), jax.random.split(jax.random.key(0), 8)
    params = any_params(bridge)
    tokens = np.random.default_rng(0).normal(size=(8, 1, 5, 16)).astype(np.float32)
    words = np.arange(24, dtype=np.int32).reshape(8, 3) % 9
    asked = Question(words, np.tile([[True, True, False]], (8, 1)))

    def total(params):
        return jnp.mean(bridge.project(params, tokens, (1, 2, 2), asked, keys) ** 2)

    gradients = jax.jit(jax.grad(total))(params)
    missing = {path for path, leaf in paths_of(gradients) if not np.any(leaf)}
    assert missing == set()


def test_words_that_are_said_one_by_one_see_the_same_with_dropout_and_without():
    layer = JointAttention(2, jnp.float32)
    x = np.random.default_rng(0).normal(size=(2, 5, 12)).astype(np.float32)
    params = layer.init(jax.random.key(0), x, None)
    nothing = Dropout(jax.random.split(jax.random.key(0), 2), 0.0)
    mask = np.array([[1, 1, 1, 0, 1], [1, 1, 1, 1, 1]])
    for told in ((None, 2), (mask, None), (None, None)):
        close(layer.apply(params, x, *told, nothing), np.asarray(layer.apply(params, x, *told)))
