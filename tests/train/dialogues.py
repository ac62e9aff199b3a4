"""Drawn conversations about drawn clips, packed into rows as a stage of dialogue reads them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ivjax.ops.word_losses import IGNORED
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from ivjax.stages.video_dialogue_loss import batch_of


class Conversation(NamedTuple):
    """Clips (n, T, H, W, 3); token ids (L,), where visual tokens stand (L,) bool, what is to be said (L,)."""

    clips: np.ndarray
    ids: np.ndarray
    visual: np.ndarray
    targets: np.ndarray


def conversation(
    stage: VideoDialogue, seed: int, clips: int, question: int, answers: Sequence[int]
) -> Conversation:
    """A start, `clips` clips, then for each answer a question of so many tokens and the answer."""
    rng, size = np.random.default_rng(seed), stage.dialogue
    video = rng.integers(0, 256, (clips, size.least_frames, *size.vision.image, 3), np.uint8)
    visual = clips * stage.clip_tokens
    said = [np.zeros(1 + visual, bool)]
    for answer in answers:
        said += [np.zeros(question, bool), np.ones(answer, bool)]
    spoken = np.concatenate(said)
    ids = rng.integers(3, size.language.vocabulary - 1, len(spoken)).astype(np.int32)
    ids[0] = 1
    places = np.zeros(len(spoken), bool)
    places[1 : 1 + visual] = True
    ids[places] = 0
    targets = np.where(spoken[1:], ids[1:], IGNORED)
    return Conversation(video, ids, places, np.append(targets, IGNORED).astype(np.int32))


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
    first = clip = 0
    for number, one in enumerate(conversations):
        here = slice(first, first + len(one.ids))
        row["ids"][here], row["targets"][here], row["segments"][here] = one.ids, one.targets, number
        row["answer_tokens"][here] = np.where(one.targets != IGNORED, np.sum(one.targets != IGNORED), 0)
        if "video" in row:
            visual = np.cumsum(one.visual) - 1 + clip * stage.clip_tokens
            row["places"][here] = np.where(one.visual, visual, -1)
            row["video"][clip : clip + len(one.clips)] = one.clips
            row["visual_segments"][clip * stage.clip_tokens :][: one.visual.sum()] = number
        if "question" in row:
            rng = np.random.default_rng(len(one.ids))
            there = slice(clip, clip + len(one.clips))
            words = rng.integers(1, 60, stage.question)
            row["question"][there], row["question_mask"][there] = words, np.arange(stage.question) < 3
        first, clip = here.stop, clip + len(one.clips)
    assert first <= bucket.tokens and clip <= bucket.clips
    return row


def batch(rows: Sequence[dict]) -> dict:
    """The arrays of a batch."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
