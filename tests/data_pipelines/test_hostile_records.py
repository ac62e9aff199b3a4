"""Records of whole shards whose headers hold anything: each is a broken clip, and no traceback."""

import json
import os
import struct

import pytest

from ivjax.data_pipelines.inspect.show import contact_sheet
from ivjax.data_pipelines.inspect.stats import collect
from ivjax.data_pipelines.inspect.validate import validate
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.store.clips import open_clips
from ivjax.data_pipelines.store.dialogues import unpack_dialogue
from ivjax.data_pipelines.store.manifest import MANIFEST, read_manifest, store_manifest
from ivjax.data_pipelines.store.records import ClipError, pack
from ivjax.errors import UserError
from tests.data_pipelines import damage
from tests.data_pipelines.corpora import corpus_of, make_clip, write_corpus
from tests.data_pipelines.reading import SPEC, mixture

CLIP = make_clip(1, 4)
HEADERS = {
    "captions": {"captions": 1.5},
    "conversation": {"conversation": ["a"]},
    "label": {"label": "one"},
    "texts": {"texts": {"video": 3}},
    "frames": {"frames": None},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_wrong_types_is_a_broken_clip_of_a_run(tmp_path, name):
    records = [pack(make_clip(number, 4)) for number in range(8)]
    # The first record is among those that a start looks at.
    records[0] = damage.with_header(CLIP, **HEADERS[name])
    folder = write_corpus(tmp_path, records, 1)
    with pytest.raises(ClipError, match="bad header"):
        open_clips(str(folder))[0]
    loader = mixture(folder).open(BatchRequest(SPEC, 8, 7))
    assert next(loader)["replaced"].sum() == 1
    assert loader.report()["broken/bad header"] >= 1
    loader.close()


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"schema": ' + b"9" * 5000 + b"}"], ids=["deep", "digits"]
)
def test_a_header_that_python_does_not_parse_is_a_broken_clip(tmp_path, text):
    record = struct.pack("<4sI", b"IVJX", len(text)) + text
    folder = write_corpus(tmp_path, [pack(CLIP), record], 1)
    assert collect(folder).unreadable == 1
    assert [fault.cause for fault in validate(folder, 0, print)] == ["bad header"]


def test_a_shard_without_an_index_is_closed_without_an_error(tmp_path):
    folder = corpus_of(tmp_path, [make_clip(number, 2) for number in range(6)])
    manifest = read_manifest(folder)
    name = manifest.shards[1].name
    os.truncate(folder / name, 1000)
    whole = json.loads((folder / MANIFEST).read_text())
    whole["shards"][1] |= {"bytes": 1000, "proof": ""}
    (folder / MANIFEST).write_text(json.dumps(whole))
    assert collect(folder).unreadable == 2


@pytest.mark.parametrize("label", [-7, 5])
def test_a_label_without_a_name_is_shown_by_its_number(tmp_path, label):
    folder = corpus_of(tmp_path, [make_clip(1, 2, label=label)], 1)
    store_manifest(folder, read_manifest(folder).__class__(read_manifest(folder).shards, {}, ("a", "b")))
    contact_sheet(folder, tmp_path / "sheet.png", 1)
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_a_shard_that_is_listed_again_and_again_is_checked_once_and_refused_by_a_start(tmp_path):
    folder = corpus_of(tmp_path, [make_clip(number, 2) for number in range(4)], 1)
    stored = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(stored | {"shards": stored["shards"] * 5000}))
    assert [fault.cause for fault in validate(folder, 0, print)] == ["listed twice"]
    with pytest.raises(UserError, match="names shard-00000-of-00001.array_record more than once; copy it or"):
        open_clips(str(folder))


PART = {"record": 0, "kind": "video", "first": 0, "stop": 4, "fps": 8.0, "width": 32, "height": 32}
TALK = {"id": "a", "media": [PART], "turns": [["user", "what?"], ["assistant", "it"]], "attributes": {}}


@pytest.mark.parametrize(
    "changes",
    [
        {"media": [{**PART, "record": "0"}]},
        {"media": [{**PART, "stop": 4.0}]},
        {"media": [{**PART, "first": True}]},
        {"media": [{**PART, "fps": None}]},
        {"media": [{**PART, "kind": "sound"}]},
        {"media": [{**PART, "kind": []}]},
        {"turns": [["user", 3]]},
        {"turns": ["ab"], "id": 3},
        {"attributes": []},
        {"attributes": {"question": 3}},
    ],
)
def test_a_conversation_of_wrong_types_is_damaged(changes):
    assert unpack_dialogue(b"IVJD" + json.dumps(TALK).encode()).media[0].frames == 4
    with pytest.raises(ClipError, match="bad header: the conversation is damaged"):
        unpack_dialogue(b"IVJD" + json.dumps(TALK | changes).encode())


def test_a_conversation_of_deep_json_is_damaged():
    with pytest.raises(ClipError, match="bad header: the conversation is damaged"):
        unpack_dialogue(b"IVJD" + b"[" * 100_000)
