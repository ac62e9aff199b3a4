"""The stage-1 student against the original model: tensors, losses, gradients, sizes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.internvideo2 import PRETRAIN, pretrain_rows
from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead, StudentSize
from ivjax.models.internvideo2.student import StudentOutput
from ivjax.models.layers import PatchEmbed
from ivjax.models.teaching import at_tokens
from ivjax.ops.losses import alignment_loss
from ivjax.ops.video import patchify
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden, clips, close, close_gradient, seen

OUTPUTS = {"clip": "x_clip_align", "pooled": "x_align", "mae": "x_mae_align"}
LOSSES = {"clip": "clip_middle", "pooled": "clip_final", "mae": "mae"}
FIXTURES = ("stage1_pretrain_l2", "stage1_pretrain_none_sep", "stage1_distill")


class Case:
    """A fixture's inputs in this project's layout."""

    def __init__(self, name: str):
        self.golden = Golden(name)
        self.params = import_tensors(pretrain_rows(), self.golden.group("params"))
        self.video, self.visible = clips(self.golden["inputs/video"]), seen(self.golden["inputs/mask"])
        self.size = PRETRAIN.parity.sizes(self.golden.config)
        self.targets = self._targets()

    def predict(self, params, gelu=None, scan=True) -> StudentOutput:
        """The student's output of the fixture's clips; with the GELU of its `outputs` unless one is named."""
        encoder = dataclasses.replace(self.size.encoder, gelu=gelu or self.size.encoder.gelu)
        student = dataclasses.replace(self.size, encoder=encoder).build(Compute("float32", scan=scan))
        return student.predict(params, self.video, self.visible)

    def _targets(self):
        """By head: the clip teacher's features, its pooled ones, and the MAE teacher's, if any."""
        clip = at_tokens(jnp.asarray(self.golden["inputs/teacher_clip_middle"]), self.visible)
        found = {"clip": clip}
        if self.size.pooled:
            found["pooled"] = jnp.asarray(self.golden["inputs/teacher_clip_final"])
        if self.size.mae:
            features = jnp.asarray(self.golden["inputs/teacher_mae"])
            found["mae"] = at_tokens(features, self.visible[:, 1:] - 1)
        return found

    def losses(self, output):
        """The loss of a student's output, and its terms. The originals compute no pooled term of weight 0."""
        clip, pooled = self.golden.config["clip_loss_ratio"]
        weights = {"clip": clip, "pooled": pooled, "mae": self.golden.config.get("mae_loss_ratio")}
        terms = {
            name: alignment_loss(getattr(output, name), target)
            for name, target in self.targets.items()
            if weights[name] or name != "pooled"
        }
        return sum(weights[name] * term for name, term in terms.items()), terms


@functools.cache
def case(name: str) -> Case:
    return Case(name)


each_fixture = pytest.mark.parametrize("name", FIXTURES)
# Losses and gradients of all are among the quick tests.
first_fixture = pytest.mark.parametrize(
    "name", [FIXTURES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FIXTURES[1:])]
)


def assert_golden(c, group, output, loss):
    outputs = c.golden.group(group)
    compared = {head for head in ("pooled", *c.targets) if OUTPUTS[head] in outputs}
    assert compared
    for head in compared:
        close(getattr(output, head), outputs[OUTPUTS[head]])
    golden = f"{group.replace('outputs', 'losses')}/total"
    if golden in c.golden:
        close(loss, c.golden[golden])


@pytest.mark.golden
@first_fixture
@pytest.mark.parametrize(
    "group, gelu, scan",
    [
        ("outputs_fused_tanh_gelu", "tanh", False),
        # What is unrolled and which GELU it has do not depend on each other.
        pytest.param("outputs_fused_tanh_gelu", "tanh", True, marks=pytest.mark.slow),
        pytest.param("outputs", None, False, marks=pytest.mark.slow),
    ],
)
def test_outputs_and_their_loss_are_the_originals_in_both_arithmetics(name, group, gelu, scan):
    c = case(name)
    if not c.golden.group(group):
        pytest.skip(f"{name} has no {group}")

    @jax.jit
    def run(params):
        output = c.predict(params, gelu, scan)
        return output, c.losses(output)[0]

    assert_golden(c, group, *run(c.params))


@pytest.mark.golden
@each_fixture
def test_heads_are_fed_by_the_layers_that_the_fixture_names(name):
    c = case(name)
    config, depth = c.golden.config, c.size.encoder.depth
    for heads, prefix in ((c.size.clip, "clip_"), (c.size.mae, "mae_")):
        for named in (f"{prefix}return_index_ascending", "return_index_ascending" * (prefix == "clip_")):
            if named in config:
                assert list(heads.taps(depth)) == config[named]


@pytest.mark.golden
@first_fixture
@pytest.mark.parametrize("scan", [pytest.param(True, marks=pytest.mark.slow), False])
def test_residual_streams_pooled_feature_and_targets_are_the_originals(name, scan):
    c = case(name)
    size = c.size.encoder
    embed = PatchEmbed(size.tubelet, size.patch, size.width)
    tower = size.build(Compute("float32", scan=scan), tuple(range(size.depth)))

    @jax.jit
    def layers(params):
        patches = embed.apply({"params": params["patch_embed"]}, patchify(c.video, size.tubelet, size.patch))
        return patches, tower.encode(params, c.video, c.visible[:, 1:] - 1)

    patches, (_, taps, pooled, _) = layers(c.params["encoder"])
    close(patches.reshape(c.golden["outputs/patch_embed"].shape), c.golden["outputs/patch_embed"])
    for i, tap in enumerate(taps):
        close(tap, c.golden[f"outputs/after_block_{i}"])
    close(pooled, c.golden["outputs/pooled"])
    for head, target in {"clip": "target_clip_middle_vis", "mae": "target_mae_vis"}.items():
        if f"outputs/{target}" in c.golden:
            close(c.targets[head], c.golden[f"outputs/{target}"])


@pytest.mark.golden
@each_fixture
def test_losses_and_gradients_are_the_originals(name):
    c = case(name)

    def losses(params):
        output = c.predict(params)
        total, terms = c.losses(output)
        return total, (terms, output)

    (total, (terms, output)), gradients = jax.jit(jax.value_and_grad(losses, has_aux=True))(c.params)
    assert "losses/total" in c.golden
    assert_golden(c, "outputs", output, total)
    for head, term in terms.items():
        close(term, c.golden[f"losses/{LOSSES[head]}"])
    named = export_tensors(pretrain_rows(), jax.device_get(gradients))
    golden = c.golden.group("grads")
    assert golden
    for key, value in golden.items():
        close_gradient(named[key], value)
    norm = np.sqrt(sum(np.square(g, dtype=np.float64).sum() for g in named.values()))
    close(norm, c.golden["grads_meta/global_norm_all_params"])


@pytest.mark.golden
@each_fixture
def test_export_gives_back_the_original_tensors(name):
    golden = Golden(name).group("params")
    exported = export_tensors(pretrain_rows(), import_tensors(pretrain_rows(), golden))
    assert exported.keys() == golden.keys()
    for key, value in golden.items():
        np.testing.assert_array_equal(exported[key], value)


def count(size: StudentSize) -> int:
    return sum(int(np.prod(shape)) for shape in PRETRAIN.shapes(size).values())


RELEASED = FeatureHeads(3200, 6), PooledHead(768), FeatureHeads(1408, 4, head="mlp")
DISTILLED = FeatureHeads(1408, 6, head="mlp"), PooledHead(768, head="mlp"), None


@pytest.mark.parametrize(
    "preset, heads, expected",
    [
        ("1B", RELEASED, 1_070_042_752),
        ("6B", RELEASED, 6_075_947_392),
        ("S14", DISTILLED, 29_169_792),
        ("B14", DISTILLED, 102_252_288),
        ("L14", DISTILLED, 327_183_872),
    ],
)
def test_released_students_have_their_number_of_parameters(preset, heads, expected):
    assert count(StudentSize(EncoderSize.PRESETS[preset], *heads)) == expected


def test_separable_tables_have_fewer_parameters():
    size = dataclasses.replace(EncoderSize.PRESETS["1B"], positions="separable")
    assert count(StudentSize(size, *RELEASED)) == 1_062_507_136


TINY = EncoderSize(32, 4, 4, 64, pool_heads=4, pool_width=16, image=(28, 28), frames=2)


@pytest.fixture(scope="module")
def params():
    """Fresh parameters of a student of the size TINY."""
    student = StudentSize(TINY, FeatureHeads(8, 2), PooledHead(8)).build(Compute("float32"))
    return jax.jit(student.init)(jax.random.key(0))


def test_initialisation_follows_the_family(params):
    blocks = params["encoder"]["blocks"]
    for kernel in (blocks["attn"]["proj"]["kernel"], blocks["mlp"]["fc2"]["kernel"]):
        for layer in range(TINY.depth):
            np.testing.assert_allclose(np.std(kernel[layer]), 0.02 / np.sqrt(2 * (layer + 1)), rtol=0.1)
    np.testing.assert_allclose(np.std(blocks["mlp"]["fc1"]["kernel"]), 0.02, rtol=0.1)
    np.testing.assert_allclose(blocks["ls1"]["gamma"], TINY.layer_scale)
    bound = (14 * 14 * 3) ** -0.5
    patch = np.asarray(params["encoder"]["patch_embed"]["kernel"])
    assert np.abs(patch).max() <= bound and np.std(patch) == pytest.approx(bound / np.sqrt(3), rel=0.05)


def test_taps_ascend_and_truncate_the_interval():
    assert FeatureHeads(1, 6, interval=3.34).taps(40) == (23, 26, 29, 33, 36, 39)
    with pytest.raises(ValueError, match="do not fit"):
        FeatureHeads(1, 6).taps(5)


@pytest.fixture(scope="module")
def encode(params):
    """Gives encode(clips, drop-path multipliers) with taps after the first and the last layer."""
    tower = TINY.build(Compute("float32"), taps=(0, 3))
    run = jax.jit(lambda params, video, keep: tower.encode(params, video, keep=keep))
    return lambda video, keep: run(params["encoder"], video, keep)


def test_uint8_video_is_normalised_like_its_float_form(encode):
    video = np.random.default_rng(0).integers(0, 256, (2, 2, 28, 28, 3), np.uint8)
    as_float = (video / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    keep = np.ones((4, 2, 2), np.float32)
    close(encode(video, keep).pooled, np.asarray(encode(as_float.astype(np.float32), keep).pooled))


def test_drop_path_multiplies_the_branches_of_each_sample(encode):
    video = np.random.default_rng(1).normal(size=(2, 2, 28, 28, 3)).astype(np.float32)
    every = np.ones((4, 2, 2), np.float32)
    first_dropped = every.copy()
    first_dropped[:, :, 0] = 0
    _, (_, taps), *_ = encode(video, first_dropped)
    _, (_, plain), *_ = encode(video, every)
    close(taps[1], np.asarray(plain[1]))
    _, (untouched, _), *_ = encode(video, 0 * every)
    close(taps[0], np.asarray(untouched[0]))
