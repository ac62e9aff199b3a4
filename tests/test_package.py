"""The wheel: nothing but ivjax at the top, and shipped configs by name from anywhere."""

import importlib
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

import ivjax
from ivjax.data_pipelines.store.clips import open_clips
from ivjax.errors import UserError
from ivjax.experiment.files import shipped_configs
from tests.imports import DATA_PACKAGES, WITHOUT_DATA
from tests.train.processes import ROOT


@pytest.mark.multiprocess
@pytest.mark.slow
def test_the_wheel_works_away_from_the_checkout(tmp_path):
    source = tmp_path / "source"
    for name in ("ivjax", "configs", "data_pipelines", "launch"):
        shutil.copytree(ROOT / name, source / name)
    shutil.copy(ROOT / "setup.py", source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("ivjax-*.whl")
    unpacked = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(unpacked)
    assert {path.name.split("-")[0] for path in unpacked.iterdir()} == {"ivjax"}
    assert {"page.css", "page.js"} <= {path.name for path in (unpacked / "ivjax" / "report").iterdir()}
    environment = os.environ | {"PYTHONPATH": str(unpacked), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "ivjax", "train", "stage1_synthetic", "steps=7", "--print"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "steps = 7" in done.stdout and "steps: 300 -> 7" in done.stdout
    code = "import ivjax.data_pipelines.load.loader, ivjax.launch.local, ivjax; print(ivjax.__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(unpacked))


@pytest.mark.multiprocess
@pytest.mark.slow
def test_models_and_benchmark_run_without_the_data_plane():
    code = f"import sys; sys.modules.update(dict.fromkeys({sorted(DATA_PACKAGES)}))\n"
    code += f"import {', '.join(WITHOUT_DATA)}\n"
    code += "from ivjax.experiment.files import load_experiment; load_experiment('stage1_bench')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_shipped_configs_are_found_by_name():
    assert {"stage1_synthetic", "stage1_bench"} <= set(shipped_configs())
    assert ivjax.__version__


def test_a_tfds_dataset_without_its_package_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "dataset_info.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "ivjax.data_pipelines.store.tfds_clips", raising=False)
    with pytest.raises(UserError, match=r"was made by TFDS: .* is not installed: pip install 'ivjax"):
        open_clips(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ivjax.data_pipelines.build.tfds_internvid", raising=False)
    with pytest.raises(ImportError, match="made and read by tensorflow-datasets, which is not installed"):
        importlib.import_module("ivjax.data_pipelines.build.tfds_internvid")
