"""A tower of no family: it is probed, embeds clips beside texts, and carries a classifier."""

import functools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.loading import Loaded
from ivjax.embed.embed_videos import EmbedOptions
from ivjax.embed.embedding_job import EmbeddingJob, run_job
from ivjax.embed.index import read_index
from ivjax.errors import UserError
from ivjax.evals import class_model, features, pair_model
from ivjax.evals.compiled import local_mesh
from ivjax.evals.suites import LinearProbe, Retrieval, ViewClassification
from ivjax.experiment.computing import Compute
from ivjax.experiment.rules import Rule
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.dual_size import DualSize
from ivjax.models.tower import Encoded, VideoTower
from ivjax.models.viclip.sizes import TextSize
from tests.embed.fake import COLOURS, write_coloured
from tests.evals.small_run import small_experiment

CLIPS = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 6, 3), np.uint8)
COMPUTE = Compute("float32")


class Tints(nn.Module):
    """A product of the mean colour of each frame."""

    @nn.compact
    def __call__(self, video):
        return nn.Dense(4, name="tint")(video.astype(jnp.float32).mean((2, 3)) / 255)


@dataclass(frozen=True)
class TintTower(VideoTower):
    """One patch a frame, no class token; pools the last patch if it pools at all."""

    def encode(self, params, video, visible=None, keep=None, wanted=None):
        """Returns a token for each frame, and the pooled one."""
        tokens = self.module.apply({"params": params}, video)
        return Encoded(tokens, None, None if self.size.out is None else tokens[:, -1], None)


@dataclass(frozen=True)
class TintSize:
    """The part of a size that evals and classifiers read."""

    out: int | None = 4

    width: ClassVar[int] = 4
    frames: ClassVar[int] = 3
    image: ClassVar[tuple[int, int]] = (8, 6)
    patches: ClassVar[int] = 3
    class_tokens: ClassVar[int] = 0
    grid: ClassVar[Any] = (3, 1, 1)
    depth: ClassVar[int] = 2
    pool_branches: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[Any] = (Rule("tint/kernel"), Rule("tint/bias"))

    def build(self, compute, taps=()):
        """Returns the tower."""
        return TintTower(self, Tints())

    def flops(self, patches=None):
        """FLOPs of the one layer."""
        return {"tint": 24.0 * (patches or self.patches)}

    def check(self, name):
        """Any size of it is possible."""


def stage_of(model, **options):
    return SimpleNamespace(model=lambda compute: model, encoders=dict, **options)


def drawn(model, seed, **options):
    """Parameters of a model, in one program: op by op each would be compiled."""
    return jax.jit(functools.partial(model.init, **options))(jax.random.key(seed))


def tints(params):
    """The tokens by hand: (n, 3, 4)."""
    kernel, bias = (np.asarray(params["tint"][name]) for name in ("kernel", "bias"))
    return CLIPS.mean((2, 3)) / 255 @ kernel + bias


@pytest.mark.parametrize("out", [4, None])
def test_any_tower_is_probed_by_what_it_pools_or_by_its_patches(out):
    tower = TintSize(out).build(COMPUTE)
    params = drawn(tower, 1)
    experiment = SimpleNamespace(stage=stage_of(tower))
    found = features.of_experiment(LinearProbe(train="x", batch=2), experiment, params, local_mesh())
    expected = tints(params).mean(1) if out is None else tints(params)[:, -1]
    np.testing.assert_allclose(found.video(CLIPS), expected, atol=1e-5)
    assert found.feature == ("mean" if out is None else "pooled")
    np.testing.assert_allclose(found.tokens(CLIPS), tints(params), atol=1e-5)
    assert np.abs(found.fresh().video(CLIPS) - expected).max() > 0.01
    if out is None:
        suite = LinearProbe(train="x", features="pooled")
        with pytest.raises(UserError, match="holds a TintTower, which pools nothing; ask for the mean"):
            features.of_experiment(suite, experiment, params, local_mesh())


@pytest.mark.parametrize("out", [4, None])
def test_any_tower_embeds_videos_for_the_embed_command(out, tmp_path, monkeypatch):
    tower = TintSize(out).build(COMPUTE)
    params = drawn(tower, 1)
    monkeypatch.setattr(features, "load", lambda path, preset, on_host: Loaded(tower, params, None, path))
    video = write_coloured(tmp_path / "red.mp4", "red")
    job = EmbeddingJob((video,), (), None, tmp_path / "i.npz", "w", options=EmbedOptions(batch=2))
    said = []
    run_job(job, said.append)
    index = read_index(tmp_path / "i.npz")
    # Every frame of a plain video has the same tint, so that the mean of the patches is any of them.
    kernel, bias = (np.asarray(params["tint"][name]) for name in ("kernel", "bias"))
    np.testing.assert_allclose(index.embeddings, [np.divide(COLOURS["red"], 255) @ kernel + bias], atol=0.03)
    kind = "mean" if out is None else "pooled"
    assert index.origin.feature == kind
    rows = f"the rows are {kind} features of w"
    assert said[0] == f"{rows}; `ivjax search` finds them by video, not by words"


def test_any_tower_embeds_clips_beside_any_text_tower(tmp_path):
    size = DualSize(TintSize(), TextSize(width=8, depth=1, heads=2, out=4, context=8, vocabulary=64))
    model = size.build(COMPUTE)
    params = drawn(model, 2)
    data = small_experiment(tmp_path, tmp_path).data
    experiment = SimpleNamespace(stage=stage_of(model, caption_field="text"), data=data)
    found = pair_model.of_experiment(Retrieval(batch=2), experiment, params, local_mesh())
    pooled = tints(params["vision"])[:, -1]
    expected = pooled / np.linalg.norm(pooled, axis=-1, keepdims=True)
    np.testing.assert_allclose(found.video(CLIPS), expected, atol=1e-5)
    np.testing.assert_allclose(found.tokens(CLIPS), tints(params["vision"]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.text(["clip 1", "clip"]), axis=-1), 1, atol=1e-5)


def test_any_tower_carries_a_classifier():
    model = ClassifierSize(TintSize(), classes=7).build(COMPUTE)
    params = drawn(model, 3, head_scale=1.0)
    experiment = SimpleNamespace(stage=stage_of(model))
    found = class_model.of_experiment(ViewClassification(batch=2), experiment, params, local_mesh())
    np.testing.assert_allclose(found.video(CLIPS), jax.jit(model.logits)(params, CLIPS), atol=1e-5)
