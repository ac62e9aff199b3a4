"""What `import ivjax` offers: every name exists, is typed and documented, and docs/api.md runs."""

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import ivjax
from ivjax import experiment as ix
from ivjax.data_pipelines.demo.needle_video import NeedleVideo
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.run_folder import read_metrics
from ivjax.generate.decoding import Decoding
from ivjax.generate.opening import VideoInput
from ivjax.ops.trees import paths_of
from tests.data_pipelines.corpora import make_clip
from tests.evals.small_run import save_small_run, write_test_set
from tests.generate.small_dialogue import save_dialogue_run
from tests.train import micro
from tests.train.processes import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text()
NAMES = {"chat", "embed", "experiment", "features", "hico", "load", "plan", "presets", "train"}
SHORT = Decoding(new=6, chunk=64)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the runs and videos that the page names."""
    folder = tmp_path_factory.mktemp("api")
    save_small_run(folder / "runs" / "viclip_tiny", write_test_set(folder / "corpus"))
    save_dialogue_run(folder / "runs" / "dialogue_tiny")
    (folder / "videos").mkdir()
    for number, name in enumerate("ab"):
        (folder / "videos" / f"{name}.mp4").write_bytes(make_clip(number).payload)
    (folder / "clip.mp4").write_bytes(NeedleVideo(1, 0, 40).encode())
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def test_public_names_are_listed_on_the_page_and_by_dir():
    assert set(dir(ivjax)) == NAMES | {"Loaded", "__version__"}
    assert set(re.findall(r"^\| `ivjax\.(\w+)", PAGE, re.M)) == NAMES
    with pytest.raises(AttributeError, match="module 'ivjax' has no attribute 'laod'"):
        ivjax.laod  # noqa: B018


@pytest.mark.parametrize("name", sorted(NAMES | {"Loaded"}))
def test_a_public_name_is_documented_and_typed(name):
    found = getattr(ivjax, name)
    assert inspect.getdoc(found).strip()
    if not callable(found):
        return
    signature = inspect.signature(found)
    untyped = [each.name for each in signature.parameters.values() if each.annotation is each.empty]
    assert untyped == [] and signature.return_annotation is not signature.empty


@pytest.mark.parametrize("name", ["train", "plan", "embed"])
def test_a_package_that_is_called_says_which_function_it_is(name):
    package = getattr(ivjax, name)
    assert inspect.ismodule(package) and f"is `{'.'.join(package.__called__)}`" in package.__doc__


def test_an_import_starts_no_jax_and_the_order_of_imports_does_not_matter():
    code = (
        "import sys, ivjax\n"
        "assert not {'jax', 'numpy', 'flax'} & set(sys.modules), 'it imports too much'\n"
        "import ivjax.plan.topology, ivjax.embed.windows, ivjax.train.chips\n"
        "assert all(map(callable, (ivjax.plan, ivjax.embed, ivjax.train)))\n"
        "from ivjax.train import chips\n"
        "from ivjax import plan, experiment\n"
        "assert plan is ivjax.plan and ivjax.plan.topology.parse('v5e:2x2').devices == 4\n"
        "assert 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
def test_type_checkers_know_the_names(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.S))
    (tmp_path / "page.py").write_text(f"{blocks}\nreveal_type(ivjax.train)\nreveal_type(ivjax.plan)\n")
    settings = [
        "--python-executable",
        sys.executable,
        "--follow-imports",
        "silent",
        "--ignore-missing-imports",
    ]
    command = [sys.executable, "-m", "mypy", *settings, str(tmp_path / "page.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert '"def (experiment: ivjax.experiment.experiment.Experiment' in done.stdout


def test_the_blocks_of_the_page_run(here, capsys):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(block, names)
    printed = capsys.readouterr().out
    assert "family   viclip, sizes of no preset" in printed and names["vectors"].shape == (2, 16)
    assert names["best"].tolist() == (names["vectors"] @ names["words"].T).argmax(axis=0).tolist()
    assert names["made"].rows > 2 and not names["made"].broken
    scores = [hit.score for hit in names["hits"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert names["talk"].turns[-1].text == names["answer"] and names["seconds"]["prefill"] > 0
    assert names["status"] == 0 and [line["step"] for line in read_metrics(Path("runs/tiny"))][-1] == 40
    assert "experiment on v5e:16x16 fits: 256 devices on 64 hosts, mesh data=" in printed
    fits, needed, step, cost = names["facts"]
    assert fits and needed < 2**34 and 0.1 < step < 100
    assert cost == pytest.approx(1.2 * names["plan"].speed.chip_hours)
    assert "viclip: B16, L14\n" in printed and names["size"].width == 384
    assert sum(leaf.size for _, leaf in paths_of(names["params"])) == 23_043_840
    assert names["merged"].tokens.shape == (2, 16, 64) and names["each"].shape == (2, 256, 64)
    assert float(names["merged"].sizes.sum()) == 512 and 0 < float(names["report"]["similarity"]) < 1


def test_presets_are_those_that_load_takes_and_build_models():
    assert ivjax.presets["viclip"]["L14"].vision.width == 1024
    assert len(ivjax.presets) == len(list(ivjax.presets)) > 40
    assert "viclip" in ivjax.presets and "vicilp" not in ivjax.presets
    with pytest.raises(UserError, match="there is no family 'vicilp'; the families are"):
        ivjax.presets["vicilp"]
    for family in ivjax.presets:
        for size in ivjax.presets[family].values():
            assert size.build(Compute("float32"))


def test_a_chat_takes_files_bytes_frames_and_parts_and_answers_alike(here):
    model = ivjax.load("runs/dialogue_tiny")
    assert "ivjax.features(model, videos), ivjax.chat(model, videos)" in str(model)
    frames = np.stack([NeedleVideo(1, 0, 40).read([number])[0] for number in range(8)])
    media = {
        "file": "clip.mp4",
        "bytes": Path("clip.mp4").read_bytes(),
        "listed": [Path("clip.mp4")],
        "part": VideoInput("clip.mp4"),
    }
    said = {name: ivjax.chat(model, each, SHORT, clips=2).answer("Who ?") for name, each in media.items()}
    assert len(set(said.values())) == 1 and said["file"]
    talk = ivjax.chat(model, frames, SHORT, clips=2, frame_rate=1.0)
    assert talk.answer("Who ?") == "".join(ivjax.chat(model, frames, SHORT, clips=2).ask("Who ?")).strip()
    assert talk.watched.frames == 8 and [turn.role for turn in talk.turns] == ["user", "assistant"]
    assert ivjax.chat(model, options=SHORT, clips=2).answer("Who ?")  # about nothing that is seen


def test_a_chat_is_with_a_loaded_dialogue_model(here):
    with pytest.raises(UserError, match="with what ivjax.load returns, not with a str; give that"):
        ivjax.chat("runs/dialogue_tiny", "clip.mp4")
    with pytest.raises(UserError, match="which answers no questions about videos"):
        ivjax.chat(ivjax.load("runs/viclip_tiny"), "clip.mp4")


def test_training_takes_a_text_for_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    experiment = ix.with_overrides(micro.experiment, ["steps=1"])
    said = []
    assert ivjax.train(experiment, "~/run", said.append, jax.devices()[:1]) == 0
    assert (tmp_path / "run" / "metrics.jsonl").is_file() and any("stage " in line for line in said)
    with pytest.raises(UserError, match="is a bucket and no Path: give its address as a text, gs://"):
        ivjax.train(experiment, Path("gs://bucket/run"), said.append)


def test_an_embedding_from_python_is_that_of_the_command(here, tmp_path):
    from ivjax.cli import main

    lines = []
    made = ivjax.embed("runs/viclip_tiny", Path("videos"), tmp_path / "mine.npz", say=lines.append)
    command = ["embed", "videos", "--weights", "runs/viclip_tiny", "--out", str(tmp_path / "theirs.npz")]
    assert main(command) == 0 and made.rows == 2 and lines
    with np.load(tmp_path / "mine.npz") as mine, np.load(tmp_path / "theirs.npz") as theirs:
        np.testing.assert_array_equal(mine["embeddings"], theirs["embeddings"])
    shutil.rmtree(tmp_path)
