"""The rendered scripts at work, with stand-ins for the clients that write down what they were asked."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ivjax.errors import UserError
from ivjax.launch import client
from ivjax.launch.host_entry import STOPPED, finished, run_on_host
from ivjax.launch.render import Rendered, ShellCommand
from tests.launch.cases import GOLDEN, rendered


def stand_in(folder, name, body):
    """A program `name` that appends its arguments to a log and runs `body`."""
    program = folder / name
    program.write_text(f'#!/bin/bash\necho "{name} $*" >> "$LOG"\n{body}\n')
    program.chmod(0o755)


def environment(tmp_path, **variables):
    path = f"{tmp_path}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "LOG": str(tmp_path / "log"), "HERE": str(tmp_path)} | variables


def asked(tmp_path, *names):
    log = tmp_path / "log"
    lines = log.read_text().splitlines() if log.is_file() else []
    return [line for line in lines if line.split()[0] in names]


@pytest.mark.parametrize(
    "status, restarts, again",
    [
        (0, 0, False),
        (STOPPED, 0, True),
        (STOPPED, 99, True),
        (2, 0, False),
        (134, 19, True),
        (134, 20, False),
    ],
)
def test_a_slurm_job_is_requeued_after_a_stop_or_a_few_failures(tmp_path, status, restarts, again):
    stand_in(tmp_path, "srun", f"exit {status}")
    stand_in(tmp_path, "scontrol", "")
    env = environment(tmp_path, SLURM_JOB_ID="7", SLURM_RESTART_COUNT=str(restarts))
    done = subprocess.run(["bash", GOLDEN / "slurm-image.sbatch"], env=env)
    assert done.returncode == status
    assert asked(tmp_path, "scontrol") == (["scontrol requeue 7"] if again else [])


def test_a_cancelled_slurm_job_is_not_requeued(tmp_path):
    stand_in(tmp_path, "srun", f"kill -TERM $PPID; exit {STOPPED}")
    stand_in(tmp_path, "scontrol", "")
    done = subprocess.run(
        ["bash", GOLDEN / "slurm-image.sbatch"], env=environment(tmp_path, SLURM_JOB_ID="7")
    )
    assert done.returncode == STOPPED and asked(tmp_path, "scontrol") == []


GCLOUD = """
case "$*" in
  *" describe "*) cat "$HERE/state" 2> /dev/null ;;
  *" create "*) echo ACTIVE > "$HERE/state" ;;
  *" delete "*) rm "$HERE/state" ;;
  *"is-active tpu"*"--worker=0"* | *"--worker=0"*"is-active"*)
    head -n 1 "$HERE/services"; sed -i 1d "$HERE/services" ;;
esac"""


def tpu_vm(tmp_path, services):
    """Runs `up`; `services` are the states of the service, one each time it is looked at."""
    stand_in(tmp_path, "gcloud", GCLOUD)
    stand_in(tmp_path, "sleep", "")
    (tmp_path / "services").write_text(services)
    for name, text in rendered("tpu-vm-slices").files.items():
        (tmp_path / name).write_text(text)
    script = ["bash", tmp_path / "tpu-vm-slices.sh", "up"]
    return subprocess.run(script, env=environment(tmp_path), capture_output=True, text=True, timeout=60)


def test_tpu_vms_are_created_set_up_started_watched_and_deleted(tmp_path):
    done = tpu_vm(tmp_path, "active\nactivating\nactive\ninactive\n")
    assert done.returncode == 0, done.stderr
    assert "tpu-vm-slices: done" in done.stdout
    verbs = [line.split()[3:5] for line in asked(tmp_path, "gcloud") if "describe" not in line]
    made, deleted = ["queued-resources", "create"], ["queued-resources", "delete"]
    assert verbs[0] == made and verbs[-1] == deleted and verbs.count(made) == 1
    # Two slices: files, preparation and start on each.
    assert verbs[1:3] == [["tpu-vm", "scp"]] * 2 and verbs[3:7] == [["tpu-vm", "ssh"]] * 4
    log = (tmp_path / "log").read_text()
    for node in ("tpu-vm-slices-0", "tpu-vm-slices-1"):
        assert f"{node}: --zone=us-east5-a" in log and f"ssh {node} --zone=us-east5-a" in log


def test_a_run_that_failed_keeps_its_tpu_vms(tmp_path):
    done = tpu_vm(tmp_path, "active\nfailed\n")
    assert done.returncode == 1 and "failed; see: bash" in done.stderr
    assert (tmp_path / "state").read_text() == "ACTIVE\n"


def test_preempted_tpu_vms_are_created_again(tmp_path):
    take = 'echo SUSPENDED > "$HERE/state"; echo'
    stand_in(
        tmp_path, "head", f'if [ -e "$HERE/taken" ]; then echo inactive; else touch "$HERE/taken"; {take}; fi'
    )
    done = tpu_vm(tmp_path, "")
    assert done.returncode == 0 and "the TPUs are gone; asking for them again" in done.stdout
    verbs = [line.split()[4] for line in asked(tmp_path, "gcloud")]
    assert verbs.count("create") == 2 and verbs.count("delete") == 2 and verbs.count("scp") == 4


def test_a_missing_client_is_an_error_after_the_files_are_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for case, name in (
        ("slurm-gpus", "sbatch"),
        ("gke-one", "kubectl"),
        ("skypilot-tpu", "sky"),
        ("gke-xpk", "xpk"),
    ):
        client.write(rendered(case), tmp_path / case)
        with pytest.raises(UserError, match=f"{name} is not installed: .*the files are ready in .*{case}"):
            client.start(rendered(case), tmp_path / case, print)
        assert {file.name for file in (tmp_path / case).iterdir()} == set(rendered(case).files)


def test_a_variable_that_is_passed_on_must_be_set(tmp_path, monkeypatch):
    stand_in(tmp_path, "sbatch", "")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    with pytest.raises(UserError, match="passes on HTTPS_PROXY"):
        client.start(rendered("slurm-gpus"), tmp_path, print)


def test_a_launch_returns_the_clients_status_and_passes_secrets_by_stdin(tmp_path, monkeypatch):
    stand_in(tmp_path, "kubectl", 'cat > "$HERE/input"; exit 3')
    for name, value in environment(tmp_path, HTTPS_PROXY="hidden").items():
        monkeypatch.setenv(name, value)
    said = []
    assert client.start(rendered("gke-slices"), tmp_path, said.append) == 3
    assert said[-1].startswith("kubectl ended with status 3") and "hidden" not in "".join(said)
    secret = json.loads((tmp_path / "input").read_text())
    assert (secret["metadata"]["name"], secret["stringData"]) == (
        "gke-slices-env",
        {"HTTPS_PROXY": "hidden"},
    )
    assert asked(tmp_path, "kubectl") == ["kubectl apply -f -"]


def test_steps_run_in_order(tmp_path, monkeypatch):
    stand_in(tmp_path, "gcloud", "")
    stand_in(tmp_path, "kubectl", "")
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    steps = (
        ShellCommand(("gcloud", "storage", "cp", "a b", "c")),
        ShellCommand(("kubectl", "apply", "-f", "x")),
    )
    assert client.start(Rendered("x", {}, steps), tmp_path, print) == 0
    assert asked(tmp_path, "gcloud", "kubectl") == ["gcloud storage cp a b c", "kubectl apply -f x"]


def run_folder(tmp_path, steps, *saved):
    (tmp_path / "experiment.json").write_text(json.dumps({"steps": steps}))
    for name in saved:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    "saved, done",
    [([], False), (["4"], False), (["4", "10"], True), (["4", "10.orbax-checkpoint-tmp"], False)],
)
def test_a_run_is_finished_when_its_last_step_is_saved(tmp_path, saved, done):
    assert finished(run_folder(tmp_path, 10, *saved)) is done


def test_a_run_in_phases_is_finished_when_its_last_phase_is(tmp_path):
    phases = [{"name": "low", "steps": 4}, {"name": "high", "steps": 2}]
    (tmp_path / "experiment.json").write_text(json.dumps({"steps": 10, "phases": phases}))
    low, high = tmp_path / "phases" / "1_low", tmp_path / "phases" / "2_high"
    low.mkdir(parents=True)
    run_folder(low, 4, "4")
    assert not finished(tmp_path)
    high.mkdir(parents=True)
    run_folder(high, 2, "1")
    assert not finished(tmp_path)
    (high / "checkpoints" / "2").mkdir()
    assert finished(tmp_path)


@pytest.mark.parametrize("stored", [None, "[]", "7", '{"steps": null}', '{"steps": 4, "phases": [3]}'])
def test_a_folder_without_a_usable_experiment_is_not_finished(tmp_path, stored):
    if stored is not None:
        (tmp_path / "experiment.json").write_text(stored)
    assert not finished(tmp_path)


@pytest.mark.parametrize(
    "saved, status, seen", [("10", 0, 0), ("4", 0, STOPPED), ("4", 2, 2), ("10", -6, 134)]
)
def test_the_worker_reports_a_stop_before_the_end(tmp_path, monkeypatch, saved, status, seen):
    run_folder(tmp_path, 10, saved)
    body = f"import os, sys; sys.exit({status})" if status >= 0 else "import os; os.abort()"
    monkeypatch.setattr(sys, "executable", str(python(tmp_path, body)))
    for workdir in (["--workdir", str(tmp_path)], [f"--workdir={tmp_path}"]):
        assert run_on_host(["train", "x", *workdir]) == seen


def python(tmp_path, body):
    """Stands in for the interpreter that would run the command."""
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{body}\n")
    program.chmod(0o755)
    return program


def test_the_worker_passes_sigterm_on(tmp_path):
    ready = tmp_path / "ready"
    child = python(
        tmp_path,
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        f"pathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)",
    )
    code = f"import sys\nfrom ivjax.launch.host_entry import run_on_host\nsys.executable = {str(child)!r}\n"
    code += "sys.exit(run_on_host(['embed', 'x']))"
    worker = subprocess.Popen([sys.executable, "-c", code])
    while not ready.exists():
        assert worker.poll() is None
        time.sleep(0.01)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == STOPPED
