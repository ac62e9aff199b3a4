"""Conversation styles: token ids and label masks of the originals, and what the golden does not cover."""

import json
import re
import shutil

import numpy as np
import pytest

from ivjax.data_pipelines.dialogue.style import SeenMedia
from ivjax.data_pipelines.dialogue.templates import InternVl, QwenChat
from ivjax.data_pipelines.dialogue.videochat2 import VideoChat2
from ivjax.data_pipelines.store.records import Turn
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from tests.goldens import FOLDER, Golden

MASKING = "s3_label_masking"


@pytest.fixture(scope="module")
def golden():
    return Golden(MASKING)


def labels(encoded):
    return np.where(encoded.learned, encoded.ids, -100)


@pytest.mark.golden
@pytest.mark.parametrize("name", [MASKING])
def test_internvl_conversations_have_the_originals_ids_and_labels(golden, name):
    outputs = golden.group("outputs/internvl")
    paths = sorted({key.rpartition("/")[0] for key in outputs})
    # The slow path tokenises the same conversation otherwise.
    assert {path.removesuffix("_slow") for path in paths} == {
        key.removeprefix("internvl/") for key in golden.config if key.startswith("internvl/")
    }
    added = golden.config["added_token_ids"]
    tokenizer = ChatTokenizer(str(FOLDER / "s3_spm_internlm.model"), added=tuple(added.items()))
    common = golden.config["internvl_common"]
    frames, each = common["num_frames"], common["tokens_per_frame"]
    video = SeenMedia("video", np.arange(frames * each), frames, seconds=common["duration"])
    roles = {"human": "user", "gpt": "assistant"}
    for path in paths:
        template = path.removesuffix("_slow")
        conversation = golden.config[f"internvl/{template}"]["conversation"]
        turns = [Turn(roles[turn["from"]], turn["value"]) for turn in conversation]
        # What the style writes of the video is in the fixture's first question.
        turns[0] = Turn("user", turns[0].text.rpartition("<image>")[2])
        encoded = InternVl(template, slow=path != template).encode(turns, [video], tokenizer)
        ids = np.where(encoded.places >= 0, added["<IMG_CONTEXT>"], encoded.ids)
        np.testing.assert_array_equal(ids, outputs[f"{path}/input_ids"])
        np.testing.assert_array_equal(labels(encoded), outputs[f"{path}/labels"])
        np.testing.assert_array_equal(encoded.places[encoded.places >= 0], np.arange(frames * each))


@pytest.mark.golden
@pytest.mark.parametrize("name", [MASKING])
def test_qwen_conversations_tell_the_times_of_a_video_in_the_originals_words(golden, name):
    common = golden.config["internvl_common"]
    video = SeenMedia("video", np.arange(2), common["num_frames"], seconds=common["duration"])
    asked = [Turn("user", "Who ?"), Turn("assistant", "It jumps .")]
    texts = [getattr(item, "text", "") for item in QwenChat().items(asked, [video])]
    assert common["timestamp_text"] in texts


def turns_of(pairs):
    turns = [Turn("system", pairs[0]["i"])] if pairs[0].get("i") else []
    for pair in pairs:
        turns += [Turn("user", pair["q"]), Turn("assistant", pair["a"])]
    return turns


@pytest.mark.golden
@pytest.mark.parametrize("language", ["vicuna", "mistral"])
@pytest.mark.parametrize("name", [MASKING])
def test_videochat2_conversations_have_the_originals_ids_labels_and_embeddings(golden, name, language):
    options = golden.config[f"videochat2/{language}"]
    said = re.search(r"contains (\d+) frames sampled at (.*) seconds", options["time_message"])
    frames, times = (int(said[1]), tuple(map(float, said[2].split(", ")))) if said else (1, ())
    video = SeenMedia("video", np.arange(options["num_visual_tokens"]), frames, times)
    style = VideoChat2(language, times=bool(said))
    tokenizer = ChatTokenizer(str(FOLDER / "s3_spm_llama.model"))
    table = golden[f"inputs/videochat2/{language}/embed_table"]
    for row, pairs in enumerate(options["qa"]):
        turns = turns_of(pairs)
        encoded = style.encode(turns, [video], tokenizer)
        before = golden[f"outputs/videochat2/{language}/sample{row}/ids_before"]
        after = golden[f"outputs/videochat2/{language}/sample{row}/ids_after"]
        placed = np.flatnonzero(encoded.places >= 0)
        assert encoded.ids[0] == tokenizer.bos
        np.testing.assert_array_equal(encoded.ids[1 : placed[0]], before)
        np.testing.assert_array_equal(encoded.ids[placed[-1] + 1 :], after)
        length = len(encoded.ids)
        wanted = golden[f"outputs/videochat2/{language}/labels"][row]
        np.testing.assert_array_equal(labels(encoded), wanted[:length])
        assert (wanted[length:] == -100).all()
        assert golden[f"outputs/videochat2/{language}/attention_mask"][row].sum() == length
        # The slot of the start token holds its number, and padding the embedding of the end token.
        embedded = table[np.pad(encoded.ids, (0, len(wanted) - length), constant_values=tokenizer.pad)]
        embedded[0] = tokenizer.bos
        embedded[placed] = golden[f"inputs/videochat2/{language}/visual_tokens"][row]
        np.testing.assert_array_equal(embedded, golden[f"outputs/videochat2/{language}/inputs_embeds"][row])
        assert style.question(turns) == options["qformer_instruction"][row]


def written_out(turns):
    """What VideoChat2 with Mistral and Phi-3 makes ids of: all behind the visual tokens, as one text."""
    asked = [
        f" [INST] {turn.text} [/INST]" if turn.role == "user" else f" {turn.text} </s>" for turn in turns
    ]
    return "</Video> [/INST]" + "".join(asked)


@pytest.mark.parametrize("kind", ["phi", "mistral"])
def test_behind_the_end_of_an_answer_words_have_the_ids_of_the_whole_text(kind, tmp_path):
    shutil.copy(FOLDER / "s3_spm_llama.model", tmp_path / "tokenizer.model")
    flags = {"lstrip": False, "rstrip": kind == "phi", "normalized": False, "single_word": False}
    tokens = {"2": flags | {"content": "</s>", "special": kind != "phi"}}
    end = "</s>"
    if kind == "phi":
        # Phi-3's files: no prefix behind special tokens, and another token that ends its own texts.
        words = ChatTokenizer(str(tmp_path)).vocabulary_size
        end = "<|endoftext|>"
        tokens[str(words)] = flags | {"content": end, "rstrip": False, "special": True}
    said = {"legacy": kind != "phi", "eos_token": end, "added_tokens_decoder": tokens}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    tokenizer = ChatTokenizer(str(tmp_path))
    turns = turns_of(
        [{"q": "What does the cat do ?", "a": "It jumps ."}, {"q": "Who ?", "a": "The person ."}]
    )
    encoded = VideoChat2("mistral").encode(turns, [SeenMedia("video", np.arange(2))], tokenizer)
    behind = encoded.ids[np.flatnonzero(encoded.places >= 0)[-1] + 1 :]
    np.testing.assert_array_equal(behind, tokenizer.pieces(written_out(turns)))
    # Both answers are learned, with the token that ends them.
    said = tokenizer.decode(encoded.ids[encoded.learned], specials=True)
    assert said == "It jumps . </s> The person . </s>"
    # What somebody writes ends nothing.
    turns[0] = Turn("user", "Who </s> ?")
    ids = VideoChat2("mistral").encode(turns, [], tokenizer).ids.tolist()
    assert ids.count(2) == 2
