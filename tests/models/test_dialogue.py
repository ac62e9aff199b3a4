"""Dialogue models: InternVideo2.5 as a whole against the original's parts, and what all presets can do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.dialogue.chat_models import INTERNVIDEO2_5_CHAT
from ivjax.convert.formats.tensors import Arrays
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.bridge import Question
from ivjax.models.decoder.blocks import Text
from ivjax.models.decoder.sizes import LanguageSize, Rotary
from ivjax.models.dialogue import DialogueSize, ProjectorSize
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.models.dialogue.projector import join_neighbours, merge_clips
from ivjax.models.internvideo2 import EncoderSize
from ivjax.ops.layout import batch_spec
from ivjax.ops.trees import paths_of
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import shardings_of
from tests.convert.tables import import_tensors
from tests.goldens import Golden, close, close_gradient
from tests.models.params import any_params

FLOAT32 = Compute("float32")
TINY = {name: size for name, size in DIALOGUES.items() if name.endswith("_tiny")}


class Case:
    """The model of the fixture, run on its video and prompt."""

    def __init__(self):
        self.golden = Golden("s3_internvideo25_tiny")
        self.size = INTERNVIDEO2_5_CHAT.parity.sizes(self.golden.json | self.golden.config)
        self.model = self.size.build(FLOAT32)
        tensors = Arrays(self.golden.group("params"))
        rows = INTERNVIDEO2_5_CHAT.rows
        self.params = import_tensors(rows, dict(INTERNVIDEO2_5_CHAT.unpacked(tensors, self.size)))
        self.video = jnp.asarray(self.golden["inputs/pixel_values"].transpose(0, 2, 3, 1))[None]
        self.ids = jnp.asarray(self.golden["inputs/input_ids"], jnp.int32)
        self.check_prompt(self.golden.config)

    def check_prompt(self, config):
        """Asserts that the prompt has the tokens of each frame between its two marks, and nothing else."""
        assert config["tome_heads"] == "LLM num_attention_heads"
        assert config["num_frames"] == self.video.shape[1]
        assert config["tokens_per_frame"] == self.size.bridge.frame_tokens
        frame = [config["img_context_id"]] * config["tokens_per_frame"]
        frame = [config["img_start_id"], *frame, config["img_end_id"]]
        marks = [token for token in np.asarray(self.ids)[0] if token in frame]
        assert marks == frame * config["num_frames"]

    def loss(self, params):
        logits = self.model.logits(params, self.ids, self.video)
        labels = jnp.asarray(self.golden["inputs/labels"], jnp.int32)[:, 1:]
        said = jnp.take_along_axis(
            jax.nn.log_softmax(logits[:, :-1]), jnp.maximum(labels, 0)[..., None], axis=-1
        )[..., 0]
        return -jnp.sum(jnp.where(labels < 0, 0, said)) / jnp.sum(labels >= 0), logits


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.mark.slow
@pytest.mark.golden
def test_s3_internvideo25_tiny_visual_tokens_are_the_originals(case):
    golden, model, params = case.golden, case.model, case.params

    @jax.jit
    def steps(params):
        frames = case.video.reshape(-1, 1, *case.video.shape[2:])
        tokens = model.tower.encode(params["vision"], frames).tokens[:, 1:]
        _, rows, columns = case.size.grid
        joined = join_neighbours(case.size.bridge, tokens.reshape(1, -1, rows, columns, tokens.shape[-1]))
        merged = merge_clips(case.size.bridge, joined).tokens
        visual = model.see(params, case.video)
        return tokens, joined[0], merged, visual, model.embed(params, case.ids, visual)

    tokens, joined, merged, visual, embedded = steps(params)
    close(tokens, golden["outputs/vit"])
    shuffled = golden["outputs/pixel_shuffled"]
    close(joined.reshape(shuffled.shape), shuffled)
    close(merged, golden["outputs/merged"])
    wanted = golden["outputs/visual_tokens"]
    assert visual.shape[1] == case.size.visual_tokens(len(wanted)) == wanted.shape[0] * wanted.shape[1]
    close(visual.reshape(wanted.shape), wanted)
    close(embedded, golden["outputs/inputs_embeds"])


@pytest.mark.slow
@pytest.mark.golden
def test_s3_internvideo25_tiny_states_are_the_originals(case):
    golden, language, x = case.golden, case.model.language, jnp.asarray(case.golden["outputs/inputs_embeds"])
    params = case.params["language"]
    text = Text(language.turns(jnp.arange(x.shape[1])[None], x.shape[1]))
    depth = language.size.depth
    for layer in range(depth):
        close(x, golden[f"outputs/hidden_states/{layer}"])
        x = language.layers(params, x, text, layer, layer + 1)
    close(language.normed(params, x), golden[f"outputs/hidden_states/{depth}"])
    close(
        case.model.states(case.params, jnp.asarray(golden["outputs/inputs_embeds"])),
        golden[f"outputs/hidden_states/{depth}"],
    )


# The stage has the same loss and gradients, quickly: tests/train/test_video_dialogue.py.
@pytest.mark.slow
@pytest.mark.golden
def test_s3_internvideo25_tiny_logits_loss_and_gradients_are_the_originals(case):
    golden = case.golden
    (loss, logits), gradients = jax.jit(jax.value_and_grad(case.loss, has_aux=True))(case.params)
    close(logits, golden["outputs/logits"], atol=5e-5)
    np.testing.assert_allclose(loss, golden["losses/loss"], rtol=1e-4)
    leaves = Arrays(dict(paths_of(jax.device_get(gradients))))
    found = {lazy.name: lazy for lazy in INTERNVIDEO2_5_CHAT.original_tensors(leaves, case.size)}
    assert found.keys() == golden.group("params").keys()
    wanted = golden.group("grads")
    assert wanted
    for name, gradient in wanted.items():
        close_gradient(found[name].read(), gradient, stated=1e-5)


def some_input(size, frames):
    """Two videos, what is asked about each, and a prompt with their places."""
    rng, visual = np.random.default_rng(0), size.visual_tokens(frames)
    video = rng.integers(0, 256, (2, frames, *size.vision.image, 3), np.uint8)
    ids = np.full((2, visual + 3), size.visual_token, np.int32)
    ids[:, 0], ids[:, -2:] = 1, 5
    words, mask = np.array([[1, 2, 0], [3, 4, 5]], np.int32), np.array([[1, 1, 0], [1, 1, 1]])
    return ids, video, Question(words, mask)


# One of each kind of bridge; the others are slow ones.
QUICK = ("internvideo2_5_chat_8b_tiny", "videochat2_vicuna_7b_tiny")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TINY]
)
def test_every_preset_reads_videos_and_images(name):
    size = TINY[name]
    size.check("model")
    model = size.build(FLOAT32)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    # Every parameter has a rule.
    shardings_of(shapes, build_mesh(MeshShape(tensor=2)), size.rules)
    for frames in (2 * max(size.vision.frames, 4), 1):
        ids, video, asked = some_input(size, frames)
        logits = jax.eval_shape(model.logits, shapes, ids, video, asked)
        assert logits.shape == (*ids.shape, size.language.vocabulary)
        assert sum(size.flops(frames, 50).values()) > 0


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("internvideo2_5_chat_8b_tiny", 8),
        pytest.param("internvideo2_chat_8b_tiny", 1, marks=pytest.mark.slow),
        pytest.param("videochat_flash_qwen2_7b_224_tiny", 1, marks=pytest.mark.slow),
        pytest.param("videochat2_phi3_mini_tiny", 8, marks=pytest.mark.slow),
    ],
)
def test_an_answer_depends_on_the_video_before_it(name, frames):
    size = TINY[name]
    model = size.build(FLOAT32)
    params, (ids, video, asked) = any_params(model), some_input(size, frames)
    answer = jax.jit(lambda params, video: model.logits(params, ids, video, asked))
    logits, other = answer(params, video), answer(params, 255 - video)
    assert np.isfinite(logits).all() and np.abs(other - logits)[:, -1].max() > 1e-6
    np.testing.assert_array_equal(other[:, 0], logits[:, 0])


class Spread:
    """A model with parameters and inputs spread over four devices: rows over fsdp, heads and words over
    tensor."""

    def __init__(self, name):
        self.size = TINY[name]
        self.model, self.given = self.size.build(FLOAT32), some_input(self.size, 8)
        self.params = any_params(self.model)
        self.mesh = build_mesh(MeshShape(fsdp=2, tensor=2), jax.devices()[:4])
        self.places = shardings_of(self.params, self.mesh, self.size.rules)

    def logits(self, params, ids, video):
        return self.model.logits(params, ids, video, self.given[2])

    def loss(self, params, ids, video):
        said = jax.nn.log_softmax(self.logits(params, ids, video)[:, :-1])
        return -jnp.mean(jnp.take_along_axis(said, ids[:, 1:, None], axis=-1))

    def run(self, function, **options):
        """The function on one device, and on four."""
        ids, video, _ = self.given
        alone = jax.jit(function)(self.params, ids, video)
        rows = jax.NamedSharding(self.mesh, batch_spec())
        with jax.set_mesh(self.mesh):
            params, given = jax.device_put(self.params, self.places), jax.device_put((ids, video), rows)
            return alone, jax.jit(function, **options)(params, *given)


@pytest.mark.slow
def test_four_devices_give_the_logits_of_one():
    spread = Spread("internvideo2_5_chat_8b_tiny")
    split = [not place.is_fully_replicated for place in jax.tree.leaves(spread.places)]
    assert sum(split) > len(split) / 3
    alone, together = spread.run(spread.logits)
    close(together, np.asarray(alone))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["internvideo2_5_chat_8b_tiny", "internvideo2_chat_8b_tiny", "videochat_flash_qwen2_7b_224_tiny"],
)
def test_four_devices_give_the_gradients_of_one(name):
    spread = Spread(name)
    alone, together = spread.run(jax.value_and_grad(spread.loss), out_shardings=(None, spread.places))
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-5)
    # Biases of keys have no gradient but rounding, so small is small beside the largest of all gradients.
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(alone[1]))
    for (path, leaf), other in zip(paths_of(together[1]), jax.tree.leaves(alone[1]), strict=True):
        atol = 1e-5 * np.abs(other).max() + 1e-7 * largest
        np.testing.assert_allclose(leaf, other, rtol=1e-3, atol=atol, err_msg=path)


@pytest.mark.slow
def test_clips_of_one_video_are_spread_over_the_devices_without_gathering_their_tokens():
    size = TINY["internvideo2_5_chat_8b_tiny"]
    model = size.build(FLOAT32)
    params, mesh = any_params(model), build_mesh(MeshShape(fsdp=8))
    with jax.set_mesh(mesh):
        run = jax.jit(lambda p, v: model.bridge.project(p["bridge"], v, size.grid))
        tokens = jax.ShapeDtypeStruct(
            (1, 32, 1 + size.vision.patches, size.vision.width),
            jnp.float32,
            sharding=jax.NamedSharding(mesh, jax.P(None, "fsdp")),
        )
        text = run.lower(params, tokens).compile().as_text()
    # The visual tokens of the one video are gathered, which are few; what is merged stays in its place.
    gathered = [line for line in text.splitlines() if " all-gather(" in line or "all-to-all(" in line]
    width = size.language.width
    assert all(f",{width}]" in line.partition("=")[2].partition("all-")[0] for line in gathered), gathered


def test_visual_tokens_take_their_places_in_reading_order():
    size = dataclasses.replace(TINY["videochat2_mistral_7b_tiny"], start_vector=None)
    model = size.build(FLOAT32)
    params, place = any_params(model), size.visual_token
    visual = np.random.default_rng(0).normal(size=(2, 3, size.language.width)).astype(np.float32)
    ids = np.array([[1, place, 7, place, place], [place, place, place, 4, 1]], np.int32)
    found = model.embed(params, ids, visual)
    words = params["language"]["word_embed"]
    np.testing.assert_array_equal(found[0], [words[1], visual[0, 0], words[7], *visual[0, 1:]])
    np.testing.assert_array_equal(found[1], [*visual[1], words[4], words[1]])
    # The slot of the start holds a vector of its number instead.
    quirk = dataclasses.replace(size, start_vector=1).build(FLOAT32).embed(params, ids, visual)
    ones = np.ones(size.language.width, np.float32)
    np.testing.assert_array_equal(quirk[0], [ones, *found[0, 1:]])
    np.testing.assert_array_equal(quirk[1], [*found[1, :4], ones])


def test_places_that_the_prompt_lacks_are_told():
    size = TINY["internvideo2_5_chat_8b_tiny"]
    model = size.build(FLOAT32)
    ids = np.array([[size.visual_token] * 4, [size.visual_token] * 3 + [5]], np.int32)
    with pytest.raises(
        UserError, match="row 1 of the prompt has 3 places for visual tokens .* become 4; write"
    ):
        model.embed(any_params(model), ids, np.zeros((2, 4, size.language.width), np.float32))
    with pytest.raises(UserError, match="row 0 of the prompt has 4 places .* become 0"):
        model.embed({}, ids)


@pytest.mark.parametrize(
    ("name", "frames", "words"),
    [
        ("internvideo2_5_chat_8b_tiny", 6, "6 frames does not divide into clips of 4; take 4 frames or 8"),
        ("videochat2_mistral_7b_tiny", 3, "3 frames does not divide into the tower's clips of 8; take 8"),
        (
            "internvideo2_chat_8b_tiny",
            12,
            "12 frames does not divide into the tower's clips of 8; take 8 frames",
        ),
    ],
)
def test_frames_that_do_not_divide_into_clips_are_refused(name, frames, words):
    video = np.zeros((1, frames, *TINY[name].vision.image, 3), np.uint8)
    with pytest.raises(UserError, match=words):
        TINY[name].build(FLOAT32).see({}, video)


def test_videos_that_do_not_divide_among_the_prompts_are_refused():
    size = TINY["internvideo2_5_chat_8b_tiny"]
    model = size.build(FLOAT32)
    video = np.zeros((3, 4, *size.vision.image, 3), np.uint8)
    with pytest.raises(UserError, match="3 videos do not divide among 2 prompts; give each equally many"):
        model.logits({}, np.zeros((2, 9), np.int32), video)


def test_texts_that_share_a_row_are_read_as_if_alone():
    size = TINY["internvideo2_5_chat_8b_tiny"]
    model = size.build(FLOAT32)
    params, x = any_params(model), np.random.default_rng(0).normal(size=(1, 7, size.language.width))
    x, states = x.astype(np.float32), jax.jit(model.states)
    packed = states(params, x, jnp.array([[0, 0, 0, 1, 1, -1, -1]]))
    first = states(params, x, jnp.array([[0, 0, 0, -1, -1, -1, -1]]))
    second = states(params, np.roll(x, -3, axis=1), jnp.array([[0, 0, -1, -1, -1, -1, -1]]))
    close(packed[:, :3], np.asarray(first[:, :3]))
    close(packed[:, 3:5], np.asarray(second[:, :2]))


def test_parts_that_do_not_fit_are_refused():
    size = TINY["internvideo2_5_chat_8b_tiny"]
    wide = dataclasses.replace(size.language, width=128)
    with pytest.raises(UserError, match="model.bridge.out=64, but the language model's tokens have 128"):
        dataclasses.replace(size, language=wide).check("model")
    video = np.zeros((1, 4, 28, 28, 3), np.uint8)
    with pytest.raises(UserError, match="the frames are 28 x 28 and the tower reads 56 x 56; resize them"):
        size.build(FLOAT32).see({}, video)
    with pytest.raises(UserError, match=r"stage.model.vision: 1 frames of \(30, 28\) do not divide into"):
        dataclasses.replace(size, vision=dataclasses.replace(size.vision, image=(30, 28))).check("model")


def test_a_tower_whose_patches_last_several_frames_gives_as_many_tokens_as_are_counted():
    tower = EncoderSize(32, 1, 2, 64, 2, 32, image=(28, 28), frames=8, tubelet=4)
    language = LanguageSize(32, 1, 2, 2, 64, vocabulary=40, rotary=Rotary(10000.0))
    merging = ProjectorSize(32, 32, frame_tokens=2, image_tokens=2, clip_frames=2, heads=2)
    for bridge, each in ((merging, 4), (merging.unmerged(), 8)):
        size = DialogueSize(tower, bridge, language)
        assert size.least_frames == 8 and size.clip_frames(16) == 8 and size.times(16) == 4
        model = size.build(FLOAT32)
        params = jax.eval_shape(model.init, jax.random.key(0))
        video = jax.ShapeDtypeStruct((3, 16, 28, 28, 3), jnp.uint8)
        seen = jax.eval_shape(model.see, params, video)
        assert seen.shape == (3, size.visual_tokens(16), 32) and size.visual_tokens(16) == 2 * each
        assert size.unmerged_tokens(16) == 16
