"""Small runs with random weights that have something to show: masks, hits, merged tokens and answers."""

import dataclasses
import json
from pathlib import Path

from ivjax.data_pipelines.load.mixture import Corpus
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.stages.teachers import ClipTeacher
from tests.data_pipelines.dialogue.talks import build_talks
from tests.evals.small_run import save_small_run, write_test_set
from tests.report.folders import TIMES, logged, result_of, write_run
from tests.train import micro, talks_run


def masked_run(folder: Path) -> Path:
    """A run of stage 1 whose clip teacher is random."""
    stage = micro.experiment.stage
    teacher = dataclasses.replace(stage.student, width=16, depth=1, frames=1)
    stage = dataclasses.replace(stage, mae=None, clip_teacher=ClipTeacher(teacher))
    micro.saved(folder, dataclasses.replace(micro.experiment, stage=stage, init_fresh=("*",)))
    return write_run(folder, logged(40), times=TIMES)


def pair_run(folder: Path) -> Path:
    """A run of clips and captions; its corpus lies beside it."""
    save_small_run(folder, write_test_set(folder.parent / "clips"))
    return write_run(folder, logged(40), times=TIMES)


def questions() -> list[dict[str, object]]:
    """Questions with options about two videos."""
    return [
        {
            "video": "ab"[number // 3] + ".mp4",
            "question": f"What {number} ?",
            "options": ["It jumps .", "The <i>door</i> .", "."],
            "answer": "ABC"[number % 3],
            "type": ("motion", "what")[number % 2],
        }
        for number in range(6)
    ]


def dialogue_run(folder: Path) -> Path:
    """A run of dialogue that merges tokens, and a result of six questions: every second answer is right."""
    corpus = str(build_talks(folder.parent / "talks", questions())[0])
    base, stage = talks_run.experiment, talks_run.STAGE
    bridge = DIALOGUES["internvideo2_5_chat_8b_tiny"].bridge
    stage = dataclasses.replace(stage, dialogue=dataclasses.replace(stage.dialogue, bridge=bridge))
    data = dataclasses.replace(base.data, corpora=(Corpus(corpus),))
    micro.saved(folder, dataclasses.replace(base, stage=stage, data=data))
    result = result_of(
        "mcqa", str(folder), {"accuracy": 50.0}, protocol={"data": corpus, "protocol": "plain: all"}
    )
    logs = [
        [-1.0 if option == (place + place % 2) % 3 else -9.0 for option in range(3)] for place in range(6)
    ]
    lines = [{"place": n, "asked": "", "answer": {"log_likelihoods": log}} for n, log in enumerate(logs)]
    kept = [{"test": {}}, *lines]
    (folder / "mcqa.answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    return write_run(folder, logged(40), times=TIMES, results={"mcqa.json": result})
