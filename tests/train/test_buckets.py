"""Runs and corpora in a bucket: trained, killed, continued, read, and with requests that fail."""

import dataclasses
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
from ivjax.data_pipelines.augment.recipe import TRAIN_STAGE1
from ivjax.data_pipelines.fields import Frames
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.manifest import read_manifest
from tests.data_pipelines.corpora import corpus_of, make_clip
from tests.train.bucket_server import Faults, faulty, store
from tests.train.micro import losses, run
from tests.train.processes import MICRO, finish, start, wait_for
from tests.train.test_masked_pixels import experiment

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
_CONFIG = """
from tests.train.test_buckets import of_clips

experiment = of_clips({place!r})
"""


def of_clips(place):
    """An experiment on clips of a corpus, in groups of two shards."""
    data = Mixture(
        (Corpus(place),), {"video": Frames(Intervals(8), TRAIN_STAGE1)}, workers=1, shuffle_shards=2
    )
    return dataclasses.replace(experiment, data=data)


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


def upload(bucket, file, name):
    """Puts a file into the bucket."""
    quoted = urllib.parse.quote(name, safe="")
    address = f"{bucket}/upload/storage/v1/b/bucket/o?uploadType=media&name={quoted}"
    urllib.request.urlopen(urllib.request.Request(address, file.read_bytes(), method="POST")).close()


def test_a_corpus_in_a_bucket_trains_like_one_on_a_disk(bucket, gate, tmp_path):
    corpus = corpus_of(tmp_path / "corpus", [make_clip(number, frames=6) for number in range(96)], shards=12)
    for file in corpus.iterdir():
        upload(bucket, file, f"corpora/clips/{file.name}")
    config = tmp_path / "config.py"
    config.write_text(_CONFIG.format(place="gs://bucket/corpora/clips"))
    # Two groups and one shard more: each epoch copies what the last one had to remove.
    room = 5 * max(shard.bytes for shard in read_manifest(corpus).shards) / 2**30
    cache = (f"data.shard_cache.folder={tmp_path / 'cache'}", f"data.shard_cache.gib={room}")
    gate.every, gate.drops = 9, 14
    job = ("launch", "local", "--processes", "2", "--devices", "1")
    command = ("train", str(config), *cache, "mesh.data=2", "--workdir", str(tmp_path / "run"))
    printed = finish(start(*job, *command))
    assert "Traceback" not in printed, printed
    assert losses(tmp_path / "run") == pytest.approx(
        run(tmp_path / "whole", base=of_clips(str(corpus))), rel=1e-5
    )
    assert gate.failed > 3
    assert 0 < len(list((tmp_path / "cache").glob("*.array_record"))) <= 5
    room /= 2
    refused = finish(
        start(
            "train", str(config), cache[0], f"data.shard_cache.gib={room}", "--workdir", str(tmp_path / "no")
        ),
        2,
    )
    assert "data.shard_cache.gib=" in refused and "lower data.shuffle_shards=2" in refused
