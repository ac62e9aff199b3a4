"""Features of videos and sentences for heads that find moments, such as CG-DETR on Charades-STA.

A folder holds `videos/NAME.npz` with `features` (windows, D), one row a second, and their `start` and `end`;
`texts/qidN.npz` with `last_hidden_state` (words, C) and `pooler_output` (D,); `moments.jsonl`, which says
when each sentence is true; and `index.npz` of all windows, which `ivjax search` searches.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.drafts import store
from ivjax.embed.embed_videos import EmbeddingOutcome
from ivjax.embed.embedding_job import EmbeddingJob, index_videos
from ivjax.embed.index import read_index
from ivjax.embed.media_list import MediaList
from ivjax.errors import UserError
from ivjax.evals.encoding import in_batches
from ivjax.evals.items import EvalData, UnscoredClip
from ivjax.evals.vectors import embed_texts
from ivjax.progress import Progress, Say

_TEXTS = 256  # whose states are in memory at a time


@dataclass(frozen=True)
class Moment:
    """A sentence, and when it is true of a video.

    Attributes:
        number: its place in the list, which names its file.
        text: the sentence.
        file: the video.
        start: in seconds.
        end: in seconds.
    """

    number: int
    text: str
    file: str
    start: float
    end: float

    @property
    def video(self) -> str:
        """The video's name."""
        return Path(self.file).stem


def export_moments(
    annotations: str, videos: str | None, job: EmbeddingJob, say: Say
) -> tuple[EmbeddingOutcome, int]:
    """Writes the folder `job.out`, and returns what came of the videos, and how many sentences it holds.

    Args:
        annotations: sentences and their times, such as `charades_sta_test.txt`.
        videos: the folder of their videos.
        job: the weights, and the windows; it names no videos.
        say: takes lines for the person who waits.
    """
    found = list(_moments(annotations, videos))
    moments = [moment for moment in found if isinstance(moment, Moment)]
    faults = tuple(fault for fault in found if isinstance(fault, UnscoredClip))
    if not moments:
        raise UserError(f"{annotations} has no sentence whose video is there; the first one: {faults[0]}")
    files = list(dict.fromkeys(moment.file for moment in moments))
    names = {Path(file).stem: file for file in files}
    if len(names) < len(files):
        twice = next(file for file in files if names[Path(file).stem] != file)
        raise UserError(f"{twice} and {names[Path(twice).stem]} have one name; rename one of them")
    encoder: Any = job.open_for_texts()
    outcome = index_videos(replace(job, out=job.out / "index.npz"), encoder, MediaList(files), say)
    lengths = _store_videos(job)
    kept = [moment for moment in moments if moment.file in lengths]
    _store_texts(encoder, kept, job.out / "texts", say)
    lines = [json.dumps(_line(moment, lengths[moment.file]), ensure_ascii=False) for moment in kept]
    store(job.out / "moments.jsonl", "".join(f"{line}\n" for line in lines))
    return replace(outcome, broken=outcome.broken + faults), len(kept)


def _moments(annotations: str, videos: str | None) -> Iterator[Moment | UnscoredClip]:
    from ivjax.evals.dialogue.questions import open_questions  # imports jax, as the models do
    from ivjax.evals.dialogue.spans import strict_span

    for number, question in enumerate(open_questions(EvalData(annotations, videos=videos))):
        if isinstance(question, UnscoredClip):
            yield question
            continue
        span = strict_span(question.answer)
        if span is None or not question.media[0].path:
            raise UserError(
                f"{annotations} has no sentences with the seconds that they are true of; give a list such as "
                "charades_sta_test.txt"
            )
        yield Moment(number, question.text, question.media[0].path, span.start, span.end)


def _store_videos(job: EmbeddingJob) -> dict[str, float]:
    """Stores the rows of each video that could be read; returns the videos' lengths in seconds."""
    index = read_index(job.out / "index.npz")
    step = job.options.windowing.stride or job.options.windowing.seconds
    assert step is not None
    files, lengths = index.columns["video"], {}
    edges = [0, *(np.flatnonzero(files[1:] != files[:-1]) + 1).tolist(), len(files)]
    for first, last in zip(edges, edges[1:], strict=False):
        start, end = (index.columns[name][first:last] for name in ("start", "end"))
        # Heads take row k for the one that begins at k steps; the last window ends with the video instead.
        even = np.isclose(start, np.arange(last - first) * step)
        name = str(files[first])
        rows = {"features": index.embeddings[first:last][even], "start": start[even], "end": end[even]}
        store(job.out / "videos" / f"{Path(name).stem}.npz", _npz(rows))
        lengths[name] = float(end.max())
    return lengths


def _store_texts(encoder: Any, moments: Sequence[Moment], folder: Path, say: Say) -> None:
    with Progress(len(moments), "sentences", say) as progress:
        for some in in_batches(iter(moments), _TEXTS):
            texts = [clean_caption(moment.text) for moment in some]
            pooled, words = embed_texts(encoder, texts), encoder.word_states(texts)
            for place, moment in enumerate(some):
                rows = {"pooler_output": pooled[place]}
                rows |= {} if words is None else {"last_hidden_state": words[place]}
                store(folder / f"qid{moment.number}.npz", _npz(rows))
            progress.advance(len(some))


def _line(moment: Moment, length: float) -> Mapping[str, Any]:
    return {
        "qid": moment.number,
        "query": moment.text,
        "vid": moment.video,
        "duration": length,
        "relevant_windows": [[moment.start, moment.end]],
    }


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    file, content = io.BytesIO(), dict[str, Any](arrays)
    np.savez(file, **content)
    return file.getvalue()
