"""Tokenizers of language models: parts of conversations as the originals have them, and text as it comes."""

import numpy as np
import pytest

from ivjax.data_pipelines.tokenizers import ChatTokenizer
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
