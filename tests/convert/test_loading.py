"""`ivjax.load`: what a loaded model says of itself, reads of words, and is told about its sizes."""

import dataclasses

import jax
import numpy as np
import pytest

import ivjax
from ivjax.convert.conversion import export_file
from ivjax.data_pipelines.tokenizers.bert import BertWordPiece
from ivjax.embed.embedding_job import EmbeddingJob, run_job
from ivjax.errors import UserError
from ivjax.evals.pair_model import open_pairs
from ivjax.experiment.computing import Compute
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.videomae import VideoMaeSize
from ivjax.ops.trees import paths_of
from tests.convert.tables import save_weights
from tests.evals.small_run import save_small_run, write_test_set
from tests.models.params import any_params

TINY = EncoderSize(16, 2, 2, 32, 2, 8, image=(28, 28), frames=2, layer_scale=0.1)
COMPUTE = Compute("float32")
MAE = VideoMaeSize(width=16, depth=2, heads=2, mlp_width=32, image=(32, 32), frames=2)


def quiet(line):
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("load")
    save_small_run(folder / "run", write_test_set(folder / "corpus"))
    return folder / "run"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A file of the original's names, of sizes that no preset has, and its parameters."""
    folder, params = tmp_path_factory.mktemp("encoder"), any_params(TINY.build(COMPUTE))
    save_weights(folder / "own.safetensors", params, "internvideo2_encoder", TINY)
    export_file(folder / "own.safetensors", folder / "theirs.safetensors")
    return folder / "theirs.safetensors", params


def test_a_loaded_run_says_what_it_is_and_prints_no_parameters(run):
    text = str(ivjax.load(run))
    assert len(text) < 1500 and len(text.splitlines()) == 9
    for words in (
        f"DualEncoder after step 1 of {run}, computes in float32",
        "viclip, sizes of no preset",
        "DualTower, 47,681 parameters in 39 arrays, 0.2 MiB float32",
        "VisionSize(width=32, depth=2, heads=4, out=16, patch=7, image=(14, 14), frames=4)",
        "clips (n, 4, 14, 14, 3) uint8; captions as 8 ids (BertWordPiece",
        "embedding (n, 16), beside that of captions; tokens (n, 17, 32)",
        "ivjax.features(model, videos), model.text(words)",
        "video(params, video), words(params, ids) of .model",
    ):
        assert words in text


@pytest.mark.parametrize(
    "family, size, made, gives",
    [
        ("internvideo2_encoder", TINY, "EncoderSize(", "pooled (n, 8); mean (n, 16); tokens (n, 9, 16)"),
        ("videomae_encoder", MAE, "VideoMaeSize(", "mean (n, 16); tokens (n, 4, 16)"),
        ("internvideo2_classifier", ClassifierSize(TINY, 7), "classes=7", "logits (n, 7); pooled (n, 8);"),
    ],
)
def test_a_loaded_file_says_its_family_and_what_it_gives(tmp_path, family, size, made, gives):
    save_weights(tmp_path / "w.safetensors", any_params(size.build(COMPUTE)), family, size)
    text = repr(ivjax.load(tmp_path / "w.safetensors", dtype="bfloat16"))
    assert text.startswith(f"{family} of {tmp_path}/w.safetensors, computes in bfloat16\n")
    assert made in text and gives in text and "model.text" not in text and "captions" not in text


def test_a_loaded_model_cannot_be_changed_and_unpacks_into_three(run):
    loaded = ivjax.load(run)
    model, params, tokenizer = loaded
    assert (model, params, tokenizer) == (loaded.model, loaded.params, loaded.tokenizer)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.params = {}


def test_loading_warns_of_nothing(run, caplog):
    ivjax.load(run)
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_a_file_of_released_sizes_says_its_preset(tmp_path):
    size = EncoderSize.PRESETS["S14"]
    save_weights(tmp_path / "w.safetensors", any_params(size.build(COMPUTE)), "internvideo2_encoder", size)
    lines = repr(ivjax.load(tmp_path / "w.safetensors")).splitlines()
    assert lines[1:3] == [
        "  family   internvideo2_encoder, preset S14",
        "  model    EncoderTower, 23,043,840 parameters in 31 arrays, 87.9 MiB float32",
    ]


def test_texts_have_the_vectors_of_evals_and_of_the_embed_command(run, tmp_path):
    loaded = ivjax.load(run)
    texts = ["Clip, number 3!", "clip 7", "number"]
    found = loaded.text(texts)
    cleaned = ["clip number 3", "clip 7", "number"]
    np.testing.assert_allclose(found, open_pairs(str(run), batch=8).text(cleaned), atol=1e-6)
    job = EmbeddingJob((), tuple(texts), None, tmp_path / "t.npz", str(run))
    run_job(job, quiet)
    with np.load(tmp_path / "t.npz") as file:
        np.testing.assert_allclose(found, file["embeddings"], atol=1e-6)
    np.testing.assert_allclose(loaded.text("clip 7"), found[1:2], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
    assert loaded.text([]).shape == (0, 16)
    with pytest.raises(UserError, match=r"the text '\?!' has no words"):
        loaded.text(["a", "?!"])
    with pytest.raises(UserError, match="a list of strings, and one of them is 7"):
        loaded.text(["a", 7])


def test_a_model_without_words_says_so(encoder):
    with pytest.raises(UserError, match="holds a .*, which reads no captions; give two towers"):
        ivjax.load(encoder[0], sizes=TINY).text("a")


def test_another_vocabulary_takes_the_place_of_the_models_own(run, tmp_path):
    words = run.joinpath("words.txt").read_text().splitlines()
    turned = [*words[:7], *reversed(words[7:])]
    (tmp_path / "turned.txt").write_text("\n".join(turned) + "\n")
    own, other = ivjax.load(run), ivjax.load(run, tokenizer=tmp_path / "turned.txt")
    assert other.tokenizer.path == str(tmp_path / "turned.txt")
    np.testing.assert_allclose(other.text("clip 0"), own.text("clip 12"), atol=1e-6)
    given = dataclasses.replace(own.tokenizer, path=str(tmp_path / "turned.txt"))
    assert ivjax.load(run, tokenizer=given).tokenizer is given
    with pytest.raises(UserError, match="the tokenizer has 30522 pieces and the model in .* 64 words"):
        vocabulary = [*words[:5], *map(str, range(30517))]
        (tmp_path / "large.txt").write_text("\n".join(vocabulary) + "\n")
        ivjax.load(run, tokenizer=BertWordPiece(str(tmp_path / "large.txt"), length=8))
    with pytest.raises(UserError, match="gone.txt is missing: .*; name the file with --tokenizer"):
        ivjax.load(run, tokenizer="gone.txt")
    with pytest.raises(UserError, match="must be a vocabulary file or a tokenizer, got 5"):
        ivjax.load(run, tokenizer=5)


def test_explicit_sizes_read_a_file_whose_preset_does_not_exist(encoder, tmp_path):
    path, params = encoder
    with pytest.raises(UserError):
        ivjax.load(path)
    loaded = ivjax.load(path, sizes=TINY)
    jax.tree.map(np.testing.assert_array_equal, dict(paths_of(loaded.params)), dict(paths_of(params)))
    assert loaded.made == "internvideo2_encoder of given sizes"
    changes = ("width=16", "depth=2", "heads=2", "mlp_width=32", "pool_heads=2", "pool_width=8")
    options = ("image=(28,28)", "frames=2", "layer_scale=0.1")
    same = ivjax.load(path, "S14", sizes=(*changes, *options))
    jax.tree.map(np.testing.assert_array_equal, same.params, loaded.params)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sizes": MAE}, "is of internvideo2_encoder, whose sizes are a EncoderSize, not a VideoMaeSize"),
        ({"sizes": TINY, "preset": "S14"}, "take the place of a preset and of overrides; give one of them"),
        ({"sizes": TINY, "dtype": "float16"}, "computes in float32 or bfloat16, not in 'float16'"),
        ({"sizes": TINY, "ema": True}, "which holds no averaged parameters"),
        ({"sizes": TINY, "tokenizer": "v.txt"}, "does not say how captions become tokens, so a vocabulary"),
    ],
)
def test_options_that_do_not_fit_a_file_are_one_sentence(encoder, options, message):
    with pytest.raises(UserError, match=message):
        ivjax.load(encoder[0], **options)


def test_a_run_knows_its_sizes(run):
    for options in ({"preset": "B16"}, {"sizes": ("frames=2",)}, {"family": "viclip"}):
        with pytest.raises(UserError, match="is a run, which knows its sizes: leave out preset"):
            ivjax.load(run, **options)
