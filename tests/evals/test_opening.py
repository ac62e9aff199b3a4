"""Encoders and classifiers out of runs and files, as a probe and a test in several views read them."""

import argparse
import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from ivjax.cli import embed as embed_command
from ivjax.cli import eval as command
from ivjax.convert.engine.rows import unflatten
from ivjax.convert.registry import family_named
from ivjax.data_pipelines.augment.geometry import View as Square
from ivjax.data_pipelines.sampling import Spread
from ivjax.data_pipelines.video.decode import Video
from ivjax.embed.embedding_job import EmbeddingJob, run_job
from ivjax.embed.index import read_index
from ivjax.embed.index_search import open_for, open_for_videos, search_by_videos
from ivjax.embed.media_list import MediaList
from ivjax.embed.windows import Windowing, plan_windows
from ivjax.errors import UserError
from ivjax.evals import features
from ivjax.evals.class_model import open_classifier
from ivjax.evals.compiled import local_mesh
from ivjax.evals.features import open_features
from ivjax.evals.suites import LinearProbe
from ivjax.evals.views import read_views
from ivjax.experiment.computing import Compute
from ivjax.experiment.run_options import Checkpointing
from ivjax.experiment.storing import store_experiment, stored_experiment
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.dual_size import DualSize
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead, StudentSize
from ivjax.models.viclip import TextSize, VisionSize
from ivjax.models.videomae import VideoMaeSize
from ivjax.stages.masked_reconstruction import MaskedReconstruction
from ivjax.stages.teachers import ClipTeacher
from ivjax.train.checkpoint import Checkpoints
from tests.convert.tables import save_weights
from tests.data_pipelines.footage import write_video
from tests.train import micro

TINY = EncoderSize(16, 2, 2, 32, 2, 8, image=(28, 28), frames=2, layer_scale=0.1)
STUDENT = StudentSize(TINY, FeatureHeads(16, 1), PooledHead(8), None)
CLASSES = ClassifierSize(TINY, 7)
MAE = VideoMaeSize(width=16, depth=2, heads=2, mlp_width=32, image=(32, 32), frames=2)
WORDS = DualSize(
    VisionSize(width=16, depth=2, heads=2, out=8, patch=14, image=(28, 28), frames=2),
    TextSize(width=8, depth=1, heads=2, out=8, context=5, vocabulary=11),
)
CLIPS = np.random.default_rng(0).integers(0, 256, (3, 2, 28, 28, 3), np.uint8)


def drawn(family, size, seed):
    """Random parameters of a model."""
    rng, shapes = np.random.default_rng(seed), family_named(family).shapes(size)
    return unflatten({path: rng.normal(0, 0.3, shape).astype(np.float32) for path, shape in shapes.items()})


def stored(path, family, size, seed):
    """The parameters in a new file of a family."""
    params = drawn(family, size, seed)
    save_weights(path, params, family, size)
    return params


@functools.partial(jax.jit, static_argnames=("size", "method"))
def apply(size, params, clips, method="encode"):
    """Returns the vectors that the model of a size gives for clips."""
    return getattr(size.build(Compute("float32")), method)(params, clips)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run whose teacher lies in a file of its own, and both their parameters."""
    folder = tmp_path_factory.mktemp("run")
    teacher = stored(folder / "teacher.safetensors", "internvideo2_encoder", TINY, 0)
    heads = dict(clip=STUDENT.clip, pooled=STUDENT.pooled, mae=None)
    stage = MaskedReconstruction(TINY, **heads, clip_teacher=ClipTeacher(TINY))
    origin = (f"clip_teacher={folder / 'teacher.safetensors'}",)
    store_experiment(dataclasses.replace(micro.experiment, stage=stage, init_from=origin), folder)
    params = drawn("internvideo2_pretrain", STUDENT, 1)
    checkpoints = Checkpoints(folder, Checkpointing())
    checkpoints.save(1, {"params": params, "step": np.int32(1)}, {}, {})
    checkpoints.close()
    return folder, params, teacher


def test_a_run_gives_its_student_or_the_branch_that_is_named(run):
    folder, params, teacher = run
    named = open_features(f"{folder}#clip_teacher", batch=2)
    np.testing.assert_allclose(named.video(CLIPS), apply(TINY, teacher, CLIPS).pooled, atol=1e-4)
    (folder / "teacher.safetensors").rename(folder / "away")  # a student needs no teacher any more
    student = open_features(str(folder), batch=2)
    expected = apply(TINY, params["encoder"], CLIPS).pooled
    np.testing.assert_allclose(student.video(CLIPS), expected, atol=1e-4)
    assert (student.feature, student.width) == ("pooled", 8)
    with pytest.raises(UserError, match="no encoder #mae_teacher; its encoders are .*#encoder"):
        open_features(f"{folder}#mae_teacher")
    with pytest.raises(UserError, match="is a run, which knows its sizes"):
        open_features(str(folder), "B14")


def test_a_model_in_memory_gives_what_its_run_gives(run):
    folder, params, teacher = run
    experiment = stored_experiment(folder)
    for branch, path in ((None, str(folder)), ("encoder", f"{folder}#encoder")):
        suite = LinearProbe(train="x", branch=branch, batch=2)
        found = features.of_experiment(suite, experiment, params | {"clip_teacher": teacher}, local_mesh())
        np.testing.assert_array_equal(found.video(CLIPS), open_features(path, batch=2).video(CLIPS))
    suite = LinearProbe(train="x", branch="clip_teacher", features="mean", batch=2)
    found = features.of_experiment(suite, experiment, params | {"clip_teacher": teacher}, local_mesh())
    expected = apply(TINY, teacher, CLIPS).tokens[:, 1:].mean(1)
    np.testing.assert_allclose(found.video(CLIPS), expected, atol=1e-4)
    with pytest.raises(UserError, match="MaskedReconstruction has no encoder #vision; its encoders are"):
        features.of_experiment(LinearProbe(train="x", branch="vision"), experiment, params, local_mesh())


def embedded(path, video, out, *flags):
    """Returns what `ivjax embed` stores of a video: the one row, and which feature it is."""
    parser = argparse.ArgumentParser()
    embed_command.add(parser.add_subparsers())
    argv = ["embed", str(video), "--weights", str(path), "--out", str(out), "--batch", "2", *flags]
    options = parser.parse_args(argv)
    assert options.run(options) == 0
    with np.load(out) as file:
        (row,) = file["tokens" if "--tokens" in flags else "embeddings"]
        return row, json.loads(file["metadata"].item())["feature"]


def read(planned, path):
    """The one clip of a planned video, three times, as large as the model reads it."""
    side = 32 if Path(path).name == "m.safetensors" else 28
    return np.stack([*read_views(planned.views, 2, (side, side))] * 3)


def test_videos_are_embedded_by_whatever_has_a_video_tower(run, classifier, tmp_path):
    """By what a probe reads of it; a pair of towers needs no vocabulary, and gives unit vectors."""
    student, (classes, params) = run[0], classifier
    for name, family, size in (
        ("e", "internvideo2_encoder", TINY),
        ("v", "viclip", WORDS),
        ("m", "videomae_encoder", MAE),
    ):
        stored(tmp_path / f"{name}.safetensors", family, size, 8)
    unpooled = dataclasses.replace(STUDENT, pooled=None)
    stored(tmp_path / "s.safetensors", "internvideo2_pretrain", unpooled, 8)
    video, out = write_video(tmp_path / "clip.mp4", frames=20), tmp_path / "i.npz"
    media = MediaList((str(video),))
    (planned,) = plan_windows(media, Windowing())

    pooled = (student, f"{classes}#encoder", tmp_path / "e.safetensors")
    means = (tmp_path / "s.safetensors", tmp_path / "m.safetensors")
    for path, feature in (*((path, "pooled") for path in pooled), *((path, "mean") for path in means)):
        clips = read(planned, path)
        expected = open_features(str(path), batch=2).video(clips[:1])[0]
        row, kind = embedded(path, video, out)
        assert kind == feature and row.std() > 0.01
        np.testing.assert_allclose(row, expected, atol=1e-5)
        ((hit,),) = search_by_videos(read_index(out), open_for_videos(read_index(out)), media).values()
        assert hit.video == str(video) and abs(hit.score - 1) < 1e-5
    with pytest.raises(UserError, match="holds mean features of .*, which have no likeness to words"):
        open_for(read_index(out))

    clips = read(planned, student)
    row, kind = embedded(tmp_path / "v.safetensors", video, out)
    expected = open_features(f"{tmp_path}/v.safetensors", batch=2).video(clips[:1])[0]
    assert kind == "embedding"
    np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-5)

    row, _ = embedded(classes, video, out, "--tokens", "--mean", "--float16")
    tokens = apply(TINY, params["encoder"], clips).tokens[0]
    np.testing.assert_allclose(row, tokens, rtol=1e-3, atol=1e-4)
    (mean,) = read_index(out).embeddings
    np.testing.assert_allclose(mean, tokens[1:].mean(0), atol=1e-4)
    embedded(classes, video, out)
    with pytest.raises(UserError, match="i.npz holds pooled features and .* makes embedding ones"):
        open_for_videos(read_index(out), f"{tmp_path}/v.safetensors")


def test_texts_are_embedded_by_two_towers_alone(run, classifier, tmp_path):
    for path, kind in ((run[0], "StudentModel"), (classifier[0], "Classifier")):
        job = EmbeddingJob((), ("a cat",), None, tmp_path / "i.npz", str(path))
        with pytest.raises(UserError, match=f"holds a {kind}, which reads no captions; give two towers$"):
            run_job(job, lambda line: None)


def test_a_student_that_never_pooled_gives_the_mean(tmp_path):
    size = dataclasses.replace(STUDENT, pooled=None)
    params = stored(tmp_path / "s.safetensors", "internvideo2_pretrain", size, 2)
    found = open_features(f"{tmp_path}/s.safetensors", batch=2)
    expected = apply(TINY, params["encoder"], CLIPS).tokens[:, 1:].mean(1)
    np.testing.assert_allclose(found.video(CLIPS), expected, atol=1e-4)
    assert open_features(f"{tmp_path}/s.safetensors#encoder", feature="pooled").feature == "pooled"
    with pytest.raises(UserError, match="s.safetensors holds a StudentModel, which has no video encoder"):
        open_features(f"{tmp_path}/s.safetensors#vision")


def test_fresh_features_are_the_same_whatever_was_learnt(tmp_path):
    found = []
    for seed in (3, 4):
        stored(tmp_path / f"{seed}.safetensors", "internvideo2_encoder", TINY, seed)
        found.append(open_features(f"{tmp_path}/{seed}.safetensors", batch=2))
    first, second = (features.fresh().video(CLIPS) for features in found)
    np.testing.assert_array_equal(first, second)
    assert first.std() > 0 and np.abs(first - found[0].video(CLIPS)).max() > 0.01


def test_videomae_gives_the_mean_of_its_tokens_and_pools_nothing(tmp_path):
    params = stored(tmp_path / "m.safetensors", "videomae_encoder", MAE, 5)
    clips = np.random.default_rng(1).integers(0, 256, (2, 2, 32, 32, 3), np.uint8)
    found = open_features(f"{tmp_path}/m.safetensors")
    expected = apply(MAE, params, clips).tokens.mean(1)
    np.testing.assert_allclose(found.video(clips), expected, atol=1e-4)
    with pytest.raises(UserError, match="VideoMaeTower, which pools nothing"):
        open_features(f"{tmp_path}/m.safetensors", feature="pooled")
    with pytest.raises(UserError, match="VideoMaeTower, which has no classes; give a classifier"):
        open_classifier(f"{tmp_path}/m.safetensors")


def test_two_towers_give_the_video_embedding(tmp_path):
    params = stored(tmp_path / "v.safetensors", "viclip", WORDS, 6)
    found = open_features(f"{tmp_path}/v.safetensors")
    np.testing.assert_allclose(found.video(CLIPS), apply(WORDS, params, CLIPS, "video"), atol=1e-4)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier's file, and its parameters."""
    path = tmp_path_factory.mktemp("classifier") / "c.safetensors"
    return path, stored(path, "internvideo2_classifier", CLASSES, 7)


def test_a_classifier_is_tested_in_several_views_of_real_videos(classifier, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ivjax.train.distributed.join", lambda job: None)
    path, params = classifier
    videos = [write_video(tmp_path / f"{n}.mp4", frames=20 + 30 * n) for n in range(3)]
    views = []
    for video in videos:
        with Video(Path(video).read_bytes()) as opened:
            for clip in range(2):
                numbers = Spread(2, "view", clip, 2).choose(opened.probe.frames, 25, np.random.default_rng(0))
                boxes = [Square(n, 3).box(opened.probe.width, opened.probe.height, None) for n in range(3)]
                views += [opened.read(numbers, box, (28, 28)) for box in boxes]
    expected = jax.nn.softmax(apply(CLASSES, params, np.stack(views), "logits"))
    expected = np.asarray(expected).reshape(3, 6, 7).mean(1)
    labels = [int(expected[0].argmax()), int(expected[1].argmin()), int(expected[2].argmax())]
    rows = [f"{n}.mp4 {label}\n" for n, label in enumerate(labels)]
    (tmp_path / "test.csv").write_text("".join(rows))
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    argv = ["--suite", "classify", "--data", str(tmp_path / "test.csv"), "--clips", "2", "--crops", "3"]
    options = parser.parse_args(
        ["eval", str(path), *argv, "--batch", "2", "--json", "--predictions", str(tmp_path / "said.jsonl")]
    )
    assert options.run(options) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"]["top1"] == 66.67 and result["protocol"]["views a video"] == 6
    said = [json.loads(line)["top5"] for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    for top, row in zip(said, expected, strict=True):
        assert [entry["class"] for entry in top] == np.argsort(-row)[:5].tolist()
        np.testing.assert_allclose([entry["probability"] for entry in top], np.sort(row)[:1:-1], atol=1e-4)


def test_a_classifier_is_probed_by_its_encoder(classifier):
    path, params = classifier
    expected = apply(TINY, params["encoder"], CLIPS).pooled
    np.testing.assert_allclose(open_features(str(path), batch=2).video(CLIPS), expected, atol=1e-4)
