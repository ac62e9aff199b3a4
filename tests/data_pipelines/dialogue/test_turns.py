"""What a conversation becomes: templates, several media, tiles, questions of a bridge, shuffled pairs."""

from pathlib import Path

import numpy as np
import pytest

from ivjax.data_pipelines import data_options as dp
from ivjax.data_pipelines.augment.recipe import TEST
from ivjax.data_pipelines.dialogue.seeing import ClipForm, Seeing
from ivjax.data_pipelines.dialogue.style import SeenMedia
from ivjax.data_pipelines.dialogue.templates import InternVl, Plain, QwenChat
from ivjax.data_pipelines.dialogue.tiling import Tiling
from ivjax.data_pipelines.dialogue.videochat2 import VideoChat2
from ivjax.data_pipelines.fields import ArraySpec, Turns
from ivjax.data_pipelines.fields.field import RowDraw
from ivjax.data_pipelines.sampling import ByDuration, Intervals
from ivjax.data_pipelines.store.dialogues import MEDIA_MARK, Dialogue, MediaPart
from ivjax.data_pipelines.store.records import ClipError, Turn
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.schedules import WarmupCosine
from ivjax.experiment.storing import store_experiment, stored_experiment
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from tests.goldens import FOLDER

NAMES = ("<|im_start|>", "<|im_end|>", "<img>", "</img>")
TOKENIZER = ChatTokenizer(
    str(FOLDER / "s3_spm_internlm.model"), added=tuple((name, 420 + n) for n, name in enumerate(NAMES))
)
FORM = ClipForm(2, 8, 8)
TALK = (Turn("user", "Who ?"), Turn("assistant", "It jumps ."))


def video(frames=12, fps=2.0, record=0):
    return MediaPart(record, "video", 0, frames, fps, 16, 8)


def image(record=0, width=16):
    return MediaPart(record, "image", 0, 1, 0.0, width, 8)


def seen(kind="video", tokens=2, **options):
    return SeenMedia(kind, np.arange(tokens), **options)


def spoken(style, turns=TALK, media=()):
    """The text of a style, by its items, with * around what is learned."""
    parts = []
    for item in style.items(turns, media):
        shown = {"Opening": "<s>", "Ending": "</s>"}.get(type(item).__name__)
        text = shown or getattr(item, "text", None) or getattr(item, "name", None)
        text = text or "<v>" * len(item.places)
        parts.append(f"*{text}*" if getattr(item, "learned", False) else text)
    return "".join(parts).replace("**", "")


def test_qwen_learns_answers_with_their_headers_and_all_that_opens_and_ends_turns():
    style = QwenChat("Be kind.")
    found = spoken(style, media=[seen(seconds=4.0, frames=2)])
    assert found == (
        "*<|im_start|>*system\nBe kind.*<|im_end|>\n<|im_start|>*user\n<v><v>\nThe video lasts for 4.00 "
        "seconds, and 2 frames are uniformly sampled from it. Who ?*<|im_end|>\n<|im_start|>assistant\n"
        "It jumps .<|im_end|>\n*"
    )
    encoded = style.encode(TALK, [seen(seconds=4.0, frames=2)], TOKENIZER)
    (line,) = TOKENIZER.pieces("\n", plain=True)
    assert encoded.learned[encoded.ids == line].all() and (encoded.ids == line).sum() > 5
    assert not encoded.learned[encoded.places >= 0].any()
    assert spoken(QwenChat(times=False), media=[seen()]).count("user\n<v><v>\nWho ?") == 1


def test_internvl_writes_frames_as_in_training_or_as_in_its_model_card():
    media = [seen(tokens=4, frames=2, seconds=3.0)]
    frames = "Frame1: <img><v><v></img>\nFrame2: <img><v><v></img>"
    said = "The video lasts for 3.00 seconds, and 2 frames are uniformly sampled from it.\n"
    assert f"user\n{said}{frames}Who ?<|im_end|>" in spoken(InternVl(), media=media)
    assert f"user\n{frames}\nWho ?<|im_end|>" in spoken(InternVl(frames="chat"), media=media)
    assert "user\n<img><v><v></img>\nWho ?" in spoken(InternVl(), media=[seen("image")])


def test_several_media_stand_where_the_text_speaks_of_them():
    turns = (Turn("user", f"Is {MEDIA_MARK} like {MEDIA_MARK} ?"), *TALK[1:])
    media = [seen("image"), SeenMedia("image", np.arange(2, 5))]
    style = InternVl()
    assert "user\nIs <img><v><v></img> like <img><v><v><v></img> ?<|im_end|>" in spoken(style, turns, media)
    encoded = style.encode(turns, media, TOKENIZER)
    assert encoded.places[encoded.places >= 0].tolist() == [0, 1, 2, 3, 4]
    both = spoken(VideoChat2("mistral"), turns, media)
    assert both == (
        "<s>[INST] <Image><v><v></Image> [/INST] [INST] <Image><v><v><v></Image> [/INST] [INST] "
        "Is  like  ? [/INST]* It jumps . </s>*"
    )
    with pytest.raises(ValueError, match="2 marks of media and 1 media"):
        style.encode(turns, media[:1], TOKENIZER)


def test_a_conversation_that_ends_with_a_question_is_left_open_for_the_answer():
    asked = (*TALK, Turn("user", "Why ?"))
    assert spoken(InternVl(), asked).endswith("user\nWhy ?<|im_end|>\n<|im_start|>assistant\n")
    assert spoken(QwenChat(), asked).endswith("user\nWhy ?*<|im_end|>\n<|im_start|>*assistant\n")
    assert spoken(VideoChat2("vicuna"), asked).endswith(" ###Human:* Why ? ###Assistant:")
    assert spoken(VideoChat2("mistral"), asked).endswith(" [INST] Why ? [/INST]")
    assert spoken(Plain(), TALK, [seen("image")]) == "<s><v><v>*It jumps .\n*"


def test_what_somebody_writes_ends_no_turn():
    turns = (Turn("user", "Say <|im_end|>"), Turn("assistant", "No."))
    encoded = InternVl().encode(turns, [], TOKENIZER)
    assert (encoded.ids == TOKENIZER.special("<|im_end|>")).sum() == 3


class Pictures:
    """Media whose pictures are all of one grey: ten times their frame number."""

    def video(self, number):
        return self

    def read(self, indices, box=None, size=None):
        height, width = size or (8, 16)
        grey = 10 * np.asarray(indices, np.uint8)[:, None, None, None]
        return np.broadcast_to(grey, (len(indices), height, width, 3)).copy()


def field(seeing, style=None, **options):
    return Turns(style or InternVl(), TOKENIZER, seeing, **options)


def made(turns_field, *media, turns=TALK):
    dialogue = Dialogue("d", media, turns)
    size = turns_field.measure(dialogue, FORM)
    talk = turns_field.make(dialogue, Pictures(), FORM, RowDraw(0, 0, 0))
    # Counted without being encoded, it is as long as it will be.
    assert size == (len(talk.words.ids), len(talk.clips), len(talk.images))
    return size, talk


def test_a_long_video_has_as_many_frames_as_its_length_asks_for():
    turns = field(Seeing(ByDuration(8, local=2, least=2), clip_tokens=4))
    for frames, wanted in ((4, 2), (12, 6), (100, 8)):
        size, talk = made(turns, video(frames))
        assert size.clips == wanted // 2 == len(talk.clips) and size.tokens == len(talk.words.ids)
        assert (talk.words.places >= 0).sum() == 4 * size.clips
    # Frames that fill up the last clip are its last one again.
    _, talk = made(field(Seeing(Intervals(3, pick="middle"), clip_tokens=4)), video(6))
    assert talk.clips[:, :, 0, 0, 0].tolist() == [[0, 20], [40, 40]]


def test_times_are_told_from_the_beginning_of_the_part_that_is_seen():
    part = MediaPart(0, "video", 10, 34, 2.0, 16, 8)
    for style, wanted in (
        (VideoChat2("mistral", times=True), "contains 4 frames sampled at 1.0, 4.0, 7.0, 10.0 seconds."),
        (
            InternVl(),
            "The video lasts for 12.00 seconds, and 4 frames are uniformly sampled from it.\nFrame1:",
        ),
        (QwenChat(), "The video lasts for 12.00 seconds, and 4 frames are uniformly sampled from it. Who ?"),
    ):
        _, talk = made(field(Seeing(Intervals(4, "middle"), clip_tokens=4), style), part)
        assert wanted in TOKENIZER.decode(talk.words.ids[talk.words.places < 0])
        # Frames 12, 18, 24 and 30 of the stored video; the grey of the last one is cut off to a byte.
        assert talk.clips[:, :, 0, 0, 0].tolist() == [[120, 180], [240, 300 % 256]]


def test_a_conversation_of_several_videos_has_the_clips_of_each_where_it_speaks_of_them():
    turns = (
        Turn("user", f"Is {MEDIA_MARK} like {MEDIA_MARK} ?"),
        Turn("assistant", "Yes ."),
        Turn("user", f"And {MEDIA_MARK} ?"),
        Turn("assistant", "No ."),
    )
    seeing = Seeing(ByDuration(8, local=2, least=2), clip_tokens=4)
    size, talk = made(field(seeing), video(4), video(12, record=1), video(4, record=2), turns=turns)
    assert size.clips == len(talk.clips) == 1 + 3 + 1
    placed = np.flatnonzero(talk.words.places >= 0)
    np.testing.assert_array_equal(talk.words.places[placed], np.arange(5 * 4))
    # The third video is spoken of behind the first answer.
    first_answer = np.flatnonzero(talk.words.learned)[0]
    assert (placed < first_answer).sum() == 4 * 4
    assert talk.words.learned.sum() > 2


def test_a_video_that_is_shorter_than_a_clip_and_a_talk_without_answer_are_no_use():
    turns = field(Seeing(Intervals(2), clip_tokens=4))
    with pytest.raises(ClipError, match="shorter than a clip: it has 1 frames and the tower reads 2"):
        made(turns, video(1))
    with pytest.raises(ClipError, match="no answer"):
        made(turns, video(), turns=TALK[:1])


def test_images_are_images_or_clips_of_equal_frames():
    _, talk = made(field(Seeing(Intervals(2), 4, image_tokens=2)), image(), video())
    assert talk.images.shape == (1, 8, 8, 3) and talk.clips.shape == (1, 2, 8, 8, 3)
    # Tokens of all clips are numbered before those of images, whatever comes first in the text.
    assert talk.words.places[talk.words.places >= 0].tolist() == [4, 5, 0, 1, 2, 3]
    _, talk = made(field(Seeing(Intervals(2), 4)), image())
    assert talk.clips.shape == (1, 2, 8, 8, 3) and not len(talk.images)


def test_tiles_are_clips_or_images_of_their_own():
    size, talk = made(field(Seeing(Intervals(4), 4, augment=TEST, tiling=Tiling("hd", 2))), video())
    # A picture twice as wide as high: two tiles and the whole, each of two clips.
    assert size.clips == 6 == len(talk.clips)
    turns = field(Seeing(Intervals(4), 4, 4, tiling=Tiling("any", 2, videos=False)))
    size, talk = made(turns, image(), video())
    assert (size.clips, size.images) == (2, 3)
    order = [0, 1, 2, 3, 4, 5, 8, 9, 6, 7, 10, 11]
    places = talk.words.places[talk.words.places >= 0]
    assert places[:12].tolist() == [8 + place for place in order]


def test_pairs_are_shuffled_behind_the_instruction():
    pairs = [turn for n in range(6) for turn in (Turn("user", f"q{n}"), Turn("assistant", f"a{n}"))]
    turns = (Turn("system", "Look ."), *pairs)
    shuffled = field(Seeing(Intervals(2), 4), VideoChat2("mistral"), shuffle=True)
    plain = field(Seeing(Intervals(2), 4), VideoChat2("mistral"))
    (size, one), (same, other) = (made(f, video(), turns=turns) for f in (shuffled, plain))
    assert len(one.words.ids) == len(other.words.ids) and size == same
    assert (one.words.ids != other.words.ids).any()
    assert sorted(one.words.ids) == sorted(other.words.ids)


class Letters:
    """A tokenizer of a bridge: a number for each letter, 9 before and 0 behind."""

    length, vocabulary_size = 6, 200

    def encode(self, text):
        ids = [9, *(ord(letter) for letter in text)][: self.length]
        return np.array(ids + [0] * (self.length - len(ids)), np.int32)


def test_a_bridge_reads_the_instruction():
    turns = (Turn("system", "ab"), *TALK)
    for end, wanted in ((False, [9, 97, 98, 0, 0, 0]), (True, [0, 0, 0, 9, 97, 98])):
        reading = field(Seeing(Intervals(2), 4), VideoChat2("mistral"), question=Letters(), question_end=end)
        ids, mask = made(reading, video(), turns=turns)[1].question
        assert ids.tolist() == wanted and mask.tolist() == [number > 0 for number in wanted]
    spec = {"question": ArraySpec((4, 7), np.dtype(np.int32))}
    with pytest.raises(UserError, match="question.length=6 and the stage wants 7 tokens"):
        reading.check("data.fields.dialogue", spec)
    with pytest.raises(UserError, match="set data.fields.dialogue.question to its tokenizer"):
        field(Seeing(Intervals(2), 4)).check("data.fields.dialogue", spec)


def test_a_line_for_each_frame_needs_tokens_of_each_frame():
    spec = {"video": ArraySpec((4, 2, 8, 8, 3), np.dtype(np.uint8))}
    field(Seeing(Intervals(2), 3), VideoChat2()).check("data.fields.dialogue", spec)
    with pytest.raises(UserError, match="clip_tokens=3 do not divide among the 2 frames of a clip"):
        field(Seeing(Intervals(2), 3)).check("data.fields.dialogue", spec)


def test_a_missing_vocabulary_is_met_at_the_start(tmp_path):
    missing = ChatTokenizer(str(Path(tmp_path) / "gone.model"))
    with pytest.raises(UserError, match="gone.model"):
        Turns(InternVl(), missing, Seeing(Intervals(2), 4)).check("data.fields.dialogue", {})


def test_the_options_of_conversations_are_overridden_and_stored_with_a_run(tmp_path):
    seeing = Seeing(ByDuration(8, least=4), clip_tokens=4)
    data = dp.Dialogues((dp.Corpus("a"),), {"dialogue": dp.Turns(VideoChat2(), TOKENIZER, seeing)})
    changes = ["fields.dialogue.style=QwenChat(times=false)", "fields.dialogue.seeing.rule=Intervals(4)"]
    changed = apply_overrides(data, [*changes, "fields.dialogue.seeing.tiling=Tiling('hd', 4)", "pack=false"])
    turns = changed.fields["dialogue"]
    assert turns.style == QwenChat(times=False) and not changed.pack
    assert turns.seeing == Seeing(Intervals(4), 4, tiling=Tiling("hd", 4))
    stage = VideoDialogue(DIALOGUES["internvideo2_5_chat_8b_tiny"], (Bucket("main", 512, 4),))
    store_experiment(Experiment(stage, changed, 1, 1, WarmupCosine(1e-3)), tmp_path)
    assert stored_experiment(tmp_path).data == changed
