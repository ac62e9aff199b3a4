"""`ivjax embed` and `ivjax search` with stage 2 and InternVideo2-CLIP: by what is seen, heard, or both."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from ivjax import features
from ivjax.convert.loading import Loaded
from ivjax.convert.registry import family_named
from ivjax.embed.embed_videos import EmbedOptions
from ivjax.embed.index import read_index
from ivjax.errors import UserError
from ivjax.evals import features as video_models
from ivjax.evals import pair_model
from ivjax.evals.hearing import Hearing
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.dual_size import DualSize
from ivjax.models.internvideo2 import AlignedSize
from ivjax.models.iv2clip import MobileTextSize
from ivjax.train.mesh import build_mesh
from tests.convert.tables import save_weights
from tests.embed.test_search import command
from tests.evals.stage2_model import STAGE, Letters, pair, sounding, tone, towers, wav
from tests.models.params import any_params
from tests.stage2 import FLOAT32

HEARING = Hearing(50, 16, alone=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three clips, one of them silent, and a sound; `w` is the model of stage 2."""
    (tmp_path / "videos").mkdir()
    for name, hertz in (("a", 440.0), ("b", 1500.0), ("c", None)):
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(sounding(hertz))
    (tmp_path / "bark.wav").write_bytes(wav(tone(1500)))
    model, params = towers()
    for module in (pair_model, video_models):
        monkeypatch.setattr(
            module, "load", lambda path, *a, **options: Loaded(model, params, Letters(), path)
        )
        # A program for one device is compiled faster.
        monkeypatch.setattr(module, "local_mesh", lambda: build_mesh(MeshShape(), jax.devices()[:1]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(capsys, *words):
    """The names of the hits of each query."""
    capsys.readouterr()
    assert command("search", *words, "--json") == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return {line["query"]: [(hit["video"], hit["score"]) for hit in line["hits"]] for line in lines}


def test_sounds_are_embedded_and_found_by_words_and_by_sounds(folder, capsys):
    argv = ("embed", "videos", "bark.wav", "--weights", "w", "--medium", "audio", "--out", "i.npz")
    assert command(*argv) == 1  # a clip is silent
    said = capsys.readouterr()
    assert said.out == "i.npz: 3 embeddings of 4 videos, 1 of them broken\n" and "no sound" in said.err
    index = read_index(folder / "i.npz")
    assert (index.origin.medium, index.origin.feature) == ("audio", "embedding")
    assert index.origin.reading == "of a sound: its first 0.5 s, in 16 bins"
    assert index.columns["end"].tolist() == [1.0, 1.0, 1.0]
    files = ["videos/a.mp4", "videos/b.mp4", "bark.wav"]
    banks = np.stack([HEARING.bank(file, None, None) for file in files])
    np.testing.assert_allclose(index.embeddings, pair("audio").video(banks), atol=1e-4)
    hits = found(capsys, "i.npz", "a m", "--audio", "bark.wav", "--video", "videos/b.mp4", "--top", 3)
    cosines = index.embeddings @ pair("audio").text(["a m"])[0]
    assert [name for name, _ in hits["a m"]] == [files[place] for place in np.argsort(-cosines)]
    for query, own in (("bark.wav", "bark.wav"), ("videos/b.mp4", "videos/b.mp4")):
        (name, score), *_ = hits[query]
        assert name == own and score == pytest.approx(1, abs=1e-3)
    with pytest.raises(UserError, match="bark.wav.* no video"):
        command("embed", "bark.wav", "--weights", "w", "--out", "other.npz")
    with pytest.raises(UserError, match="--tokens and --mean are of pictures; leave them out, or --medium b"):
        EmbedOptions(medium="both", tokens=True)


def test_clips_are_embedded_with_their_sound_and_found_by_a_sound_alone(folder, capsys):
    command("embed", "videos", "--weights", "w", "--medium", "both", "--out", "i.npz")
    index = read_index(folder / "i.npz")
    assert len(index.embeddings) == 3 and index.origin.medium == "both"
    assert index.origin.reading.startswith("frames: ") and "; of a sound: " in index.origin.reading
    hits = found(capsys, "i.npz", "--audio", "bark.wav", "--top", 3)["bark.wav"]
    heard = pair("audio").video(HEARING.bank("bark.wav", None, None)[None])[0]
    cosines = sorted(index.embeddings @ heard, reverse=True)
    np.testing.assert_allclose([score for _, score in hits], cosines, atol=1e-4)
    loaded = Loaded(*towers(), Letters(), "w")
    (row,) = features(loaded, "bark.wav", medium="audio", mesh=build_mesh(MeshShape(), jax.devices()[:1]))
    np.testing.assert_allclose(row, heard, atol=1e-5)
    with pytest.raises(UserError, match="'tokens' is of pictures; leave out kind with medium='audio'"):
        features(loaded, "videos/a.mp4", "tokens", medium="audio")


def test_a_file_knows_the_type_of_its_audio_tower():
    stored = json.loads(json.dumps(dataclasses.asdict(STAGE.size)))
    assert family_named("internvideo2_stage2").sizes(stored) == STAGE.size


@pytest.mark.slow
def test_files_of_stage_2_and_of_internvideo2_clip_embed(tmp_path):
    (tmp_path / "a.mp4").write_bytes(sounding(440.0))
    vision = AlignedSize(16, 1, 2, 32, pool_heads=2, pool_width=16, image=(28, 28), frames=2, align=8)
    text = MobileTextSize(16, 1, 2, 32, out=8, context=6, vocabulary=24)
    for family, size, medium in (
        ("internvideo2_clip_small", DualSize(vision, text), "video"),
        ("internvideo2_stage2", STAGE.size, "audio"),
    ):
        model, path = size.build(FLOAT32), tmp_path / f"{family}.safetensors"
        params = any_params(model)
        save_weights(path, params, family, size)
        out = tmp_path / f"{family}.npz"
        argv = ("embed", tmp_path / "a.mp4", "--weights", path, "--medium", medium, "--out", out)
        assert command(*argv) == 0
        row = read_index(out).embeddings[0]
        assert row.shape == (8,) and np.linalg.norm(row) == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match="_clip_small.safetensors has no embedding of sounds, only of clips"):
        path = tmp_path / "internvideo2_clip_small.safetensors"
        command("embed", tmp_path / "a.mp4", "--weights", path, "--medium", "audio", "--out", "i.npz")
