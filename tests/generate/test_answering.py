"""Questions about videos: the prompts of training, answers of the whole model, and what is read only once."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ivjax.convert.loading import Loaded
from ivjax.data_pipelines import data_options as dp
from ivjax.data_pipelines.demo.needle_video import NeedleVideo
from ivjax.data_pipelines.fields import Turns
from ivjax.data_pipelines.fields.field import RowDraw
from ivjax.data_pipelines.store.dialogues import Dialogue, MediaPart
from ivjax.data_pipelines.store.records import ClipError, Turn
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.generate.answering import Answerer, ScoreRequest, turns_of
from ivjax.generate.decoding import Decoding
from ivjax.generate.opening import VideoInput, opened
from ivjax.generate.watching import Watcher
from ivjax.models.bridge import Question
from ivjax.models.dialogue.presets import DIALOGUES
from tests.goldens import FOLDER
from tests.models.params import any_params

SIZE = DIALOGUES["internvideo2_5_chat_8b_tiny"]
TOKENIZER = ChatTokenizer(str(FOLDER / "s3_spm_llama.model"))
SEEING = dp.Seeing(dp.Intervals(12), clip_tokens=SIZE.visual_tokens(4))
TURNS = Turns(dp.VideoChat2("mistral"), TOKENIZER, SEEING)
ASKED = (Turn("system", "Describe ."), Turn("user", "How many times ?"))
OPTIONS = Decoding(new=6, chunk=64)
VIDEO = NeedleVideo(1, 0, 40)


@pytest.fixture(scope="module")
def model():
    return SIZE.build(Compute("float32"))


@pytest.fixture(scope="module")
def params(model):
    return jax.tree.map(jnp.asarray, any_params(model))


@pytest.fixture(scope="module")
def answerer(model, params):
    return Answerer(model, params, TURNS, OPTIONS, clips=2)


@pytest.fixture(scope="module")
def watched(answerer):
    return answerer.watch([VideoInput(VIDEO)])


@pytest.fixture(scope="module")
def logits(model, params, watched):
    """A function from token ids and places to the logits (L, V) of the whole model in one pass."""

    @jax.jit
    def whole(ids, places):
        states = model.states(params, model.embed(params, ids, watched.visual[None], places))
        return model.language.logits(params["language"], states)[0]

    def padded(ids, places):
        count = len(ids)
        ids, places = np.pad(ids, (0, 128 - count)), np.pad(places, (0, 128 - count), constant_values=-1)
        return np.asarray(whole(ids[None].astype(np.int32), places[None]))[:count]

    return padded


def test_prompts_and_clips_are_those_of_training_token_for_token(answerer, model, params, watched):
    talk = (*ASKED, Turn("assistant", "Three times ."))
    part = MediaPart(0, "video", 0, VIDEO.frames, 1.0, 112, 112)
    # What a loader reads for an eval: it draws nothing.
    field = Turns(TURNS.style, TOKENIZER, SEEING.for_tests())
    media = SimpleNamespace(video=lambda number: VIDEO)
    trained = field.make(Dialogue("a", (part,), talk), media, answerer._watcher.form, RowDraw(0, 0, 0))
    prompt = answerer.prompt(watched, ASKED)
    first = int(np.argmax(trained.words.learned))
    np.testing.assert_array_equal(prompt.ids, trained.words.ids[:first])
    np.testing.assert_array_equal(prompt.places, trained.words.places[:first])
    seen = jax.jit(model.see)(params, trained.clips.reshape(1, -1, *trained.clips.shape[2:]))
    # Three clips in batches of two: those of the whole video.
    np.testing.assert_allclose(watched.visual, seen[0], rtol=1e-5, atol=1e-5)
    assert (watched.frames, watched.unmerged, len(watched.visual)) == (12, 48, 24)


def test_answers_are_the_likeliest_words_of_the_whole_model(answerer, watched, logits):
    prompt = answerer.prompt(watched, ASKED)
    tokens = list(answerer._reader.stream(prompt))
    ids = np.concatenate([prompt.ids, tokens])
    said = logits(ids, np.pad(prompt.places, (0, len(tokens)), constant_values=-1)).argmax(-1)
    assert said[len(prompt) - 1 : -1].tolist() == tokens
    text = "".join(answerer.stream(prompt))
    assert text == TOKENIZER.decode(token for token in tokens if token not in TOKENIZER.stops)


@pytest.mark.slow
def test_a_batch_of_prompts_has_the_answers_of_single_ones(answerer, watched):
    prompts = [answerer.prompt(watched, ASKED), answerer.prompt(None, [Turn("user", "Who ?")])]
    alone = ["".join(answerer.stream(prompt)) for prompt in prompts]
    # The second batch of two is filled up.
    assert answerer.generate([*prompts, prompts[0]], rows=2) == [*alone, alone[0]]


def test_what_a_prompt_shares_with_the_one_before_is_not_read_again(answerer, watched, logits):
    first = answerer.prompt(watched, ASKED)
    answer = list(answerer._reader.stream(first))
    longer = [*ASKED, Turn("assistant", TOKENIZER.decode(answer)), Turn("user", "Who ?")]
    second = answerer.prompt(watched, longer)
    found = answerer._reader.read(second)
    assert len(first) <= answerer.reused < len(second)
    np.testing.assert_allclose(found[0], logits(second.ids, second.places)[-1], rtol=1e-4, atol=1e-4)
    # The same video once more, watched anew: its visual tokens have other serials.
    again = answerer.prompt(answerer.watch([VideoInput(VIDEO)]), ASKED)
    answerer._reader.read(again)
    assert answerer.reused == int(np.argmax(again.places >= 0))


def test_scores_are_log_likelihoods_of_the_answers_tokens(answerer, watched, logits):
    answers = ["It jumps .", "The person ."]
    found = answerer.score(watched, ASKED, answers)
    prompt = answerer.prompt(watched, ASKED)
    for answer, score, count in zip(answers, *found, strict=True):
        whole = answerer.prompt(watched, ASKED, answer)
        np.testing.assert_array_equal(whole.ids[: len(prompt)], prompt.ids)
        logs = np.asarray(jax.nn.log_softmax(jnp.asarray(logits(whole.ids, whole.places))))
        ids = whole.ids[len(prompt) :]
        assert len(ids) == count
        expected = logs[np.arange(len(prompt) - 1, len(whole) - 1), ids].sum()
        np.testing.assert_allclose(score, expected, rtol=1e-4)
    # An answer that begins with the whole of another one, and words that all answers begin with.
    assert answerer.score(watched, ASKED, ["It", "It jumps"]).tokens.min() > 0
    letters = answerer.score(watched, ASKED, ["A", "B"], begin="Best option:(")
    assert len(letters.log_likelihoods) == 2 and np.all(letters.log_likelihoods < 0)


def test_whole_answers_are_scored_with_what_ends_them(answerer, watched, logits):
    answers, expected = ["It .", "The ."], []
    (found,) = answerer.score_texts([ScoreRequest(watched, ASKED, answers)])
    for answer in answers:
        words = TURNS.style.encode([*ASKED, Turn("assistant", answer)], watched.media, TOKENIZER)
        logs = np.asarray(jax.nn.log_softmax(jnp.asarray(logits(words.ids, words.places))))
        learned = np.flatnonzero(words.learned)
        assert words.ids[learned[-1]] == TOKENIZER.eos
        expected.append(logs[learned - 1, words.ids[learned]].sum())
    # What both begin with counts for neither.
    np.testing.assert_allclose(found[0] - found[1], expected[0] - expected[1], rtol=1e-3, atol=1e-4)


def test_the_first_tokens_in_which_answers_differ_are_scored_in_batches(answerer, watched, logits):
    answers = ["It jumps .", "The person ."]
    requests = [ScoreRequest(watched, ASKED, answers), ScoreRequest(None, [Turn("user", "Who ?")], answers)]
    found, _ = answerer.score_first(requests, rows=2)
    first, second = (answerer.prompt(watched, ASKED, answer) for answer in answers)
    end = int(np.argmax(first.ids[: len(second.ids)] != second.ids[: len(first.ids)]))
    behind = logits(first.ids[:end], first.places[:end])[-1]
    logs = np.asarray(jax.nn.log_softmax(jnp.asarray(behind)))
    np.testing.assert_allclose(found, logs[[first.ids[end], second.ids[end]]], rtol=1e-4)
    # Two that begin alike are told apart by all of their tokens.
    alike = ScoreRequest(watched, ASKED, ["It jumps .", "It jumps .", "The person ."])
    (found,) = answerer.score_first([alike])
    np.testing.assert_allclose(found, answerer.score(*alike).log_likelihoods)


def test_clips_of_another_video_take_the_place_of_some(answerer):
    other = NeedleVideo(1, 0, 40, depth=0.5)
    haystack = answerer.watch([VideoInput(VIDEO, numbers=range(40))])
    needle = answerer.watch([VideoInput(other, numbers=range(20, 24))])
    whole = answerer.watch([VideoInput(other, numbers=range(40))])
    mixed = haystack.with_clips(5, needle)
    np.testing.assert_allclose(mixed.visual, whole.visual, rtol=1e-5, atol=1e-5)
    answerer._reader.read(answerer.prompt(haystack, ASKED))
    prompt = answerer.prompt(mixed, ASKED)
    answerer._reader.read(prompt)
    assert answerer.reused == int(np.argmax(prompt.places == 5 * SEEING.clip_tokens))
    with pytest.raises(UserError, match="1 clips cannot take the place of clips from 10 on"):
        haystack.with_clips(10, needle)


def test_frames_are_spread_evenly_over_the_part_that_is_asked_about(answerer):
    part = VideoInput(VIDEO, start=10.0, end=30.0)
    (media,) = answerer.watch([part], frames=9).media
    # Nine are no whole clips of four, so eight are read.
    assert media.frames == 8 and media.seconds == 20.0
    assert media.times == (0.0, 3.0, 5.0, 8.0, 10.0, 13.0, 15.0, 18.0)
    short = answerer.watch([VideoInput(VIDEO, start=0.0, end=6.0)], frames=100)
    assert short.frames == 6 and short.media[0].frames == 8


def test_a_part_is_that_of_videos_and_not_of_still_images(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    with opened(VideoInput(tmp_path / "a.png", start=1.0, end=2.0)) as image:
        assert (image.part.kind, image.part.first, image.part.stop) == ("image", 0, 1)


@pytest.mark.parametrize(
    ("asked", "frames", "message"),
    [
        (VideoInput("gone.mp4"), None, "gone.mp4 does not exist; name a video or an image"),
        (VideoInput(VIDEO, end=3.0), None, "shorter than a clip: the video: it has 3 frames"),
        (VideoInput(VIDEO, start=50.0), None, "the part starts at 50 s of 40.000 s"),
        (VideoInput(VIDEO, start=5.0, end=4.0), None, "the part runs from 5 s to 4.0 s"),
        (VideoInput(VIDEO), 3, "3 frames are less than a clip of the model; ask for 4 or more"),
        (VideoInput(VIDEO, numbers=range(6)), None, "6 frames are no whole clips of 4"),
        (VideoInput("tests"), None, "tests is a folder; name a video"),
    ],
)
def test_media_that_cannot_be_watched_are_one_sentence(answerer, asked, frames, message):
    with pytest.raises((UserError, ClipError), match=message):
        answerer.watch([asked], frames)


def test_questions_and_models_that_do_not_fit_are_one_sentence(answerer, model, params, watched):
    for turns in ((), (Turn("user", " "),), (*ASKED, Turn("assistant", "Yes ."))):
        with pytest.raises(UserError, match="there is no question; ask something"):
            answerer.prompt(watched, turns)
    marks = Answerer(model, params, Turns(dp.QwenChat(), TOKENIZER, SEEING), OPTIONS)
    with pytest.raises(UserError, match="2 marks of media and 1 media; name as many videos"):
        marks.prompt(watched, [Turn("user", "<media> or <media> ?")])
    with pytest.raises(UserError, match="there must be answers to score"):
        answerer.score(watched, ASKED, ["It", ""])
    limited = Answerer(model, params, TURNS, OPTIONS, limit=20)
    with pytest.raises(UserError, match="tokens, which with 6 new ones exceed the limit of 20"):
        limited._reader.read(answerer.prompt(watched, ASKED))
    with pytest.raises(UserError, match="a clip has 5 visual tokens in the data's options, and 8 in the"):
        Answerer(model, params, Turns(TURNS.style, TOKENIZER, dp.Seeing(dp.Intervals(8), clip_tokens=5)))
    tower = Loaded(model.tower, params["vision"], None, path="tower.safetensors")
    with pytest.raises(UserError, match="tower.safetensors holds a .*, which answers no questions"):
        turns_of(tower)


@pytest.mark.slow
@pytest.mark.parametrize(
    "inputs", [["image", "video"], ["video", "image", "image"]], ids=lambda each: " ".join(each)
)
def test_tiles_and_still_images_are_those_of_training(model, params, inputs):
    seeing = dp.Seeing(
        dp.Intervals(8), SIZE.visual_tokens(4), SIZE.visual_tokens(1), tiling=dp.Tiling("hd", tiles=2)
    )
    watcher = Watcher(model, params, seeing, clips=2)
    picture = np.random.default_rng(0).integers(0, 256, (1, 60, 130, 3), np.uint8)
    media = {"image": VideoInput(picture), "video": VideoInput(np.repeat(picture, 9, 0), frame_rate=1.0)}
    found = watcher.watch([media[name] for name in inputs])
    see, trained = jax.jit(model.see), {"video": [], "image": []}
    for name in inputs:
        with opened(media[name]) as video:
            view = seeing.for_tests().view(video.part, watcher.form, np.random.default_rng(0))
            pictures = seeing.for_tests().pictures(view, video, watcher.form, np.random.default_rng(0))
        clips = pictures[:, None] if name == "image" else pictures
        trained[name].append(np.asarray(see(params, clips)).reshape(-1, SIZE.bridge.out))
    expected = np.concatenate([*trained["video"], *trained["image"]])
    np.testing.assert_allclose(found.visual, expected, rtol=1e-5, atol=1e-5)
    assert [media.kind for media in found.media] == inputs


class Letters:
    """The words of a bridge: a number for each letter."""

    length = 8

    def encode(self, text):
        return np.pad(
            np.array([ord(letter) % 60 + 1 for letter in text[:8]], np.int32), (0, 8 - len(text[:8]))
        )


@pytest.mark.slow
def test_a_bridge_reads_the_instruction_beside_each_clip():
    size = DIALOGUES["videochat2_mistral_7b_tiny"]
    model = size.build(Compute("float32"))
    params = jax.tree.map(jnp.asarray, any_params(model))
    seeing = dp.Seeing(dp.Intervals(16), size.visual_tokens(8))
    turns = Turns(dp.VideoChat2("mistral"), TOKENIZER, seeing, question=Letters(), question_end=True)
    answerer = Answerer(model, params, turns, OPTIONS, clips=2)
    asked, other = ((Turn("system", words), Turn("user", "Who ?")) for words in ("Look .", "Count ."))
    found = answerer.watch([VideoInput(VIDEO)], turns=asked).visual
    ids, there = turns.question_words(asked)
    frames = VIDEO.read(dp.Intervals(16, "middle").choose(40, 1.0, None), None, size.vision.image)
    clips = frames.reshape(2, 8, *frames.shape[1:])
    question = Question(jnp.repeat(ids[None], 2, 0), jnp.repeat(there[None], 2, 0))
    expected = model.see(params, clips, question)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5, atol=1e-5)
    assert np.abs(found - answerer.watch([VideoInput(VIDEO)], turns=other).visual).max() > 1e-3


def test_clips_of_a_bridge_that_merges_nothing_or_whole_videos(model, params):
    # Without merging a video may be cut anywhere, also into the clips of a tower.
    for frame_tokens, clip_frames in ((None, 4), (None, None)):
        bridge = replace(SIZE.bridge, frame_tokens=frame_tokens, image_tokens=None, clip_frames=clip_frames)
        size = replace(SIZE, bridge=bridge)
        Watcher(size.build(Compute("float32")), params, SEEING)
    whole = replace(SIZE, bridge=replace(SIZE.bridge, clip_frames=None))
    with pytest.raises(UserError, match="the model's bridge merges a whole video at once"):
        Watcher(whole.build(Compute("float32")), params, SEEING)
