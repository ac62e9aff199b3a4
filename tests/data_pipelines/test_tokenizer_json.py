"""A tokenizer.json as Qwen2 has it: ids, added tokens, special ids, and one sentence for what cannot be."""

import json
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest

from ivjax.data_pipelines.tokenizers import tokenizer_json
from ivjax.data_pipelines.tokenizers.tokenizer_json import TokenizerJson
from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment
from tests.data_pipelines.fuzzed_texts import fuzzed_texts

package = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
from tests.data_pipelines.tokenizer_files import PIECES, SPECIAL, write_qwen  # noqa: E402


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of 1,000 pieces and three special tokens, with settings of someone who padded and cut."""
    return write_qwen(tmp_path_factory.mktemp("qwen") / "tokenizer.json")


@pytest.fixture
def plain(file):
    """The package's tokenizer, which neither pads nor cuts."""
    found = package.Tokenizer.from_file(str(file))
    found.no_padding()
    found.no_truncation()
    return found


def test_a_row_is_start_prefix_text_end_and_padding(file, plain):
    row = TokenizerJson(str(file), 20, prefix="say: ", start="<|im_start|>").encode("The value of it.")
    ids = plain.encode("say: The value of it.").ids
    wanted = [PIECES + 1, *ids, PIECES + 2, *[PIECES] * (18 - len(ids))]
    assert row.dtype == np.int32 and row.tolist() == wanted
    assert plain.decode(ids) == "say: The value of it."
    cut = TokenizerJson(str(file), 4).encode("The value of it.")
    assert cut.tolist() == [*plain.encode("The value of it.").ids[:3], PIECES + 2]
    assert TokenizerJson(str(file), 3, end="").encode("").tolist() == [PIECES] * 3


def test_ids_are_those_of_the_package_whatever_the_text(file, plain):
    plain.encode_special_tokens = True
    tokenizer = TokenizerJson(str(file), 4096)
    for text in fuzzed_texts(300, seed=4):
        ids = plain.encode(text).ids
        assert tokenizer.encode(text)[: len(ids) + 1].tolist() == [*ids, PIECES + 2]


def test_special_tokens_in_a_text_are_plain_text_and_halves_of_characters_are_replaced(file, plain):
    tokenizer = TokenizerJson(str(file), 64, added=("<image>",))
    ids = tokenizer.encode("a <|im_end|> b <image> c")
    assert (ids >= PIECES).sum() == 64 - np.flatnonzero(ids == PIECES + 2)[0]
    np.testing.assert_array_equal(tokenizer.encode("half \ud83d"), tokenizer.encode("half ?"))


def test_added_tokens_get_the_ids_behind_those_of_the_file(file):
    tokenizer = TokenizerJson(str(file), 8, added=("<image>", "<video>"), pieces=PIECES + 5)
    assert [tokenizer.special(name) for name in (*SPECIAL, "<image>", "<video>")] == list(range(1000, 1005))
    assert tokenizer.vocabulary_size == PIECES + 5
    assert TokenizerJson(str(file), 8).vocabulary_size == PIECES + 3
    again = pickle.loads(pickle.dumps(tokenizer))
    np.testing.assert_array_equal(again.encode("a man"), tokenizer.encode("a man"))


def test_a_config_may_name_it(file):
    override = f"data.fields.text.tokenizer=TokenizerJson('{file}',48)"
    found = load_experiment("viclip_tiny", [override])
    assert found.data.fields["text"].tokenizer == TokenizerJson(str(file), 48)


def test_what_cannot_be_read_is_one_sentence(file, tmp_path):
    broken, other = tmp_path / "broken.json", tmp_path / "other.json"
    broken.write_text(file.read_text()[:1000])
    other.write_text(json.dumps({"architectures": ["Qwen2ForCausalLM"]}))
    given = TokenizerJson(str(file), 8)
    for tokenizer, words in (
        (
            TokenizerJson(),
            "has no vocabulary file: .*tokenizer.json, beside the weights of the language",
        ),
        (TokenizerJson(str(tmp_path / "none")), "none is missing: it is published as tokenizer.json, beside"),
        (TokenizerJson(str(broken)), "broken.json is not a tokenizer.json .*; get the file again"),
        (TokenizerJson(str(other)), "other.json is not a tokenizer.json .*; get the file again"),
        (replace(given, start="<s>"), "has no token '<s>'; name one that it has"),
        (replace(given, pad="<pad>"), "has no token '<pad>'"),
        (replace(given, pieces=151936), "has 1003 ids with 0 added tokens, and the tokenizer wants 151936"),
        (replace(given, length=0), "has no room for its special tokens"),
    ):
        with pytest.raises(UserError, match=words) as raised:
            tokenizer.encode("a")
        assert "\n" not in str(raised.value)


def test_without_the_package_the_sentence_says_how_to_get_it(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    tokenizer_json._load.cache_clear()
    with pytest.raises(UserError, match="read by the package tokenizers, which is not installed: pip"):
        TokenizerJson(str(file)).encode("a")
