"""Packed rows: what stands in them, on any number of hosts and workers, over a resume."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ivjax.data_pipelines.dialogue.packing import TalkSize
from ivjax.data_pipelines.dialogue.seeing import ClipForm
from ivjax.data_pipelines.load import measuring
from ivjax.data_pipelines.load.dialogue_plan import bucket_of, plan_dialogues
from ivjax.data_pipelines.load.loader import BatchRequest, HostShard
from ivjax.data_pipelines.load.measuring import PlanRequest
from ivjax.data_pipelines.load.media_loader import open_media
from ivjax.data_pipelines.load.mixture import Corpus
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues
from ivjax.errors import UserError
from tests.data_pipelines.dialogue.talks import CLIP, IMAGE, ask, build_talks, dialogues, spec, turns
from tests.data_pipelines.footage import number_of

BUCKETS = {"short": spec(180, 4, 2), "long": spec(460, 12, 4)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_talks(tmp_path_factory.mktemp("talks"))[0]


def batches(data, count, host=HostShard(), state=None, buckets=BUCKETS, batch=2, broken=None, seed=3):
    """The next batches with their media, the state behind them, and the metrics."""
    requests = {name: BatchRequest(rows, batch, seed, host, broken) for name, rows in buckets.items()}
    loader = open_media(data, requests)
    if state is not None:
        loader.restore(json.loads(json.dumps(state)))
    found = [next(loader) for _ in range(count)]
    state, report = loader.state(), loader.report()
    loader.close()
    return found, state, report


def conversations(rows):
    """What stands in the rows of a batch, conversation by conversation, as it would alone."""
    found = []
    for row in range(len(rows["ids"])):
        segments = rows["segments"][row]
        for segment in range(segments.max() + 1):
            here = segments == segment
            clips = rows["clip_segments"][row] == segment
            images = rows["image_segments"][row] == segment
            visual = np.flatnonzero(rows["visual_segments"][row] == segment)
            places = rows["places"][row][here]
            # Each place is one of the conversation's own visual tokens, by its number among them.
            assert np.isin(places[places >= 0], visual).all()
            numbers = np.where(places >= 0, np.searchsorted(visual, places), -1)
            names = ("ids", "targets", "answer_tokens", "positions")
            words = {name: rows[name][row][here] for name in names}
            media = {"video": rows["video"][row][clips], "images": rows["images"][row][images]}
            found.append({**words, "places": numbers, **media})
            assert len(visual) == clips.sum() * CLIP + images.sum() * IMAGE
    return found


def key(conversation):
    return conversation["ids"].tobytes() + conversation["video"].tobytes()


def equal(one, other):
    assert len(one) == len(other)
    for mine, its in zip(sorted(one, key=key), sorted(other, key=key), strict=True):
        assert mine.keys() == its.keys()
        for name in mine:
            np.testing.assert_array_equal(mine[name], its[name])


def one_epoch(data):
    """All batches of an epoch of a single bucket with rows for a batch of one."""
    bucket = {"long": BUCKETS["long"]}
    requests = {name: BatchRequest(rows, 1, 3) for name, rows in bucket.items()}
    loader = open_media(data, requests)
    count = loader._loaders["long"].epoch
    rows = [next(loader).rows for _ in range(count)]
    loader.close()
    return rows


def test_packed_conversations_are_those_that_stand_alone_and_each_comes_once(corpus):
    packed = [talk for rows in one_epoch(dialogues(corpus)) for talk in conversations(rows)]
    alone = [talk for rows in one_epoch(dialogues(corpus, pack=False)) for talk in conversations(rows)]
    stored = StoredDialogues(str(corpus))
    assert len(alone) == len(stored) == len(packed)
    equal(packed, alone)
    stored.close()


def test_a_row_holds_shifted_targets_positions_and_the_frames_of_its_conversations(corpus):
    data = dialogues(corpus, pack=False)
    talks = [talk for rows in one_epoch(data) for talk in conversations(rows)]
    stored = StoredDialogues(str(corpus))
    field = turns()
    for number in range(len(stored)):
        dialogue = stored[number]
        views = [
            field.seeing.view(part, ClipForm(2, 64, 96), np.random.default_rng(0)) for part in dialogue.media
        ]
        words = field._encode(dialogue.turns, views)
        (talk,) = [
            talk
            for talk in talks
            if len(talk["ids"]) == len(words.ids)
            and (talk["ids"] == words.ids).all()
            and [number_of(p) for p in talk["video"].reshape(-1, 64, 96, 3)]
            == [int(f) for view in views if not view.images for f in view.frames]
        ]
        labels = np.where(words.learned, words.ids, -100)
        np.testing.assert_array_equal(talk["targets"], [*labels[1:], -100])
        learned = talk["targets"] != -100
        np.testing.assert_array_equal(talk["answer_tokens"], np.where(learned, learned.sum(), 0))
        np.testing.assert_array_equal(talk["positions"], np.arange(len(words.ids)))
        assert (talk["places"] >= 0).sum() == sum(v.clips * CLIP + v.images * IMAGE for v in views)
        stills = [number_of(picture) for picture in talk["images"]]
        assert stills == [{2: 200, 3: 100}[v.part.record] for v in views if v.images]
    stored.close()


def test_batches_are_equal_on_hosts_and_after_a_resume(corpus):
    data = dialogues(corpus)
    whole, _, report = batches(data, 4, batch=4)
    assert {batch.medium for batch in whole} == {"short", "long"}
    split = [[batches(data, 4, HostShard(host, n), batch=4)[0] for host in range(n)] for n in (2, 4)]
    _, state, _ = batches(data, 2, batch=4)
    resumed, _, _ = batches(data, 2, state=state, batch=4)
    for place, batch in enumerate(whole):
        for hosts in split:
            parts = [host[place] for host in hosts]
            assert {part.medium for part in parts} == {batch.medium}
            order = np.argsort(np.concatenate([part.rows["index"] for part in parts]))
            for name, array in batch.rows.items():
                joined = np.concatenate([part.rows[name] for part in parts])
                np.testing.assert_array_equal(array, joined[order])
        if place >= 2:
            for name, array in batch.rows.items():
                np.testing.assert_array_equal(array, resumed[place - 2].rows[name])
    shares = [value for name, value in report.items() if name.endswith("data/padding")]
    measured = [np.mean(batch.rows["segments"] < 0) for batch in whole]
    assert len(shares) == 2 and min(measured) <= max(shares) and min(shares) <= max(measured)


def test_each_conversation_comes_once_an_epoch_over_a_kill_and_other_hosts(corpus):
    data = dialogues(corpus)
    found, state, _ = batches(data, 2)
    later = [batches(data, 6, HostShard(host, 2), state)[0] for host in range(2)]
    whole = {name: {} for name in BUCKETS}
    for batch in (*found, *later[0], *later[1]):
        for row, index in enumerate(batch.rows["index"].tolist()):
            assert index not in whole[batch.medium]
            whole[batch.medium][index] = {name: array[row : row + 1] for name, array in batch.rows.items()}
    rows = {name: len(rows) for name, rows in planned(corpus).items()}
    assert min(rows.values()) > 1
    # The first epoch of a bucket are the first places of its order.
    first = [whole[name][index] for name, count in rows.items() for index in range(count)]
    once = [talk for batch in first for talk in conversations(batch)]
    alone = one_epoch(dialogues(corpus, pack=False))
    equal(once, [talk for batch in alone for talk in conversations(batch)])


def planned(corpus):
    """The rows of each bucket."""
    sizes = {name: bucket_of(rows) for name, rows in BUCKETS.items()}
    return plan_dialogues(str(corpus), turns(), PlanRequest(ClipForm(2, 64, 96), sizes, 3)).rows


@pytest.mark.slow
def test_worker_processes_give_the_same_rows(corpus):
    data, bucket = dialogues(corpus), {"long": BUCKETS["long"]}
    here, there = (batches(replace(data, workers=n), 2, buckets=bucket)[0] for n in (0, 2))
    for one, other in zip(here, there, strict=True):
        for name, array in one.rows.items():
            np.testing.assert_array_equal(array, other.rows[name])


@pytest.mark.slow
def test_conversations_are_measured_alike_in_processes(corpus, monkeypatch):
    request = PlanRequest(ClipForm(2, 64, 96), {"row": TalkSize(72, 4, 2)}, 0)
    stored = StoredDialogues(str(corpus))
    here = list(measuring.measure(stored, turns(), request))
    monkeypatch.setattr(measuring, "_ALONE", 1)
    monkeypatch.setattr(measuring, "_PART", 3)
    assert list(measuring.measure(stored, turns(), request)) == here
    assert {found.cause for found in here} >= {"", measuring.CUT}


def test_rows_packed_otherwise_are_no_continuation(corpus):
    row = {"long": BUCKETS["long"]}
    _, state, _ = batches(dialogues(corpus), 1, buckets=row)
    with pytest.raises(UserError, match="is not the one that this run has been reading"):
        batches(dialogues(corpus, pack=False), 1, state=state, buckets=row)


def test_long_conversations_are_cut_and_counted_and_listed(corpus, tmp_path):
    listed = tmp_path / "broken_clips.0.jsonl"
    data = dialogues(corpus, field=turns(language="mistral"))
    _, _, report = batches(data, 1, buckets={"row": spec(72, 12, 4)}, broken=listed)
    lines = [json.loads(line) for line in (tmp_path / "dialogues.0.jsonl").read_text().splitlines()]
    causes = [line["cause"] for line in lines]
    assert report["data/answers_cut"] == causes.count("answer cut off") > 0
    assert report["data/left_out"] == causes.count("no answer left") > 0
    assert "tokens of its answers are cut off" in "".join(line["detail"] for line in lines)


def test_videos_that_are_shorter_than_a_clip_are_counted_and_listed(tmp_path):
    rows = [{"video": "a.mp4", "start": 0.4, "end": end, "QA": ask(("Who ?", "He ."))} for end in (0.44, 1.0)]
    corpus, _ = build_talks(tmp_path, rows)
    listed = tmp_path / "broken_clips.0.jsonl"
    found, _, report = batches(
        dialogues(corpus), 1, buckets={"long": BUCKETS["long"]}, broken=listed, batch=1
    )
    (line,) = map(json.loads, (tmp_path / "dialogues.0.jsonl").read_text().splitlines())
    assert line["cause"] == "shorter than a clip" and report["data/left_out"] == 1
    assert line["detail"] == "it has 1 frames and the tower reads 2 at once"
    assert len(conversations(found[0].rows)) == 1


def test_rows_without_room_and_other_numbers_of_visual_tokens_are_told(corpus, tmp_path):
    listed = tmp_path / "broken_clips.0.jsonl"
    no_images = {"row": spec(460, 1)}
    batches(dialogues(corpus, field=turns(images=False)), 1, buckets=no_images, broken=listed)
    assert "too many clips" in (tmp_path / "dialogues.0.jsonl").read_text()
    with pytest.raises(UserError, match="become .* visual tokens; give the numbers of the stage's model"):
        batches(dialogues(corpus, field=turns(images=False)), 1)
    with pytest.raises(UserError, match="the stage takes no still images"):
        batches(dialogues(corpus), 1, buckets=no_images)
    weightless = replace(dialogues(corpus), corpora=(Corpus(str(corpus), weight=0.0),))
    with pytest.raises(UserError, match="data.corpora.0.weight=0; weights must be above 0"):
        batches(weightless, 1)


def test_a_broken_video_leaves_its_conversations_out_and_is_counted(corpus, tmp_path, monkeypatch):
    from ivjax.data_pipelines.load import packed_rows

    class Broken(packed_rows.Video):
        def read(self, indices, box=None, size=None):
            if max(indices) > 40:
                raise packed_rows.ClipError("undecodable", "its end is damaged")
            return super().read(indices, box, size)

    monkeypatch.setattr(packed_rows, "Video", Broken)
    whole = {"long": BUCKETS["long"]}
    listed = tmp_path / "broken_clips.0.jsonl"
    found, _, report = batches(dialogues(corpus, broken=1.0), 3, buckets=whole, broken=listed)
    assert report["broken/undecodable"] > 0
    assert "dialogues-00000" in listed.read_text()
    assert all((batch.rows["targets"] != -100).any(1).all() for batch in found)
