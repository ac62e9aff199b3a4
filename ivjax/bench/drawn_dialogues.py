"""Rows of drawn conversations, for benchmarks that need no data."""

import numpy as np

from ivjax.ops.word_losses import IGNORED
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from ivjax.stages.video_dialogue_loss import batch_of

_ANSWER = 0.25  # share of a conversation's words that is to be said


def drawn_rows(stage: VideoDialogue, bucket: Bucket, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns a batch of noise in which each row has a few conversations of uneven length.

    A row's clips are shared out among its conversations, each of which has its visual tokens first.
    """
    rng = np.random.default_rng(seed)
    drawn = [_row(stage, bucket, rng) for _ in range(rows)]
    batch = {name: np.stack([row[name] for row in drawn]) for name in drawn[0]}
    return batch | {"index": np.arange(rows, dtype=np.uint32)}


def _row(stage: VideoDialogue, bucket: Bucket, rng: np.random.Generator) -> dict[str, np.ndarray]:
    row = {name: _noise(spec.shape, spec.dtype, rng) for name, spec in batch_of(stage, bucket).items()}
    for name in ("segments", "places", "visual_segments"):
        if name in row:
            row[name] = np.full_like(row[name], -1)
    row["ids"] %= stage.size.language.vocabulary
    row["answer_tokens"], row["targets"] = np.zeros_like(row["ids"]), np.full_like(row["ids"], IGNORED)
    media = bucket.clips or 1
    count = max(media // 4, 1)
    room = (bucket.tokens - stage.visual_tokens(bucket)) // count
    start = clip = 0
    for number in range(count):
        clips = bucket.clips // count + (number < bucket.clips % count)
        visual, words = clips * stage.clip_tokens, int(rng.integers(max(room // 2, 2), room + 1))
        stop, answer = start + visual + words, max(int(words * _ANSWER), 1)
        row["segments"][start:stop] = number
        row["targets"][stop - answer - 1 : stop - 1] = row["ids"][stop - answer : stop]
        row["answer_tokens"][stop - answer - 1 : stop - 1] = answer
        if visual:
            row["places"][start : start + visual] = clip * stage.clip_tokens + np.arange(visual)
        start, clip = stop, clip + clips
    return row


def _noise(shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 2 if dtype == np.bool_ else 256, shape).astype(dtype)
