"""Stage 2 against the originals, and its loss on any mesh, in micro-batches and in chunks."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.encoders import ENCODER
from ivjax.convert.families.internvideo2 import encoder_size
from ivjax.convert.families.stage2 import STAGE2, aligned_size
from ivjax.models.bert import FusionBertSize
from ivjax.models.internvideo2 import FeatureHeads, PooledHead
from ivjax.stages.cross_modal import CrossModal, LossWeights
from ivjax.stages.mask import Mask
from ivjax.stages.teachers import ClipTeacher
from tests.goldens import Golden, close
from tests.stage2 import FLOAT32, check_gradients, params_of, replayed, stage_of, value_and_gradients


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
    for group, gelu in (("test", "erf"), ("test_tanh_gelu", "tanh")):
        tower = dataclasses.replace(stage.vision, gelu=gelu).build(FLOAT32)
        for medium in ("video", "image"):
            if f"outputs/{group}/{medium}_pooled" in golden:
                encoded = tower.encode(params["vision"], clips_of(golden, medium))
                close(encoded.pooled, golden[f"outputs/{group}/{medium}_pooled"], rtol=2e-4)
            if f"outputs/{group}/{medium}_vision_embeds" in golden:
                close(encoded.tokens, golden[f"outputs/{group}/{medium}_vision_embeds"], rtol=2e-4)
    model, ids = stage.model(FLOAT32), jnp.asarray(golden["inputs/input_ids"], jnp.int32)
    states, words = model.text.read(params["text"], ids), np.asarray(golden["inputs/attention_mask"]) > 0
    last = max(n for n in golden.group("outputs/text") if n.startswith("layer"))
    close(states[words], golden[f"outputs/text/{last}"][words], rtol=2e-4)


@pytest.mark.golden
@pytest.mark.parametrize(
    "run",
    ["audio", *(pytest.param(run, marks=pytest.mark.slow) for run in ("av_single", "av_multi"))],
)
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
    close(model.seen(params, video), golden["outputs/test/vision_embeds"], rtol=2e-4)
    pooled = golden["outputs/test/pooled"]
    close(model.video(params, video), np.asarray(model.head("video", params, jnp.asarray(pooled))))


@pytest.mark.golden
@pytest.mark.parametrize("medium", ["video", pytest.param("image", marks=pytest.mark.slow)])
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
    own = {n: t for n, t in golden.group("params").items() if n.startswith("vision_encoder.")}
    params = params_of(STAGE2, own) | {"temperature": jnp.float32(0.07)}
    params["clip_teacher"] = params_of(
        ENCODER,
        golden.group("params/clip_teacher.".rstrip("/"))
        or {
            n.removeprefix("clip_teacher."): t
            for n, t in golden.group("params").items()
            if n.startswith("clip_teacher.")
        },
    )
    draws = {"mask": golden[f"inputs/{medium}_mask"]}
    training = replayed(stage, draws)
    batch = {"video": clips_of(golden, medium), "index": np.arange(config["batch"], dtype=np.uint32)}
    (loss, _), gradients = value_and_gradients(training, params, batch)
    np.testing.assert_allclose(loss, golden[f"losses/{medium}/uta"], rtol=1e-4)
    own = {n: g for n, g in gradients.items() if n not in ("clip_teacher", "temperature")}
    check_gradients(STAGE2, own, golden.group(f"grads/{medium}"))
