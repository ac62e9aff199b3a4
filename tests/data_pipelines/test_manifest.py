"""A start compares a corpus with its manifest: every value of it, and which file each shard is."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ivjax.data_pipelines.inspect.validate import validate
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.store.clips import open_clips
from ivjax.data_pipelines.store.manifest import MANIFEST, read_manifest, store_manifest
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues
from ivjax.errors import UserError
from tests.data_pipelines.corpora import corpus_of, make_clip
from tests.data_pipelines.reading import SPEC, batches_of, mixture


@pytest.fixture
def copied(corpus, tmp_path):
    """A corpus of three shards of equal size, to be damaged."""
    folder = shutil.copytree(corpus, tmp_path / "corpus")
    assert len({shard.bytes for shard in read_manifest(folder).shards}) == 1
    return folder


def edit(folder, change):
    """Changes the JSON of a manifest."""
    path = folder / MANIFEST
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))


def swap(folder):
    """Puts the first two shards in each other's place."""
    one, two = (folder / shard.name for shard in read_manifest(folder).shards[:2])
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


@pytest.mark.parametrize(
    "change,words",
    [
        (lambda m: m["shards"][1].update(count=-5), "shards.1.count is -5, not a whole number from 0 to "),
        (lambda m: m["shards"][1].update(count="12"), "shards.1.count is '12', not a whole number from 0"),
        (lambda m: m["shards"][1].update(count=12.0), "shards.1.count is 12.0, not a whole number from 0"),
        (lambda m: m["shards"][1].update(count=True), "shards.1.count is True, not a whole number from 0"),
        (lambda m: m["shards"][1].update(count=10**30), "shards.1.count is 10000"),
        (lambda m: m["shards"][0].update(bytes=None), "shards.0.bytes is None, not a whole number from 0"),
        (lambda m: m["shards"][0].update(name="../../../etc/passwd"), "not the name of a file beside it"),
        (lambda m: m["shards"][0].update(name="a\0b"), "not the name of a file beside it"),
        (lambda m: m["shards"][0].update(sha256="5e"), "shards.0.sha256 is '5e', not a SHA-256 in 64 digits"),
        (lambda m: m["shards"][0].update(proof=3), "shards.0.proof is 3, not a text"),
        (lambda m: m["shards"][0].pop("sha256"), "it has no shards.0.sha256"),
        (lambda m: m.update(shards=None), "shards is None, not a list"),
        (lambda m: m.update(shards=[3]), "shards.0 is 3, not an object"),
        (lambda m: m.update(dialogues={}), "dialogues is {}, not a list"),
        (lambda m: m.update(labels=-1), "labels is -1, not a whole number from 0"),
        (lambda m: m.update(classes=["a", 3]), "classes is ['a', 3], not a list of texts"),
        (lambda m: m.update(made_with=[]), "made_with is [], not an object"),
        (lambda m: m.update(libraries="av"), "libraries is 'av', not an object"),
        (lambda m: m.pop("shards"), "it has no shards"),
    ],
)
def test_a_value_that_cannot_be_is_named_in_one_sentence(copied, change, words):
    edit(copied, change)
    for read in (open_clips, StoredDialogues, lambda folder: validate(copied, 0, print)):
        with pytest.raises(UserError) as raised:
            read(str(copied))
        assert str(raised.value).startswith(f"{copied / MANIFEST} is damaged (")
        assert words in str(raised.value) and len(str(raised.value)) < 400
        assert str(raised.value).endswith("; copy it again, or build the corpus again")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff{", b"[" * 100_000, b"{" * 3, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_a_manifest_that_is_no_json_is_damaged(copied, content):
    (copied / MANIFEST).write_bytes(content)
    with pytest.raises(UserError, match=r"manifest.json is damaged \("):
        open_clips(str(copied))


def test_shards_in_each_others_place_are_refused_at_the_start(copied):
    _, state = batches_of(mixture(copied), 1)
    swap(copied)
    for data in (mixture(copied), mixture(copied, workers=1)):
        with pytest.raises(UserError, match=r"shard-00000-of-00003.array_record is another shard than"):
            batches_of(data, 1, state=state)


def test_a_shard_of_other_clips_is_refused_although_it_has_the_same_size(copied, tmp_path):
    changed = [make_clip(n, frames=6 + n % 5) for n in range(24)]
    changed[7] = replace(changed[7], captions=("another one", "and another"))
    other = corpus_of(tmp_path / "other", changed)
    name = read_manifest(copied).shards[0].name
    assert (other / name).stat().st_size == (copied / name).stat().st_size
    shutil.copy(other / name, copied / name)
    with pytest.raises(UserError, match="is another shard than the one that its manifest describes"):
        open_clips(str(copied))


@pytest.mark.parametrize("count", [7, 9])
def test_a_count_that_is_not_the_shards_is_refused(copied, count):
    edit(copied, lambda m: m["shards"][1].update(count=count))
    with pytest.raises(UserError, match="shard-00001-of-00003.array_record is another shard"):
        open_clips(str(copied))


def test_corpora_of_earlier_versions_are_compared_by_size(copied):
    reference, state = batches_of(mixture(copied), 2)
    edit(copied, lambda m: [shard.pop("proof") for shard in m["shards"]])
    assert [shard.proof for shard in read_manifest(copied).shards] == [""] * 3
    found, again = batches_of(mixture(copied), 2)
    np.testing.assert_array_equal(found[1][8]["video"], reference[1][8]["video"])
    assert again == state
    (copied / read_manifest(copied).shards[2].name).write_bytes(b"")
    with pytest.raises(UserError, match="has 0 bytes, its manifest says"):
        open_clips(str(copied))


def test_a_changed_byte_is_found_at_the_start_or_when_its_clip_is_read(copied):
    clips = open_clips(str(copied))
    whole = [clips[number] for number in range(len(clips))]
    shard = copied / read_manifest(copied).shards[1].name
    content = shard.read_bytes()
    used = np.flatnonzero(np.frombuffer(content, np.uint8))
    found = {"start": 0, "read": 0}
    for place in np.random.default_rng(0).choice(used, 60, replace=False):
        shard.write_bytes(content[:place] + bytes([content[place] ^ 0x20]) + content[place + 1 :])
        try:
            clips = open_clips(str(copied))
        except UserError:
            found["start"] += 1
            continue
        for number, clip in enumerate(whole):
            try:
                assert clips[number] == clip
            except ClipError:
                found["read"] += 1
        clips.close()
    assert sum(found.values()) >= 60


def test_damage_in_the_middle_replaces_a_clip_and_is_counted(tmp_path):
    noise = np.random.default_rng(0)
    clips = [replace(make_clip(n), payload=make_clip(n).payload + noise.bytes(40_000)) for n in range(16)]
    folder = corpus_of(tmp_path, clips, 1)
    shard = folder / read_manifest(folder).shards[0].name
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    loader = mixture(folder).open(BatchRequest(SPEC, 16, 7))
    assert next(loader)["replaced"].sum() == 1
    assert loader.report()["broken/damaged shard"] == 1
    loader.close()


def test_an_entry_that_a_start_would_refuse_is_a_fault(copied):
    manifest = read_manifest(copied)
    wrong = replace(manifest.shards[0], proof="0" * 64)
    store_manifest(copied, replace(manifest, shards=(wrong, *manifest.shards[1:])))
    (fault,) = validate(copied, 0, print)
    assert (fault.shard, fault.cause) == (wrong.name, "wrong entry")
