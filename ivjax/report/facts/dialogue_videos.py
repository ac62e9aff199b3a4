"""Videos of conversations as a dialogue run sees them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ivjax.data_pipelines.dialogue.seeing import ClipForm
from ivjax.data_pipelines.fields import Turns
from ivjax.data_pipelines.load.mixture import readers_of
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from ivjax.evals.dialogue.questions import EvalQuestion, open_questions
from ivjax.evals.items import EvalData
from ivjax.experiment.experiment import Experiment
from ivjax.generate.opening import VideoInput, opened
from ivjax.models.dialogue.sizes import DialogueSize

_NO_DRAWS = np.random.default_rng(0)  # rules and augmentations of tests draw nothing
_SEARCHED = 64  # questions among which videos are looked for


def turns_of_run(experiment: Experiment) -> Turns:
    """Returns the field of conversations of a dialogue run."""
    for reader in readers_of(experiment.data).values():
        for field in reader.fields.values():
            if isinstance(field, Turns):
                return field
    raise UserError("its data has no field of conversations")


def sample_videos(experiment: Experiment, size: DialogueSize, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields ids and frames of the first videos of the first eval corpus, else of the first corpus."""
    turns = turns_of_run(experiment)
    reader = readers_of(experiment.data)["data"]
    corpora = [*reader.corpus_fields("data", True), *reader.corpus_fields("data")]
    questions = open_questions(EvalData(corpora[0].folder, limit=_SEARCHED))
    seen = set()
    for question in questions:
        # Neighbouring questions are about one video.
        if not isinstance(question, EvalQuestion) or question.media in seen or not question.media:
            continue
        seen.add(question.media)
        try:
            frames = frames_seen(turns, size, questions.inputs(question)[0])
        except ClipError:
            continue
        yield question.id, frames
        count -= 1
        if not count:
            return


def frames_seen(turns: Turns, size: DialogueSize, asked: VideoInput, most: int | None = None) -> np.ndarray:
    """Returns the frames (F, H, W, 3) uint8 that a model sees of a video, whole ones; raises ClipError.

    `most` frames are spread evenly; None: those of the run's own rule. Tiles are left out.
    """
    seeing = replace(turns.seeing.for_tests(), tiling=None)
    form = ClipForm(size.least_frames, *size.vision.image)
    with opened(asked) as video:
        if most is not None:
            count = min(most - most % form.frames, video.part.frames)
            seeing = replace(seeing, rule=Intervals(max(count, form.frames), "middle"))
        view = seeing.view(video.part, form, _NO_DRAWS)
        box = seeing.augment.box(view.part.width, view.part.height, _NO_DRAWS)
        return video.read(view.frames, box, (form.height, form.width))
