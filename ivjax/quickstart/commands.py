"""The commands of the quickstart, in order."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QuickstartStep:
    """One command of the quickstart.

    Attributes:
        about: what it does.
        command: the words after `ivjax`.
    """

    about: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """The size of a quickstart.

    Attributes:
        clips: clips to draw for training.
        held_out: clips to draw for evaluation.
        clip_teacher: overrides of the run that trains the clip teacher.
        pixel_teacher: overrides of the run that trains the pixel teacher.
        student: overrides of the run that trains the student.
        words: size of the vocabulary.
        xla_flags: how XLA compiles the runs.
    """

    clips: int
    held_out: int
    clip_teacher: tuple[str, ...] = ()
    pixel_teacher: tuple[str, ...] = ()
    student: tuple[str, ...] = ()
    words: int = 400
    xla_flags: str = ""


WHOLE = Scale(clips=480, held_out=160)
# Scanned layers compile faster, and unrolled ones run faster: with six steps, compilation is what counts.
_FEW = ("steps=6", "batch=16", "log.every=2", "eval_loss.every=0", "scan_layers=true")
FAST = Scale(
    clips=64,
    held_out=32,
    clip_teacher=_FEW,
    pixel_teacher=_FEW,
    student=_FEW,
    words=330,
    # Unoptimised programs compile faster, and six steps do not pay for more.
    xla_flags="--xla_backend_optimization_level=0",
)
CLIP_TEACHER, PIXEL_TEACHER, STUDENT = "runs/teacher_clip", "runs/teacher_pixels", "runs/stage1"
CORPUS, HELD_OUT, PROBE = "shards/demo", "shards/demo_held_out", "probe.json"


def steps_of(scale: Scale, seed: int) -> tuple[QuickstartStep, ...]:
    """Returns the commands at one scale, to be run in one folder."""
    counts = ("--clips", str(scale.clips), "--held-out", str(scale.held_out), "--seed", str(seed))
    seeded = (f"seed={seed}",)
    build = ("--videos", "demo/videos")
    return (
        QuickstartStep("draw a corpus of moving shapes with captions", ("data", "demo", "demo", *counts)),
        QuickstartStep("write it as shards", ("data", "build", "demo/annotations.jsonl", CORPUS, *build)),
        QuickstartStep(
            "write its held-out clips as shards", ("data", "build", "demo/held_out.jsonl", HELD_OUT, *build)
        ),
        QuickstartStep(
            "train a tokenizer on its captions",
            ("data", "tokenizer", "train", CORPUS, "shards/demo.model", "--size", str(scale.words)),
        ),
        QuickstartStep(
            "train the clip teacher, by contrast with captions",
            ("train", "teacher_clip_tiny", *seeded, *scale.clip_teacher, "--workdir", CLIP_TEACHER),
        ),
        QuickstartStep(
            "train the pixel teacher, to paint hidden pixels",
            ("train", "teacher_pixels_tiny", *seeded, *scale.pixel_teacher, "--workdir", PIXEL_TEACHER),
        ),
        QuickstartStep(
            "train the student of stage 1 on both teachers' features",
            ("train", "stage1_tiny", *seeded, *scale.student, "--workdir", STUDENT),
        ),
        QuickstartStep(
            "probe the student's features for the colour, beside random features",
            ("eval", STUDENT, "--suite", "probe", "--train", CORPUS, "--data", HELD_OUT)
            + ("--attribute", "colour", "--out", PROBE),
        ),
    )
