"""`validate` names the shard and the record of whatever is wrong with a corpus, and nothing else."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from ivjax.data_pipelines.inspect.repeats import Repeats
from ivjax.data_pipelines.inspect.validate import validate
from ivjax.data_pipelines.store.manifest import ShardInfo, read_manifest, write_manifest
from ivjax.data_pipelines.store.records import pack
from ivjax.data_pipelines.store.shards import ShardWriter
from ivjax.errors import UserError
from tests.data_pipelines import damage
from tests.data_pipelines.corpora import corpus_of, make_clip, write_corpus

CLIPS = [make_clip(number, 4) for number in range(6)]
NAMES = [f"shard-{number:05d}-of-00003.array_record" for number in range(3)]


def faults_of(folder, decode=0):
    """(shard, record, cause) of each fault; every fault must have been said on one line."""
    said = []
    faults = validate(folder, decode, said.append)
    assert said == [str(fault) for fault in faults] and not any("\n" in line for line in said)
    return [(fault.shard, fault.record, fault.cause) for fault in faults]


def large_corpus(folder):
    """One shard of 12 records of incompressible media, 40 kB each, that spans many blocks of the file."""
    noise = np.random.default_rng(0)
    clips = [make_clip(number, 1) for number in range(12)]
    records = [damage.with_payload(clip, noise.bytes(40_000 + clip.label)) for clip in clips]
    return write_corpus(folder, records, 1), folder / "shard-00000-of-00001.array_record"


def place_of(shard, record):
    """A byte of the file that belongs to the media of a record."""
    noise = np.random.default_rng(0)
    payloads = [noise.bytes(40_000 + number) for number in range(12)]
    return shard.read_bytes().index(payloads[record][100:132])


def test_a_whole_corpus_has_no_fault(tmp_path):
    assert faults_of(corpus_of(tmp_path, CLIPS), decode=None) == []


@pytest.mark.parametrize("record", [0, 4, 11])
def test_a_byte_cut_out_of_a_shard_is_found_in_its_record(tmp_path, record):
    folder, shard = large_corpus(tmp_path)
    place, whole = place_of(shard, record), shard.read_bytes()
    shard.write_bytes(whole[:place] + whole[place + 1 :])
    found = faults_of(folder)
    lost = [(shard.name, None, "records lost")] if record < 11 else []
    assert found == [(shard.name, record, "altered"), *lost, (shard.name, None, "altered")]
    lines = []
    validate(folder, 0, lines.append)
    clip = f"clip clip{record} of video video{record // 4:06d}"
    assert lines[0].startswith(f"{shard.name} record {record} ({clip}): altered: ")
    assert f"it has {len(whole) - 1} bytes instead of {len(whole)}" in lines[-1]


def test_a_changed_byte_is_found_in_its_record_and_the_others_are_still_read(tmp_path):
    folder, shard = large_corpus(tmp_path)
    data = bytearray(shard.read_bytes())
    for record in (3, 8):
        data[place_of(shard, record)] ^= 1
    shard.write_bytes(data)
    altered = [(shard.name, record, "altered") for record in (3, 8, None)]
    assert faults_of(folder) == altered


def test_a_shard_that_ends_early_names_the_first_record_that_is_cut(tmp_path):
    folder, shard = large_corpus(tmp_path)
    place = place_of(shard, 5)
    shard.write_bytes(shard.read_bytes()[:place])
    assert faults_of(folder) == [
        (shard.name, 5, "truncated"),
        (shard.name, None, "records lost"),
        (shard.name, None, "altered"),
    ]
    shard.write_bytes(b"")
    assert faults_of(folder)[0] == (shard.name, 0, "truncated")


def test_a_lost_index_does_not_lose_the_records(tmp_path):
    folder, shard = large_corpus(tmp_path)
    shard.write_bytes(shard.read_bytes()[:-1])
    lines = []
    assert [fault.cause for fault in validate(folder, 0, lines.append)] == ["altered"]
    assert "every record is intact" in lines[0]


def test_missing_unlisted_and_miscounted_shards_are_named(tmp_path):
    folder = corpus_of(tmp_path, CLIPS)
    infos = read_manifest(folder).shards
    with ShardWriter(folder / NAMES[1]) as shard:
        shard.write(pack(CLIPS[2]))
    write_manifest(folder, [infos[0], ShardInfo(NAMES[1], 2, 1, "0" * 64), infos[2]], {})
    (folder / NAMES[2]).rename(folder / "other.array_record")
    assert faults_of(folder) == [
        ("other.array_record", None, "not listed"),
        (NAMES[1], None, "records lost"),
        (NAMES[1], None, "altered"),
        (NAMES[2], None, "missing"),
    ]
    write_manifest(folder, [replace(infos[0], count=1)], {})
    assert (NAMES[0], None, "wrong count") in faults_of(folder)


def test_the_ten_ways_of_damage_are_named_with_their_causes(tmp_path):
    broken = [damage.damaged(make_clip(way, 8), way, part=5) for way in range(10)]
    folder = write_corpus(tmp_path, [record for record, _ in broken], 1)
    expected = [("shard-00000-of-00001.array_record", way, cause) for way, (_, cause) in enumerate(broken)]
    assert faults_of(folder, decode=None) == expected


@pytest.mark.parametrize(
    "changes,cause,words",
    [
        ({"start": 3.0, "end": 1.0}, "wrong times", "3.0 s to 1.0 s"),
        ({"captions": ["a", 5]}, "bad header", "a caption is not text"),
        ({"captions": "a"}, "bad header", "captions is 'a'"),
        ({"label": True}, "bad header", "label is True"),
        ({"media": "sound"}, "bad header", "'sound'"),
        ({"id": ""}, "bad header", "the id is empty"),
        ({"conversation": [["friend", "hi"]]}, "bad header", "turn of the conversation"),
        ({"scores": {"umt": "high"}}, "bad header", "a score is not a number"),
        ({"width": -1}, "bad header", "below 0"),
        ({"frames": 5}, "mismatch", "frames 5, the media have 4"),
        ({"height": 64}, "mismatch", "height 64, the media have 32"),
        ({"fps": 25.0}, "mismatch", "25.0 frames per second, the media 8.0"),
        ({"audio": True}, "mismatch", "the media have none"),
        ({"crc32": 1}, "altered", "checksum"),
    ],
)
def test_a_header_that_cannot_be_is_named(tmp_path, changes, cause, words):
    records = [pack(CLIPS[0]), damage.with_header(CLIPS[1], **changes)]
    (fault,) = validate(write_corpus(tmp_path, records, 1), None, lambda line: None)
    assert (fault.record, fault.cause) == (1, cause) and words in fault.detail


def test_repeated_ids_and_media_are_named_with_the_first_of_them(tmp_path):
    same_id = replace(make_clip(7, 4), id=CLIPS[0].id)
    clips = [CLIPS[0], CLIPS[1], make_clip(8, 5), same_id, CLIPS[1], make_clip(9, 3)]
    folder = corpus_of(tmp_path, clips)
    lines = []
    validate(folder, 0, lines.append)
    first, again = (f"clip clip0 of video video00000{video}" for video in (0, 1))
    second = "clip clip1 of video video000000"
    same = f"{NAMES[0]} record 1 ({second})"
    assert lines == [
        f"{NAMES[1]} record 1 ({again}): duplicate: it has the id of {NAMES[0]} record 0 ({first})",
        f"{NAMES[2]} record 0 ({second}): duplicate: it has the id of {same}",
        f"{NAMES[2]} record 0 ({second}): duplicate: it has the media bytes of {same}",
    ]


def test_as_many_clips_are_decoded_as_asked_for(tmp_path):
    broken = [damage.with_payload(clip, struct.pack(">I", n) + b"noise" * 9) for n, clip in enumerate(CLIPS)]
    folder = write_corpus(tmp_path, broken)
    named = {
        decode: [(shard, record) for shard, record, _ in faults_of(folder, decode)]
        for decode in (0, 3, 6, 99)
    }
    assert named[0] == [] and named[3] == [(name, 1) for name in NAMES]
    assert named[6] == named[99] == [(name, record) for name in NAMES for record in (0, 1)]


def test_every_frame_of_a_clip_is_decoded(tmp_path):
    clip = make_clip(1, 80)
    payload = bytearray(clip.payload)
    start, end = payload.index(b"mdat") + 4, len(payload)
    payload[start + (end - start) * 3 // 4 : end] = bytes((end - start) - (end - start) * 3 // 4)
    folder = write_corpus(tmp_path, [pack(clip), damage.with_payload(make_clip(2, 80), bytes(payload))], 1)
    (fault,) = validate(folder, None, lambda line: None)
    assert (fault.record, fault.cause) == (1, "undecodable")


def test_a_folder_without_a_manifest_is_no_corpus(tmp_path):
    with pytest.raises(UserError, match="is not a corpus"):
        validate(tmp_path, 0, lambda line: None)
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(UserError, match="is damaged"):
        validate(tmp_path, 0, lambda line: None)


@pytest.mark.parametrize("total", [100, 50_000])
def test_repeats_are_found_in_memory_and_among_more_values_than_it_holds(tmp_path, monkeypatch, total):
    monkeypatch.setattr("ivjax.data_pipelines.inspect.repeats._BUFFER", 1024)
    repeats = Repeats(tmp_path / "values")
    numbers = np.random.default_rng(0).permutation(total)
    for place, number in enumerate(numbers.tolist()):
        repeats.add(number.to_bytes(4, "little"), place)
    for number, place in ((5, total), (5, total + 2), (99, total + 1)):
        repeats.add(number.to_bytes(4, "little"), place)
    first = {number: int(np.flatnonzero(numbers == number)[0]) for number in (5, 99)}
    assert sorted(repeats.pairs()) == [(total, first[5]), (total + 1, first[99]), (total + 2, first[5])]
    stored = sum(file.stat().st_size for file in (tmp_path / "values").iterdir())
    assert stored == (24 * (total + 3) if total > 100 else 0)


def test_a_clip_of_wrong_times_is_named_with_its_source(tmp_path):
    clips = [CLIPS[0], replace(CLIPS[1], start=-1.9e-7, video="film\n2")]
    lines = []
    validate(corpus_of(tmp_path, clips, 1), 0, lines.append)
    assert lines == [
        "shard-00000-of-00001.array_record record 1 (clip clip1 of video film\\n2): wrong times: "
        "clip clip1 runs from -1.9e-07 s to 0.5 s"
    ]
