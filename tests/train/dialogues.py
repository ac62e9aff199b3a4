"""Drawn conversations about drawn clips, packed into rows as a stage of dialogue reads them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ivjax.ops.word_losses import IGNORED
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from ivjax.stages.video_dialogue_loss import batch_of


class Conversation(NamedTuple):
    """Clips (n, T, H, W, 3), images (m, H, W, 3) and words: ids (L,), the number of the conversation's visual
    token that stands at each (L,), -1 for words, and what is to be said (L,)."""

    clips: np.ndarray
    images: np.ndarray
    ids: np.ndarray
    places: np.ndarray
    targets: np.ndarray


def conversation(
    stage: VideoDialogue, seed: int, clips: int, question: int, answers: Sequence[int], images: int = 0
) -> Conversation:
    """A start, images, clips, then for each answer a question of so many tokens and the answer."""
    rng, size = np.random.default_rng(seed), stage.dialogue
    video = rng.integers(0, 256, (clips, size.least_frames, *size.vision.image, 3), np.uint8)
    stills = rng.integers(0, 256, (images, *size.vision.image, 3), np.uint8)
    of_clips = np.arange(clips * stage.clip_tokens)
    of_images = len(of_clips) + np.arange(images * size.visual_tokens(1) if images else 0)
    visual = np.concatenate([of_images, of_clips])
    said = [np.zeros(1 + len(visual), bool)]
    for answer in answers:
        said += [np.zeros(question, bool), np.ones(answer, bool)]
    spoken = np.concatenate(said)
    ids = rng.integers(3, size.language.vocabulary - 1, len(spoken)).astype(np.int32)
    ids[0] = 1
    places = np.full(len(spoken), -1, np.int32)
    places[1 : 1 + len(visual)] = visual
    ids[places >= 0] = 0
    targets = np.append(np.where(spoken[1:], ids[1:], IGNORED), IGNORED).astype(np.int32)
    return Conversation(video, stills, ids, places, targets)


def row_of(
    stage: VideoDialogue, bucket: Bucket, conversations: Sequence[Conversation], index: int = 0
) -> dict:
    """The arrays of one row, by name."""
    row = {name: np.zeros(spec.shape, spec.dtype) for name, spec in batch_of(stage, bucket).items()}
    row["index"] = np.uint32(index)
    for name in ("segments", "places", "visual_segments"):
        if name in row:
            row[name] -= 1
    row["targets"][:] = IGNORED
    first = clip = image = 0
    for number, one in enumerate(conversations):
        here = slice(first, first + len(one.ids))
        row["ids"][here], row["targets"][here], row["segments"][here] = one.ids, one.targets, number
        row["answer_tokens"][here] = np.where(one.targets != IGNORED, np.sum(one.targets != IGNORED), 0)
        if "places" in row:
            row["places"][here] = visual = _places(stage, bucket, one, clip, image)
            row["visual_segments"][visual[visual >= 0]] = number
        if "video" in row:
            row["video"][clip : clip + len(one.clips)] = one.clips
        if "images" in row:
            row["images"][image : image + len(one.images)] = one.images
        if "question" in row:
            rng = np.random.default_rng(len(one.ids))
            there = slice(clip, clip + len(one.clips))
            words = rng.integers(1, 60, stage.question)
            row["question"][there], row["question_mask"][there] = words, np.arange(stage.question) < 3
        first, clip, image = here.stop, clip + len(one.clips), image + len(one.images)
    assert first <= bucket.tokens and clip <= bucket.clips and image <= bucket.images
    return row


def _places(stage: VideoDialogue, bucket: Bucket, one: Conversation, clip: int, image: int) -> np.ndarray:
    """The numbers of a conversation's visual tokens in a row, where all clips' come before all images'."""
    own = len(one.clips) * stage.clip_tokens
    stills = bucket.clips * stage.clip_tokens + image * (stage.dialogue.visual_tokens(1) if image else 0)
    shift = np.where(one.places < own, clip * stage.clip_tokens, stills - own)
    return np.where(one.places >= 0, one.places + shift, -1)


def batch(rows: Sequence[dict]) -> dict:
    """The arrays of a batch."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
