"""What a pair of towers finds by captions among the first clips of a run's eval corpus."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ivjax.errors import UserError
from ivjax.evals.items import EvalData
from ivjax.evals.own_frames import own_frames, reading_of
from ivjax.evals.pair_model import open_pairs
from ivjax.evals.scoring.ranking import pair_captions
from ivjax.evals.vectors import Setting, embed, embed_texts
from ivjax.experiment.experiment import Experiment
from ivjax.progress import Say
from ivjax.report.facts.sample_clips import frames_of, sample_items, words_of

_CLIPS = 64  # that are searched
_QUERIES, _HITS = 4, 4


class ClipHit(NamedTuple):
    """A clip that was found: its frames (F, H, W, 3) uint8, words, cosine, and whether it is a right one."""

    frames: np.ndarray
    words: str
    cosine: float
    right: bool


class QueryHits(NamedTuple):
    """A caption and the best clips, best first; `rank` is that of the best right one, from 1."""

    caption: str
    hits: tuple[ClipHit, ...]
    rank: int
    clips: int


def retrieval_hits(run: Path, experiment: Experiment, say: Say) -> list[QueryHits]:
    """Returns the hits of a few captions, evenly spread over the clips that are searched."""
    captioned = [item for item in sample_items(experiment, _CLIPS) if item.captions]
    if not captioned:
        raise UserError("its corpus has no captions to search by")
    model: Any = open_pairs(str(run), batch=16)
    own = own_frames(experiment)
    setting = Setting(
        model,
        EvalData(str(run)),
        batch=model.rows,
        broken=1.0,
        hosts=model.hosts,
        reading=reading_of(own, model.frames, 1),
        say=say,
    )
    embedded = embed(setting, captioned, len(captioned))
    by_id = {item.id: item for item in captioned}
    items = [by_id[item.id] for item in embedded.items]
    if not items:
        raise UserError("none of its clips could be read")
    # The first caption of each clip; clips whose captions read the same are all right.
    pairs = pair_captions([item.captions[:1] for item in items], same_text=True)
    chosen = np.unique(np.linspace(0, len(pairs.texts) - 1, _QUERIES).round().astype(int))
    cosines = embed_texts(model, [pairs.texts[text] for text in chosen]) @ embedded.vectors[:, 0].T
    found = []
    for text, row in zip(chosen, cosines, strict=True):
        order, right = np.argsort(-row, kind="stable"), set(pairs.videos_of[text])
        hits = tuple(
            ClipHit(frames_of(items[clip], own), words_of(items[clip]), float(row[clip]), int(clip) in right)
            for clip in order[:_HITS]
        )
        rank = 1 + min(place for place, clip in enumerate(order) if int(clip) in right)
        found.append(QueryHits(words_of(items[min(right)]), hits, rank, len(items)))
    return found
