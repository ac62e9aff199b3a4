"""The commands of the quickstart, in order."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ivjax.quickstart import results

TEACHER_CLIP, TEACHER_PIXELS = "runs/teacher_clip", "runs/teacher_pixels"
STAGE1, STAGE2, STAGE3 = "runs/stage1", "runs/stage2", "runs/stage3"
PAGE = "report/index.html"
_CORPUS, _HELD_OUT = "shards/demo", "shards/demo_held_out"
_TOLD, _TOLD_HELD_OUT = "shards/demo_descriptions", "shards/demo_descriptions_held_out"
_NEEDLES = "shards/demo_needles"
_NEEDLE_FRAMES = 16  # of the videos in which stage 3 learns to find a needle
_LONG = f"needles/needles_{_NEEDLE_FRAMES}"
_ASKED = (
    "--data",
    "demo/held_out_dialogues.jsonl",
    "--videos",
    "demo/videos",
    "--limit",
    "200",
    "--new",
    "128",
)
# Small pictures, few of them a second: what they cost to decode is what training would wait for.
_RECIPE = ("recipe.short_side=72", "recipe.fps=6", "recipe.encoding.preset=ultrafast")


@dataclass(frozen=True)
class QuickstartStep:
    """One command of the quickstart.

    Attributes:
        name: what the screen calls it.
        command: the words after `ivjax`.
        result: (the folder of the quickstart, the log of the command) -> its result in a few words.
    """

    name: str
    command: tuple[str, ...]
    result: Callable[[Path, Path], str]

    @property
    def line(self) -> str:
        """The command as it is typed."""
        return shlex.join(["ivjax", *self.command])


@dataclass(frozen=True)
class Scale:
    """The size of a quickstart.

    Attributes:
        clips: clips to draw for training.
        held_out: clips to draw for evaluation.
        needles: videos to draw with a needle, to train on.
        words: sizes of the vocabularies, of captions and of conversations.
        training: overrides of all runs.
        evals: further words of all evals.
        lengths: frames of the videos in which needles are searched.
        cell: needles at each length and depth.
        left_out: names of steps.
        remark: what is said at the end.
        xla_flags: how XLA compiles the runs.
    """

    clips: int
    held_out: int
    needles: int
    words: tuple[int, int] = (400, 500)
    training: tuple[str, ...] = ()
    evals: tuple[str, ...] = ()
    lengths: tuple[int, ...] = (16, 24, 32)
    cell: int = 8
    left_out: tuple[str, ...] = ()
    remark: str = ""
    xla_flags: str = ""


WHOLE = Scale(clips=1600, held_out=400, needles=1200)
FAST = Scale(
    clips=64,
    held_out=32,
    needles=16,
    words=(300, 400),
    # Scanned layers compile faster and unrolled ones run faster: of four steps, compilation is what counts.
    training=("steps=4", "batch=8", "log.every=2", "eval_loss.every=0", "scan_layers=true"),
    evals=("--limit", "16"),
    lengths=(16,),
    cell=1,
    left_out=("colour", "retrieval"),
    remark=", a few steps of each, whose results mean nothing yet",
    # Unoptimised programs compile faster, and four steps do not pay for more.
    xla_flags="--xla_backend_optimization_level=0",
)


def steps_of(scale: Scale, seed: int) -> tuple[QuickstartStep, ...]:
    """Returns the commands at one scale, to be run in one folder."""
    steps = (*_data(scale, seed), *_trainings(scale, seed), *_evals(scale), _report())
    return tuple(step for step in steps if step.name not in scale.left_out)


def _data(scale: Scale, seed: int) -> tuple[QuickstartStep, ...]:
    """Draws clips, questions about them and long videos, and makes corpora and vocabularies of them."""
    clips = ("--clips", str(scale.clips), "--held-out", str(scale.held_out))
    # Short clips of two events, whose order no single frame tells.
    kind = ("--longest", "4", "--scenes", "pairs", "--sounds", "none", "--seed", str(seed))
    needles = (
        "--needles",
        str(scale.needles),
        "--frames",
        str(_NEEDLE_FRAMES),
        "--train",
        "--seed",
        str(seed),
    )
    captions, words = scale.words
    return (
        _data_step("clips", "demo", "demo", *clips, *kind),
        _build("corpus", "demo/annotations.jsonl", _CORPUS),
        _build("held out", "demo/held_out.jsonl", _HELD_OUT),
        _words("words", _CORPUS, captions),
        _build("told", "demo/descriptions.jsonl", _TOLD),
        _build("told, held out", "demo/held_out_descriptions.jsonl", _TOLD_HELD_OUT),
        _data_step("needles", "demo", "needles", *needles),
        _build("needle corpus", f"{_LONG}.jsonl", _NEEDLES, videos=_LONG),
        _words("their words", _TOLD, words),
    )


def _trainings(scale: Scale, seed: int) -> tuple[QuickstartStep, ...]:
    trained = (
        ("clip teacher", "quick_teacher_clip", TEACHER_CLIP),
        ("pixel teacher", "quick_teacher_pixels", TEACHER_PIXELS),
        ("stage 1", "quick_stage1", STAGE1),
        ("stage 2", "quick_stage2", STAGE2),
        ("stage 3", "quick_stage3", STAGE3),
    )
    return tuple(_training(*one, seed, scale.training) for one in trained)


def _training(name: str, config: str, run: str, seed: int, overrides: tuple[str, ...]) -> QuickstartStep:
    command = ("train", config, f"seed={seed}", *overrides, "--workdir", run)
    return QuickstartStep(name, command, lambda folder, log: results.trained(folder / run))


def _evals(scale: Scale) -> tuple[QuickstartStep, ...]:
    """Tests the stages on held-out clips. Results lie where the report looks for them."""
    probe = ("--suite", "probe", "--train", _CORPUS, "--data", _HELD_OUT, "--still")
    lengths = [word for length in scale.lengths for word in ("--length", str(length))]
    needle = ("--suite", "needle", "--data", "drawn", *lengths, "--depths", "4", "--needles", str(scale.cell))
    found = (
        ("colour", STAGE1, (*probe, "--attribute", "first_colour"), results.probed),
        ("order", STAGE2, (*probe, "--attribute", "colours"), results.probed),
        ("retrieval", STAGE2, ("--suite", "retrieval", "--data", _HELD_OUT), results.retrieved),
        ("answers", STAGE3, ("--suite", "mcqa", *_ASKED, "--by", "text"), results.answered),
        ("needle map", STAGE3, (*needle, "--by", "text"), results.answered),
    )
    return tuple(_eval(name, run, (*words, *scale.evals), show) for name, run, words, show in found)


def _eval(name: str, run: str, words: tuple[str, ...], show: Callable[[Path], str]) -> QuickstartStep:
    out = f"{run}/evals/{name.replace(' ', '_')}.json"
    command = ("eval", run, *words, "--out", out)
    return QuickstartStep(name, command, lambda folder, log: show(folder / out))


def _build(name: str, rows: str, out: str, videos: str = "demo/videos") -> QuickstartStep:
    return _data_step(name, "build", rows, out, "--videos", videos, *_RECIPE)


def _data_step(name: str, *command: str) -> QuickstartStep:
    return QuickstartStep(name, ("data", *command), lambda folder, log: results.drawn(log))


def _words(name: str, corpus: str, size: int) -> QuickstartStep:
    command = ("data", "tokenizer", "train", corpus, f"{corpus}.model", "--size", str(size))
    return QuickstartStep(name, command, lambda folder, log: f"{size} pieces of words")


def _report() -> QuickstartStep:
    runs = (STAGE3, STAGE2, STAGE1, TEACHER_CLIP, TEACHER_PIXELS)
    command = ("report", *runs, "--out", str(Path(PAGE).parent))
    return QuickstartStep("report", command, lambda folder, log: str(folder / PAGE))
