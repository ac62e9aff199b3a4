"""Mixtures: options of one corpus, media in turns, refusals, and the way to the mesh."""

from collections import Counter

import jax
import numpy as np
import pytest

from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.augment.recipe import Augment
from ivjax.data_pipelines.fields import ArraySpec, Caption, Frames, Label
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.media_loader import MediaLoader, open_media
from ivjax.data_pipelines.load.mixture import Corpus, Media
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.records import pack
from ivjax.errors import UserError
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.overrides import apply_overrides
from ivjax.train.feed import Feed
from ivjax.train.mesh import build_mesh
from tests.data_pipelines.corpora import corpus_of, make_clip, write_corpus
from tests.data_pipelines.further_fields import Letters
from tests.data_pipelines.reading import FIELDS, SPEC, batches_of, mixture


def test_a_corpus_may_be_read_otherwise_than_the_rest(corpus, other):
    turned = FIELDS | {"video": Frames(Intervals(4, "middle"), Augment(flip=1.0))}
    changed = Corpus(str(other), changes=("video.augment.flip=0", "video.rule.pick=start"))
    fields = Corpus(str(other), fields={"video": Frames(Intervals(4, "start"))})

    def rows(*corpora):
        found, _ = batches_of(mixture(*corpora, fields=turned), 4)
        return {place: row for batch in found for place, row in batch.items()}

    alike, one, two = rows(corpus, other), rows(corpus, changed), rows(corpus, fields)
    for place, row in alike.items():
        np.testing.assert_array_equal(one[place]["video"], two[place]["video"])
        same = (row["video"] == one[place]["video"]).all()
        assert same == (row["label"] < 100)
    written = apply_overrides(mixture(corpus, changed), ["corpora.1.changes=('video.augment.flip=1',)"])
    assert written.corpora[1].changes == ("video.augment.flip=1",)
    with pytest.raises(UserError, match="data.corpora.0.changes: the config has no 'fields.video.flip'"):
        rows(Corpus(str(other), changes=("video.flip=0",)))
    with pytest.raises(UserError, match="data.corpora.0.changes: video.rule gives 8 frames"):
        rows(Corpus(str(other), changes=("video.rule.frames=8",)))
    with pytest.raises(UserError, match="data.corpora.0.fields.video.rule gives 8 frames"):
        rows(Corpus(str(other), fields={"video": Frames(Intervals(8))}))
    # Whatever else a corpus changes, a field that it shares stands where the mixture has it.
    longer = FIELDS | {"video": Frames(Intervals(8))}
    relabelled = Corpus(str(other), fields={"label": Label()})
    with pytest.raises(UserError, match="^data.fields.video.rule gives 8 frames"):
        batches_of(mixture(relabelled, fields=longer), 1)


def test_any_number_of_media_take_turns(corpus, other):
    kinds = {"video": mixture(corpus), "image": mixture(other), "long": mixture(corpus, other)}
    requests = {name: BatchRequest(SPEC, 2, 7) for name in kinds}

    def turns(data, count):
        loader = open_media(data, requests)
        found = Counter(next(loader).medium for _ in range(count))
        loader.close()
        return found

    assert turns(Media(kinds, {"video": 2, "image": 1, "long": 3}), 12) == {"video": 4, "image": 2, "long": 6}
    assert turns(Media(kinds), 30) == {"video": 12, "image": 3, "long": 15}  # as many as there are clips
    assert apply_overrides(Media(kinds), ["steps={'image': 2}"]).steps == {"image": 2}
    with pytest.raises(UserError, match="data.steps names sound, which data.mixtures lacks"):
        Media(kinds, {"sound": 1})
    with pytest.raises(UserError, match="the stage takes no long batches, only video and image"):
        open_media(Media(kinds), {name: requests[name] for name in ("video", "image")})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_corpora": ()}, ".eval_corpora is empty"),
        ({"repeats": 3}, ".repeats=3 does not divide batch=4"),
        ({"workers": -1}, ".workers=-1"),
        ({"cache_gib": -1.0}, ".cache_gib=-1"),
        ({"fields": {"label": Label()}}, ".fields gives; the fields give label"),
        ({"fields": {"video": Frames(Intervals(8))}}, ".fields.video.rule gives 8 frames"),
        (
            {"changes": ("video.rule.frames=8",)},
            ".eval_corpora.0.changes: video.rule gives",
        ),
        ({"changes": ("video.flip=0",)}, ".eval_corpora.0.changes: the config has no"),
        ({"weight": -1.0}, ".eval_corpora has a weight of -1"),
        ({"mix": Mix(7)}, ".mix.classes=7 and the stage wants 5"),
        ({"mix": Mix(5, group=3)}, ".mix.group=3 and batch=4"),
    ],
)
def test_messages_say_where_the_mixture_of_a_medium_stands(corpus, options, message):
    of_corpus = {name: options.pop(name) for name in ("changes", "weight") if name in options}
    images = mixture(corpus, **{"eval_corpora": (Corpus(str(corpus), **of_corpus),), **options})
    spec = {"video": SPEC["video"], "targets": ArraySpec((5,), np.dtype(np.float32))}
    spec = spec if "mix" in options else {"video": SPEC["video"]}
    with pytest.raises(UserError, match=f"data.mixtures.image{message}"):
        open_media(Media({"image": images}), {"image": BatchRequest(spec, 4)}, eval_clips=True)


def test_media_alternate_as_if_all_batches_lay_in_one_pile(corpus, other):
    def pile():
        videos, images = (
            mixture(corpus).open(BatchRequest(SPEC, 4)),
            mixture(other).open(BatchRequest(SPEC, 2)),
        )
        return MediaLoader({"video": videos, "image": images}, {"video": 3, "image": 1}, seed=5)

    def drain(alternating, count):
        found = [next(alternating) for _ in range(count)]
        return [(b.medium, b.rows["label"].tolist()) for b in found]

    whole, cut = pile(), pile()
    reference = drain(whole, 8)
    assert Counter(medium for medium, _ in reference[:4]) == {"video": 3, "image": 1}
    assert {len(labels) for medium, labels in reference if medium == "image"} == {2}
    first = drain(cut, 3)
    state = cut.state()
    cut.close()
    resumed = pile()
    resumed.restore(state)
    assert first + drain(resumed, 5) == reference
    whole.close()
    resumed.close()


def test_arrays_that_no_field_gives_are_refused(corpus):
    with pytest.raises(
        UserError,
        match="wants depth in its batch, which no field of data.fields gives; the fields give video, label",
    ):
        mixture(corpus).open(BatchRequest({**SPEC, "depth": SPEC["label"]}, 8))
    with pytest.raises(UserError, match="wants text in its batch, which no field"):
        mixture(corpus).open(BatchRequest({**SPEC, "text": ArraySpec((8,), np.dtype(np.int32))}, 8))
    with pytest.raises(UserError, match="data.fields.video.rule gives 4 frames and the stage wants 8"):
        mixture(corpus).open(BatchRequest({"video": ArraySpec((8, 24, 24, 3), np.dtype(np.uint8))}, 8))
    with pytest.raises(UserError, match="data.eval_corpora is empty"):
        mixture(corpus).open(BatchRequest(SPEC, 8), eval_clips=True)


def test_a_corpus_without_labels_or_captions_is_refused_before_a_clip_is_read(tmp_path, corpus):
    bare = corpus_of(tmp_path / "bare", [make_clip(n, 1, label=None, captions=()) for n in range(40)])
    label = {"label": ArraySpec((), np.dtype(np.int32))}

    def opened(*corpora, spec=SPEC, fields=FIELDS):
        mixture(*corpora, fields=fields).open(BatchRequest(spec, 2)).close()

    message = r"data.corpora.1.path=.*bare: none of 20 clips has what the field label reads .no label"
    with pytest.raises(UserError, match=message):
        opened(corpus, bare, spec=label)
    opened(bare, spec={"video": SPEC["video"]})
    fields = {"text": Caption(Letters())}
    with pytest.raises(UserError, match="the field text reads .no caption: clip clip0 has none"):
        opened(bare, spec={"text": ArraySpec((4,), np.dtype(np.int32))}, fields=fields)
    # One clip that has what is read, and a damaged record, are left to the run, which counts broken clips.
    clips = [make_clip(n, 1, label=n or None) for n in range(2)]
    some = write_corpus(tmp_path / "some", [*map(pack, clips), b"nothing"], 1)
    opened(some, spec=label)


def test_a_missing_or_short_shard_is_named_before_the_first_step(tmp_path):
    folder = corpus_of(tmp_path, [make_clip(n) for n in range(3)])
    shard = folder / "shard-00001-of-00003.array_record"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="shard-00001-of-00003.array_record has .* bytes, its manifest says"):
        mixture(folder).open(BatchRequest(SPEC, 3))
    shard.unlink()
    with pytest.raises(UserError, match="shard-00001-of-00003.array_record is missing"):
        mixture(folder).open(BatchRequest(SPEC, 3))


def test_clips_reach_the_mesh_and_the_log(tmp_path):
    records = [pack(make_clip(number)) for number in range(16)]
    records[3] = b""
    data = mixture(write_corpus(tmp_path, records), workers=1, broken=0.5)
    spec = {name: jax.ShapeDtypeStruct(s.shape, s.dtype) for name, s in SPEC.items()}
    loader = open_media(data, {"video": BatchRequest(spec, 16, 7)})
    feed = Feed(loader, build_mesh(MeshShape(data=4, fsdp=2)), 16, {"video": spec})
    batch = next(feed).batch
    assert batch["video"].sharding.shard_shape(batch["video"].shape) == (2, 4, 24, 24, 3)
    assert sorted(np.asarray(batch["index"]).tolist()) == list(range(16))
    report = feed.report()
    assert report["broken/empty"] == 1 and report["data/ms_per_clip"] > 0
    loader.close()
