"""Runs the code cells of notebooks without Jupyter, in a process of its own.

`python -m tests.notebooks NAME OUT NAMES...` is that process: it runs the cells, and pickles what they have
defined under some names.
"""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.xla import quick_flags

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"


def read_notebook(name: str) -> dict[str, Any]:
    """The content of a notebook."""
    return json.loads((FOLDER / name).read_text("utf-8"))


def code_cells(notebook: Mapping[str, Any]) -> list[str]:
    """The sources of the code cells, in order."""
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def environment() -> dict[str, str]:
    """What a notebook runs in: this checkout, one CPU device, pictures without a display."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": quick_flags(1),
        "MPLBACKEND": "Agg",
    }


def run_notebook(name: str, folder: Path, *names: str) -> dict[str, Any]:
    """Runs the code cells in a folder; returns what they have defined under the names."""
    command = [sys.executable, "-m", "tests.notebooks", name, "names.pickle", *names]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return pickle.loads((folder / "names.pickle").read_bytes())


def _main(name: str, out: str, *names: str) -> None:
    found: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(code_cells(read_notebook(name))):
        # With a file name, so that a traceback says which cell it is.
        exec(compile(source, str(Path(name).with_suffix(f".cell{number}.py")), "exec"), found)
    Path(out).write_bytes(pickle.dumps({name: found[name] for name in names}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
