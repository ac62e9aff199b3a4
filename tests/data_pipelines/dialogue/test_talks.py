"""Conversations are built beside their media, each of which is stored once."""

import pytest

from ivjax.data_pipelines.inspect.compare import compare
from ivjax.data_pipelines.inspect.show import contact_sheet
from ivjax.data_pipelines.inspect.stats import collect
from ivjax.data_pipelines.inspect.validate import validate
from ivjax.data_pipelines.sources.choices import lettered
from ivjax.data_pipelines.store.manifest import read_manifest
from ivjax.data_pipelines.store.records import Turn
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues
from ivjax.errors import UserError
from tests.data_pipelines.dialogue.talks import ask, build_talks, talk_rows
from tests.data_pipelines.footage import clips_of, numbers_of


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    lost = [
        {"video": "gone.mp4", "QA": ask(("Who ?", "Nobody ."))},
        {"video": "a.mp4", "QA": ask(("Who ?", ""))},
        {"video": "a.mp4", "start": 7, "end": 8, "QA": ask(("Late ?", "Yes ."))},
        {"video": "a.mp4", "question": "Which ?", "options": "red blue", "answer": "A"},
        {
            "video": "a.mp4",
            "question": "Which ?",
            "options": ["red", "blue"],
            "answer": "B",
            "type": "colour",
        },
    ]
    said = []
    folder, report = build_talks(tmp_path_factory.mktemp("talks"), talk_rows() + lost, said.append)
    return folder, report, said


def test_each_video_is_stored_once_and_read_by_parts(built):
    folder, report, said = built
    clips = clips_of(folder)
    # The second video is spoken of from its first second on in one row, and as a whole in another.
    assert [clip.video for clip in clips] == ["a.mp4", "b.mp4", "c.png", "d.png"]
    assert [clip.frames for clip in clips] == [50, 48, 1, 1]
    assert not any(clip.conversation for clip in clips)
    dialogues = StoredDialogues(str(folder))
    first, part, late, *_ = (dialogues[number] for number in range(3))
    assert [(p.first, p.stop, p.record) for p in (*first.media, *part.media, *late.media)] == [
        (0, 50, 0),
        (10, 40, 0),
        (25, 48, 1),
    ]
    assert part.media[0].seconds == pytest.approx(1.2)
    assert numbers_of(clips[0].payload)[part.media[0].first] == 10
    both = dialogues[5]
    assert [p.record for p in both.media] == [2, 3] and both.turns[-1] == Turn("assistant", "The person .")
    chosen = dialogues[len(dialogues) - 1]
    assert chosen.turns == (Turn("user", "Which ?\n(A) red\n(B) blue"), Turn("assistant", "(B) blue"))
    assert chosen.attributes == {"question": "colour"}
    dialogues.close()
    assert report.conversations == len(talk_rows()) + 1 == read_manifest(folder).conversations
    assert "each video is stored once" in "\n".join(said)


def test_conversations_that_are_no_use_are_counted_and_listed(built):
    folder, report, _ = built
    causes = ("missing media", "no answer", "past the end", "choices without letters")
    assert dict(report.dropped) == dict.fromkeys(causes, 1)
    lines = (folder / "report.jsonl").read_text()
    for words in ("gone.mp4 does not exist", "has no answer", "no frame from 7 s to 8 s", "have no letters"):
        assert words in lines
    assert "conversations of" in report.text()


def test_a_corpus_of_conversations_is_validated(built, tmp_path):
    folder, _, _ = built
    assert validate(folder, None, print) == []
    shard = folder / read_manifest(folder).dialogues[0].name
    whole = shard.read_bytes()
    shard.chmod(0o644)
    try:
        shard.write_bytes(whole.replace(b"It jumps", b"It lumps"))
        assert [fault.cause for fault in validate(folder, 0, lambda line: None)]
    finally:
        shard.write_bytes(whole)


def test_corpora_of_conversations_are_compared_and_shown(built, tmp_path):
    folder, _, _ = built
    other, _ = build_talks(tmp_path, talk_rows())
    found = compare(folder, other)
    assert found.clips == (4, 4) and found.conversations == (21, 20) and not found.alike
    assert found.only == (["conversation a.mp4#24"], [])
    assert "conversations: 21 and 20" in found.text()
    contact_sheet(folder, tmp_path / "sheet.png", n=2, frames=2)
    assert (tmp_path / "sheet.png").stat().st_size
    assert collect(folder).as_dict()["conversations"] == 21


def test_a_source_without_a_usable_conversation_builds_nothing(tmp_path):
    with pytest.raises(UserError, match="1 past the end"):
        build_talks(tmp_path, [{"video": "a.mp4", "start": 7, "end": 8, "QA": ask(("Late ?", "Yes ."))}])
    assert not (tmp_path / "corpus").exists()


def test_choices_have_letters_and_one_of_them_is_right():
    assert lettered("Who?", ["A. he", "B. she"], "B").answer == "(B) she"
    assert lettered("Who?", ["he", "she"], 0).answer == lettered("Who?", ["he", "she"], "(A)").answer
    assert lettered("Who?", ["he", "she"], "she").answer == "(B) she"
    for options, answer, words in (
        (["he", "she"], "it", "none of its choices"),
        (["B. he", "A. she"], "A", "not A, B, C in order"),
        (["he"], "he", "1 choices"),
    ):
        with pytest.raises(ValueError, match=words):
            lettered("Who?", options, answer)
