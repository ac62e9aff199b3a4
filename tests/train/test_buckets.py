"""Run folders in a bucket: trained, killed, continued, read, and with requests that fail."""

import json
import signal
import subprocess
import sys
import urllib.parse
import urllib.request

import jax
import numpy as np
import pytest

from ivjax.convert.formats.orbax_files import restore_params
from tests.train.bucket_server import Faults, faulty, store
from tests.train.micro import losses, run
from tests.train.processes import MICRO, finish, start, wait_for

pytest.importorskip("gcsfs", reason="gcsfs is not installed: pip install 'ivjax[gcs]'")
pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]

_READ = """
import json, sys
import jax
from ivjax.convert.formats.orbax_files import restore_params
from ivjax.experiment.buckets import local

params = restore_params(local(sys.argv[1]), jax.sharding.SingleDeviceSharding(jax.devices()[0]))
print(json.dumps(params["clip_decoder"]["norm"]["scale"].tolist()))
"""
RUN = "gs://bucket/runs/micro"


@pytest.fixture(scope="module")
def bucket():
    """The address of a server with an empty bucket."""
    with store("bucket") as address:
        yield address


@pytest.fixture
def gate(bucket, monkeypatch):
    """Sends what this test starts to the server, through a proxy whose faults are given."""
    faults = Faults()
    with faulty(bucket, faults) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
        monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "any")
        monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        yield faults


def names(bucket):
    """The names of all that the bucket holds."""
    with urllib.request.urlopen(f"{bucket}/storage/v1/b/bucket/o?prefix=runs/") as answer:
        return {entry["name"] for entry in json.load(answer).get("items", [])}


def content(bucket, name):
    """The bytes of one of them."""
    quoted = urllib.parse.quote(name, safe="")
    with urllib.request.urlopen(f"{bucket}/storage/v1/b/bucket/o/{quoted}?alt=media") as answer:
        return answer.read()


def test_a_run_in_a_bucket_is_killed_continued_and_read(bucket, gate, tmp_path):
    gate.every = 41
    command = ("train", MICRO, "checkpoint.every=4", "--workdir", RUN)
    process = start(*command)
    wait_for(lambda: "runs/micro/checkpoints/4/commit_success.txt" in names(bucket), process)
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    # In two processes, and on what is another machine to it: nothing of it lies on this one.
    job = ("launch", "local", "--processes", "2", "--devices", "1")
    printed = finish(start(*job, *command, "mesh.data=2"))
    assert "continuing from step" in printed and "Traceback" not in printed, printed
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "metrics.jsonl").write_bytes(content(bucket, "runs/micro/metrics.jsonl"))
    assert losses(copy) == pytest.approx(run(tmp_path / "whole"), rel=1e-5)
    assert {f"runs/micro/{name}" for name in ("experiment.json", "ledger.json")} <= names(bucket)
    assert any(name.startswith("runs/micro/tensorboard/") for name in names(bucket))
    assert not any("owner" in name or "draft" in name for name in names(bucket))
    assert gate.failed > 3
    read = subprocess.run([sys.executable, "-c", _READ, RUN], capture_output=True, text=True, check=True)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    there = restore_params(tmp_path / "whole", place)["clip_decoder"]["norm"]["scale"]
    np.testing.assert_allclose(json.loads(read.stdout), np.asarray(there), rtol=1e-5)
    assert "goodput" in finish(start("ledger", RUN))
    assert "/report" in finish(start("report", RUN, "--no-model", "--out", str(tmp_path / "report")))
