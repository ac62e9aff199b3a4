"""Rendered files: golden texts, and the judgement of shells, schemas and the clients' own readers."""

import copy
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.launch.cases import CASES, GOLDEN, rendered
from tests.launch.schema import problems

SCHEMA = json.loads((Path(__file__).parent / "jobset_schema.json").read_text())
JOBSETS = sorted(GOLDEN.glob("*.jobset.yaml"))
SCRIPTS = sorted([*GOLDEN.glob("*.sh"), *GOLDEN.glob("*.sbatch")])


def jobset(file):
    return list(yaml.safe_load_all(file.read_text()))[-1]


@pytest.mark.parametrize("case", CASES)
def test_rendered_files_are_the_golden_texts(case):
    files = rendered(case).files
    assert files == {name: (GOLDEN / name).read_text() for name in files}


def test_every_golden_text_belongs_to_a_case():
    assert {file.name for file in GOLDEN.iterdir()} == {
        name for case in CASES for name in rendered(case).files
    }


def test_every_script_passes_the_bash_parser():
    assert len(SCRIPTS) >= 8
    for script in SCRIPTS:
        done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), script.name


@pytest.mark.parametrize("file", JOBSETS, ids=lambda file: file.name.split(".")[0])
def test_a_jobset_fits_its_schema(file):
    assert list(problems(jobset(file), SCHEMA, SCHEMA["definitions"])) == []


def test_the_schema_finds_misspelt_missing_and_mistyped_keys():
    good = jobset(JOBSETS[0])
    for change, words in (
        (lambda spec: spec["failurePolicy"].update(maxRestart=1), "maxRestart is unknown"),
        (lambda spec: spec["replicatedJobs"][0].pop("template"), "template is missing"),
        (lambda spec: spec["replicatedJobs"][0].update(replicas="2"), "'2' is no integer"),
        (lambda spec: spec["failurePolicy"]["rules"][0].update(action="Restart"), "is none of"),
        (lambda spec: spec["replicatedJobs"][0].update(name="A_b"), "does not fit"),
    ):
        bad = copy.deepcopy(good)
        change(bad["spec"])
        assert any(words in problem for problem in problems(bad, SCHEMA, SCHEMA["definitions"]))


@pytest.mark.parametrize("file", JOBSETS, ids=lambda file: file.name.split(".")[0])
def test_kubernetes_accepts_the_job_inside(file):
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for replicated in jobset(file)["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}}
        validator.validate(job | {"spec": replicated["template"]["spec"]}, "1.32", strict=True)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("skypilot")])
def test_skypilot_reads_its_task_file(case):
    sky = pytest.importorskip("sky", reason="skypilot is not installed")
    task = sky.Task.from_yaml(str(GOLDEN / f"{case}.sky.yaml"))
    assert (task.name, task.num_nodes) == (case, 2 if case == "skypilot-gpus" else 1)


def test_a_skypilot_task_has_what_its_documentation_names():
    task = yaml.safe_load((GOLDEN / "skypilot-gpus.sky.yaml").read_text())
    assert set(task) == {
        *("name", "resources", "num_nodes", "envs", "secrets", "file_mounts", "setup", "run"),
    }
    assert task["resources"]["accelerators"] == "H200:8" and task["num_nodes"] == 2
    assert task["file_mounts"]["/mnt/gs/clips-eu"] == {"source": "gs://clips-eu", "mode": "MOUNT"}


def test_hosts_and_chips_follow_from_the_topology():
    for name, slices, hosts, chips in (
        ("gke-one", 1, 64, 4),
        ("gke-slices", 4, 32, 4),
        ("gke-gpus", 1, 2, 8),
    ):
        replicated = jobset(GOLDEN / f"{name}.jobset.yaml")["spec"]["replicatedJobs"][0]
        job = replicated["template"]["spec"]
        limits = job["template"]["spec"]["containers"][0]["resources"]["limits"]
        found = (replicated["replicas"], job["parallelism"], job["completions"], *limits.values())
        assert found == (slices, hosts, hosts, chips)


def test_a_variable_of_this_shell_is_named_and_its_value_never_written(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "do-not-tell")
    for case in CASES:
        result = rendered(case)
        for text in [*result.files.values(), *map(str, result.steps)]:
            assert "do-not-tell" not in text
        passed = "HTTPS_PROXY" in CASES[case][1].get("env", {})
        assert any("HTTPS_PROXY" in text for text in result.files.values()) == passed
