"""The notebooks of docs/notebooks: they use public names, and their cells run and find what they should."""

import ast
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from ivjax.cli import _parser
from tests.notebooks import FOLDER, code_cells, environment, read_notebook, run_notebook
from tests.train.processes import ROOT

NAMES = ("features_of_your_videos.ipynb", "stage1_in_miniature.ipynb")
OUTSIDE = {"json", "shlex", "subprocess", "sys", "pathlib", "matplotlib.pyplot", "numpy"}
COLOURS = ("red", "green", "blue")
_LARGEST = 50_000  # bytes of a notebook


def imports_of(source):
    """The modules, and the names out of modules, that a text imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


def test_every_notebook_is_tested():
    assert sorted(path.name for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_small_has_no_outputs_and_links_to_pages_that_exist(name):
    notebook = read_notebook(name)
    assert (notebook["nbformat"], len((FOLDER / name).read_bytes()) < _LARGEST) == (4, True)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    words = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#]+)", words)
    assert links and all((FOLDER / link).is_file() for link in links)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_imports_names_of_the_page_on_python_alone(name):
    page = (ROOT / "docs" / "api.md").read_text()
    public = {
        found for block in re.findall(r"```python\n(.*?)```", page, re.S) for found in imports_of(block)
    }
    used = {found for source in code_cells(read_notebook(name)) for found in imports_of(source)}
    assert ("ivjax", None) in used
    assert {found for found in used if found[0] not in OUTSIDE} <= public


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_a_notebook_are_valid(name):
    text = "\n".join(code_cells(read_notebook(name)))
    commands = [re.sub(r"\{.*?\}", "x", line) for line in re.findall(r'run\(f?"(.*?)"\)', text)]
    assert len(commands) > 2
    for command in commands:
        options, rest = _parser().parse_known_args(shlex.split(command))
        assert callable(options.run) and all("=" in word for word in rest), command


def colours_between(demo, video, start, end):
    """The colours that a drawn video shows in a part of it."""
    text = (demo / "annotations.jsonl").read_text() + (demo / "held_out.jsonl").read_text()
    for row in map(json.loads, text.splitlines()):
        begins, ends = (seconds(row[f"{name}_timestamp"]) for name in ("Start", "End"))
        if row["YoutubeID"] == Path(video).stem and min(end, ends) - max(start, begins) > 0.3:
            yield from (value for name, value in row["Attributes"].items() if name.startswith("colour"))


def seconds(clock):
    hours, minutes, rest = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_features_of_your_videos_runs_and_words_find_their_colours(tmp_path):
    names = run_notebook(NAMES[0], tmp_path, "paths", "vectors", "nearest", "hits")
    paths, vectors = names["paths"], names["vectors"]
    assert len(paths) == len(vectors) > 20 and vectors.shape[1] == 64
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert names["nearest"].shape == (len(paths), 3)
    assert all(number not in row for number, row in enumerate(names["nearest"]))
    hits = [(colour, hit) for colour, found in zip(COLOURS, names["hits"], strict=True) for hit in found]
    right = [
        colour in colours_between(tmp_path / "demo", hit.video, hit.start, hit.end) for colour, hit in hits
    ]
    # By chance one of eight, or a little more, since some scenes have two colours.
    assert len(right) == 12 and sum(right) >= 6
    assert (tmp_path / "hits.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.multiprocess
def test_stage1_in_miniature_runs_and_learns_what_its_teachers_see(tmp_path):
    names = run_notebook(NAMES[1], tmp_path, "clip_teacher", "student", "probe", "masks")
    losses = [line["loss"] for line in names["student"] if "loss" in line]
    held_out = [line["eval/loss"] for line in names["student"] if line.get("eval/loss") is not None]
    assert losses[-1] < 0.6 * losses[0] and held_out[-1] < held_out[0]
    assert [line["step"] for line in names["clip_teacher"] if "loss" in line][-1] == 100
    probe = names["probe"]
    assert probe["top1"] > probe["random_top1"] + 5 and probe["top1"] > 2 * probe["chance"]
    sizes = [(tmp_path / picture).stat().st_size for picture in names["masks"]]
    assert len(sizes) == 3 and min(sizes) > 10_000


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_notebook_runs_in_jupyter(tmp_path, monkeypatch):
    install = "is not installed: pip install 'ivjax[notebooks]'"
    nbclient = pytest.importorskip("nbclient", reason=f"nbclient {install}")
    pytest.importorskip("ipykernel", reason=f"ipykernel {install}")
    import nbformat

    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MPLBACKEND")  # Jupyter's own shows pictures
    notebook = nbformat.read(FOLDER / NAMES[0], as_version=4)
    nbformat.validate(notebook)
    place = {"metadata": {"path": str(tmp_path)}}
    done = nbclient.NotebookClient(notebook, timeout=300, resources=place).execute()
    shown = [output["data"] for cell in done.cells for output in cell.get("outputs", ()) if "data" in output]
    assert sum("image/png" in data for data in shown) == 2
    assert any("DualEncoder after step 200" in data.get("text/plain", "") for data in shown)
