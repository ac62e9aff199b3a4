"""Conversation styles: token ids and label masks of the originals, and what the golden does not cover."""

import re

import numpy as np
import pytest

from ivjax.data_pipelines.dialogue.style import SeenMedia
from ivjax.data_pipelines.dialogue.templates import InternVl
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
@pytest.mark.parametrize("path", ["internvl2_5", "internlm2-chat", "internlm2-chat_slow"])
@pytest.mark.parametrize("name", [MASKING])
def test_internvl_conversations_have_the_originals_ids_and_labels(golden, name, path):
    template, _, slow = path.partition("_slow") if path.endswith("_slow") else (path, "", "")
    options, common = golden.config[f"internvl/{template}"], golden.config["internvl_common"]
    added = golden.config["added_token_ids"]
    tokenizer = ChatTokenizer(str(FOLDER / "s3_spm_internlm.model"), added=tuple(added.items()))
    frames, each = common["num_frames"], common["tokens_per_frame"]
    video = SeenMedia("video", np.arange(frames * each), frames, seconds=common["duration"])
    roles = {"human": "user", "gpt": "assistant"}
    turns = [Turn(roles[turn["from"]], turn["value"]) for turn in options["conversation"]]
    # What the style writes of the video is in the fixture's first question.
    turns[0] = Turn("user", turns[0].text.rpartition("<image>")[2])
    encoded = InternVl(template, slow=path.endswith("_slow")).encode(turns, [video], tokenizer)
    visual = added["<IMG_CONTEXT>"]
    np.testing.assert_array_equal(
        np.where(encoded.places >= 0, visual, encoded.ids), golden[f"outputs/internvl/{path}/input_ids"]
    )
    np.testing.assert_array_equal(labels(encoded), golden[f"outputs/internvl/{path}/labels"])
    np.testing.assert_array_equal(encoded.places[encoded.places >= 0], np.arange(frames * each))


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
    visual = options["num_visual_tokens"]
    video = SeenMedia(
        "video", np.arange(visual), int(said[1]), tuple(float(time) for time in said[2].split(", "))
    )
    style = VideoChat2(language, times=True)
    tokenizer = ChatTokenizer(str(FOLDER / "s3_spm_llama.model"))
    table = golden[f"inputs/videochat2/{language}/embed_table"]
    for row, pairs in enumerate(options["qa"]):
        turns = turns_of(pairs)
        encoded = style.encode(turns, [video._replace(frames=int(said[1]))], tokenizer)
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
