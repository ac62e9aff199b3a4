"""Mutated corpora: damaged shards, hostile records in whole shards, and other manifests."""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.data_pipelines.augment.recipe import TRAIN_STAGE1
from ivjax.data_pipelines.fields import ArraySpec, Caption, Frames
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.manifest import MANIFEST, read_manifest, store_manifest
from ivjax.data_pipelines.store.records import split
from ivjax.data_pipelines.store.shards import Shards, ShardWriter
from ivjax.data_pipelines.tokenizers.spm import SentencePiece
from tests.faults.mutated_safetensors import WEIRD, mutated_json

_SPEC = {
    "video": ArraySpec((2, 16, 16, 3), np.dtype(np.uint8)),
    "text": ArraySpec((8,), np.dtype(np.int32)),
}


def start(command: Sequence[str]) -> int:
    """Reads two batches of a corpus as a run does: `start([FOLDER, TOKENIZER])`."""
    folder, tokenizer = command
    fields = {
        "video": Frames(Intervals(2), TRAIN_STAGE1),
        "text": Caption(SentencePiece(tokenizer, length=8)),
    }
    # Decoded in this process, where a crash is seen; and any share of broken clips is allowed.
    data = Mixture((Corpus(folder),), fields, workers=0, broken=1.0)
    loader = data.open(BatchRequest(_SPEC, 4))
    try:
        for _ in range(2):
            next(loader)
    finally:
        loader.close()
    return 0


def mutated(rng: random.Random, corpus: Path, folder: Path, number: int) -> str:
    """Copies a corpus to a folder with mutation `number`; returns what was done."""
    shutil.copytree(corpus, folder)
    name = list(MUTATIONS)[number % len(MUTATIONS)]
    MUTATIONS[name](rng, folder)
    return name


def _shard(rng: random.Random, folder: Path) -> Path:
    return rng.choice(sorted(folder.glob("shard-*")))


def _flipped(times: int, begin: float = 0.0, end: float = 1.0):
    """A mutation of bits of a shard between two parts of its length, of bytes that are not padding."""

    def mutation(rng: random.Random, folder: Path) -> None:
        path = _shard(rng, folder)
        data = bytearray(path.read_bytes())
        used = np.flatnonzero(np.frombuffer(bytes(data), np.uint8))
        for _ in range(times):
            data[used[int((begin + rng.random() * (end - begin)) * (len(used) - 1))]] ^= 1 << rng.randrange(8)
        path.write_bytes(data)

    return mutation


def _whatever_the_manifest_says(mutation: Callable[[random.Random, Path], None]):
    """The same mutation in a corpus whose manifest has the size of the damaged shard, and no proof."""

    def followed(rng: random.Random, folder: Path) -> None:
        mutation(rng, folder)
        manifest = read_manifest(folder)
        shards = [replace(s, proof="", bytes=(folder / s.name).stat().st_size) for s in manifest.shards]
        store_manifest(folder, replace(manifest, shards=tuple(shards)))

    return followed


def _resized(rng: random.Random, folder: Path) -> None:
    path = _shard(rng, folder)
    size = path.stat().st_size
    os.truncate(
        path, rng.choice([0, 1, 24, 64, size // 2, size - 1, size - (64 << 10), size + 1000, size * 2])
    )


def _noise(rng: random.Random, folder: Path) -> None:
    path = _shard(rng, folder)
    path.write_bytes(rng.randbytes(path.stat().st_size))


def _another(rng: random.Random, folder: Path) -> None:
    one, other = rng.sample(sorted(folder.glob("shard-*")), 2)
    shutil.copy(other, one)


def _no_file(rng: random.Random, folder: Path) -> None:
    path = _shard(rng, folder)
    path.unlink()
    rng.choice([lambda: None, path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path.name)])()


def _length(rng: random.Random, folder: Path) -> None:
    """A number of eight bytes in a shard's block and chunk headers that is another."""
    path = _shard(rng, folder)
    data = bytearray(path.read_bytes())
    places = [*range(0, 112, 8), *range(len(data) - (64 << 10), len(data) - (64 << 10) + 112, 8)]
    value = rng.choice([0, 1, 2**31, 2**40, 2**62, 2**64 - 1])
    place = rng.choice(places)
    data[place : place + 8] = struct.pack("<Q", value)
    path.write_bytes(data)


def _records(change: Callable[[random.Random, bytes], bytes]):
    """A mutation of a record, in a shard and a manifest that are whole: somebody has made it on purpose."""

    def mutation(rng: random.Random, folder: Path) -> None:
        manifest = read_manifest(folder)
        with Shards(folder, manifest) as shards:
            first = rng.randrange(len(manifest.shards))
            before = sum(shard.count for shard in manifest.shards[:first])
            records = [shards[before + place] for place in range(manifest.shards[first].count)]
        chosen = range(len(records)) if rng.random() < 0.5 else [rng.randrange(len(records))]
        for place in chosen:
            records[place] = change(rng, records[place])
        with ShardWriter(folder / manifest.shards[first].name) as shard:
            for record in records:
                shard.write(record)
        infos = [*manifest.shards]
        infos[first] = shard.info
        store_manifest(folder, replace(manifest, shards=tuple(infos)))

    return mutation


def _with_header(text: bytes, payload: bytes, length: int | None = None) -> bytes:
    return struct.pack("<4sI", b"IVJX", len(text) if length is None else length) + text + payload


def _header(rng: random.Random, record: bytes) -> bytes:
    """A header one value of which is another; its media are whole."""
    header, payload = split(record)
    return _with_header(mutated_json(rng, json.dumps(header)).encode(), payload)


def _field(rng: random.Random, record: bytes) -> bytes:
    header, payload = split(record)
    header[rng.choice(list(header))] = rng.choice(WEIRD)
    return _with_header(json.dumps(header).encode(), payload)


def _odd_header(rng: random.Random, record: bytes) -> bytes:
    _, payload = split(record)
    text = rng.choice([b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000, b'{"schema": 1}', b" " * 1_000_000])
    return _with_header(text, payload, rng.choice([None, 0, 2**31, 2**32 - 1]))


def _odd_record(rng: random.Random, record: bytes) -> bytes:
    return rng.choice(
        [b"", b"IVJX", b"IVJD{}", rng.randbytes(100), record[: rng.randrange(len(record))], record * 2]
    )


def _media(rng: random.Random, record: bytes) -> bytes:
    """Damaged media with a checksum that is right."""
    import zlib

    header, payload = split(record)
    damaged = bytearray(payload)
    for _ in range(rng.choice([1, 10, 1000])):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.2:
        damaged = damaged[: rng.randrange(len(damaged))]
    header |= {"bytes": len(damaged), "crc32": zlib.crc32(damaged)}
    return _with_header(json.dumps(header).encode(), bytes(damaged))


def _manifest(change: Callable[[random.Random, str], str | bytes]):
    def mutation(rng: random.Random, folder: Path) -> None:
        path = folder / MANIFEST
        changed = change(rng, path.read_text())
        path.write_bytes(changed if isinstance(changed, bytes) else changed.encode(errors="surrogatepass"))

    return mutation


def _shard_entry(rng: random.Random, text: str) -> str:
    stored: dict[str, Any] = json.loads(text)
    entry = rng.choice(stored["shards"])
    field = rng.choice(list(entry))
    entry[field] = rng.choice(
        [*WEIRD, "../../../etc/passwd", "/dev/zero", MANIFEST, "0" * 64, 5, 11, 13, "12"]
    )
    return json.dumps(stored)


def _list(rng: random.Random, text: str) -> str:
    stored = json.loads(text)
    shards = stored["shards"]
    stored["shards"] = rng.choice([[], shards[::-1], shards[:-1], shards * 2, shards * 5000, shards + [None]])
    return json.dumps(stored)


def _odd_manifest(rng: random.Random, text: str) -> bytes:
    return rng.choice([b"", b"[]", b"null", b"\xff{", b"[" * 100_000, b"{" * 1000, text.encode("utf-16"),
                       text[:-3].encode(), b'{"shards": ' + b"9" * 5000 + b"}", b"\0" * 1000])  # fmt: skip


MUTATIONS: Mapping[str, Callable[[random.Random, Path], None]] = {
    "a bit of a shard": _flipped(1),
    "bits of a shard": _flipped(30),
    "bits of the index": _whatever_the_manifest_says(_flipped(3, 0.95)),
    "bits of the beginning": _whatever_the_manifest_says(_flipped(3, 0.0, 0.02)),
    "a length": _whatever_the_manifest_says(_length),
    "a size": _resized,
    "a size that the manifest says": _whatever_the_manifest_says(_resized),
    "noise": _whatever_the_manifest_says(_noise),
    "another shard": _another,
    "another shard that the manifest says": _whatever_the_manifest_says(_another),
    "no file": _no_file,
    "a header": _records(_header),
    "a field": _records(_field),
    "another field": _records(_field),
    "an odd header": _records(_odd_header),
    "an odd record": _records(_odd_record),
    "media": _records(_media),
    "a value of the manifest": _manifest(mutated_json),
    "an entry of the manifest": _manifest(_shard_entry),
    "another entry of the manifest": _manifest(_shard_entry),
    "the list of shards": _manifest(_list),
    "an odd manifest": _manifest(_odd_manifest),
}
