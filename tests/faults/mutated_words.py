"""Odd settings, config files and command lines."""

import os
import random
from pathlib import Path

from ivjax.experiment.files import load_experiment
from ivjax.experiment.listing import leaves

MARK = "fault-ran"  # the file that a value would make in the working folder if it were executed
CONFIG = "stage1_synthetic"
_CALL = f'__import__("os").system("touch {MARK}")'
VALUES = (
    "", "0", "-1", "1e400", "nan", "inf", "-inf", "none", "None", "true", "9" * 30, "9" * 5000, "1.5", "0x10",
    "1_000", "１２", "é", "\ud83d", "\0", "\x1b[2J", "a" * 100_000, "()", "(1,)", "(1,2)", "[1,2]", "(" * 300,
    "[" * 100_000, "{}", _CALL, f"({_CALL},)", f"S14({_CALL})", "lambda: 1", '"', "'", '"x"', '"\\', "'\\x'",
    "'\\N{'", "a=b", "=", "~", f"$(touch {MARK})", f"`touch {MARK}`", f";touch {MARK}", "../../x", "S14",
    "L14", "1" * 400 + ".0", "(1," * 50, "1e", "--", "-", "0.1f", " 1", " ", "\t", "\n", "1\n2", "(9**9**9,)",
    '("a"*10**9,)', "(10**100,)", "(" + "1," * 100_000 + ")", "-0", "1e-400", "١", "-" * 5000 + "1",
    "not " * 500, "{1:" * 200, "f'{1}'", "b'1'", "1if 1else 2", "[x for x in (1,)]", "x" * 300 + "(1)",
    "A(" * 200,
)  # fmt: skip
SETTINGS = (
    "a." * 5000 + "=1", ".=1", "..=1", "stage.=1", ".stage=1", "stage..student=1", "stage.__class__=1",
    "__dict__=1", "stage.student.__init__=1", "seed.real=1", "seed=1=2", "=", "==", "=seed", "steps",
    "steps =1", " steps=1", "mesh.-1=1", "stage.student=NoSuch", "data=1", "stage=None", "schedule=1",
    "optimizer.betas=(1,)", "optimizer.betas=(0.9,0.98,1)", "batch=0", "steps=-5", "checkpoint.every=0",
    "log.every=0", "ema=2", "accumulate=7", "dtype=float64", "seed=-1", "seed=99999999999999999999",
    "mesh.data=0", "mesh.data=-2",
    "optimizer.decay=nan", "schedule.peak=-1", "schedule.warmup=-3", "stage.mask.ratio=2",
    "stage.student.heads=0", "stage.student.width=-4", "init_from=('/etc/passwd',)", "init_fresh=('[',)",
    "trains=(('*',nan),)", "é.ü=1", "\0=1", "a\nb=1", "x" * 100_000, "-", "--", "---", "-1", "--=",
    "--a" * 9000,
)  # fmt: skip
CONFIGS = {
    "syntax": b"experiment = (",
    "nul": b"\0",
    "binary": bytes(range(128, 256)),
    "utf16": "experiment=1".encode("utf-16"),
    "latin": b"# \xe9\nexperiment=1",
    "exit": b"import sys; sys.exit(3)",
    "bye": b'raise SystemExit("bye")',
    "recursion": b"def f(): f()\nf()",
    "none": b"x=1",
    "number": b"experiment=3",
    "import": b"import no_such_module_x",
    "inner": b"import ivjax.no_such_module",
    "deep": b"x=" + b"(" * 300 + b")" * 300,
    "generator": b"raise GeneratorExit",
    "tabs": b"if 1:\n\tx=1\n        y=2\n",
    "division": b"1/0",
    "long": b"#" + b"x" * 5_000_000 + b"\nx=1",
    "words": b"import dataclasses\nfrom ivjax.experiment.files import load_experiment\n"
    b"experiment=dataclasses.replace(load_experiment('stage1_synthetic'), steps='ten')",
    "no stage": b"import dataclasses\nfrom ivjax.experiment.files import load_experiment\n"
    b"experiment=dataclasses.replace(load_experiment('stage1_synthetic'), stage=None)",
    "class": b"class A:\n  def __getattr__(self, n): raise ValueError('no')\nexperiment = A()",
}
COMMANDS = (
    ["eval", "NONE", "--suite", "retrieval", "--data", "NONE"],
    ["embed", "NONE", "--weights", "NONE", "--out", "OUT/x.npz"],
    ["search", "NONE.npz", "a"],
    ["search", "/etc/passwd", "a"],
    ["plan", "stage1_1b", "--topology", "v5e:0x0"],
    ["plan", "stage1_1b", "--topology", "v5e:999999999x999999999"],
    ["plan", "stage1_1b", "--topology", "nope"],
    ["plan", "stage1_1b", "--topology", "é:4"],
    ["plan", CONFIG, "--topology", "h200:-1"],
    ["data", "stats", "NONE"],
    ["data", "stats", "/etc"],
    ["data", "validate", "/etc"],
    ["data", "show", "NONE"],
    ["data", "compare", "NONE", "/dev/null"],
    ["data", "build", "NONE.jsonl", "OUT/a"],
    ["data", "build", "/dev/null", "OUT/b"],
    ["data", "validate", "NONE", "--decode", "-5"],
    ["data", "validate", "NONE", "--decode", "nan"],
    ["data", "validate", "NONE", "--decode", "9" * 5000],
    ["data", "validate", "NONE", "--decode", "²"],
    ["data", "demo", "OUT/demo", "--clips", "-5"],
    ["data", "demo", "/proc/x", "--clips", "1"],
    ["data", "demo", "/dev/null", "--clips", "1"],
    ["data", "tokenizer", "train", "NONE", "OUT/x.model"],
    ["launch", "local", "--processes", "-1", "train"],
    ["launch", "slurm", "--set", "topology=h200:8", "--set", "x=y", "train", CONFIG],
    ["launch", "gke", "--dry-run"],
    ["launch", "nowhere", "train", CONFIG],
    ["train", CONFIG, "--workdir", "a\0b"],
    ["train", CONFIG, "--workdir", ""],
    ["train", CONFIG, "--workdir", "/dev/null/x"],
    ["train", CONFIG, "--workdir", "x" * 5000],
    ["train", CONFIG, "--workdir", "/proc/1/x"],
    ["train", CONFIG, "--options", "no.such"],
    ["train", CONFIG, "--options", "\x1b[2J"],
    ["train", "NONE.py", "--print"],
    ["train", "a" * 5000 + ".py", "--print"],
    ["train", "a\0b.py", "--print"],
    ["train", f"{CONFIG}:nope", "--print"],
    ["train", f"{CONFIG}:", "--print"],
    ["train", f":{CONFIG}", "--print"],
    ["train", "", "--print"],
    ["train", "/dev/null", "--print"],
    ["train", "/etc/passwd", "--print"],
    ["train", "\ud83d", "--print"],
    ["sweep", CONFIG, "seed=" + "1," * 10_000, "--workdir", "/dev/null/x"],
    ["sweep", CONFIG, "--workdir", "/dev/null/x"],
    ["convert", "export", "NONE", "OUT/e.pth"],
    ["convert", "inspect", "/dev/null"],
    ["convert", "inspect", "/dev/zero"],
    ["convert", "inspect", "a\0b"],
    ["convert", "inspect", "x" * 5000],
    ["convert", "inspect", "\ud83d"],
    ["convert", "inspect", "NONE?head=-1"],
    ["convert", "inspect", "NONE?language="],
    ["convert", "inspect", "?????"],
    ["convert", "import", "NONE", "OUT/z.safetensors", "--shard-size", "-1"],
    ["convert", "import", "NONE", "OUT/z.safetensors", "--shard-size", "nanGB"],
    ["convert", "import", "NONE", "OUT/z.safetensors", "--shard-size", "9" * 5000],
    ["convert", "families", "nope"],
    ["convert", "families", "x" * 100_000],
    ["convert", "parity", "NONE", "--fixture", "NONE"],
    ["chat", "NONE", "--weights", "NONE", "what?"],
    ["bench", "step", "--config", "nope"],
    ["bench", "nope"],
    ["nope"],
    ["\ud83d"],
    ["x" * 100_000],
    [],
)


def commands(rng: random.Random, folder: Path, count: int) -> list[tuple[str, list[str]]]:
    """So many commands, each with what is odd about it; config files are written to a folder."""
    paths = list(leaves(load_experiment(CONFIG)))
    found = [(" ".join(command)[:60], _placed(command, folder)) for command in COMMANDS]
    found += [(f"config {name}", ["train", str(path), "--print"]) for name, path in _configs(folder).items()]
    found += [(setting[:60], ["train", CONFIG, setting, "--print"]) for setting in SETTINGS]
    rng.shuffle(found)
    found = found[:count]
    while len(found) < count:
        setting = _setting(rng, rng.choice(paths))
        found.append((setting[:60], ["train", CONFIG, setting, "--print"]))
    return found


def _placed(command: list[str], folder: Path) -> list[str]:
    return [word.replace("NONE", str(folder / "none")).replace("OUT/", f"{folder}/") for word in command]


def _configs(folder: Path) -> dict[str, Path]:
    files = {name: folder / f"{name}.py" for name in CONFIGS}
    for name, path in files.items():
        path.write_bytes(CONFIGS[name])
    odd = {"letters": folder / "ünï çødé 日本.py", "folder": folder / "folder.py", "loop": folder / "loop.py"}
    odd["letters"].write_bytes(CONFIGS["none"])
    odd["folder"].mkdir()
    odd["loop"].symlink_to("loop.py")
    os.mkfifo(folder / "fifo.py")
    return {**files, **odd, "fifo": folder / "fifo.py", "missing": folder / "missing.py"}


def _setting(rng: random.Random, path: str) -> str:
    """A setting of a path, or of a damaged one."""
    kind = rng.randrange(6)
    if kind < 4:
        return f"{path}={rng.choice(VALUES)}"
    if kind == 4:
        letters = list(path)
        letters[rng.randrange(len(letters))] = rng.choice([".", "..", "", "é", "=", "\0", " ", "_"])
        return f"{''.join(letters)}={rng.choice(VALUES)}"
    drawn = (
        rng.choice([rng.randrange(32, 127), rng.randrange(0x80, 0x2FFF)]) for _ in range(rng.randrange(1, 60))
    )
    return "".join(map(chr, drawn))
