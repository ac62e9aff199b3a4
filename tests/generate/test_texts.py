"""From text to text: what a loaded model says in words, as it comes and as a whole."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ivjax.convert.families.dialogue.chat_models import INTERNVIDEO2_5_CHAT
from ivjax.convert.families.dialogue.language_models import LLAMA
from ivjax.data_pipelines.tokenizers import ChatTokenizer
from ivjax.data_pipelines.tokenizers.tokenizer import TextStream
from ivjax.errors import UserError
from ivjax.generate import texts as module
from ivjax.generate.decoding import ENDED, Decoding
from ivjax.generate.texts import TextGenerator
from ivjax.models.dialogue.presets import DIALOGUES
from tests.convert.language_folders import (
    INTERNLM_MODEL,
    LLAMA_MODEL,
    tiny_with,
    words_of,
    write_language_model,
)
from tests.convert.originals import originals, write_originals

DOCS = Path(__file__).parents[2] / "docs/stage3.md"
TOKENIZER = ChatTokenizer(str(LLAMA_MODEL))


class Recited:
    """Stands for a Generator: its rows say given tokens, whatever they are asked."""

    def __init__(self, rows):
        self.rows, self.asked, self.steps = rows, None, 0

    def stream(self, prompts, embed=None, *, seed=0):
        self.asked = prompts
        length = max(map(len, self.rows))
        for step in range(length):
            self.steps += 1
            yield np.array([row[step] if step < len(row) else ENDED for row in self.rows], np.int32)


def reciting(monkeypatch, rows, **options):
    recited = Recited(rows)
    monkeypatch.setattr(module, "Generator", lambda *values, **names: recited)
    return TextGenerator(None, None, TOKENIZER, **options), recited


def test_texts_come_as_they_become_certain(monkeypatch):
    said = TOKENIZER.pieces("It jumps 你 .")
    generator, recited = reciting(monkeypatch, [[*said, 2], said[:2]])
    gains = list(generator.stream(["How many ?", [1, 5]]))
    assert recited.asked == [[1, *TOKENIZER.pieces("How many ?")], [1, 5]]
    texts = ["".join(column) for column in zip(*gains, strict=True)]
    assert texts == ["It jumps 你 .", TOKENIZER.decode(said[:2])]
    # Three bytes make the character: it comes whole.
    assert sum("你" in first for first, _ in gains) == 1 and not any("\ufffd" in first for first, _ in gains)


def test_a_character_that_is_never_finished_is_replaced_at_the_end(monkeypatch):
    half = TOKENIZER.pieces("a 你")[:-1]
    generator, _ = reciting(monkeypatch, [half])
    assert generator.generate(["a"]) == ["a \ufffd"]


@pytest.mark.parametrize("later", [" more", ""])
def test_words_that_end_a_text_are_left_out_and_nothing_of_them_is_shown(monkeypatch, later):
    said = [TOKENIZER.pieces(text) for text in ("sits ## down ###" + later, "sits down ##")]
    generator, recited = reciting(monkeypatch, said, until=("###",))
    gains = list(generator.stream(["a", "b"]))
    assert ["".join(column) for column in zip(*gains, strict=True)] == ["sits ## down ", "sits down ##"]
    assert not any("###" in gain for step in gains for gain in step)


def test_it_ends_when_all_texts_have_their_ending(monkeypatch):
    said = TOKENIZER.pieces("sits ### and much more")
    generator, recited = reciting(monkeypatch, [said], until=("###",))
    assert generator.generate(["a"]) == ["sits "]
    assert recited.steps < len(said)


def test_a_text_alone_is_no_list_of_prompts_or_endings(monkeypatch):
    generator, _ = reciting(monkeypatch, [[5]])
    with pytest.raises(UserError, match="prompts must be a list; put the one text into a list"):
        generator.generate("Once upon a time")
    for until in ("###", ("",)):
        with pytest.raises(UserError, match="until must be a tuple of words, such as"):
            reciting(monkeypatch, [[5]], until=until)


def test_a_stream_drops_the_blank_of_a_dummy_prefix_once():
    stream = TextStream(lambda number: b" a"[number : number + 1], drops_blank=True)
    assert [stream.add(0), stream.add(1), stream.add(0, 1), stream.end()] == ["", "a", " a", ""]


def test_the_example_of_the_docs_goes_from_text_to_text(tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r'```python title="text to text"\n(.*?)```', DOCS.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    place = Path(re.search(r'ivjax.load\("(.*?)"', block)[1])
    write_language_model(place, LLAMA, "llama", tiny_with(words_of(LLAMA_MODEL)), LLAMA_MODEL)
    names = {}
    exec(block.replace("new=64", "new=6"), names)
    # The same texts alone and beside others, as a whole and as they come.
    assert capsys.readouterr().out == names["answers"][1] != ""
    loaded = names["loaded"]
    short = TextGenerator(*loaded, Decoding(new=6), limit=12)
    ids = [1, *loaded.tokenizer.pieces("Once upon a time")]
    message = f"prompt 0 has {len(ids)} tokens, which with 6 new ones exceed the limit of 12; shorten"
    with pytest.raises(UserError, match=message):
        short.stream(["Once upon a time"])
    assert names["generator"].generate([ids]) == names["answers"][1:]


@pytest.mark.slow
def test_the_example_of_the_docs_answers_about_a_video(tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r'```python title="about a video"\n(.*?)```', DOCS.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    place = Path(re.search(r'ivjax.load\("(.*?)"', block)[1])
    place.mkdir()
    size = DIALOGUES["internvideo2_5_chat_8b_tiny"]
    write_originals(place / "model.safetensors", originals(INTERNVIDEO2_5_CHAT, size))
    shutil.copy(INTERNLM_MODEL, place / "tokenizer.model")
    added = {"<|im_end|>": 500, "<|im_start|>": 501, "<img>": 502, "</img>": 503, "<IMG_CONTEXT>": 511}
    (place / "added_tokens.json").write_text(json.dumps(added))
    names = {"video": np.zeros((1, 4, *size.vision.image, 3), np.uint8)}
    exec(block.replace("new=64", "new=3"), names)
    (answer,) = names["generator"].generate(
        [names["ids"]], lambda ids: names["model"].embed(names["params"], ids, names["visual"])
    )
    assert capsys.readouterr().out == answer
    with pytest.raises(UserError, match="a DialogueModel and these parameters are no language model"):
        TextGenerator(*names["chat"])
