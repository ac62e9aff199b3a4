"""Clips as runs read them; of stage 1 with the attention of the teacher and the mask that it guides."""

from collections.abc import Iterator

import numpy as np

from ivjax.experiment.experiment import Experiment
from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.facts.sample_clips import SampleClip, sample_clips
from ivjax.report.film import Film, Strip
from ivjax.report.markup import file_name
from ivjax.report.masks import MaskedClips, attention_over, guides_a_mask, masked_clips, masked_frame


def clip_films(run: RunFacts, experiment: Experiment, count: int) -> Iterator[Film]:
    """Yields the films of a run's first clips; raises UserError where they cannot be read."""
    name = file_name(run.label)
    if guides_a_mask(experiment):
        seen = masked_clips(run.folder)
        for clip in range(min(count, len(seen.frames))):
            yield _masked(run, seen, clip, f"masks_{name}_{clip + 1}")
        return
    for number, sample in enumerate(sample_clips(experiment, count), 1):
        yield _plain(run, sample, number, f"clip_{name}_{number}")


def _plain(run: RunFacts, sample: SampleClip, number: int, name: str) -> Film:
    strip = Strip(sample.frames, f"clip {number} of {run.label}, {len(sample.frames)} frames: {sample.words}")
    return Film(f"{run.label}, clip {number}: {sample.words}", (strip,), name)


def _masked(run: RunFacts, seen: MaskedClips, clip: int, name: str) -> Film:
    frames, attention, visible = (part[clip] for part in seen)
    share = 100 * float(visible.mean())
    looked = np.stack([attention_over(frame, one) for frame, one in zip(frames, attention, strict=True)])
    masked = np.stack([masked_frame(frame, one) for frame, one in zip(frames, visible, strict=True)])
    # How much of the attention the visible patches have: the mask is guided if that is more than their share.
    kept = 100 * float((attention * visible).sum() / max(attention.sum(), 1e-9))
    return Film(
        f"{run.label}, clip {clip + 1}: the student sees {share:.0f} % of the patches, which have "
        f"{kept:.0f} % of the teacher's attention to patches",
        (
            Strip(frames, f"clip {clip + 1} of {run.label}, {len(frames)} frames", "the clip"),
            Strip(
                looked, f"the attention of the clip teacher over clip {clip + 1}", "where the teacher looks"
            ),
            Strip(masked, f"clip {clip + 1} with hidden patches darkened", "what the student sees"),
        ),
        name,
    )
