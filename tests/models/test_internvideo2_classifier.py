"""The classifiers against the original models: logits, losses, gradients, sizes, and their files."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.detection import recognise
from ivjax.convert.engine.family import BUFFERS
from ivjax.convert.families.internvideo2_classifier import CLASSIFIER
from ivjax.convert.formats.tensors import Arrays
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.patterns import covers
from ivjax.models.classifier import BatchNorm, Classifier
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.tower import Encoded
from ivjax.ops import hico
from ivjax.ops.randomness import dropout
from ivjax.ops.trees import paths_of
from ivjax.stages.classification_loss import cross_entropy, smoothed
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden, clips, close, close_gradient
from tests.models.params import any_params

FIXTURES = ("stage1_finetune", "stage1_finetune_ap", "stage1_finetune_cat")
FLOAT32 = Compute("float32")
TINY = EncoderSize(32, 3, 4, 64, pool_heads=4, pool_width=16, image=(28, 28), frames=2, layer_scale=0.1)
CLASSIFIERS = {
    "attentive": ClassifierSize(TINY, 5, extra_mlp=True),
    "avgN_proj": ClassifierSize(TINY, 5, merge="cls_avgN_proj"),
    "avg1_batch": ClassifierSize(TINY, 5, merge="cls_avg1", merge_norm="batch"),
}
each_fixture = pytest.mark.parametrize("name", FIXTURES)
# Losses and gradients of all are among the quick tests.
first_fixture = pytest.mark.parametrize(
    "name", [FIXTURES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FIXTURES[1:])]
)


class Case:
    """A fixture's inputs in this project's layout."""

    def __init__(self, name: str):
        self.golden = Golden(name)
        self.size = CLASSIFIER.parity.sizes(self.golden.config)
        stored = self.golden.group("params")
        self.tensors = {name: tensor for name, tensor in stored.items() if not covers(BUFFERS, name)}
        self.params = import_tensors(CLASSIFIER.rows, self.tensors)
        self.video = clips(self.golden["inputs/video"])

    def model(self, gelu: str | None = None, scan: bool = True) -> Classifier:
        """The classifier; with the GELU of the fixture's `outputs` unless one is named."""
        encoder = dataclasses.replace(self.size.encoder, gelu=gelu or self.size.encoder.gelu)
        return dataclasses.replace(self.size, encoder=encoder).build(Compute("float32", scan=scan))


@functools.cache
def case(name: str) -> Case:
    return Case(name)


@pytest.mark.golden
@first_fixture
def test_logits_of_the_fused_arithmetic_are_the_originals_with_unrolled_layers(name):
    c = case(name)
    if "outputs_fused_tanh_gelu/logits" not in c.golden:
        pytest.skip(f"{name} has no outputs of the fused arithmetic")
    logits = jax.jit(c.model("tanh", scan=False).logits)(c.params, c.video)
    close(logits, c.golden["outputs_fused_tanh_gelu/logits"])


@pytest.mark.golden
@each_fixture
def test_logits_losses_and_gradients_are_the_originals(name):
    c, golden = case(name), case(name).golden
    labels, soft = jnp.asarray(golden["inputs/target"]), jnp.asarray(golden["inputs/soft_target"])
    classes, share = c.size.classes, golden.config["smoothing"]

    def losses(params):
        logits = c.model().logits(params, c.video)
        hard = {"ce": 0.0, "label_smoothing_ce": share}
        terms = {loss: cross_entropy(logits, smoothed(labels, classes, s)) for loss, s in hard.items()}
        total = cross_entropy(logits, soft)
        return total, (logits, terms | {"soft_ce": total})

    (_, (logits, terms)), gradients = jax.jit(jax.value_and_grad(losses, has_aux=True))(c.params)
    close(logits, golden["outputs/logits"])
    for loss, value in golden.group("losses").items():
        close(terms[loss], value)
    named, expected = export_tensors(CLASSIFIER.rows, jax.device_get(gradients)), golden.group("grads")
    assert expected
    for key, value in expected.items():
        close_gradient(named[key], value)


@pytest.mark.golden
@first_fixture
def test_every_layer_is_the_originals(name):
    c, inputs = case(name), case(name).golden.group("inputs")
    layers = jax.jit(lambda params: CLASSIFIER.parity.run(c.size, params, inputs, "float32"))(c.params)
    expected = c.golden.group("outputs")
    assert expected.keys() <= layers.keys() and "logits" in expected
    for layer, value in expected.items():
        close(layers[layer], value)
    assert recognise(Arrays(c.golden.group("params")), name).family is CLASSIFIER


@pytest.mark.golden
@each_fixture
def test_export_gives_back_the_original_tensors(name):
    c = case(name)
    exported = export_tensors(CLASSIFIER.rows, c.params)
    assert exported.keys() == c.tensors.keys()
    for key, value in c.tensors.items():
        np.testing.assert_array_equal(exported[key], value)
    shapes = {path: leaf.shape for path, leaf in paths_of(c.params)}
    assert shapes == CLASSIFIER.shapes(c.size)


def count(size: ClassifierSize) -> int:
    return sum(int(np.prod(shape)) for shape in CLASSIFIER.shapes(size).values())


@pytest.mark.parametrize(
    "preset, expected",
    [
        ("S14_k400_f8", 23_352_976),
        ("B14_k400_f8", 89_748_112),
        ("L14_k400_f8", 309_238_416),
        ("1B_k400_f8", 1_021_017_744),
        ("6B_k400_f8", 5_942_044_304),
        ("L14_k710_f8", 309_238_416 + 238_390),
        ("1B_k400_f16", 1_023_901_328),
        ("6B_k400_f16", 5_948_597_904),
        ("1B_ssv2_attentive_f16", 1_028_451_502),
        ("6B_ssv2_attentive_f16", 5_953_148_078),
        ("1B_ssv2_linear_f16", 1_027_082_926),
        ("6B_ssv2_linear_f16", 5_953_155_758),
    ],
)
def test_released_classifiers_have_their_number_of_parameters(preset, expected):
    assert count(CLASSIFIER.presets[preset]) == expected


MODELS = {name: size.build(FLOAT32) for name, size in CLASSIFIERS.items()}
VIDEO = np.random.default_rng(1).normal(size=(4, 2, 28, 28, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def params():
    """Parameters of each kind of classifier, on the same encoder."""
    found = {name: any_params(model) for name, model in MODELS.items()}
    return {name: tree | {"encoder": found["attentive"]["encoder"]} for name, tree in found.items()}


@pytest.fixture(scope="module")
def encoded(params):
    """The encoder's output for the clips VIDEO."""
    return jax.jit(MODELS["attentive"].tower.encode)(params["attentive"]["encoder"], VIDEO)


def test_the_head_is_scaled_and_the_extra_mlp_does_nothing_at_first(encoded):
    key = jax.random.key(0)
    fresh = jax.jit(lambda key: MODELS["attentive"].init(key, 20.0))(key)
    head = fresh["head"]
    assert np.std(head["kernel"]) == pytest.approx(20 * 0.02, rel=0.3) and not np.any(head["bias"])
    assert not any(np.any(leaf) for leaf in fresh["extra_mlp"]["fc2"].values())

    without = ClassifierSize(TINY, 5).build(FLOAT32)

    @jax.jit
    def logits(fresh, encoded):
        plain = {name: leaf for name, leaf in fresh.items() if name != "extra_mlp"}
        return MODELS["attentive"].classify(fresh, encoded)[0], without.classify(plain, encoded)[0]

    np.testing.assert_array_equal(*logits(fresh, encoded))


def test_classifiers_of_the_same_key_have_the_same_encoder():
    def a_leaf(model):
        # One leaf alone: to compile the draw of all of them takes seconds.
        return jax.jit(lambda key: model.init(key)["encoder"]["clip_projector"]["q"]["kernel"])(
            jax.random.key(0)
        )

    np.testing.assert_array_equal(a_leaf(MODELS["attentive"]), a_leaf(MODELS["avgN_proj"]))


def test_the_head_sees_tokens_in_the_originals_order(params, encoded):
    """Layer norm: token after token. Batch norm: channel after channel. The pooled feature comes last."""
    logits = jax.jit(lambda params: {n: MODELS[n].classify(tree, encoded)[0] for n, tree in params.items()})(
        params
    )
    tokens, pooled = np.asarray(encoded.tokens), np.asarray(encoded.pooled)
    tree = params["avg1_batch"]
    merged = np.stack([tokens[:, 0], tokens[:, 1:].mean(1)], axis=1)
    norm = tree["down_norm"]
    merged = (merged - norm["mean"]) / np.sqrt(norm["variance"] + 1e-5) * norm["scale"] + norm["bias"]
    close(logits["avg1_batch"], linear(merged.swapaxes(1, 2).reshape(4, -1), tree["head"]))

    tree = params["avgN_proj"]
    frames = np.stack([tokens[:, 0], tokens[:, 1:5].mean(1), tokens[:, 5:].mean(1)], axis=1)
    merged = np.asarray(jax.nn.gelu(linear(frames, tree["down"]), approximate=False))
    merged = layer_norm(merged, tree["down_norm"]).reshape(4, -1)
    seen = np.concatenate([merged, layer_norm(pooled, tree["fc_norm"])], axis=-1)
    close(logits["avgN_proj"], linear(seen, tree["head"]))


def linear(x, tree):
    return x @ tree["kernel"] + tree["bias"]


def layer_norm(x, tree):
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return normed * tree["scale"] + tree["bias"]


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_torchs(affine):
    x = np.random.default_rng(0).normal(2, 3, (5, 3, 4)).astype(np.float32)
    eps = 1e-5 if affine else 1e-6
    params = {"mean": np.full(4, 0.5, np.float32), "variance": np.full(4, 4.0, np.float32)}
    params |= {"scale": np.arange(4.0), "bias": np.ones(4)} if affine else {}
    scale, bias = (np.arange(4.0), 1.0) if affine else (1.0, 0.0)
    norm = BatchNorm(affine)
    evaluated = norm.apply({"params": params}, x, False)
    close(evaluated, (x - 0.5) / np.sqrt(4 + eps) * scale + bias)
    trained, sown = norm.apply({"params": params}, x, True, mutable=["statistics"])
    rows = x.reshape(-1, 4)
    close(trained, (x - rows.mean(0)) / np.sqrt(rows.var(0) + eps) * scale + bias)
    close(sown["statistics"]["mean"], rows.mean(0))
    close(sown["statistics"]["variance"], rows.var(0, ddof=1))


def test_dropout_goes_by_sample_and_keeps_the_mean():
    keys = jax.vmap(jax.random.key)(jnp.array([7, 8, 7]))
    out = np.asarray(dropout(keys, jnp.ones((3, 4000)), 0.25))
    np.testing.assert_array_equal(out[0], out[2])
    assert np.any(out[0] != out[1]) and set(np.unique(out)) == {0, np.float32(1 / 0.75)}
    assert out.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_frozen_blocks_change_no_logit_and_get_no_gradient(params):
    model, tree, frozen = MODELS["avgN_proj"], params["avgN_proj"], 2
    keep = np.ones((3, 2, 4), np.float32)
    keep[1:, :, 0] = 0

    def loss(tree, cut):
        tower = model.tower
        if cut:
            encoded = tower.encode_above(tree["encoder"], VIDEO, keep, frozen)
        else:
            encoded = tower.encode(tree["encoder"], VIDEO, keep=keep)
        return jnp.sum(jnp.sin(model.classify(tree, encoded)[0]))

    of_loss = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    (value, cut), (whole_value, whole) = jax.device_get([of_loss(tree, True), of_loss(tree, False)])
    close(value, whole_value)
    for (path, got), (_, full) in zip(paths_of(cut), paths_of(whole), strict=True):
        if path.startswith("encoder/blocks"):
            assert not np.any(got[:frozen]) and np.any(full[:frozen]), path
            got, full = got[frozen:], full[frozen:]
        elif path.startswith("encoder/") and "clip_projector" not in path:
            assert not np.any(got), path
            continue
        np.testing.assert_allclose(got, full, rtol=1e-4, atol=1e-5 * np.abs(full).max(), err_msg=path)


def test_means_and_highest_values_of_each_frame_are_read_through_one_norm():
    size = ClassifierSize(TINY, 5, merge="avgN_maxN")
    model, rng = size.build(FLOAT32), np.random.default_rng(0)
    times = TINY.grid[0]
    tokens = rng.normal(size=(3, 1 + TINY.patches, TINY.width)).astype(np.float32)
    params = any_params(model)
    assert params["head"]["kernel"].shape == (size.features, 5) == (2 * times * TINY.width, 5)
    pooled = jnp.zeros((3, TINY.out))
    logits, _ = model.classify(params, Encoded(jnp.asarray(tokens), None, pooled, None))
    patches = tokens[:, 1:].reshape(3, times, -1, TINY.width)
    read = np.concatenate([patches.mean(2), patches.max(2)], -1).reshape(3, -1)
    read = (read - read.mean(-1, keepdims=True)) / np.sqrt(read.var(-1, keepdims=True) + 1e-6)
    read = read * params["down_norm"]["scale"] + params["down_norm"]["bias"]
    close(logits, read @ params["head"]["kernel"] + params["head"]["bias"])


def test_a_head_can_read_what_merging_leaves_of_each_frame():
    tokens = np.random.default_rng(0).normal(size=(3, 1 + TINY.patches, TINY.width)).astype(np.float32)
    whole, merged = (
        ClassifierSize(TINY, 5, merge="avgN_maxN", frame_tokens=kept, merge_heads=2).build(FLOAT32)
        for kept in (None, 2)
    )
    params, times = any_params(whole), TINY.grid[0]
    frames = jnp.asarray(tokens[:, 1:].reshape(3 * times, -1, TINY.width))
    kept = hico.merge(frames, 2, 2).tokens
    # Means and highest values of two tokens are those of as many copies of them as a frame has patches.
    copies = jnp.repeat(kept, TINY.patches // times // 2, axis=1).reshape(3, -1, TINY.width)
    seen = [jnp.asarray(tokens), jnp.concatenate([tokens[:, :1], copies], axis=1)]
    logits = [
        model.classify(params, Encoded(x, None, jnp.zeros((3, TINY.out)), None))[0]
        for model, x in zip((merged, whole), seen, strict=True)
    ]
    close(logits[0], logits[1])


@pytest.mark.parametrize(
    ("merge", "kept", "said"), [("proj", 4, "is for merge=avgN_maxN"), ("avgN_maxN", 0, "patches")]
)
def test_merging_before_a_head_is_refused_where_it_is_impossible(merge, kept, said):
    with pytest.raises(UserError, match=f"frame_tokens={kept}.*{said}"):
        ClassifierSize(TINY, 5, merge=merge, frame_tokens=kept).check("classifier")
