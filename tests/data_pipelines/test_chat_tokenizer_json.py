"""A tokenizer.json of a language model: parts of conversations and text, against the package tokenizers."""

import json

import pytest

from ivjax.data_pipelines.tokenizers import ChatTokenizer
from ivjax.errors import UserError
from tests.data_pipelines.fuzzed_texts import fuzzed_texts

package = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
from tests.data_pipelines.tokenizer_files import PIECES, write_llama, write_qwen  # noqa: E402

CHAT = "<|im_start|>user\nWhat  happens?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A folder with Qwen2's files."""
    folder = tmp_path_factory.mktemp("qwen")
    write_qwen(folder / "tokenizer.json")
    said = {
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "add_bos_token": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A folder with LLaMA's tokenizer.json alone."""
    folder = tmp_path_factory.mktemp("llama")
    write_llama(folder / "tokenizer.json")
    return folder


def package_of(folder):
    found = package.Tokenizer.from_file(str(folder / "tokenizer.json"))
    found.no_padding()
    found.no_truncation()
    return found


def test_special_tokens_in_a_part_become_their_ids_unless_it_is_plain(qwen):
    tokenizer = ChatTokenizer(str(qwen))
    ids = tokenizer.pieces(CHAT)
    assert ids == package_of(qwen).encode(CHAT, add_special_tokens=False).ids
    assert [number for number in ids if number >= PIECES] == [PIECES + 1, PIECES + 2, PIECES + 1]
    assert max(tokenizer.pieces(CHAT, plain=True)) < PIECES
    assert tokenizer.decode(ids, specials=True) == CHAT
    assert tokenizer.decode(ids) == "user\nWhat  happens?\nassistant\n"


def test_special_ids_are_those_of_the_files(qwen, llama):
    tokenizer = ChatTokenizer(str(qwen))
    assert (tokenizer.opening, tokenizer.bos, tokenizer.eos, tokenizer.pad) == ((), None, PIECES + 2, PIECES)
    assert tokenizer.stops == (PIECES + 2, PIECES)
    row = tokenizer.encode("a <|im_end|>").tolist()
    assert row.count(PIECES + 2) == 1 and row[-1] == PIECES
    # The template of the file opens a text; without a config nothing says what ends it.
    other = ChatTokenizer(str(llama), ends=())
    assert (other.opening, other.bos) == ((1,), 1)
    with pytest.raises(
        UserError, match="does not say which token ends a text: put its tokenizer_config.json"
    ):
        other.encode("a")
    assert ChatTokenizer(str(llama), ends=("</s>",)).stops == (2,)


@pytest.mark.parametrize("kind", ["qwen", "llama"])
def test_texts_come_back_as_the_package_writes_them(kind, request):
    folder = request.getfixturevalue(kind)
    theirs, tokenizer = package_of(folder), ChatTokenizer(str(folder))
    for text in fuzzed_texts(100, seed=5):
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert tokenizer.pieces(text) == ids
        assert tokenizer.decode(ids) == theirs.decode(ids)
        stream = tokenizer.stream()
        gains = [stream.add(number) for number in ids]
        assert "".join(gains) + stream.end() == theirs.decode(ids)


def test_a_part_behind_a_special_token_may_have_no_prefix(llama, tmp_path):
    said = json.loads((llama / "tokenizer.json").read_text())
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    new = said | {"normalizer": None, "pre_tokenizer": metaspace}
    (tmp_path / "tokenizer.json").write_text(json.dumps(new))
    for folder, differs in ((tmp_path, True), (llama, False)):
        tokenizer = ChatTokenizer(str(folder))
        whole, start = tokenizer.pieces("</s>house"), tokenizer.pieces("house")
        for plain in (False, True):
            assert tokenizer.pieces("house", plain, inside=True) == whole[1:]
        assert (whole[1:] != start) == differs
        assert max(start) < tokenizer.vocabulary_size == PIECES


def test_tokens_of_the_config_are_added_behind_those_of_the_file(qwen, tmp_path):
    write_qwen(tmp_path / "tokenizer.json")
    added = {"content": "<box>", "special": False, "lstrip": False, "rstrip": False, "normalized": False}
    said = {"eos_token": "<|im_end|>", "added_tokens_decoder": {str(PIECES + 3): added}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    tokenizer = ChatTokenizer(str(tmp_path), added=(("<IMG_CONTEXT>", PIECES + 4),))
    assert tokenizer.pieces("<box><IMG_CONTEXT>") == [PIECES + 3, PIECES + 4]
    assert tokenizer.decode([PIECES + 3, PIECES + 4]) == "<box>" and tokenizer.vocabulary_size == PIECES + 5
    with pytest.raises(UserError, match="gives <IMG_CONTEXT> the id 1003 and 1009 is '', where the model"):
        ChatTokenizer(str(qwen), added=(("<IMG_CONTEXT>", PIECES + 9),)).pieces("a")


def test_a_decoder_that_is_not_read_is_one_sentence(qwen, tmp_path):
    said = json.loads((qwen / "tokenizer.json").read_text())
    said["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    with pytest.raises(UserError, match="decodes by WordPiece, which is not read here"):
        ChatTokenizer(str(tmp_path)).decode([5])
