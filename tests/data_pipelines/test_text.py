"""Caption cleaning, paragraphs and action prompts against the originals' own output."""

import pytest

from ivjax.data_pipelines.tokenizers.caption_text import (
    ACTION_PROMPTS,
    action_prompts,
    clean_caption,
    count_words,
    join_paragraph,
)
from tests.goldens import Golden

CASES = Golden("stage2_data_rules").json["cases"]


@pytest.mark.golden
@pytest.mark.parametrize("caption,cleaned,cut", CASES["pre_text"])
def test_stage2_data_rules_clean_and_cut_captions(caption, cleaned, cut):
    assert clean_caption(caption) == cleaned
    assert clean_caption(caption, words=4) == cut


@pytest.mark.golden
def test_stage2_data_rules_join_paragraphs_and_fill_prompts():
    for sentences, paragraph in CASES["paragraph"]:
        assert join_paragraph(sentences) == paragraph
    assert list(ACTION_PROMPTS) == CASES["action_prompt_templates"]
    for action, prompts in CASES["action_prompt_pre_text_for_class"].items():
        assert list(action_prompts(action)) == prompts


def test_words_are_counted_after_cleaning():
    assert [count_words(c) for c in ("", " ... ", "(dogs)", "play-fighting dogs!", "one\ttwo")] == [
        0,
        0,
        1,
        3,
        2,
    ]
