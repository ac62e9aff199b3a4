"""Broken clips are replaced, counted and listed; crashes, hangs and kills leave nothing behind."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from dataclasses import asdict, replace

import numpy as np
import pytest

from ivjax.data_pipelines.fields import Frames
from ivjax.data_pipelines.load.broken_clips import BrokenClip, BrokenClipLog
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.media_loader import open_media
from ivjax.data_pipelines.load.mixture import Media
from ivjax.data_pipelines.store.records import pack
from ivjax.errors import UserError
from tests.data_pipelines.corpora import corpus_of, make_clip, write_corpus
from tests.data_pipelines.damage import damaged
from tests.data_pipelines.reading import FIELDS, SPEC, batches_of, mixture
from tests.data_pipelines.treacherous import Treacherous


def test_a_broken_clip_is_replaced_by_the_same_one_in_all_its_repeats(tmp_path):
    records = [pack(make_clip(n)) if n % 4 else b"" for n in range(16)]
    data = mixture(write_corpus(tmp_path, records), repeats=4, broken=0.9)
    for batch in batches_of(data, 4)[0]:
        samples = [int(batch[place]["sample"]) for place in sorted(batch)]
        assert samples == [number for number in samples[::4] for _ in range(4)]


@pytest.mark.parametrize("workers", [0, 2])
def test_of_a_thousand_clips_fifty_broken_ones_are_named_once_and_the_rest_seen_once(tmp_path, workers):
    clips = [make_clip(number, frames=4 + number % 3) for number in range(40)]
    count, broken = (1000, 50) if workers == 0 else (200, 10)
    records, causes = [], {}
    for number in range(count):
        clip = replace(clips[number % 40], id=f"clip{number}", label=number)
        if number % 20 == 7:
            record, causes[number] = damaged(clip, number // 20 % 10, 1 + number // 20 % 9)
        else:
            record = pack(clip)
        records.append(record)
    assert len(causes) == broken
    folder = write_corpus(tmp_path / "corpus", records)
    faults = tmp_path / "broken.jsonl"
    loader = mixture(folder, workers=workers, broken=0.2).open(BatchRequest(SPEC, 50, 3, broken_clips=faults))
    rows = [next(loader) for _ in range(count // 50)]
    seen = [(int(label), int(b["replaced"][i])) for b in rows for i, label in enumerate(b["label"])]
    named = loader.broken.named
    loader.close()
    starts = [0, *np.cumsum([len(p) for p in np.array_split(np.arange(count), 3)])]
    assert {starts[int(f.shard[6:11])] + f.record: f.cause for f in named} == causes
    assert len(named) == broken == len(faults.read_text().splitlines())
    own_turn = Counter(label for label, replaced in seen if not replaced)
    assert own_turn == {number: 1 for number in range(count) if number not in causes}
    stand_ins = [label for label, replaced in seen if replaced]
    assert len(stand_ins) == broken and not set(stand_ins) & set(causes)


def test_too_many_broken_clips_end_the_run_with_the_list(tmp_path):
    records = [pack(make_clip(n)) if n % 10 else b"" for n in range(40)]
    data = Media({"video": mixture(write_corpus(tmp_path, records), broken=0.05)})
    loader = open_media(data, {"video": BatchRequest(SPEC, 20)})
    message = (
        r"of 100 clips cannot be used .* empty.*5.00%.*raise data.mixtures.video.broken(.|\n)*record 0: empty"
    )
    with pytest.raises(UserError, match=message):
        for _ in range(9):
            next(loader)
    loader.close()


def test_a_flipped_byte_in_a_shard_costs_one_clip(tmp_path):
    folder = corpus_of(tmp_path, [make_clip(n) for n in range(12)], shards=1)
    (shard,) = folder.glob("shard-*")
    content = bytearray(shard.read_bytes())
    content[content.index(b"clip 5")] ^= 1
    shard.write_bytes(content)
    loader = mixture(folder, broken=0.5).open(BatchRequest(SPEC, 12))
    for _ in range(2):
        labels = next(loader)["label"].tolist()
        assert set(range(12)) - set(labels) == {5}
    assert [(f.record, f.cause) for f in loader.broken.named] == [(5, "damaged shard")]
    loader.close()


def test_a_crash_or_a_hang_of_the_decoder_is_a_broken_clip(tmp_path):
    clips = [make_clip(n, frames={3: 9, 6: 10}.get(n, 8)) for n in range(12)]
    fields = FIELDS | {"video": Frames(Treacherous())}
    data = mixture(corpus_of(tmp_path, clips, shards=1), workers=2, fields=fields, seconds=2.0, broken=0.5)
    loader = data.open(BatchRequest(SPEC, 12))
    for _ in range(3):
        assert not set(next(loader)["label"].tolist()) & {3, 6}
    assert {f.record: f.cause for f in loader.broken.named} == {3: "crash", 6: "hang"}
    assert loader.broken.causes["crash"] >= 3
    loader.close()


def test_closing_does_not_wait_for_a_clip_that_hangs(tmp_path):
    data = mixture(
        corpus_of(tmp_path, [make_clip(n, frames=10) for n in range(2)], shards=1),
        workers=1,
        fields=FIELDS | {"video": Frames(Treacherous())},
        seconds=300.0,
    )
    loader = data.open(BatchRequest(SPEC, 2))
    waiting = threading.Thread(target=lambda: pytest.raises((UserError, CancelledError), next, loader))
    waiting.start()
    time.sleep(1.5)
    started = time.monotonic()
    loader.close()
    waiting.join(10)
    assert not waiting.is_alive() and time.monotonic() - started < 5


def test_a_list_that_a_kill_has_cut_short_is_mended(tmp_path):
    clips = [BrokenClip("corpus", "shard", number, "empty", "no bytes") for number in range(3)]
    lines = [json.dumps(asdict(clip)) for clip in clips]
    file = tmp_path / "broken.jsonl"
    file.write_text(f"{lines[0]}\n{lines[1][:20]}")
    log = BrokenClipLog(1.0, file)
    assert log.named == clips[:1]
    log.add(8, clips)
    assert file.read_text().splitlines() == lines


def test_a_kill_of_the_reader_leaves_no_worker(corpus):
    script = f"""
import time
from pathlib import Path
import numpy as np
from ivjax.data_pipelines.fields import ArraySpec, Label
from ivjax.data_pipelines.load.decode_pool import ClipFiller
from ivjax.data_pipelines.load.examples import ExampleMaker
from ivjax.data_pipelines.load.mixture import CorpusFields
corpora = [CorpusFields({str(corpus)!r}, {{"label": Label()}})]
maker = ExampleMaker(corpora, {{"label": ArraySpec((), np.dtype(np.int32))}}, seed=0)
filler = ClipFiller(maker, workers=2, seconds=60.0)
for number in range(2):
    filler.fill(number, number, {{"label": np.zeros((), np.int32)}})
children = [p.read_text() for p in Path("/proc/self/task").glob("*/children")]
print(*" ".join(children).split(), flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_worker_processes_hold_no_jax():
    script = (
        "import sys, ivjax.data_pipelines.load.decode_worker, ivjax.data_pipelines.tokenizers.spm\n"
        "print({name.split('.')[0] for name in sys.modules} & {'jax', 'grain', 'flax', 'tensorflow'})"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "set()"
