"""From drawn videos to the batches of several hosts: built, over kills too, validated, read, damaged."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ivjax.data_pipelines.augment.recipe import TRAIN_STAGE2
from ivjax.data_pipelines.build.build_corpus import build
from ivjax.data_pipelines.build.options import BuildOptions
from ivjax.data_pipelines.demo.demo_corpus import make_demo
from ivjax.data_pipelines.fields import ArraySpec, Caption, Frames
from ivjax.data_pipelines.inspect.validate import validate
from ivjax.data_pipelines.load.loader import BatchRequest, HostShard
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.manifest import read_manifest
from ivjax.data_pipelines.tokenizers.sentencepiece_training import corpus_captions, train_sentencepiece
from ivjax.data_pipelines.tokenizers.spm import SentencePiece

# Orders on any hosts (test_order.py) and damaged corpora (tests/test_cli_data.py) are among the quick tests.
pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]
CLIPS, SHARD_CLIPS, BATCH = 24, 4, 8
SPEC = {
    "index": ArraySpec((), np.dtype(np.uint32)),
    "sample": ArraySpec((), np.dtype(np.uint32)),
    "video": ArraySpec((4, 48, 48, 3), np.dtype(np.uint8)),
    "text": ArraySpec((16,), np.dtype(np.int32)),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo(
        tmp_path_factory.mktemp("demo"), CLIPS, seed=5, held_out=2, workers=1, say=lambda _: None
    )


def options(demo, out):
    return BuildOptions(
        str(demo.annotations), out, videos=str(demo.videos), shard_clips=SHARD_CLIPS, workers=2
    )


def kill_when(demo, out, shards):
    """Starts a build in a process of its own and kills it as soon as `shards` shards are finished."""
    values = f"{str(demo.annotations)!r}, Path({str(out)!r}), videos={str(demo.videos)!r}"
    script = (
        "from pathlib import Path\n"
        "from ivjax.data_pipelines.build.options import BuildOptions\n"
        "from ivjax.data_pipelines.build.build_corpus import build\n"
        f"build(BuildOptions({values}, shard_clips={SHARD_CLIPS}, workers=2))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.glob("shard-*"))) < shards and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -9, "it was finished before it could be killed"
    assert not (out / "manifest.json").exists()


@pytest.fixture(scope="module")
def corpus(demo, tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "shards"
    report = build(options(demo, out), lambda _: None)
    assert report.clips == CLIPS and not report.dropped
    return out


def test_built_over_two_kills_it_equals_an_undisturbed_build(demo, corpus, tmp_path):
    out = tmp_path / "shards"
    kill_when(demo, out, 1)
    kill_when(demo, out, 4)
    kept = len(list(out.glob("shard-*")))
    assert build(options(demo, out), lambda _: None).kept_shards >= kept - 1 >= 2
    assert read_manifest(out).digest == read_manifest(corpus).digest
    assert validate(out, None, lambda line: None) == []


def test_shards_in_each_others_place_are_built_anew(demo, corpus, tmp_path):
    out = Path(shutil.copytree(corpus, tmp_path / "shards"))
    one, two = (out / shard.name for shard in read_manifest(out).shards[:2])
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    report = build(options(demo, out), lambda _: None)
    assert report.shards - report.kept_shards == 2
    assert read_manifest(out).digest == read_manifest(corpus).digest
    assert validate(out, 0, lambda line: None) == []


def test_any_number_of_hosts_reads_the_same_global_batches(corpus, tmp_path):
    train_sentencepiece(corpus_captions(corpus), tmp_path / "words.model", 320)
    tokenizer = SentencePiece(str(tmp_path / "words.model"), length=16)
    fields = {"video": Frames(Intervals(4), TRAIN_STAGE2), "text": Caption(tokenizer)}

    def batches(hosts, workers):
        data = Mixture((Corpus(str(corpus)),), fields, workers=workers)
        loaders = [data.open(BatchRequest(SPEC, BATCH, 11, HostShard(host, hosts))) for host in range(hosts)]
        found = []
        for _ in range(CLIPS // BATCH + 1):
            parts = [next(loader) for loader in loaders]
            joined = {name: np.concatenate([part[name] for part in parts]) for name in SPEC}
            order = np.argsort(joined["index"])
            found.append({name: array[order] for name, array in joined.items()})
        for loader in loaders:
            loader.close()
        return found

    reference = batches(1, workers=0)
    samples = np.concatenate([batch["sample"] for batch in reference[:-1]])
    assert sorted(samples.tolist()) == list(range(CLIPS))
    assert all((batch["text"][:, 0] == 1).all() and batch["video"].std() > 5 for batch in reference)
    for hosts, workers in ((2, 1), (4, 0)):
        for one, other in zip(batches(hosts, workers), reference, strict=True):
            for name in SPEC:
                np.testing.assert_array_equal(one[name], other[name])


def test_a_byte_cut_out_of_a_shard_is_found_with_its_record(corpus, tmp_path):
    out = Path(shutil.copytree(corpus, tmp_path / "shards"))
    shard = out / read_manifest(out).shards[2].name
    content = shard.read_bytes()
    # A place in the pictures of the shard's second record: behind the second index of an mp4.
    place = content.index(b"mdat", content.index(b"mdat") + 4) + 100
    shard.write_bytes(content[:place] + content[place + 1 :])
    said: list[str] = []
    faults = validate(out, 0, said.append)
    assert {fault.shard for fault in faults} == {shard.name}
    assert min(fault.record for fault in faults if fault.record is not None) == 1
    assert any(line.startswith(f"{shard.name} record 1 (clip ") for line in said)
