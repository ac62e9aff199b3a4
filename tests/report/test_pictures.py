"""Pictures that need a model: what they show is what the model does."""

import dataclasses

import jax
import numpy as np
import pytest

from ivjax.convert.loading import load
from ivjax.embed.video_features import features
from ivjax.experiment.computing import Compute
from ivjax.experiment.storing import stored_experiment
from ivjax.models.dialogue.projector import join_neighbours, merge_clips, patches_of
from ivjax.models.dialogue.projector_size import ProjectorSize
from ivjax.report.facts.answered_questions import answered_questions
from ivjax.report.facts.eval_results import results_in
from ivjax.report.facts.merged_videos import _merge, merged_videos, merges
from ivjax.report.facts.retrieval_hits import retrieval_hits
from ivjax.report.facts.sample_clips import sample_items
from ivjax.report.write_report import ReportOptions, write_report
from tests.report.folders import Page
from tests.report.runs import dialogue_run, masked_run, pair_run
from tests.train import micro


def quiet(line):
    pass


@pytest.fixture(scope="module")
def dialogue(tmp_path_factory):
    return dialogue_run(tmp_path_factory.mktemp("dialogue") / "run")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return pair_run(tmp_path_factory.mktemp("pair") / "run")


@pytest.mark.parametrize("shuffle, norm", [(1, True), (2, False)])
def test_the_bridge_tells_what_it_merges(shuffle, norm):
    size = ProjectorSize(8, 6, 2, 2, 2, heads=2, shuffle=shuffle, input_norm=norm)
    bridge = size.build(Compute("float32"))
    params = bridge.init(jax.random.key(0))
    tokens = jax.random.normal(jax.random.key(1), (3, 4, 1 + 16, 8))  # a class token, 4 x 4 patches
    merged = bridge.merged(params, tokens, (1, 4, 4))
    patches = patches_of(tokens, (1, 4, 4))
    if norm:
        mean, spread = (f(patches, axis=-1, keepdims=True) for f in (np.mean, np.std))
        patches = (patches - mean) / spread
    expected = merge_clips(size, join_neighbours(size, patches))
    np.testing.assert_array_equal(merged.assignment, expected.assignment)
    np.testing.assert_allclose(merged.tokens, expected.tokens, atol=1e-5)
    # Asking changes nothing of what the bridge gives.
    assert bridge.project(params, tokens, (1, 4, 4)).shape == (3, 8, 6)


def test_merged_videos_have_a_token_for_each_patch(dialogue):
    experiment = stored_experiment(dialogue)
    assert merges(experiment) and not merges(micro.experiment)
    found = merged_videos(dialogue, experiment, 2)
    loaded = load(dialogue)
    model, size = loaded.model, loaded.model.size
    bridge, (_, rows, columns) = size.bridge, size.vision.grid
    assert len({video.name for video in found.videos}) == 2
    for video in found.videos:
        frames = len(video.frames)
        assert video.frames.shape == (frames, *size.vision.image, 3) and video.clips == frames // 4
        assert video.tokens == frames * bridge.frame_tokens
        assert video.regions.shape == (frames, rows // bridge.shuffle, columns // bridge.shuffle)
        for clip, regions in enumerate(video.regions.reshape(video.clips, -1)):
            first, tokens = clip * 4 * bridge.frame_tokens, 4 * bridge.frame_tokens
            assert set(regions) == set(range(first, first + tokens))
    # The means of the patches of each token are what the model sees, before the bridge's MLP.
    video = found.videos[0]
    seen = model.tower.encode(loaded.params["vision"], video.frames[:, None]).tokens[None]
    tokens = np.asarray(join_neighbours(bridge, patches_of(seen, (1, rows, columns))))
    tokens = tokens.reshape(-1, bridge.joined)
    # The same program, because rounding decides between patches that are alike.
    expected = _merge(model, loaded.params, video.frames[None]).tokens
    means = [tokens[video.regions.ravel() == token].mean(0) for token in range(video.tokens)]
    np.testing.assert_allclose(means, np.asarray(expected).reshape(-1, bridge.joined), atol=1e-4)
    assert 0 <= found.report["across_frames"] <= 1 and found.report["largest"] >= 1


def test_hits_are_the_clips_with_the_largest_cosines(pair):
    experiment = stored_experiment(pair)
    found = retrieval_hits(pair, experiment, quiet)
    items = sample_items(experiment, 64)
    loaded = load(pair)
    vectors = features(loaded, [item.media for item in items])
    for query in found:
        cosines = [hit.cosine for hit in query.hits]
        assert cosines == sorted(cosines, reverse=True) and query.clips == len(items) == 13
        right = [place for place, hit in enumerate(query.hits, 1) if hit.right]
        assert right[:1] == [query.rank] if query.rank <= len(query.hits) else right == []
        assert query.hits[0].frames.shape == (4, 32, 32, 3)
        text = loaded.text(query.caption)[0]
        np.testing.assert_allclose(np.sort(vectors @ text)[::-1][: len(cosines)], cosines, atol=1e-4)


def test_answers_stand_beside_what_is_right(dialogue):
    (result,) = results_in(dialogue)
    sample = answered_questions({"it": result}, stored_experiment(dialogue), 6)
    assert sample.answered == 6 and [one.said[0].right for one in sample.questions] == [True, False] * 3
    for one in sample.questions:
        assert one.answer in one.options and one.said[0].words in one.options
        assert (one.said[0].words == one.answer) == one.said[0].right
        assert one.frames is not None and one.frames.ndim == 4
    assert {one.kind for one in sample.questions} == {"motion", "what"}


def test_a_page_of_all_kinds_of_runs_has_all_pictures(dialogue, pair, tmp_path_factory, tmp_path):
    masked = masked_run(tmp_path_factory.mktemp("masked") / "stage1")
    said = []
    file = write_report([masked, pair, dialogue], tmp_path, ReportOptions(clips=2), said.append)
    page = Page(file)
    sections = [one["id"] for one in page.all("section")]
    assert sections[:7] == ["runs", "losses", "evals", "clips", "merging", "retrieval", "dialogues"]
    pictures = page.all("img")
    assert all(one["alt"] and one["src"].startswith("data:image/") for one in pictures)
    assert sum(one["alt"].startswith("hit ") for one in pictures) == 16
    assert sum("attention of the clip teacher" in one["alt"] for one in pictures) == 2
    assert "The <i>door</i> ." in page.text and page.all("i") == []
    assert any("merging the tokens" in line for line in said)
    written = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert {"losses.png", "masks_stage1_1.png", "question_1_of_set_1.png"} <= written
    assert file.stat().st_size < 2 * 2**20


def test_a_corpus_that_is_gone_takes_nothing_else_with_it(pair, tmp_path):
    experiment = stored_experiment(pair)
    corpora = (dataclasses.replace(experiment.data.corpora[0], path=str(tmp_path / "gone")),)
    micro.saved(
        tmp_path / "run",
        dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, corpora=corpora)),
    )
    page = Page(write_report([tmp_path / "run"], tmp_path / "out", ReportOptions(), quiet))
    assert "clips, run" in page.text and "gone" in page.text and page.all("section", id="config")
