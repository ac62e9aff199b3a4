"""`ivjax bench dialogue`: what is drawn, what is compared, what is printed, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from ivjax.bench.dialogue_speed import PARTS, DialogueBench, bench_dialogue, unmerged
from ivjax.bench.drawn_dialogues import drawn_rows
from ivjax.cli import main
from ivjax.errors import UserError
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from tests.train import micro

STAGE = VideoDialogue(DIALOGUES["internvideo2_5_chat_8b_tiny"], (Bucket("main", 80, clips=5),))
# The tests have eight devices.
EXPERIMENT = dataclasses.replace(micro.experiment, stage=STAGE, batch=8)


def test_drawn_conversations_stand_one_after_the_other_with_their_clips():
    bucket = Bucket("main", 160, clips=9)
    stage = dataclasses.replace(STAGE, buckets=(bucket,))
    for segments, places, targets, answers in zip(
        *(drawn_rows(stage, bucket, 3)[name] for name in ("segments", "places", "targets", "answer_tokens")),
        strict=True,
    ):
        np.testing.assert_array_equal(places[places >= 0], np.arange(9 * stage.clip_tokens))
        assert set(segments) == {-1, 0, 1} and np.all(np.diff(segments[segments >= 0]) >= 0)
        for number in (0, 1):
            mine = (segments == number) & (targets >= 0)
            assert mine.sum() > 0 and np.all(answers[mine] == mine.sum())


def test_without_hico_a_row_has_as_many_words():
    whole = unmerged(STAGE)
    words = STAGE.buckets[0].tokens - STAGE.visual_tokens(STAGE.buckets[0])
    # 4 x 4 patches of 4 frames, of which pixel shuffle makes 2 x 2.
    assert whole.clip_tokens == 16 and whole.buckets[0].tokens == words + 5 * 16
    assert unmerged(whole) is None


@pytest.mark.slow
def test_prints_both_forms_and_their_ratio():
    lines = [json.loads(line) for line in bench_dialogue(DialogueBench(EXPERIMENT, runs=1))]
    on, off, ratio = lines
    assert (on["hico"], off["hico"], ratio["ratio"]) == ("on", "off", "hico on / off")
    for line in (on, off):
        assert 0 < line["padding"] < 1 and line["tokens_per_s"] < line["tokens_per_s_with_padding"]
        np.testing.assert_allclose(sum(line[f"{part}_share"] for part in PARTS), 1, atol=1e-3)
    np.testing.assert_allclose(ratio["tokens"], on["tokens"] / off["tokens"], atol=1e-4)


@pytest.mark.slow
def test_a_step_that_does_not_fit_is_only_compiled():
    lines = [json.loads(line) for line in bench_dialogue(DialogueBench(EXPERIMENT, limit_gib=1e-6))]
    assert "exceed the limit of 0.0 GiB (--limit-gib)" in lines[0]["not_run"]
    assert lines[0]["forward_backward_ms"] is None and lines[0]["temporary_mib"] > 0


def test_what_cannot_be_measured_is_one_sentence(capsys):
    assert main(["bench", "dialogue", "--config", "stage1_synthetic"]) != 0
    assert (
        "the config trains MaskedReconstruction, and this benchmark a VideoDialogue"
        in capsys.readouterr().err
    )
    with pytest.raises(UserError, match="--runs must be above 0, got 0"):
        DialogueBench(EXPERIMENT, runs=0)
    text = dataclasses.replace(STAGE, buckets=(Bucket("text", 64),))
    with pytest.raises(UserError, match="stage.buckets.0 has no clips"):
        DialogueBench(dataclasses.replace(EXPERIMENT, stage=text))
