"""Features of videos and sentences for heads that find moments: their files, rows and times."""

import json

import jax
import numpy as np
import pytest

from ivjax.embed.index import read_index
from ivjax.errors import UserError
from ivjax.evals import pair_model
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.decoder.sizes import LanguageSize
from ivjax.models.dual_size import DualSize
from ivjax.models.iv2clip.sizes import LanguageTextSize, MobileTextSize
from ivjax.train.mesh import build_mesh
from tests.embed.fake import ColourEncoder, write_coloured
from tests.embed.test_search import command
from tests.evals.stage2_model import STAGE, Letters
from tests.models.params import any_params
from tests.stage2 import FLOAT32

LINES = ("aa 0.5 1.5##a red thing.", "bb 0 1##it is green.", "aa 1 3##then blue.", "gone 0 1##nothing.")


class Words(ColourEncoder):
    """An encoder of colours whose texts have a state for each word."""

    def word_states(self, texts):
        """Returns the length of each word, twice."""
        return [np.array([[len(word)] * 2 for word in text.split()], np.float32) for text in texts]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_coloured(tmp_path / "v" / "aa.mp4", "red", "red", "blue", "blue", seconds=0.9)
    write_coloured(tmp_path / "v" / "bb.mp4", "green", seconds=0.5)
    (tmp_path / "charades_sta_test.txt").write_text("\n".join(LINES))
    monkeypatch.setattr(pair_model, "open_pairs", lambda *arguments: Words())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_video_has_a_row_a_second_and_each_sentence_its_words_and_times(folder, capsys):
    argv = ("embed", "--moments", "charades_sta_test.txt", "--videos", "v", "--weights", "w", "--out", "f")
    assert command(*argv) == 1  # a video is missing
    said = capsys.readouterr()
    assert said.out == "f: 5 embeddings of 2 videos, 1 of them broken, and 3 sentences\n"
    assert "gone does not exist" in said.err
    aa, bb = (np.load(folder / "f" / "videos" / f"{name}.npz") for name in ("aa", "bb"))
    # The last window of an index ends with the video; rows here are those of whole steps.
    assert aa["start"].tolist() == [0, 1, 2] and aa["end"].tolist() == [1, 2, 3]
    assert bb["start"].tolist() == [0] and bb["end"].tolist() == [0.5]
    index = read_index(folder / "f" / "index.npz")
    np.testing.assert_array_equal(aa["features"], index.embeddings[:3])
    np.testing.assert_array_equal(bb["features"], index.embeddings[4:])
    text = np.load(folder / "f" / "texts" / "qid0.npz")
    assert text["last_hidden_state"].tolist() == [[1, 1], [3, 3], [5, 5]]
    np.testing.assert_allclose(text["pooler_output"], Words().text(["a red thing"])[0])
    lines = [json.loads(line) for line in (folder / "f" / "moments.jsonl").read_text().splitlines()]
    assert lines[0] == {
        **{"qid": 0, "query": "a red thing.", "vid": "aa", "duration": 3.6},
        "relevant_windows": [[0.5, 1.5]],
    }
    assert [(line["qid"], line["vid"]) for line in lines] == [(0, "aa"), (1, "bb"), (2, "aa")]


def test_lists_without_times_and_names_that_meet_are_one_sentence(folder):
    argv = ("embed", "--weights", "w", "--out", "f", "--moments")
    (folder / "q.json").write_text('[{"video": "v/aa.mp4", "question": "Who?", "answer": "a man"}]')
    with pytest.raises(UserError, match="q.json has no sentences with the seconds that they are true of"):
        command(*argv, "q.json")
    with pytest.raises(UserError, match="--moments names its own videos and texts, and embeds clips"):
        command(*argv, "q.json", "--medium", "both")
    with pytest.raises(UserError, match="--videos is the folder of the videos of --moments FILE"):
        command("embed", "v", "--videos", "v", "--weights", "w", "--out", "f.npz")
    (folder / "gone.txt").write_text("gone 0 1##nothing.")
    with pytest.raises(UserError, match="gone.txt has no sentence whose video is there; the first one: gone"):
        command(*argv, "gone.txt", "--videos", "v")


@pytest.mark.slow
def test_words_have_the_states_that_their_embedding_is_read_at():
    language = LanguageSize(16, 2, 2, 2, 32, 24, tied=True)
    mobile = MobileTextSize(16, 1, 2, 32, out=8, context=6, vocabulary=24)
    for text in (STAGE.text, LanguageTextSize(language, out=8, context=6), mobile):
        model = DualSize(STAGE.vision, text).build(FLOAT32)
        params = any_params(model)
        found = pair_model.PairModel(model, params, Letters(), 4, build_mesh(MeshShape(), jax.devices()[:1]))
        states = found.word_states(["a", "a b c"])
        if text is mobile:  # it gives a text as one vector
            assert states is None
            continue
        assert [len(some) for some in states] == [2, 4]
        ids = np.stack([Letters().encode("a b c")])
        if text is STAGE.text:
            wanted = model.text.embed(params["text"], states[1][None])
        else:
            wanted = states[1][-1:] @ params["text"]["proj"]["kernel"]
        np.testing.assert_allclose(wanted, model.words(params, ids), atol=1e-4)
