"""InternVideo-Next against the original code: layers, teacher, losses and gradients of both stages, masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.layerwise import internvideo_next_layers as layerwise
from ivjax.convert.families.siglip import middle_layers
from ivjax.convert.registry import FAMILIES
from ivjax.experiment.computing import Compute
from ivjax.models.siglip import SiglipSize
from ivjax.models.teaching import at_tokens
from ivjax.ops.block_masks import SeenPatches, block_shape, first_of, hidden_by, outside
from ivjax.ops.diffusion import cosine_betas, cosine_process
from ivjax.ops.losses import l2_normalise
from ivjax.ops.video import IMAGENET_MEAN, IMAGENET_STD
from ivjax.stages.internvideo_next.latent_prediction import BlockMask, LatentPrediction
from ivjax.stages.internvideo_next.latent_prediction_loss import LatentObjective
from ivjax.stages.internvideo_next.masked_diffusion import LayerInputTeacher, MaskedDiffusion, TermWeights
from ivjax.stages.internvideo_next.masked_diffusion_loss import (
    DiffusionObjective,
    TeacherFeatures,
    mean_of_units,
)
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden, clips, seen

STAGE1, STAGE2, TEACHER = (
    "internvideo_next_stage1",
    "internvideo_next_stage2",
    "internvideo_next_siglip_teacher",
)
JEPA = "internvideo_next_jepa_mask"
UNREAD = ("bert_decoder.embeddings", "bert_decoder.final_norm", "selfdist_normproj", "selfdist_proj_clip")


uncovered = jax.jit(outside, static_argnums=2)
first_equal = jax.jit(functools.partial(first_of, equal=True), static_argnums=1)


def close(found, golden, name="", rtol=2e-4, atol=5e-5):
    np.testing.assert_allclose(np.asarray(found), golden, rtol=rtol, atol=atol, err_msg=name)


class Case:
    """A fixture with the parameters of the model, in this project's layout."""

    def __init__(self, name: str, family: str, unread: tuple[str, ...] = ()):
        self.golden = Golden(name)
        self.config = self.golden.json | self.golden.json["constructor"]
        assert not self.config["drop_path_rate"]
        self.family = FAMILIES[family]
        self.size = self.family.parity.sizes(self.config)
        self.inputs = self.golden.group("inputs")
        stored = self.golden.group("params")
        self.named = {key: value for key, value in stored.items() if not key.startswith(unread)}
        self.params = import_tensors(self.family.rows, self.named)

    def assert_gradients(self, gradients, rtol, atol):
        named, golden = (
            export_tensors(self.family.rows, jax.device_get(gradients)),
            self.golden.group("grads"),
        )
        assert golden
        for key, value in golden.items():
            # A bias of keys has no gradient but rounding, because a softmax takes it out again.
            close(named[key], value, key, rtol, max(atol * float(np.abs(value).max()), 1e-7))


@functools.cache
def stage1() -> Case:
    return Case(STAGE1, "internvideo_next_student", UNREAD)


@functools.cache
def stage2() -> Case:
    return Case(STAGE2, "internvideo_next_latent", (*UNREAD, "clip_pos_embed"))


def tiny_teacher(size):
    """Any teacher of the student's grid: the fixture gives its features."""
    image = tuple(8 * n for n in size.grid[1:])
    return LayerInputTeacher(SiglipSize(16, 4, 2, 16, patch=8, image=image))


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", [STAGE1])
def test_every_layer_of_stage_1_is_the_originals(name):
    c = stage1()
    found = jax.jit(lambda params: c.family.parity.run(c.size, params, c.inputs, "float32"))(c.params)
    outputs = c.golden.group("outputs")
    times = np.ravel(c.inputs["diffusion_t"])
    assert {name for name in outputs if not name.startswith("schedule_")} <= found.keys()
    for layer in found.keys() & outputs.keys():
        if layer in ("diffusion_vb_per_token", "diffusion_loss_per_token"):
            # The fixture's note: a token without noise has a likelihood that float32 cuts at 1e-12.
            close(found[layer][times > 0], outputs[layer][times > 0], layer, 1e-3)
            close(found[layer][times == 0], outputs[layer][times == 0], layer, 0.06)
        else:
            close(found[layer], outputs[layer], layer)


def stage1_loss():
    """The loss of the fixture's clips as a function of the parameters."""
    c, size = stage1(), stage1().size
    teacher = tiny_teacher(size.encoder)
    weights = TermWeights(*c.config["loss_weights"])
    stage = MaskedDiffusion(
        size.encoder, teacher, size.clip, size.pooled, size.predictor, size.diffusion, weights=weights
    )
    objective = DiffusionObjective(stage, stage.model(Compute("float32")), None)
    video, visible, hidden = layerwise.student_inputs(size.encoder, c.inputs)
    middle = at_tokens(jnp.asarray(c.inputs["teacher_middle"]), visible)
    final = mean_of_units(jnp.asarray(c.inputs["teacher_final_per_frame"]), size.encoder.frames)
    targets = TeacherFeatures(middle, final, None)

    def loss(params):
        return objective.compared(objective.predict(params, video, visible, hidden), targets, hidden)

    return loss


# Apart from the gradients, which take three times as long to compile.
@pytest.mark.golden
@pytest.mark.parametrize("name", [STAGE1])
def test_losses_of_stage_1_are_the_originals(name):
    c = stage1()
    total, terms = jax.jit(stage1_loss())(c.params)
    for ours, theirs in {"clip": "middle", "pooled": "final", "diffusion": "diffusion"}.items():
        close(terms[ours], c.golden[f"losses/{theirs}"], theirs, 1e-3)
    close(total, c.golden["losses/total"], "total", 1e-3)


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", [STAGE1])
def test_gradients_of_stage_1_are_the_originals(name):
    c = stage1()
    gradients, _ = jax.jit(jax.grad(stage1_loss(), has_aux=True))(c.params)
    c.assert_gradients(gradients, rtol=3e-3, atol=1e-4)


@pytest.mark.golden
@pytest.mark.parametrize("name", [STAGE1])
def test_the_cosine_process_is_the_originals(name):
    golden, at = Golden(name), [0, 1, 2, 10, 100, 500, 900, 998, 999]
    process = cosine_process()
    close(cosine_betas()[at], golden["outputs/schedule_betas"], rtol=1e-5)
    close(np.square(process.signal)[at], golden["outputs/schedule_alphas_cumprod"], rtol=1e-5, atol=1e-12)
    close(process.log_posterior[at], golden["outputs/schedule_posterior_log_variance_clipped"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", [STAGE2])
def test_every_layer_of_stage_2_and_of_its_target_is_the_originals(name):
    c = stage2()
    run = c.family.parity.run
    found = jax.jit(lambda params: run(c.size, params, c.inputs, "float32"))(c.params)
    found |= jax.jit(lambda p: layerwise.target_features(c.size.encoder, p, c.inputs, "float32"))(target())
    outputs = c.golden.group("outputs")
    # A projection of the pooled feature that the originals return and never use.
    assert outputs.keys() - found.keys() == {"x_align_v1"}
    for layer in found.keys() & outputs.keys():
        close(found[layer], outputs[layer], layer)


@functools.cache
def target():
    return import_tensors(FAMILIES["internvideo_next_encoder"].rows, stage2().golden.group("teacher_params"))


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", [STAGE2])
@pytest.mark.parametrize("filled", [0, 5])
def test_losses_and_gradients_of_stage_2_are_the_originals(name, filled):
    """Patches that fill a row up to the static number change nothing."""
    c, size = stage2(), stage2().size
    masks = [c.inputs[f"mask_{n}"] for n in ("v1", "v2")]
    most = int((masks[0][0] == 0).sum()) + filled
    kept = [int(options["max_keep"]) for options in c.config["jepa_mask_configs"]]
    assert all(int((mask == 0).sum(1).max()) <= most for mask, most in zip(masks, kept, strict=True))
    stage = LatentPrediction(size.encoder, size.predictor, most=most)
    objective = LatentObjective(
        stage, stage.model(Compute("float32")), size.encoder.build(Compute("float32"))
    )
    contexts = [first_of(jnp.asarray(mask == 0), most) for mask in masks]
    video, key = clips(c.inputs["video"]), jax.random.key(0)

    def loss(params):
        params = params | {"target": target()}
        wanted = objective.features(params, video, jnp.arange(len(video), dtype=jnp.uint32), key)
        return objective.compared(params, video, contexts, wanted)

    (total, terms), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(c.params)
    close(terms["mask_0"], c.golden["losses/v1"], "v1", 1e-3)
    close(terms["mask_1"], c.golden["losses/v2"], "v2", 1e-3)
    close(total, c.golden["losses/total"], "total", 1e-3)
    c.assert_gradients(gradients, rtol=2e-3, atol=1e-4)
    without = c.config["parameters_without_gradient"]
    assert not np.any(gradients["encoder"]["clip_projector"]["q"]["kernel"]) and "clip_projector" in without


@pytest.mark.golden
@pytest.mark.parametrize("name", [STAGE1, STAGE2])
def test_export_gives_back_the_original_tensors(name):
    c = stage1() if name == STAGE1 else stage2()
    exported = export_tensors(c.family.rows, c.params)
    assert exported.keys() == c.named.keys()
    for key, value in c.named.items():
        np.testing.assert_array_equal(exported[key], value)


@pytest.mark.golden
@pytest.mark.parametrize("name", [JEPA])
def test_block_masks_are_the_originals(name):
    golden = Golden(name)
    described = golden.json
    side, frames, batch = described["crop"] // described["patch"], described["num_frames"], described["batch"]
    grid = (frames, side, side)
    for call in described["calls"]:
        options = described["config"][call["generator"]]
        assert options["max_temporal_keep"] == 1.0
        mask = BlockMask(
            options["num_blocks"],
            tuple(options["spatial_scale"]),
            tuple(options["aspect_ratio"]),
            tuple(options["temporal_scale"]),
        )
        draws = jnp.asarray(call["uniform_draws_t_s_ar"])
        shape = block_shape(draws, grid, mask.duration, mask.scale, mask.aspect)
        assert shape.tolist() == call["block_size_thw"]
        drawn = [uncovered(shape, np.asarray(corners), grid) for corners in call["corners_start_top_left"]]
        contexts = [context for context in drawn if context.any()][-batch:]
        found = first_equal(np.stack(contexts), options["max_keep"])
        assert found.seen.sum(1).tolist() == [call["kept_per_sample"]] * batch
        masked = golden[f"outputs/gen{call['generator']}_call{call['call']}_mask"]
        np.testing.assert_array_equal(hidden_by(found, int(np.prod(grid))), masked != 0)
        wanted = seen(masked)
        np.testing.assert_array_equal(found.places[:, : wanted.shape[1]], wanted)


def test_a_clip_that_sees_fewer_patches_fills_up_with_hidden_ones():
    context = jnp.asarray([[False, True, False, True, True], [False, False, True, False, False]])
    found = first_of(context, 2)
    assert found.places[0].tolist() == [1, 3] and found.seen.tolist() == [[True, True], [True, False]]
    hidden = hidden_by(SeenPatches(found.places, found.seen), 5)
    assert hidden.tolist() == [[True, False, True, False, True], [True, True, False, True, True]]


@pytest.mark.golden
@pytest.mark.parametrize("name", [TEACHER])
def test_the_teacher_is_the_originals(name):
    golden, family = Golden(name), FAMILIES["siglip_vision"]
    size = family.parity.sizes(golden.config)
    named = {key.removeprefix("vision_model."): value for key, value in golden.group("params").items()}
    params = import_tensors(family.rows, named)
    found = jax.jit(lambda p: family.parity.run(size, p, golden.group("inputs"), "float32"))(params)
    outputs = golden.group("outputs")
    assert outputs.keys() - found.keys() == {"middle"}
    for layer in found:
        close(found[layer], outputs[layer], layer, atol=3e-5)
    layers = middle_layers(golden.config)
    assert list(layers) == sorted(golden.json["return_index"])
    teacher = LayerInputTeacher(size, golden.config["clip_return_interval"])
    taps = teacher.taps(golden.config["clip_return_layer"])
    assert taps == tuple(layer - 1 for layer in layers)
    pixels = golden["inputs/pixel_values"].transpose(0, 2, 3, 1)[:, None]
    video = (pixels / 2 + 0.5 - IMAGENET_MEAN) / IMAGENET_STD
    streams = jax.jit(lambda p: size.build(Compute("float32"), taps).encode(p, video).taps)(params)
    close(l2_normalise(streams), outputs["middle"], atol=3e-5)
    exported = export_tensors(family.rows, params)
    assert exported.keys() == named.keys()
