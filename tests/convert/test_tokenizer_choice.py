"""The tokenizer of a loaded language or dialogue model: beside its weights, or named by the user."""

import json
import shutil
import sys
from dataclasses import replace

import pytest

import ivjax
from ivjax.convert.families.dialogue.chat_models import INTERNVIDEO2_5_CHAT
from ivjax.convert.families.dialogue.language_models import LLAMA
from ivjax.convert.registry import FAMILIES
from ivjax.data_pipelines.tokenizers import ChatTokenizer
from ivjax.errors import UserError
from ivjax.models.decoder.sizes import LanguageSize
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.models.dialogue.sizes import DialogueSize
from tests.convert.language_folders import (
    INTERNLM_MODEL,
    LLAMA_MODEL,
    tiny_with,
    words_of,
    write_language_model,
)
from tests.convert.originals import originals, write_originals

WORDS = words_of(LLAMA_MODEL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A LLaMA as the Hub has it, with a padding token of its own behind the pieces."""
    folder = tmp_path_factory.mktemp("llama") / "model"
    write_language_model(folder, LLAMA, "llama", tiny_with(WORDS + 1), LLAMA_MODEL)
    (folder / "added_tokens.json").write_text(json.dumps({"[PAD]": WORDS}))
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": "[PAD]"})
    )
    return folder


def test_a_language_model_carries_the_tokenizer_beside_its_weights(folder):
    loaded = ivjax.load(folder)
    tokenizer = loaded.tokenizer
    assert tokenizer.path == str(folder) and tokenizer.visual is None
    assert (tokenizer.vocabulary_size, tokenizer.pad) == (WORDS + 1, WORDS)
    assert tokenizer.decode(tokenizer.pieces("The person sits down .")) == "The person sits down ."
    assert f"text (ChatTokenizer {folder})" in repr(loaded)
    # A file in the folder has the same neighbours.
    assert ivjax.load(folder / "model.safetensors").tokenizer == tokenizer


def test_a_tokenizer_may_be_named_by_folder_or_file(folder, tmp_path):
    alone = write_language_model(tmp_path / "alone", LLAMA, "llama", tiny_with(WORDS + 1))
    bare = ivjax.load(alone).tokenizer
    assert bare.path == ""
    for place in (folder, folder / "tokenizer.model", ChatTokenizer(str(folder))):
        assert ivjax.load(alone, tokenizer=place).tokenizer.pieces("a </s>") == [
            *ChatTokenizer(str(LLAMA_MODEL)).pieces("a </s>")
        ]
    with pytest.raises(UserError, match="has no file: give a folder with .* from mistralai/Mis"):
        bare.pieces("a")


def test_a_dialogue_model_has_its_visual_token_and_the_ids_of_its_family(tmp_path):
    words = words_of(INTERNLM_MODEL)
    size = DIALOGUES["internvideo2_5_chat_8b_tiny"]
    language = replace(size.language, vocabulary=words + 6)
    size = replace(size, language=language, visual_token=words + 4)
    write_originals(tmp_path / "model.safetensors", originals(INTERNVIDEO2_5_CHAT, size))
    shutil.copy(INTERNLM_MODEL, tmp_path / "tokenizer.model")
    added = ["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>"]
    for shift, there in ((0, True), (1, False)):
        ids = {token: words + shift + number for number, token in enumerate(added)}
        (tmp_path / "added_tokens.json").write_text(json.dumps(ids))
        place = tmp_path.parent / f"shift{shift}"
        shutil.copytree(tmp_path, place)
        if there:
            tokenizer = ivjax.load(place, sizes=size).tokenizer
            assert tokenizer.visual == tokenizer.special("<IMG_CONTEXT>") == size.visual_token
            assert tokenizer.stops == (2, words + 1, words)
        else:
            message = f"gives <IMG_CONTEXT> the id {words + 5} .* from OpenGVLab/InternVideo2_5_Chat_8B"
            with pytest.raises(UserError, match=message):
                ivjax.load(place, sizes=size)


def test_a_language_model_from_a_folder_of_its_own_brings_its_tokenizer(tmp_path):
    family = FAMILIES["videochat2_mistral"]
    size = DIALOGUES["videochat2_mistral_7b_tiny"]
    size = replace(size, language=replace(size.language, vocabulary=WORDS), visual_token=-200)
    tensors = originals(family, size)
    inner = {name for name in tensors if name.startswith("mistral_model.") and ".lora_" not in name}
    write_originals(tmp_path / "trained.pth", {n: t for n, t in tensors.items() if n not in inner})
    alone = replace(size.language, lora=None)
    write_language_model(tmp_path / "language", LLAMA, "mistral", alone, LLAMA_MODEL)
    found = ivjax.load(f"{tmp_path}/trained.pth?language={tmp_path}/language", sizes=size).tokenizer
    assert found.path == str(tmp_path / "language") and found.visual == -200


def test_a_model_is_loaded_without_the_package_that_reads_its_words(tmp_path, monkeypatch):
    write_language_model(tmp_path / "model", LLAMA, "llama", tiny_with(40))
    (tmp_path / "model/tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    tokenizer = ivjax.load(tmp_path / "model").tokenizer
    with pytest.raises(
        UserError, match="read by the package tokenizers, which is not installed: pip install"
    ):
        tokenizer.pieces("a")


def test_a_folder_with_a_tokenizer_json_alone_is_read_and_checked(tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    from tests.data_pipelines.tokenizer_files import PIECES, write_qwen

    size = tiny_with(PIECES + 10, qkv_bias=True)
    write_language_model(tmp_path / "model", LLAMA, "qwen2", size)
    write_qwen(tmp_path / "model/tokenizer.json")
    tokenizer = ivjax.load(tmp_path / "model").tokenizer
    assert tokenizer.pieces("<|im_start|>") == [PIECES + 1] and tokenizer.stops == (PIECES + 2, PIECES)
    assert "Qwen/Qwen2.5" in tokenizer.published
    write_language_model(tmp_path / "small", LLAMA, "qwen2", tiny_with(PIECES, qkv_bias=True))
    with pytest.raises(UserError, match=f"has {PIECES + 3} ids and the model in .* has {PIECES} embeddings"):
        ivjax.load(tmp_path / "small", tokenizer=tmp_path / "model")


def test_ids_beyond_the_embeddings_are_one_sentence(folder, tmp_path):
    small = write_language_model(tmp_path / "small", LLAMA, "llama", tiny_with(WORDS - 20), LLAMA_MODEL)
    message = f"tokenizer {small} has {WORDS} ids and the model in {small} has {WORDS - 20} embeddings; give"
    with pytest.raises(UserError, match=message):
        ivjax.load(small)
    (small / "tokenizer.model").unlink()
    with pytest.raises(UserError, match=f"has {WORDS + 1} ids and the model in .* {WORDS - 20} embeddings"):
        ivjax.load(small, tokenizer=folder)


def test_a_file_that_is_no_tokenizer_is_one_sentence(folder, tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    (tmp_path / "empty").mkdir()
    for place, words in (
        ("vocab.txt", "vocab.txt is not a SentencePiece model: it cannot be read; get"),
        (
            "gone",
            "the tokenizer .*gone is missing: give tokenizer.model or .* from mistralai",
        ),
        ("empty", "empty has no tokenizer: copy tokenizer.model or tokenizer.json"),
    ):
        with pytest.raises(UserError, match=words) as raised:
            ivjax.load(folder, tokenizer=tmp_path / place)
        assert "\n" not in str(raised.value)


def test_every_dialogue_and_language_family_says_where_its_tokenizer_is_published():
    for family in FAMILIES.values():
        for name, size in family.presets.items():
            if not isinstance(size, DialogueSize | LanguageSize):
                continue
            tokenizer = family.tokenizer(size)
            assert isinstance(tokenizer, ChatTokenizer) and " on the Hub" in tokenizer.published, name
            assert tokenizer.visual == getattr(size, "visual_token", None)
            assert all(number < size.vocabulary for _, number in tokenizer.added)
