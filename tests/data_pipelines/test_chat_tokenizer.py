"""Tokenizers of language models: parts of conversations as the originals have them, and text as it comes."""

import json
import pickle
import shutil

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

from ivjax.data_pipelines.tokenizers import ChatTokenizer
from ivjax.errors import UserError
from tests.data_pipelines.fuzzed_texts import fuzzed_texts
from tests.goldens import FOLDER, Golden

TEMPLATES = ("internvl2_5", "internlm2-chat", "internlm2-chat_slow")


@pytest.fixture(scope="module")
def s3_label_masking():
    return Golden("s3_label_masking")


def internlm(golden):
    return ChatTokenizer(
        str(FOLDER / "s3_spm_internlm.model"), added=tuple(golden.config["added_token_ids"].items())
    )


def seen(golden, text):
    """A prompt's text with the visual tokens of each frame written out."""
    said = golden.config["internvl_common"]
    return text.replace("<image>", "<img>" + "<IMG_CONTEXT>" * said["tokens_per_frame"] + "</img>")


@pytest.mark.golden
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda name: f"s3_label_masking-{name}")
def test_prompts_of_internvl_are_the_originals_ids(s3_label_masking, template):
    tokenizer = internlm(s3_label_masking)
    text = s3_label_masking.config[f"internvl/{template.removesuffix('_slow')}"]["prompt_text"]
    wanted = s3_label_masking[f"outputs/internvl/{template}/input_ids"]
    ids = [*tokenizer.opening, *tokenizer.pieces(seen(s3_label_masking, text))]
    np.testing.assert_array_equal(ids, wanted)
    assert tokenizer.decode(ids, specials=True) == "<s>" + seen(s3_label_masking, text)


@pytest.mark.golden
@pytest.mark.parametrize("model", ["vicuna", "mistral"], ids=lambda name: f"s3_label_masking-{name}")
def test_parts_around_the_video_of_videochat2_are_the_originals_ids(s3_label_masking, model):
    tokenizer = ChatTokenizer(str(FOLDER / "s3_spm_llama.model"))
    for number, text in enumerate(s3_label_masking.config[f"videochat2/{model}"]["conversation_text"]):
        cut = text.index("</Video>")
        wanted = s3_label_masking.group(f"outputs/videochat2/{model}/sample{number}")
        np.testing.assert_array_equal(tokenizer.pieces(text[:cut]), wanted["ids_before"])
        np.testing.assert_array_equal(tokenizer.pieces(text[cut:]), wanted["ids_after"])
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.opening, tokenizer.stops) == (
        1,
        2,
        2,
        (1,),
        (2,),
    )


LLAMA, INTERNLM = (FOLDER / f"s3_spm_{name}.model" for name in ("llama", "internlm"))
FLAGS = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}


def model_of(file):
    """The package's model of a file."""
    return SentencePieceProcessor(model_file=str(file))


@pytest.fixture(scope="module")
def phi(tmp_path_factory):
    """A folder as Phi-3's: tokens that take the blanks behind them, and a prefix at the start alone."""
    folder, words = tmp_path_factory.mktemp("phi"), model_of(LLAMA).get_piece_size()
    shutil.copy(LLAMA, folder / "tokenizer.model")
    tokens = {
        "2": FLAGS | {"content": "</s>", "rstrip": True},
        str(words): FLAGS | {"content": "<|user|>", "rstrip": True},
        str(words + 1): FLAGS | {"content": "<|end|>", "rstrip": True},
        str(words + 2): FLAGS | {"content": "<box>", "special": False, "lstrip": True},
        str(words + 3): FLAGS | {"content": "cat", "single_word": True},
    }
    said = {"legacy": False, "add_bos_token": False, "eos_token": "<|end|>", "added_tokens_decoder": tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


def test_added_tokens_take_the_blanks_that_their_flags_say(phi):
    tokenizer, words = ChatTokenizer(str(phi)), model_of(LLAMA).get_piece_size()
    ids = tokenizer.pieces("<|user|> \n the cat <box> cats<|end|>\n")
    assert [number for number in ids if number >= words] == [words, words + 3, words + 2, words + 1]
    assert tokenizer.decode(ids, specials=True) == "<|user|>the cat<box> cats<|end|>"
    # Behind a special token there is no dummy prefix, which the package gives to every text.
    prefixed = model_of(LLAMA).encode("the")
    assert tokenizer.pieces("the") == prefixed
    behind = tokenizer.pieces("<|user|>the")[1:]
    assert behind != prefixed and model_of(LLAMA).decode(behind) == "the"
    assert tokenizer.pieces("the", inside=True) == tokenizer.pieces("the", plain=True, inside=True) == behind
    # Where every part has one, it makes no difference.
    old = ChatTokenizer(str(LLAMA))
    assert old.pieces("the", inside=True) == old.pieces("the") == prefixed


def test_special_ids_are_those_of_the_config(phi):
    tokenizer, words = ChatTokenizer(str(phi), visual=-200), model_of(LLAMA).get_piece_size()
    assert (tokenizer.opening, tokenizer.bos, tokenizer.visual) == ((), model_of(LLAMA).bos_id(), -200)
    assert tokenizer.eos == tokenizer.pad == words + 1 == tokenizer.special("<|end|>")
    assert tokenizer.stops == (words + 1,) and tokenizer.vocabulary_size == words + 4
    with pytest.raises(UserError, match=r"has no token '<\|im_end\|>'; take the files of the model that"):
        tokenizer.special("<|im_end|>")
    assert pickle.loads(pickle.dumps(tokenizer)).pieces("a") == tokenizer.pieces("a")


def test_a_special_token_may_take_the_id_of_a_piece_that_is_not_used():
    words = model_of(LLAMA).get_piece_size()
    tokenizer = ChatTokenizer(str(LLAMA), added=(("<|im_end|>", words - 1),), ends=("<|im_end|>", "<none>"))
    assert tokenizer.pieces("<|im_end|>") == [words - 1] and tokenizer.vocabulary_size == words
    assert tokenizer.stops == (model_of(LLAMA).eos_id(), words - 1)
    assert (
        tokenizer.decode([words - 1]) == "" and tokenizer.decode([words - 1], specials=True) == "<|im_end|>"
    )
    assert tokenizer.decode([-200, words + 5]) == ""


def test_special_tokens_in_plain_text_are_text(phi):
    tokenizer = ChatTokenizer(str(phi))
    ids = tokenizer.pieces("a <|end|> b", plain=True)
    assert max(ids) < model_of(LLAMA).get_piece_size() and tokenizer.decode(ids) == "a <|end|> b"
    row = ChatTokenizer(str(phi), length=60).encode("a <|end|>").tolist()
    assert row[: len(ids) - 2] != [] and row.count(tokenizer.eos) == 60 - len(
        tokenizer.pieces("a <|end|>", True)
    )


@pytest.mark.parametrize("file", [LLAMA, INTERNLM], ids=["prefix", "no_prefix"])
def test_texts_come_back_as_the_package_writes_them(file):
    theirs, tokenizer = model_of(file), ChatTokenizer(str(file))
    for text in [*fuzzed_texts(200, seed=6), "half \ud83d of a pair"]:
        text = text.encode("utf-8", "replace").decode()
        ids = tokenizer.pieces(text, plain=True)
        assert ids == theirs.encode(text)
        assert tokenizer.decode(ids) == theirs.decode(ids)
        stream = tokenizer.stream()
        gains = [stream.add(number) for number in ids]
        assert "".join(gains) + stream.end() == theirs.decode(ids)
        # No part of a character is shown before it is whole.
        assert "\ufffd" in text or not any("\ufffd" in gain for gain in gains)


def test_what_the_files_do_not_say_is_one_sentence(phi, tmp_path):
    shutil.copy(LLAMA, tmp_path / "tokenizer.model")
    for name, content, words in (
        ("tokenizer_config.json", "{", "tokenizer_config.json is no JSON .*; fetch it again"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json lists no special tokens; fetch it again"),
        ("added_tokens.json", '{"<|im_end|>": 7}', r"gives <\|im_end\|> the id 7 and .* take the tokenizer"),
    ):
        (tmp_path / name).write_text(content)
        tokenizer = ChatTokenizer(str(tmp_path), added=(("<|im_end|>", 500),), published=content)
        with pytest.raises(UserError, match=words) as raised:
            tokenizer.pieces("a")
        assert "\n" not in str(raised.value)
        (tmp_path / name).unlink()


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [True, False])
def test_ids_and_texts_are_those_of_transformers(phi, legacy, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    shutil.copytree(phi, tmp_path / "model")
    file = tmp_path / "model/tokenizer_config.json"
    said = json.loads(file.read_text()) | {"legacy": legacy, "tokenizer_class": "LlamaTokenizer"}
    # Its new versions read this flag in another way than the SentencePiece tokenizers of the originals.
    del said["added_tokens_decoder"][max(said["added_tokens_decoder"])]
    file.write_text(json.dumps(said))
    theirs, tokenizer = (
        transformers.AutoTokenizer.from_pretrained(file.parent),
        ChatTokenizer(str(file.parent)),
    )
    marks = ["</s>", "<|user|>", "<box>", "<|end|>", "\n"]
    for number, text in enumerate(fuzzed_texts(100, seed=7)):
        # A blank at the start gets no prefix in its new versions, and had one in those of the originals.
        first, mark, second = f"a{text}", marks[number % 5], "b" + text[::-1]
        ids = theirs(f"{first}{mark}{second}", add_special_tokens=False)["input_ids"]
        assert tokenizer.pieces(f"{first}{mark}{second}") == ids, (first, mark, second)
        assert tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
