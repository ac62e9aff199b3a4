"""`ivjax.features` in Python: the numbers of `ivjax embed`, from files, bytes, folders and arrays."""

import dataclasses
import re
from pathlib import Path

import av
import jax
import numpy as np
import pytest
from PIL import Image

import ivjax
from ivjax.data_pipelines.fields.frames import Frames
from ivjax.data_pipelines.sampling import Dense, Intervals
from ivjax.data_pipelines.video.decode import Video
from ivjax.embed.embed_videos import EmbedOptions
from ivjax.embed.embedding_job import EmbeddingJob, run_job
from ivjax.errors import UserError
from ivjax.evals.pair_model import open_pairs
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.train.mesh import build_mesh
from tests.data_pipelines.footage import coded, write_video
from tests.evals.small_run import small_experiment, write_test_set
from tests.imports import ROOT
from tests.train import micro

RNG = np.random.default_rng(0)
CLIPS = [RNG.integers(0, 256, (length, 20 + length, 30, 3), np.uint8) for length in (1, 4, 9, 30, 5)]


def quiet(line):
    pass


def devices(count):
    return build_mesh(MeshShape(), jax.devices()[:count])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the run of a pair of towers, which reads every second frame, and with a video."""
    place = tmp_path_factory.mktemp("features")
    experiment = small_experiment(place / "run", write_test_set(place / "corpus"))
    fields = dict(experiment.data.fields) | {"video": Frames(Dense(4, rate=2))}
    data = dataclasses.replace(experiment.data, fields=fields)
    micro.saved(place / "run", dataclasses.replace(experiment, data=data))
    write_video(place / "clip.mp4", frames=21)
    with av.open(str(place / "exact.mov"), "w") as container:  # RGB, without loss
        stream = container.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb24"
        for number in range(21):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(coded(number)), "rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    (place / "pictures").mkdir()
    for number in range(21):
        Image.fromarray(coded(number)).save(place / "pictures" / f"{number}.png")
    return place


@pytest.fixture(scope="module")
def model(folder):
    return ivjax.load(folder / "run")


def embedded(folder, video, out, **options):
    """What `ivjax embed` stores of a video."""
    job = EmbeddingJob((str(video),), (), None, out, str(folder / "run"), options=EmbedOptions(**options))
    said = []
    run_job(job, said.append)
    (line,) = (line for line in said if line.startswith("frames: "))
    assert "rate=2" in line and line.endswith("(by the run (data.fields.video))")
    with np.load(out) as file:
        return dict(file)


def test_a_file_its_bytes_and_its_frames_have_the_features_that_embed_stores(folder, model, tmp_path):
    path = folder / "clip.mp4"
    with Video(path.read_bytes()) as video:
        small, large = video.read(range(21), size=(14, 14)), video.read(range(21))
        chosen = video.read((6, 8, 10, 12), size=(14, 14))  # the middle window of the run's own rule
    stored = embedded(folder, path, tmp_path / "i.npz")["embeddings"]
    found = ivjax.features(model, [path, str(path), path.read_bytes(), small, large])
    assert found.shape == (5, 16) and found.dtype == np.float32
    for row in found[:4]:
        np.testing.assert_array_equal(row, stored[0])
    # Resized in RGB, where the file's frames are resized in the colours that they are stored in.
    assert 0.999 < found[4] @ stored[0] < 1.0001
    expected = open_pairs(str(folder / "run"), batch=1).video(chosen[None])
    np.testing.assert_allclose(stored, expected, atol=1e-6)
    np.testing.assert_array_equal(ivjax.features(model, path), stored)


def test_frames_without_loss_have_equal_features_from_a_video_a_folder_and_an_array(folder, model):
    frames = np.stack([coded(number) for number in range(21)])
    video, pictures, array = ivjax.features(model, [folder / "exact.mov", folder / "pictures", frames])
    np.testing.assert_array_equal(video, array)
    np.testing.assert_array_equal(pictures, array)


def test_features_depend_on_neither_batch_nor_devices(folder, model):
    expected = ivjax.features(model, CLIPS, mesh=devices(1))
    for batch, count in ((1, 1), (3, 4)):
        found = ivjax.features(model, iter(CLIPS), batch=batch, mesh=devices(count))
        np.testing.assert_allclose(found, expected, atol=2e-6)
    same = jax.numpy.stack([CLIPS[1]] * 2)  # an array of arrays is several videos
    np.testing.assert_allclose(ivjax.features(model, same, mesh=devices(4)), expected[[1, 1]], atol=2e-6)
    alone = np.concatenate([ivjax.features(model, clip, mesh=devices(4)) for clip in CLIPS])
    np.testing.assert_allclose(alone, expected, atol=2e-6)


def test_few_shapes_are_compiled_whatever_the_lengths_and_sizes(model, caplog):
    rng = np.random.default_rng(1)

    def compiled(count, **options):
        caplog.clear()
        clips = [rng.integers(0, 256, (3 + n, 16 + n, 20, 3), np.uint8) for n in range(count)]
        with jax.log_compiles():
            ivjax.features(model, clips, "mean", batch=4, mesh=devices(1), **options)
        lines = [line for line in caplog.messages if line.startswith("Compiling jit(video)")]
        return [int(re.search(r"uint8\[(\d+),", line)[1]) for line in lines]

    assert compiled(9) == [4, 1]  # a last clip alone costs no whole batch
    assert compiled(7) == [] and compiled(6) == [2] and compiled(15) == []


def test_tokens_means_and_a_rule_of_ones_own(folder, model, tmp_path):
    path = folder / "clip.mp4"
    stored = embedded(folder, path, tmp_path / "i.npz", tokens=True, feature="mean")
    tokens = ivjax.features(model, path, "tokens")
    assert tokens.shape == (1, 17, 32)
    np.testing.assert_allclose(tokens, stored["tokens"], atol=1e-5)
    mean = ivjax.features(model, path, "mean")
    np.testing.assert_allclose(mean, stored["embeddings"], atol=1e-5)
    np.testing.assert_allclose(mean, tokens[:, 1:].mean(1), atol=1e-5)
    with Video(path.read_bytes()) as video:
        spread = video.read((2, 7, 12, 17), size=(14, 14))
    even = Intervals(4, "middle")
    found = ivjax.features(model, [path, spread], rule=even)
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - ivjax.features(model, path)[0]).max() > 1e-3
    with pytest.raises(UserError, match="the rule gives 5 frames and the model reads 4; give one of 4"):
        ivjax.features(model, path, rule=Intervals(5))


@pytest.mark.parametrize(
    "videos, message",
    [
        (CLIPS[1] / np.float32(255), r"video 0 is \(4, 24, 30, 3\) float32, .* \(video \* 255\).round\(\)"),
        (CLIPS[1].astype(int), r"values go from 0 to 255, as in video.astype\(np.uint8\)"),
        ([CLIPS[0], CLIPS[1].transpose(0, 3, 1, 2)], r"video 1 .* as in video.transpose\(0, 2, 3, 1\)"),
        (CLIPS[1].transpose(3, 0, 1, 2), r"as in video.transpose\(1, 2, 3, 0\)"),
        (list(CLIPS[1]), r"video 0 is \(24, 30, 3\) uint8, .*: one picture is picture\[None\], and several"),
        (CLIPS[1][..., :2], "give red, green and blue"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"leave out alpha with video\[..., :3\]"),
        (CLIPS[1][:0], "it is empty"),
        ([], "there are no videos"),
        (3, "videos are files, bytes, folders of images or arrays, not a int"),
        (
            ["none.mp4"],
            "video 0 cannot be read: missing: none.mp4 is not there; leave it out, or give broken=",
        ),
        (b"noise" * 50, "video 0 cannot be read: unreadable"),
    ],
)
def test_videos_that_do_not_fit_are_one_sentence(model, videos, message):
    with pytest.raises(UserError, match=message) as caught:
        ivjax.features(model, videos)
    assert "\n" not in str(caught.value)


def test_options_that_do_not_fit_are_one_sentence(folder, model):
    tower, _, _ = model
    for arguments, message in (
        ((tower, CLIPS), "of what ivjax.load returns, not of a DualTower; give that whole"),
        ((model, CLIPS, "cls"), "kind must be pooled, mean or tokens, got 'cls'"),
    ):
        with pytest.raises(UserError, match=message):
            ivjax.features(*arguments)
    for options in (
        {"batch": 0},
        {"broken": "skip"},
        {"rule": "middle"},
        {"frame_rate": -1.0},
        {"threads": 0},
    ):
        with pytest.raises(UserError, match="must be"):
            ivjax.features(model, CLIPS, **options)


def test_a_broken_video_is_a_row_of_nan_if_asked_for(model):
    found = ivjax.features(model, [CLIPS[0], b"noise", CLIPS[1]], broken="nan")
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2]], ivjax.features(model, CLIPS[:2]), atol=2e-6)
    with pytest.raises(UserError, match="there is no video to read; video 0 cannot be read"):
        ivjax.features(model, [b"noise"], broken="nan")


def test_the_five_lines_of_the_docs_run(folder, model, tmp_path, monkeypatch):
    section = (ROOT / "docs" / "getting_started.md").read_text().split("## Features of your own frames")[1]
    blocks = re.findall(r"```python\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    assert len([line for line in blocks[0].splitlines() if line.strip()]) == 5
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/viclip_tiny").symlink_to(folder / "run")
    Path("a.mp4").write_bytes((folder / "clip.mp4").read_bytes())
    np.save("frames.npy", CLIPS[3])
    names = {}
    for block in blocks:
        exec(block, names)
    expected = ivjax.features(model, ["a.mp4", CLIPS[3]])
    np.testing.assert_array_equal(names["vectors"], expected)
    np.testing.assert_allclose(names["cosines"], expected @ model.text(["clip 1", "clip 2"]).T, atol=1e-6)
