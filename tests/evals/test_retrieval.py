"""Retrieval on sets with known ranks: what counts as a text, as a video, and as right."""

import json

import numpy as np
import pytest

from ivjax.data_pipelines.store.records import pack
from ivjax.errors import UserError
from ivjax.evals.scoring.ranking import pair_captions, score
from ivjax.evals.suites import Retrieval
from ivjax.evals.suites.protocols import PROTOCOLS, protocol_named
from tests.data_pipelines.corpora import corpus_of, write_corpus
from tests.evals.fakes import ColourEncoder, TableEncoder, annotated, colour_clip, read_numbers, setting

EYE = np.eye(4)


def rows(*captions):
    return [{"video": f"{number}.mp4", "caption": text} for number, text in enumerate(captions)]


def options(protocol="none", **scoring):
    return Retrieval(protocol=protocol, **scoring)


def test_known_ranks_give_their_recalls_both_ways(tmp_path):
    path = annotated(tmp_path, rows("A dog!", "the cat", "a bird", "rain"))
    # Text 3 is nearest to video 0, and second to its own; video 3 still likes its own text best.
    texts = {"a dog": EYE[0], "the cat": EYE[1], "a bird": EYE[2], "rain": [0.8, 0, 0, 0.6]}
    encoder = TableEncoder(EYE, texts)
    result = score(setting(encoder, path, batch=3), options("msrvtt"))
    assert result.metrics["t2v_r1"] == 75 and result.metrics["t2v_r5"] == 100
    assert (result.metrics["t2v_meanr"], result.metrics["t2v_medr"]) == (1.25, 1)
    assert result.metrics["v2t_r1"] == 100 and result.metrics["r_mean"] == 95.83
    plain = {name for name in Retrieval.METRICS if name.startswith(("t2v_", "v2t_", "r_"))}
    assert set(result.metrics) == {name for name in plain if "rerank" not in name}
    assert encoder.batches == [3, 1]
    facts = result.protocol
    assert (facts["videos"], facts["captions"], facts["weights"]) == (4, 4, "w.safetensors")
    assert facts["the originals use"] == {"frames": 4, "text length": 32} and facts["frames"] == 2


def test_several_captions_of_a_video_are_queries_and_any_is_right_for_the_video(tmp_path):
    path = annotated(tmp_path, rows(["one", "wrong"], ["two", "two again"]))
    texts = {"one": EYE[0], "wrong": EYE[1], "two": EYE[1], "two again": [0, 0.9, 0.1, 0]}
    result = score(setting(TableEncoder(EYE, texts), path), options("msvd"))
    assert result.protocol["captions"] == 4
    assert (result.metrics["t2v_r1"], result.metrics["v2t_r1"]) == (75, 50)  # video 1 has a tie
    assert result.metrics["v2t_tied"] == 50


def test_rows_of_one_file_are_one_video(tmp_path):
    split = [{"video": "0.mp4", "caption": "one"}, {"video": "0.mp4", "caption": "other"}]
    split += [{"video": "0.mp4", "caption": "end", "start": 1, "end": 2}]
    path = annotated(tmp_path, split)
    encoder = TableEncoder(EYE, dict.fromkeys(("one", "other", "end"), EYE[0]))
    assert score(setting(encoder, path)).protocol["videos"] == 2


def test_didemo_reads_the_first_half_minute_and_activity_net_whole_videos(tmp_path):
    path = annotated(tmp_path, rows(["A dog runs.", "It stops."], ["Rain."]))
    spans = []

    def read(views, frames, image, neighbours):
        views = list(views)
        spans.extend((view.start, view.end) for view in views)
        return read_numbers(views, frames, image)

    encoder = TableEncoder(EYE, {"a dog runs it stops": EYE[0], "rain": EYE[1]})
    result = score(setting(encoder, path, read=read), options("didemo"))
    assert encoder.read_texts == ["a dog runs it stops", "rain"]
    assert spans == [(None, 30.0)] * 2 and result.protocol["clips are taken"] == "the first 30 s"
    assert result.metrics["r_mean"] == 100
    score(setting(encoder, path, kind="paragraphs", read=read), options("activitynet"))
    assert spans[2:] == [(None, None)] * 2


def test_a_caption_of_several_videos_finds_either(tmp_path):
    path = annotated(tmp_path, [{"video": ["0.mp4", "1.mp4"], "caption": "up"}, *rows(*"abc")[2:]])
    encoder = TableEncoder(EYE, {"up": EYE[1], "c": EYE[2]})
    result = score(setting(encoder, path), options("ssv2"))
    assert (result.protocol["videos"], result.protocol["captions"]) == (3, 2)
    assert result.metrics["t2v_r1"] == 100 and result.metrics["v2t_r1"] == 66.67  # video 0 sees a tie


def test_pairs_merge_texts_that_read_the_same_only_where_they_shall():
    captions = [("A cat.", "a cat"), ("a dog",), ("a CAT",)]
    merged = pair_captions(captions, same_text=True)
    assert merged.texts == ("a cat", "a dog")
    assert (merged.videos_of, merged.texts_of) == (((0, 2), (1,)), ((0,), (1,), (0,)))
    apart = pair_captions(captions, same_text=False)
    assert apart.texts == ("a cat", "a cat", "a dog", "a cat")
    assert (apart.videos_of, apart.texts_of) == (((0,), (0,), (1,), (2,)), ((0, 1), (2,), (3,)))


def test_several_clips_of_a_video_are_read_and_aggregated(tmp_path):
    path = annotated(tmp_path, [{"video": "0.mp4", "caption": "a b"}, {"video": "2.mp4", "caption": "c"}])
    texts = {"a b": [1, 1, 0, 0], "c": [0.9, 0, 1, 0]}
    for aggregate in ("embedding", "mean", "max", "logsumexp"):
        encoder = TableEncoder(EYE, texts)
        result = score(setting(encoder, path, clips=2, batch=3), options(aggregate=aggregate))
        assert result.metrics["r_mean"] == 100 and result.protocol["clips a video"] == 2
        assert encoder.batches == [3, 1] and result.protocol["aggregation of clips"] == aggregate


def test_clips_are_seen_in_the_way_that_is_asked_for(tmp_path):
    # Video 0 has one clip that fits the text very well, video 2 two that fit it fairly.
    path = annotated(tmp_path, [{"video": "0.mp4", "caption": "x"}, {"video": "2.mp4", "caption": "y"}])
    videos = [[1, 0, 0], [0, 1, 0], [0.8, 0, 0.6], [0.8, 0, 0.6]]
    encoder = TableEncoder(videos, {"x": [1, 0, 0], "y": [0, 0, 1]})
    found = {a: score(setting(encoder, path, clips=2), options(aggregate=a)) for a in ("mean", "max")}
    assert (found["max"].metrics["t2v_r1"], found["mean"].metrics["t2v_r1"]) == (100, 50)


def test_dual_softmax_is_off_unless_asked_for_and_is_stated(tmp_path):
    path = annotated(tmp_path, rows("x", "y"))
    encoder = TableEncoder([[1, 0, 0], [0.1, 1, 0]], {"x": [1, 0.2, 0], "y": [1, 0.8, 0]})
    plain = score(setting(encoder, path))
    sharp = score(setting(encoder, path), options(dsl=True, dsl_scale=20.0))
    assert (plain.metrics["t2v_r1"], sharp.metrics["t2v_r1"]) == (50, 100)
    assert plain.protocol["dual softmax"] is False
    assert sharp.protocol["dual softmax"] == "softmax of 20 * score over all queries of the test"


def test_a_model_that_sees_nothing_is_not_flattered_unless_asked_for(tmp_path):
    path = annotated(tmp_path, rows("x", "y", "z"))
    encoder = TableEncoder([[1, 0]] * 3, {"x": [1, 0], "y": [0, 1], "z": [1, 1]})
    assert score(setting(encoder, path)).metrics["t2v_r1"] == 0
    found = score(setting(encoder, path), Retrieval(ties="originals"))
    assert found.metrics["t2v_r1"] == 100 and found.metrics["t2v_tied"] == 100


def test_a_caption_that_several_clips_of_a_corpus_share_counts_once(tmp_path):
    names = ["red", "green", "blue", "red"]
    clips = [colour_clip(number, name) for number, name in enumerate(names)]
    clips.append(colour_clip(4, "blue", captions=()))
    corpus = corpus_of(tmp_path / "corpus", clips)
    real = {"say": lambda line: None, "weights": "run"}
    result = score(setting(ColourEncoder(), corpus, **real, read=_read_views()))
    assert result.metrics["r_mean"] == 100 and result.metrics["t2v_tied"] == 0
    counted = [result.protocol[name] for name in ("videos", "captions", "clips without captions")]
    assert counted == [4, 3, 1]
    assert result.protocol["right for a caption"] == "all videos with a caption that reads the same"


def test_captions_of_a_kind_are_the_queries_where_they_are_asked_for(tmp_path):
    heard = {"audio": ("it is blue",)}
    clips = [colour_clip(0, "red", texts=heard), colour_clip(1, "blue", texts=heard), colour_clip(2, "green")]
    corpus = corpus_of(tmp_path / "corpus", clips)
    real = setting(
        ColourEncoder(), corpus, say=lambda line: None, weights="run", read=_read_views(), broken=0.5
    )
    result = score(real, Retrieval(captions="audio"))
    counted = [
        result.protocol[name] for name in ("captions of", "videos", "captions", "clips without captions")
    ]
    assert counted == ["audio", 2, 1, 1]
    assert score(real, Retrieval(captions="video")).metrics["r_mean"] == 100
    with pytest.raises(UserError, match="has a caption of speech; retrieval needs captions"):
        score(real, Retrieval(captions="speech"))


def test_captions_of_a_kind_are_joined_over_the_rows_of_a_video(tmp_path):
    listed = [{"video": "0.mp4", "caption": "seen", "audio_captions": [text]} for text in "xy"]
    path = annotated(tmp_path, [*listed, {"video": "1.mp4", "caption": "seen too"}])
    encoder = TableEncoder([[1, 0], [0, 1]], {"x": [1, 0], "y": [1, 0.1]})
    result = score(setting(encoder, path), Retrieval(captions="audio"))
    assert [result.protocol[name] for name in ("videos", "captions", "clips without captions")] == [1, 2, 1]


def _read_views():
    from ivjax.evals.views import read_views

    return read_views


def test_broken_clips_are_left_out_counted_and_named_if_they_are_too_many(tmp_path):
    good = rows(*(str(number) for number in range(4)))
    path = annotated(tmp_path, [*good, {"video": "broken7.mp4", "caption": "x"}])
    path.write_text(json.dumps([*json.loads(path.read_text()), {"video": "gone.mp4", "caption": "x"}]))
    encoder = TableEncoder(EYE, {str(number): EYE[number] for number in range(4)})
    result = score(setting(encoder, path, broken=0.4))
    assert result.metrics["r_mean"] == 100
    assert {(fault.clip, fault.cause) for fault in result.broken} == {
        ("test.json row 6", "bad row"),
        ("broken7.mp4", "undecodable"),
    }
    with pytest.raises(UserError, match=r"(?s)2 of 6 clips cannot be scored.* 1.00%.*broken7.mp4: und.*gone"):
        score(setting(encoder, path))


def test_broken_records_of_a_corpus_are_listed(tmp_path):
    records = [pack(colour_clip(number, "red")) for number in range(3)]
    corpus = write_corpus(tmp_path / "c", [*records, b"nonsense"], 1)
    result = score(setting(ColourEncoder(), corpus, read=_read_views(), broken=0.5))
    [fault] = result.broken
    assert fault.cause == "not a record" and fault.clip.endswith("record 3")


def test_a_test_set_of_broken_clips_is_given_up_early(tmp_path):
    path = annotated(tmp_path, [{"video": f"broken{n}.mp4", "caption": "x"} for n in range(50)])
    with pytest.raises(UserError, match="11 of 50 clips cannot be scored"):
        score(setting(TableEncoder(EYE, {}), path))


def test_what_cannot_be_scored_is_an_error(tmp_path):
    encoder = TableEncoder(EYE, {"x": [np.nan, 0, 0, 0]})
    with pytest.raises(UserError, match="none.json does not exist"):
        score(setting(encoder, tmp_path / "none.json"))
    (tmp_path / "0.mp4").write_bytes(b"")
    (tmp_path / "l.csv").write_text("path,label\n0.mp4,1\n")
    with pytest.raises(UserError, match="l.csv has a caption; retrieval needs captions"):
        score(setting(encoder, tmp_path / "l.csv"))
    with pytest.raises(UserError, match="1 of 1 vectors of texts are not finite"):
        score(setting(encoder, annotated(tmp_path, rows("x"))))
    (tmp_path / "empty.csv").write_text("path,caption\n")
    with pytest.raises(UserError, match="holds no clips to score"):
        score(setting(encoder, tmp_path / "empty.csv", kind="captions"))
    with pytest.raises(UserError, match="no protocol 'msrvt'; did you mean 'msrvtt'"):
        score(setting(encoder, tmp_path), options("msrvt"))
    corpus = corpus_of(tmp_path / "c", [colour_clip(0, "red")], 1)
    with pytest.raises(UserError, match="is a corpus, which holds its videos"):
        score(setting(encoder, corpus, kind="captions"))
    with pytest.raises(UserError, match="limit must be 1 or more, got 0"):
        setting(encoder, corpus, limit=0)


def test_the_protocol_table_says_what_the_reference_does():
    told = {n: (p.frames, p.text_length, p.paragraph, p.trimmed) for n, p in PROTOCOLS.items()}
    assert told["msrvtt"] == (4, 32, False, False) and told["vatex"] == (4, 32, False, False)
    assert told["msvd"] == (4, 64, False, False) and told["lsmdc"] == (8, 32, False, False)
    assert told["didemo"] == (8, 64, True, True) and told["activitynet"] == (8, 150, True, False)
    assert [name for name, p in PROTOCOLS.items() if p.task == "choice"] == [
        "msrvtt_mc",
        "ssv2_mc",
        "charades_mc",
    ]
    assert [name for name, p in PROTOCOLS.items() if p.same_text] == ["ssv2"]
    assert protocol_named("didemo", "ranking").source_options("auto") == {"paragraph": True, "trimmed": True}


def test_a_result_is_stored_whole_and_printed_with_its_protocol(tmp_path):
    path = annotated(tmp_path, rows("x", "y"))
    result = score(setting(TableEncoder(EYE, {"x": EYE[0], "y": EYE[1]}), path, limit=2))
    result.write(tmp_path / "out" / "r.json")
    stored = json.loads((tmp_path / "out" / "r.json").read_text())
    assert stored["metrics"] == result.metrics and stored["protocol"]["limit"] == 2
    assert stored["broken"] == {"count": 0, "clips": []}
    lines = result.table().splitlines()
    assert lines[0].split() == ["suite", "retrieval"]
    assert any(line.split() == ["dual", "softmax", "no"] for line in lines)
    assert any(line.split() == ["r1", "100.00", "100.00"] for line in lines)
