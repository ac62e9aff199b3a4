"""Moments in videos: recall at thresholds of overlap and its mean, strictly and leniently."""

import pytest

from ivjax.errors import UserError
from ivjax.evals.dialogue.finding import recalls, score
from ivjax.evals.dialogue.spans import TimeSpan
from ivjax.evals.suites import VideoMoments
from tests.evals.dialogue.fakes import asking, model_of

LINES = ["0 0.0 10.0##a person sits.", "1 2.0 4.0##a person runs.", "2 5 9##a person eats."]


@pytest.fixture
def path(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(b"")
    (tmp_path / "charades_sta_test.txt").write_text("\n".join(LINES))
    return tmp_path / "charades_sta_test.txt"


def test_recall_counts_overlaps_from_each_threshold_on():
    right = [TimeSpan(0, 10), TimeSpan(0, 10), TimeSpan(0, 10), TimeSpan(0, 10)]
    found = [TimeSpan(0, 7), TimeSpan(0, 5), TimeSpan(20, 30), None]
    assert recalls(found, right) == {"r1@0.3": 50.0, "r1@0.5": 50.0, "r1@0.7": 25.0, "miou": 30.0}


def test_replies_are_read_strictly_and_leniently_with_the_prompt_of_the_format(path):
    said = {"0": "The event happens in the 0 - 7 seconds.", "1": "4 - 2 seconds", "2": "I cannot say."}
    model = model_of(lambda name, words: said[name])
    result = score(asking(model, path), VideoMoments())
    assert result.metrics["r1@0.7"] == 33.33 and result.metrics["no_span"] == 66.67
    assert result.metrics["strict_miou"] == result.metrics["miou"] == 23.33
    assert result.metrics["lenient_miou"] == 56.67  # turns 4 - 2 round
    assert set(result.metrics) == set(VideoMoments.METRICS)
    assert model.answerer.prompts[0][1].endswith(
        "the textual sentence: a person sits. Please return its start time and end time."
    )
    lenient = score(asking(model, path), VideoMoments(extraction="lenient", protocol="plain"))
    assert lenient.metrics["miou"] == 56.67 and lenient.protocol["protocol"] == "plain"
    assert model.answerer.prompts[-1][1] == "a person eats."


def test_a_test_set_of_other_questions_is_refused(tmp_path):
    (tmp_path / "0.mp4").write_bytes(b"")
    (tmp_path / "q.json").write_text('[{"video": "0.mp4", "question": "Who?", "answer": "a man"}]')
    with pytest.raises(UserError, match="the answer of 0.mp4#0 is no span of seconds but 'a man'"):
        score(asking(model_of(lambda *_: ""), tmp_path / "q.json"), VideoMoments())
    with pytest.raises(UserError, match="no protocol 'charades' of moments"):
        VideoMoments(protocol="charades")
