"""What users of dialogue and language models get wrong, from the file or the command to the one sentence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ivjax
from ivjax.cli import main
from ivjax.convert.conversion import import_file
from ivjax.convert.families.dialogue.chat_models import VIDEOCHAT_FLASH
from ivjax.convert.families.dialogue.language_models import LLAMA
from ivjax.convert.parity import check_parity
from ivjax.errors import UserError
from ivjax.models.dialogue.presets import DIALOGUES
from tests.convert.language_folders import tiny_with, write_language_model
from tests.convert.originals import originals, write_originals

PRESET = "videochat_flash_qwen2_7b_224_tiny"  # named, because to find it traces all of its family
TINY = DIALOGUES[PRESET]
LARGE = replace(TINY, language=replace(TINY.language, vocabulary=TINY.language.vocabulary + 9))
Q, V = (f"base_model.model.model.layers.0.self_attn.{name}_proj." for name in "qv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A chat model with more words than its preset, and a language model of one layer of width 32."""
    folder = tmp_path_factory.mktemp("bad")
    write_originals(folder / "chat.safetensors", originals(VIDEOCHAT_FLASH, LARGE))
    write_language_model(folder / "language", LLAMA, "llama", tiny_with(50))
    return folder


@pytest.fixture(scope="module")
def chat(folder):
    return ivjax.load(folder / "chat.safetensors", PRESET)


def test_more_words_than_the_presets_are_taken_from_the_file_and_reported(folder, chat, capsys):
    words, fewer = LARGE.language.vocabulary, TINY.language.vocabulary
    told = f"language.vocabulary={words} instead of {fewer}, as in the file"
    assert main(["convert", "inspect", str(folder / "chat.safetensors"), "--preset", PRESET]) == 0
    assert told in capsys.readouterr().out
    assert chat.model.size.vocabulary == words and told in repr(chat)
    assert len(chat.params["language"]["word_embed"]) == words


def test_frames_that_make_no_whole_clips_are_refused(chat):
    video = np.zeros((1, 6, *chat.model.size.vision.image, 3), np.uint8)
    with pytest.raises(UserError, match="6 frames does not divide into the tower's clips of 4; take 4"):
        chat.model.see(chat.params, video)


@pytest.mark.parametrize(
    "shape, words",
    [
        ((8, 64, 64, 3), "video must be .videos, frames, height, width, 3., got .8, 64, 64, 3."),
        ((1, 0, 64, 64, 3), "a video of 0 frames shows nothing; give 4 frames or a multiple"),
        ((1, 4, 64, 32, 3), "the frames are 64 x 32 and the tower reads 64 x 64; resize them"),
    ],
)
def test_arrays_that_are_no_videos_are_refused(shape, words):
    with pytest.raises(UserError, match=words):
        TINY.check_video(shape)


def factors(*names, rank=4, inside=32, outside=32):
    """Tensors of a LoRA: `lora_A` are (rank, inside), all others (outside, rank)."""
    return {
        name: np.ones((rank, inside) if "lora_A" in name else (outside, rank), np.float32) for name in names
    }


PAIR = [Q + "lora_A.weight", Q + "lora_B.weight"]
DEEP = [name.replace("layers.0", "layers.9") for name in PAIR]
INTERNLM2 = [name.replace("self_attn.q_proj", "attention.wqkv") for name in PAIR]
STRANGE = ["unet.down.lora_A.weight", "unet.down.lora_B.weight"]


@pytest.mark.parametrize(
    "tensors, words",
    [
        (factors(*PAIR, inside=64), r"another model than this llama: .*lora_A.weight is \(4, 64\), and the"),
        (factors(*DEEP), "another model than this llama: it has no model.layers.0.self_attn.q_proj.lora_A"),
        (factors(*INTERNLM2), "holds no LoRA for llama: its tensors are called .*attention.wqkv"),
        (factors(*STRANGE), "holds no LoRA for llama: its tensors are called unet"),
        (factors(PAIR[1]), "it has no model.layers.0.self_attn.q_proj.lora_A.weight"),
        (factors(*PAIR) | factors(V + "lora_A.weight", rank=8), "has factors of the ranks 4, 8, and here"),
        (factors(PAIR[1]) | {PAIR[0]: np.ones(4, np.float32)}, r"is no LoRA: .* has the shape \(4,\), and"),
    ],
    ids=["width", "depth", "family", "stranger", "half", "ranks", "vector"],
)
def test_a_lora_of_another_model_is_refused(folder, tmp_path, tensors, words):
    write_originals(tmp_path / "lora.safetensors", tensors)
    with pytest.raises(UserError, match=words) as raised:
        ivjax.load(folder / "language", lora=tmp_path / "lora.safetensors")
    assert "\n" not in str(raised.value)


def test_a_lora_inside_a_dialogue_model_is_read_by_the_names_of_its_own_language_model(folder, tmp_path):
    write_originals(tmp_path / "lora.safetensors", factors(*INTERNLM2))
    with pytest.raises(UserError, match="holds no LoRA for llama: its tensors are called .*attention.wqkv"):
        ivjax.load(folder / "chat.safetensors", PRESET, lora=tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match="gone does not exist; give a .safetensors"):
        ivjax.load(folder / "language", lora=tmp_path / "gone")


@pytest.mark.parametrize(
    "change, words",
    [
        ("bridge.heads=3", "^bridge.width=32 does not divide into 3 heads"),
        ("bridge.frame_tokens=200", "^bridge.frame_tokens=200, and a frame has .* tokens; choose 1 to"),
    ],
)
def test_sizes_that_cannot_be_are_refused_whether_or_not_the_tensors_fit(folder, change, words):
    with pytest.raises(UserError, match=words):
        ivjax.load(folder / "chat.safetensors", PRESET, sizes=(change,))


def test_a_damaged_config_is_not_passed_over(tmp_path):
    write_language_model(tmp_path, LLAMA, "llama", tiny_with(50))
    (tmp_path / "config.json").write_text('{"model_type": "lla')
    with pytest.raises(UserError, match="config.json is no JSON .*; fetch it again, or take it away"):
        ivjax.load(tmp_path)


def test_a_branch_is_not_imported_alone(folder, tmp_path):
    with pytest.raises(UserError, match="language is read as a whole here; leave out #vision$"):
        import_file(Path(f"{folder / 'language'}#vision"), tmp_path / "vision.safetensors")


def test_parity_names_the_families_that_are_run_on_fixtures(folder, tmp_path):
    write_originals(tmp_path / "fixture.safetensors", {})
    (tmp_path / "fixture.json").write_text('{"config": {}}')
    with pytest.raises(UserError, match="llama is not run on fixtures; of these families .* viclip"):
        check_parity(folder / "language", tmp_path / "fixture.safetensors")
