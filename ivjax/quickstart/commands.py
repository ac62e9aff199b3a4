"""The commands of the quickstart, in order."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What is done, and the arguments of `ivjax` that do it."""

    about: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """How many clips are drawn, overrides of the three runs, and how XLA is to compile them."""

    clips: int
    held_out: int
    clip_teacher: tuple[str, ...] = ()
    pixel_teacher: tuple[str, ...] = ()
    student: tuple[str, ...] = ()
    words: int = 400
    xla_flags: str = ""


WHOLE = Scale(clips=480, held_out=160)
# Scanned layers compile in less time; unrolled ones take their steps in less.
_FEW = ("steps=6", "batch=16", "log.every=2", "eval_loss.every=0", "scan_layers=true")
FAST = Scale(
    clips=64,
    held_out=32,
    clip_teacher=_FEW,
    pixel_teacher=_FEW,
    student=_FEW,
    words=330,
    xla_flags="--xla_backend_optimization_level=0",
)
CLIP_TEACHER, PIXEL_TEACHER, STUDENT = "runs/teacher_clip", "runs/teacher_pixels", "runs/stage1"
CORPUS, HELD_OUT, PROBE = "shards/demo", "shards/demo_held_out", "probe.json"


def steps_of(scale: Scale, seed: int) -> tuple[Step, ...]:
    """The commands at one scale, to be run in one folder."""
    counts = ("--clips", str(scale.clips), "--held-out", str(scale.held_out), "--seed", str(seed))
    seeded = (f"seed={seed}",)
    build = ("--videos", "demo/videos")
    return (
        Step("draw a corpus of moving shapes with captions", ("data", "demo", "demo", *counts)),
        Step("cut it into shards", ("data", "build", "demo/annotations.jsonl", CORPUS, *build)),
        Step("and the held-out part of it", ("data", "build", "demo/held_out.jsonl", HELD_OUT, *build)),
        Step(
            "learn words from its captions",
            ("data", "tokenizer", "train", CORPUS, "shards/demo.model", "--size", str(scale.words)),
        ),
        Step(
            "train the clip teacher, against captions",
            ("train", "teacher_clip_tiny", *seeded, *scale.clip_teacher, "--workdir", CLIP_TEACHER),
        ),
        Step(
            "train the pixel teacher, on what is hidden from it",
            ("train", "teacher_pixels_tiny", *seeded, *scale.pixel_teacher, "--workdir", PIXEL_TEACHER),
        ),
        Step(
            "train the student of stage 1 on both teachers' features",
            ("train", "stage1_tiny", *seeded, *scale.student, "--workdir", STUDENT),
        ),
        Step(
            "probe its features for the shapes' colour, beside random ones",
            ("eval", STUDENT, "--suite", "probe", "--train", CORPUS, "--data", HELD_OUT)
            + ("--attribute", "colour", "--out", PROBE),
        ),
    )
