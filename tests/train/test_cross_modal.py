"""Stage 2 against the originals, and its loss on any mesh, in micro-batches and in chunks."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from ivjax.convert.families.encoders import ENCODER
from ivjax.convert.families.internvideo2 import encoder_size
from ivjax.convert.families.stage2 import STAGE2, aligned_size
from ivjax.convert.loading import load
from ivjax.errors import UserError
from ivjax.models.beats import BeatsSize
from ivjax.models.bert import FusionBertSize
from ivjax.models.internvideo2 import AlignedSize, FeatureHeads, PooledHead
from ivjax.ops.cut import cut
from ivjax.ops.trees import paths_of
from ivjax.stages.cross_modal import CrossModal, LossWeights
from ivjax.stages.cross_modal_loss import training_of
from ivjax.stages.mask import Mask
from ivjax.stages.teachers import ClipTeacher
from ivjax.train.gradients import gradients_of
from ivjax.train.loop import train
from tests.goldens import Golden, close
from tests.models.params import any_params
from tests.stage2 import FLOAT32, check_gradients, params_of, replayed, stage_of, value_and_gradients
from tests.train import pairs


def clips_of(golden, name):
    return jnp.moveaxis(jnp.asarray(golden[f"inputs/{name}"]), 2, -1)


def numbers_of(golden):
    ids = np.asarray(golden["inputs/idx"], np.int32)
    return {"index": np.arange(len(ids), dtype=np.uint32), "sample": ids}


def draws_of(golden, run, mark="_"):
    return {k[len(run) + 1 :]: v for k, v in golden.group("inputs").items() if k.startswith(run + mark)}


def check_losses(golden, run, found):
    (loss, terms), _ = found
    np.testing.assert_allclose(loss, golden[f"losses/{run}/total"], rtol=1e-4)
    weights = golden.config["loss_weight"]
    for name, wanted in golden.group(f"losses/{run}").items():
        term = name.removeprefix("loss_").removesuffix("_weighted")
        # Beside sounds alone the original calls the guessed words of a sound by another name.
        term = "amlm" if run == "audio" and term == "mlm" else term
        if term != "total" and weights[term]:
            np.testing.assert_allclose(weights[term] * terms[term], wanted, rtol=1e-4, err_msg=name)


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("medium", ["video", "image"])
def test_stage2_visual_tiny_losses_and_gradients_are_the_originals(medium):
    golden = Golden("stage2_visual_tiny")
    params = params_of(STAGE2, golden.group("params"))
    ids = np.asarray(golden["inputs/input_ids"], np.int32)
    batch = numbers_of(golden) | {"video": clips_of(golden, medium), "text": ids}
    training = replayed(stage_of(golden), draws_of(golden, medium))
    found = value_and_gradients(training, params, batch)
    check_losses(golden, medium, found)
    np.testing.assert_allclose(found[0][1]["temperature"], golden[f"outputs/{medium}/temp_after_clamp"])
    check_gradients(STAGE2, found[1], golden.group(f"grads/{medium}"))


@pytest.mark.golden
def test_stage2_visual_tiny_features_of_whole_clips_and_words_are_the_originals():
    golden = Golden("stage2_visual_tiny")
    params, stage = params_of(STAGE2, golden.group("params")), stage_of(golden)
    model, ids = stage.model(FLOAT32), jnp.asarray(golden["inputs/input_ids"], jnp.int32)

    @jax.jit
    def features(params):
        found = {}
        for group, gelu in (("test", "erf"), ("test_tanh_gelu", "tanh")):
            tower = dataclasses.replace(stage.vision, gelu=gelu).build(FLOAT32)
            for medium in ("video", "image"):
                if f"outputs/{group}/{medium}_pooled" in golden:
                    encoded = tower.encode(params["vision"], clips_of(golden, medium))
                    found[f"{group}/{medium}_pooled"] = encoded.pooled
                    found[f"{group}/{medium}_vision_embeds"] = encoded.tokens
        return found, model.text.read(params["text"], ids)

    found, states = features(params)
    for name in found.keys() & golden.group("outputs").keys():
        close(found[name], golden[f"outputs/{name}"], rtol=2e-4)
    words = np.asarray(golden["inputs/attention_mask"]) > 0
    last = max(n for n in golden.group("outputs/text") if n.startswith("layer"))
    close(states[words], golden[f"outputs/text/{last}"][words], rtol=2e-4)


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("run", ["audio", "av_single", "av_multi"])
def test_stage2_audiovisual_tiny_losses_and_gradients_are_the_originals(run):
    golden = Golden("stage2_audiovisual_tiny")
    params, stage = params_of(STAGE2, golden.group("params")), stage_of(golden)
    captions = golden.config["loss_caption"]
    texts = {name: np.asarray(golden[f"inputs/{name}/input_ids"], np.int32) for name in captions.values()}
    if run == "av_multi":
        stage = dataclasses.replace(stage, captions=captions)
    batch = numbers_of(golden) | texts | {"text": texts[captions["atc" if run == "audio" else "avtc"]]}
    batch["audio"] = golden["inputs/fbank"]
    if run != "audio":
        batch["video"] = clips_of(golden, "video")
    draws = draws_of(golden, run, "/") | {"mask": golden["inputs/video_mask"]}
    found = value_and_gradients(replayed(stage, draws), params, batch)
    check_losses(golden, run, found)
    check_gradients(STAGE2, found[1], golden.group(f"grads/{run}"))


@pytest.mark.golden
def test_stage2_audiovisual_tiny_whole_clips_are_the_originals():
    golden = Golden("stage2_audiovisual_tiny")
    params, stage = params_of(STAGE2, golden.group("params")), stage_of(golden)
    model, video = stage.model(FLOAT32), clips_of(golden, "video")
    pooled = jnp.asarray(golden["outputs/test/pooled"])

    @jax.jit
    def features(params):
        clips = model.features(params, "video", video, None)
        return clips.tokens, clips.embedding, model.head("video", params, pooled)

    seen, found, wanted = features(params)
    close(seen, golden["outputs/test/vision_embeds"], rtol=2e-4)
    close(found, np.asarray(wanted))


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("medium", ["video", "image"])
def test_stage2_uta_tiny_alignment_and_gradients_are_the_originals(medium):
    golden = Golden("stage2_uta_tiny")
    config, vision = golden.config, golden.config["vis"]
    teacher = {**config["teacher"], "img_size": config["clip_img"], "patch_size": config["clip_patch"]}
    kinds = {"norm": vision["clip_norm_type"]}
    stage = CrossModal(
        aligned_size(config, vision, None),
        FusionBertSize(
            8, 2, 2, 16, out=8, context=4, vocabulary=9, places=4, fusion=1, seen=8, start=2, mask=4
        ),
        weights=LossWeights(vtc=0.0, vtm=0.0, mlm=0.0, uta=1.0),
        mask=Mask("attention", config["mask_ratio"]),
        image_mask=Mask("attention", config["mask_ratio"]),
        drop_path=0.0,
        dropout=0.0,
        clip=FeatureHeads(
            vision["clip_teacher_embed_dim"],
            vision["clip_return_layer"],
            vision["clip_student_return_interval"],
            **kinds,
        ),
        pooled=PooledHead(vision["clip_teacher_final_dim"], **kinds),
        clip_teacher=ClipTeacher(
            encoder_size({**teacher, "num_frames": 1, "init_values": 0.1}),
            config["teacher"]["clip_return_interval"],
        ),
    )
    found = golden.group("params")
    own = {name: tensor for name, tensor in found.items() if name.startswith("vision_encoder.")}
    taught = {name.partition(".")[2]: found[name] for name in found.keys() - own.keys()}
    # The fixture has no embeddings, so any projection will do.
    proj = {"kernel": jnp.zeros((stage.vision.out, 8)), "bias": jnp.zeros(8)}
    params = params_of(STAGE2, own) | {"temperature": jnp.float32(0.07), "vision_proj": proj}
    params["clip_teacher"] = params_of(ENCODER, taught)
    draws = {"mask": golden[f"inputs/{medium}_mask"]}
    training = replayed(stage, draws)
    batch = {"video": clips_of(golden, medium), "index": np.arange(config["batch"], dtype=np.uint32)}
    (loss, _), gradients = value_and_gradients(training, params, batch)
    np.testing.assert_allclose(loss, golden[f"losses/{medium}/uta"], rtol=1e-4)
    own = {n: g for n, g in gradients.items() if n not in ("clip_teacher", "temperature", "vision_proj")}
    check_gradients(STAGE2, own, golden.group(f"grads/{medium}"))


SMALL = CrossModal(
    AlignedSize(16, 1, 2, 32, pool_heads=2, pool_width=16, image=(28, 28), frames=2, layer_scale=0.1),
    FusionBertSize(16, 2, 2, 32, 8, 6, 24, places=6, fusion=1, seen=16, start=2, mask=4),
    mask=Mask("random", 0.5, "clip"),
    drop_path=0.2,
)
ROWS = 16


def rows_of(stage, rows=ROWS):
    """Any rows; some clips stand in the batch twice, and texts are filled up."""
    rng = np.random.default_rng(0)
    text = rng.integers(5, stage.text.vocabulary, (rows, stage.text.context)).astype(np.int32)
    text[:, 0] = stage.text.start
    text[np.arange(stage.text.context) > rng.integers(2, 7, (rows, 1))] = stage.text.pad
    video = rng.integers(0, 255, (rows, stage.vision.frames, *stage.vision.image, 3)).astype(np.uint8)
    return {
        "index": np.arange(rows, dtype=np.uint32),
        "sample": rng.integers(0, 3 * rows // 4, rows).astype(np.int32),
        "video": video,
        "text": text,
    }


def differentiated(stage, batch, micro_batches=1, mesh=None):
    objective = stage.build(FLOAT32)
    halves = cut(any_params(stage.model(FLOAT32)), objective.frozen)
    run = jax.jit(gradients_of(objective, micro_batches))
    if mesh is None:
        return run(*halves, batch, jax.random.key(1))
    with jax.set_mesh(mesh):
        rows = jax.NamedSharding(mesh, jax.P(mesh.axis_names))
        return run(*halves, jax.device_put(batch, rows), jax.random.key(1))


def check_equal(found, wanted):
    (loss, terms), gradients = found
    np.testing.assert_allclose(loss, wanted[0][0], rtol=1e-5)
    assert terms.keys() == wanted[0][1].keys()
    expected = dict(paths_of(wanted[1]))
    for path, gradient in paths_of(gradients):
        scale = np.abs(expected[path]).max()
        np.testing.assert_allclose(
            gradient, expected[path], rtol=1e-3, atol=2e-5 * scale + 1e-7, err_msg=path
        )


@pytest.fixture(scope="module")
def whole():
    return differentiated(dataclasses.replace(SMALL, chunk=None), rows_of(SMALL))


@pytest.mark.slow
def test_micro_batches_and_chunks_give_loss_and_gradients_of_the_whole_batch(whole):
    check_equal(differentiated(dataclasses.replace(SMALL, chunk=3), rows_of(SMALL), micro_batches=4), whole)


@pytest.mark.slow
@pytest.mark.parametrize("devices, micro_batches", [(4, 1), (8, 2)])
def test_every_mesh_gives_loss_and_gradients_of_one_device(whole, devices, micro_batches):
    shape = (devices // 2, 2)
    mesh = jax.make_mesh(
        shape, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:devices]
    )
    check_equal(differentiated(SMALL, rows_of(SMALL), micro_batches, mesh), whole)


@pytest.mark.slow
def test_groups_give_the_mean_of_what_each_device_of_the_originals_computes():
    # Contrast is left out: in the originals too it is over all devices.
    stage = dataclasses.replace(SMALL, weights=LossWeights(vtc=0.0), dropout=0.0, drop_path=0.0)
    batch, group = rows_of(stage), 4
    params = any_params(stage.model(FLOAT32))
    alone = jax.jit(stage.build(FLOAT32).loss)
    parts = [
        alone(params, {name: rows[first : first + group] for name, rows in batch.items()}, jax.random.key(1))
        for first in range(0, ROWS, group)
    ]
    grouped = dataclasses.replace(stage, group=group)
    loss, terms = jax.jit(grouped.build(FLOAT32).loss)(params, batch, jax.random.key(1))
    np.testing.assert_allclose(loss, np.mean([loss for loss, _ in parts]), rtol=1e-5)
    for name in ("vtm", "mlm"):
        np.testing.assert_allclose(terms[name], np.mean([terms[name] for _, terms in parts]), rtol=1e-5)


@pytest.mark.slow
def test_memory_of_fusion_passes_is_that_of_a_chunk():
    """Beside the rows themselves, twice the batch needs hardly more memory."""

    def temporaries(rows, chunk):
        stage = dataclasses.replace(SMALL, chunk=chunk, weights=LossWeights(vtc=0.0))
        training = training_of(stage, FLOAT32)
        params, batch, key = any_params(stage.model(FLOAT32)), rows_of(stage, rows), jax.random.key(0)
        made = jax.eval_shape(training.rows, params, batch, key)
        gradient = jax.jit(jax.grad(lambda r, p, b: training.loss(p, r, b, key)[0]))
        compiled = gradient.lower(made, params, batch).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = (temporaries(rows, 16) for rows in (64, 128))
    assert large - small < 0.3 * (temporaries(128, None) - temporaries(64, None))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"weights": LossWeights(atc=1.0)}, "stage.weights.atc=1.0 needs sound; give stage.audio"),
        ({"weights": LossWeights(0, 0, 0)}, "stage.weights are all 0"),
        ({"weights": LossWeights(uta=1.0)}, "stage.weights.uta predicts a teacher; give stage.clip_teacher"),
        ({"captions": {"vtx": "text"}}, "stage.captions names vtx"),
        ({"group": 1}, "stage.group=1 leaves no row"),
        ({"mask": Mask("attention")}, "stage.mask.kind=attention is guided by a teacher"),
        ({"joint_width": 12}, "stage.text.seen=16, but texts look at tokens of stage.joint_width=12"),
        ({"audio": BeatsSize(16, 1, 2, 32)}, "stage.joint_width is none"),
        (
            {"text": dataclasses.replace(SMALL.text, mask=99)},
            "stage.text.mask=99 is no id of a vocabulary of 24",
        ),
        ({"text": dataclasses.replace(SMALL.text, words=False)}, "stage.weights.mlm guesses words"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SMALL, **changes).check()


@pytest.mark.slow
def test_stage_2_trains_in_the_loop_and_its_run_reads_texts(tmp_path):
    text = FusionBertSize(16, 2, 2, 32, 8, 8, 65, places=8, fusion=1, seen=16, start=2, mask=64)
    stage = dataclasses.replace(SMALL, text=text)
    changed = dataclasses.replace(pairs.experiment, stage=stage, steps=3)
    assert train(changed, tmp_path, devices=jax.devices()[:1]) == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 3 and {"vtc", "vtm", "mlm", "vtm_right"} <= lines[-1].keys()
    model, params, _ = load(tmp_path)
    video = np.zeros((2, 2, 28, 28, 3), np.uint8)
    assert model.unit_video(params, video).shape == (2, 8)
    assert model.unit_words(params, np.ones((3, 8), np.int32)).shape == (3, 8)
