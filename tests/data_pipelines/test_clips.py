"""Clips through the whole data plane: one order on any hosts and workers, broken clips replaced."""

import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from dataclasses import replace

import jax
import numpy as np
import pytest

from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.augment.recipe import TRAIN_STAGE2, Augment
from ivjax.data_pipelines.fields import ArraySpec, Frames, Label
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.media_loader import MediaLoader, open_media
from ivjax.data_pipelines.load.mixture import Corpus, Media, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.records import pack
from ivjax.errors import UserError
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.overrides import apply_overrides
from ivjax.train.feed import Feed
from ivjax.train.mesh import build_mesh
from tests.data_pipelines import reading
from tests.data_pipelines.corpora import corpus_of, make_clip, write_corpus
from tests.data_pipelines.damage import damaged
from tests.data_pipelines.treacherous import Treacherous

SPEC = {
    "index": ArraySpec((), np.dtype(np.uint32)),
    "sample": ArraySpec((), np.dtype(np.uint32)),
    "replaced": ArraySpec((), np.dtype(np.uint8)),
    "label": ArraySpec((), np.dtype(np.int32)),
    "video": ArraySpec((4, 24, 24, 3), np.dtype(np.uint8)),
}
FIELDS = {"video": Frames(Intervals(4), TRAIN_STAGE2), "label": Label()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return corpus_of(tmp_path_factory.mktemp("corpus"), [make_clip(n, frames=6 + n % 5) for n in range(24)])


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return corpus_of(tmp_path_factory.mktemp("other"), [make_clip(100 + n) for n in range(6)], shards=1)


def mixture(*folders, workers=0, fields=FIELDS, **options):
    corpora = tuple(f if isinstance(f, Corpus) else Corpus(str(f)) for f in folders)
    return Mixture(corpora, fields, workers=workers, **options)


def batches(data, count, hosts=1, state=None, seed=7):
    return reading.batches(lambda host: data.open(BatchRequest(SPEC, 8, seed, host)), count, hosts, state)


@pytest.fixture(scope="module")
def reference(corpus, other):
    return batches(mixture(corpus, other), 6)[0]


@pytest.mark.parametrize(("hosts", "workers"), [(2, 0), (4, 1), (1, 2), (2, 2)])
def test_global_batches_do_not_depend_on_hosts_and_workers(corpus, other, reference, hosts, workers):
    reading.assert_same(batches(mixture(corpus, other, workers=workers), 6, hosts)[0], reference)


def test_restored_on_other_hosts_and_workers_the_order_goes_on(corpus, other, reference):
    first, state = batches(mixture(corpus, other, workers=1), 2, hosts=2)
    rest, _ = batches(mixture(corpus, other), 4, hosts=4, state=state)
    reading.assert_same(first + rest, reference)


def test_every_clip_comes_once_an_epoch_with_new_frames_and_crops(corpus):
    found, _ = batches(mixture(corpus), 6)
    rows = [batch[index] for batch in found for index in sorted(batch)]
    first, second = rows[:24], rows[24:48]
    for epoch in (first, second):
        assert sorted(int(row["label"]) for row in epoch) == list(range(24))
    again = {int(row["label"]): row["video"] for row in second}
    assert sum((again[int(row["label"])] != row["video"]).any() for row in first) > 20


def test_a_mixture_keeps_its_shares_over_a_resume(corpus, other):
    data = mixture(Corpus(str(corpus), 3.0), Corpus(str(other), 1.0))
    first, state = batches(data, 5)
    rest, _ = batches(data, 5, state=state)
    labels = [int(row["label"]) for batch in first + rest for row in batch.values()]
    assert Counter(label >= 100 for label in labels) == {False: 60, True: 20}
    seen = Counter(label for label in labels if label >= 100)
    assert max(seen.values()) - min(seen.values()) <= 1


def test_mixing_turns_labels_into_soft_targets(corpus):
    spec = {"video": SPEC["video"], "targets": ArraySpec((30,), np.dtype(np.float32))}
    loaders = [mixture(corpus, mix=Mix(30)).open(BatchRequest(spec, 8, 7)) for _ in range(2)]
    plain = mixture(corpus).open(BatchRequest(SPEC, 8, 7))
    for _ in range(3):
        one, two, unmixed = (next(loader) for loader in (*loaders, plain))
        np.testing.assert_array_equal(one["targets"], two["targets"])
        np.testing.assert_array_equal(one["video"], two["video"])
        assert (one["video"] != unmixed["video"]).any()
        labels = unmixed["label"]
        heavy = np.sort(np.argsort(one["targets"], axis=-1)[:, -2:], axis=-1)
        assert (heavy == np.sort(np.stack([labels, np.roll(labels, 4)], -1), axis=-1)).all()
    for loader in (*loaders, plain):
        loader.close()
    with pytest.raises(UserError, match="data.mix.classes=7 and the stage wants 30"):
        mixture(corpus, mix=Mix(7)).open(BatchRequest(spec, 8))


def mixed_batches(data, count, hosts=1, state=None, batch=8):
    spec = SPEC | {"targets": ArraySpec((24,), np.dtype(np.float32))}
    return reading.batches(lambda host: data.open(BatchRequest(spec, batch, 7, host)), count, hosts, state)


@pytest.mark.parametrize("group", [None, 1, 2, 4])
def test_mixed_global_batches_are_the_same_on_one_two_and_four_hosts(corpus, group):
    data = mixture(corpus, mix=Mix(24, group=group))
    reference, _ = mixed_batches(data, 4)
    kept = [row["targets"].max() for batch in reference for row in batch.values()]
    assert len(np.unique(np.round(kept, 5))) > 3
    for hosts in (2, 4):
        reading.assert_same(mixed_batches(data, 4, hosts)[0], reference)


def test_mixed_batches_go_on_after_a_stop_even_with_another_size(corpus):
    data = mixture(corpus, mix=Mix(24, group=2))
    reference, _ = mixed_batches(data, 4)
    first, state = mixed_batches(data, 1, hosts=2)
    rest, _ = mixed_batches(data, 3, hosts=4, state=state)
    reading.assert_same(first + rest, reference)
    larger, after = mixed_batches(data, 1, state=state, batch=12)
    assert sorted(larger[0]) == list(range(8, 20))
    more = [mixed_batches(data, 1, hosts, after, batch=12)[0] for hosts in (1, 2)]
    reading.assert_same(*more)


def test_a_clip_stands_several_times_in_a_batch_with_the_same_frames_and_other_crops(corpus):
    data = mixture(corpus, repeats=2)
    found, state = batches(data, 6)
    plain, _ = batches(mixture(corpus), 3)
    order = [[int(batch[i]["sample"]) for batch in many for i in sorted(batch)] for many in (found, plain)]
    assert order[0] == [number for number in order[1] for _ in range(2)]
    rows = [batch[i]["video"] for batch in found for i in sorted(batch)]
    assert sum((one != two).any() for one, two in zip(rows[::2], rows[1::2], strict=True)) >= 20
    still = mixture(corpus, repeats=2, fields=FIELDS | {"video": Frames(Intervals(4))})
    for batch in batches(still, 3)[0]:
        for place in range(min(batch), max(batch), 2):
            np.testing.assert_array_equal(batch[place]["video"], batch[place + 1]["video"])
    for hosts in (2, 4):
        again, same = batches(data, 6, hosts)
        reading.assert_same(again, found)
        assert same == state
    first, state = batches(data, 2, hosts=4)
    reading.assert_same(first + batches(data, 4, state=state)[0], found)
    with pytest.raises(UserError, match="data.repeats=3 does not divide batch=8"):
        batches(mixture(corpus, repeats=3), 1)


def test_a_broken_clip_is_replaced_by_the_same_one_in_all_its_repeats(tmp_path):
    records = [pack(make_clip(n)) if n % 4 else b"" for n in range(16)]
    data = mixture(write_corpus(tmp_path, records), repeats=4, broken=0.9)
    for batch in batches(data, 4)[0]:
        samples = [int(batch[place]["sample"]) for place in sorted(batch)]
        assert samples == [number for number in samples[::4] for _ in range(4)]


def test_a_corpus_may_be_read_otherwise_than_the_rest(corpus, other):
    turned = FIELDS | {"video": Frames(Intervals(4, "middle"), Augment(flip=1.0))}
    changed = Corpus(str(other), changes=("video.augment.flip=0", "video.rule.pick=start"))
    fields = Corpus(str(other), fields={"video": Frames(Intervals(4, "start"))})

    def rows(*corpora):
        found, _ = batches(mixture(*corpora, fields=turned), 4)
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
    with pytest.raises(UserError, match="data.corpora.0.fields.video.rule gives 8 frames"):
        rows(Corpus(str(other), changes=("video.rule.frames=8",)))


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


def test_another_seed_draws_other_frames(corpus):
    one, two = batches(mixture(corpus), 3)[0], batches(mixture(corpus), 3, seed=8)[0]
    order = [[int(b[i]["label"]) for b in found for i in sorted(b)] for found in (one, two)]
    assert order[0] != order[1]


def test_a_changed_corpus_does_not_go_on(corpus, other, tmp_path):
    _, state = batches(mixture(other), 1)
    changed = corpus_of(tmp_path, [make_clip(200)], shards=1)
    state["identity"] = {str(changed): state["identity"][str(other)]}
    loader = mixture(changed).open(BatchRequest(SPEC, 8))
    with pytest.raises(UserError, match="is not the one that this run has been reading"):
        loader.restore(state)
    loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_of_a_thousand_clips_fifty_broken_ones_are_named_once_and_the_rest_seen_once(tmp_path, workers):
    clips = [make_clip(number, frames=4 + number % 3) for number in range(40)]
    count, broken = (1000, 50) if workers == 0 else (200, 10)
    records, causes = [], {}
    for number in range(count):
        clip = replace(clips[number % 40], id=f"clip{number}", label=number)
        if number % 20 == 7:
            record, causes[number] = damaged(clip, number // 20 % 10, 1 + number // 20 % 9)
        else:
            record = pack(clip)
        records.append(record)
    assert len(causes) == broken
    folder = write_corpus(tmp_path / "corpus", records)
    faults = tmp_path / "broken.jsonl"
    loader = mixture(folder, workers=workers, broken=0.2).open(BatchRequest(SPEC, 50, 3, broken_clips=faults))
    rows = [next(loader) for _ in range(count // 50)]
    seen = [(int(label), int(b["replaced"][i])) for b in rows for i, label in enumerate(b["label"])]
    named = loader.broken.named
    loader.close()
    starts = [0, *np.cumsum([len(p) for p in np.array_split(np.arange(count), 3)])]
    assert {starts[int(f.shard[6:11])] + f.record: f.cause for f in named} == causes
    assert len(named) == broken == len(faults.read_text().splitlines())
    own_turn = Counter(label for label, replaced in seen if not replaced)
    assert own_turn == {number: 1 for number in range(count) if number not in causes}
    stand_ins = [label for label, replaced in seen if replaced]
    assert len(stand_ins) == broken and not set(stand_ins) & set(causes)


def test_too_many_broken_clips_end_the_run_with_the_list(tmp_path):
    records = [pack(make_clip(n)) if n % 10 else b"" for n in range(40)]
    loader = mixture(write_corpus(tmp_path, records), broken=0.05).open(BatchRequest(SPEC, 20))
    with pytest.raises(UserError, match=r"of 100 clips cannot be used .* empty.*5.00%(.|\n)*record 0: empty"):
        for _ in range(9):
            next(loader)
    loader.close()


def test_a_crash_or_a_hang_of_the_decoder_is_a_broken_clip(tmp_path):
    clips = [make_clip(n, frames={3: 9, 6: 10}.get(n, 8)) for n in range(12)]
    fields = FIELDS | {"video": Frames(Treacherous())}
    data = mixture(corpus_of(tmp_path, clips, shards=1), workers=2, fields=fields, seconds=2.0, broken=0.5)
    loader = data.open(BatchRequest(SPEC, 12))
    for _ in range(3):
        assert not set(next(loader)["label"].tolist()) & {3, 6}
    assert {f.record: f.cause for f in loader.broken.named} == {3: "crash", 6: "hang"}
    assert loader.broken.causes["crash"] >= 3
    loader.close()


def test_a_flipped_byte_in_a_shard_costs_one_clip(tmp_path):
    folder = corpus_of(tmp_path, [make_clip(n) for n in range(12)], shards=1)
    (shard,) = folder.glob("shard-*")
    content = bytearray(shard.read_bytes())
    content[content.index(b"clip 5")] ^= 1
    shard.write_bytes(content)
    loader = mixture(folder, broken=0.5).open(BatchRequest(SPEC, 12))
    for _ in range(2):
        labels = next(loader)["label"].tolist()
        assert set(range(12)) - set(labels) == {5}
    assert [(f.record, f.cause) for f in loader.broken.named] == [(5, "damaged shard")]
    loader.close()


def test_closing_does_not_wait_for_a_clip_that_hangs(tmp_path):
    data = mixture(
        corpus_of(tmp_path, [make_clip(n, frames=10) for n in range(2)], shards=1),
        workers=1,
        fields=FIELDS | {"video": Frames(Treacherous())},
        seconds=300.0,
    )
    loader = data.open(BatchRequest(SPEC, 2))
    waiting = threading.Thread(target=lambda: pytest.raises((UserError, CancelledError), next, loader))
    waiting.start()
    time.sleep(1.5)
    started = time.monotonic()
    loader.close()
    waiting.join(10)
    assert not waiting.is_alive() and time.monotonic() - started < 5


def test_a_kill_of_the_reader_leaves_no_worker(corpus, tmp_path):
    script = f"""
import time
from pathlib import Path
import numpy as np
from ivjax.data_pipelines.fields import ArraySpec, Label
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
spec = {{"label": ArraySpec((), np.dtype(np.int32))}}
data = Mixture((Corpus({str(corpus)!r}),), {{"label": Label()}}, workers=2)
loader = data.open(BatchRequest(spec, 8))
next(loader)
children = [p.read_text() for p in Path("/proc/self/task").glob("*/children")]
print(*" ".join(children).split(), flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_worker_processes_hold_no_jax():
    script = (
        "import sys, ivjax.data_pipelines.load.decode_worker, ivjax.data_pipelines.tokenizers.spm\n"
        "print({name.split('.')[0] for name in sys.modules} & {'jax', 'grain', 'flax', 'tensorflow'})"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "set()"


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


def test_a_missing_or_short_shard_is_named_before_the_first_step(tmp_path):
    folder = corpus_of(tmp_path, [make_clip(n) for n in range(3)])
    shard = folder / "shard-00001-of-00003.array_record"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="shard-00001-of-00003.array_record has .* bytes, its manifest says"):
        mixture(folder).open(BatchRequest(SPEC, 3))
    shard.unlink()
    with pytest.raises(UserError, match="shard-00001-of-00003.array_record is missing"):
        mixture(folder).open(BatchRequest(SPEC, 3))


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
