"""Videos of every kind on their way through the product: build, validate, train, embed."""

import dataclasses

import numpy as np
import pytest

from ivjax.data_pipelines import data_options as dp
from ivjax.data_pipelines.build.build_corpus import build
from ivjax.data_pipelines.build.options import BuildOptions
from ivjax.data_pipelines.inspect.validate import validate
from ivjax.embed.embed_videos import EmbedOptions, embed_videos
from ivjax.embed.index import IndexOrigin
from ivjax.embed.media_list import MediaList
from ivjax.embed.windows import Windowing
from tests.data_pipelines.footage import QUICK
from tests.data_pipelines.kinds import KINDS, NO_VIDEO
from tests.embed.fake import ColourEncoder
from tests.train import micro
from tests.train.test_masked_pixels import experiment as masked_pixels

pytestmark = pytest.mark.slow


def embedded(words, out):
    """The outcome of `ivjax embed`, and its index."""
    origin = IndexOrigin("w", None, None, "/", 4, (16, 24), "0")
    outcome = embed_videos(
        ColourEncoder(), MediaList(words), out, origin, EmbedOptions(Windowing()), lambda line: None
    )
    with np.load(out) as file:
        return outcome, dict(file)


def test_a_folder_of_every_kind_is_built_validated_trained_on_and_embedded(tmp_path):
    media, corpus = tmp_path / "media", tmp_path / "corpus"
    media.mkdir()
    for kind in KINDS:
        kind.draw(media / kind.name)
    for name, draw in NO_VIDEO.items():
        draw(media / name)
    report = build(BuildOptions(str(media), corpus, recipe=QUICK, workers=2), lambda line: None)
    # One of the files of sound has an ending that says so; the other one looks like a video.
    assert report.clips == len(KINDS) == 24
    assert report.dropped == {"no video stream": 1, "not a video or image": 1}
    assert report.remarks == {"deinterlaced": 2, "steadied": 2}
    assert validate(corpus, None, print) == []

    frames = dp.Frames(dp.Intervals(8), dp.TRAIN_STAGE1)
    data = dp.Mixture((dp.Corpus(str(corpus)),), {"video": frames}, workers=1, broken=0.0)
    base = dataclasses.replace(masked_pixels, data=data, steps=3)
    assert np.isfinite(micro.run(tmp_path / "run", base=base)).all()
    assert not list((tmp_path / "run").glob("broken_clips*"))

    outcome, found = embedded([str(corpus)], tmp_path / "corpus.npz")
    assert not outcome.broken and len(found["embeddings"]) == 24
    outcome, raw = embedded([str(media)], tmp_path / "media.npz")
    assert len(raw["embeddings"]) == 24 and [fault.clip for fault in outcome.broken] == [
        str(media / "song.mp4")
    ]
    # A file and the clip that was built of it look the same, but for the losses of encoding.
    np.testing.assert_allclose(raw["embeddings"], found["embeddings"], atol=0.1)
