"""Reads every record that is still intact from a shard file, also from a damaged one."""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from array_record.python.array_record_module import ArrayRecordReader

from ivjax.data_pipelines.store.records import ClipError, unpack
from ivjax.data_pipelines.store.shards import RANDOM_ACCESS

_BLOCK = 1 << 16  # a Riegeli file is interrupted by a block header wherever this many bytes are full
_BLOCK_HEADER = 24
_CHUNK_HEADER = struct.Struct("<QQQQQ")  # hash, bytes, hash, type and records, bytes when decompressed
_MOST_BYTES = 1 << 31  # of a record


def read_records(path: Path, count: int) -> Iterator[bytes | ClipError]:
    """Yields each record of the shard, or the reason why it cannot be read.

    A shard without an index is read from its start to the first damaged record, at most `count` records.
    """
    reader = ArrayRecordReader(str(path), RANDOM_ACCESS)
    if not reader.ok():
        yield from _walk(path, count)
        return
    for number in range(reader.num_records()):
        try:
            yield reader.read([number])[0]
        except (RuntimeError, IndexError) as error:
            yield ClipError("altered", str(error).partition(";")[0])
            reader = ArrayRecordReader(str(path), RANDOM_ACCESS)  # one that has failed reads nothing more
    reader.close()


class _Chunk(NamedTuple):
    kind: str
    records: int
    data: bytes
    decoded: int
    end: int


def _walk(path: Path, count: int) -> Iterator[bytes | ClipError]:
    """Yields records by the chunks of the file; `shards.ShardWriter` writes one record to a chunk."""
    if path.stat().st_size == 0:
        yield ClipError("truncated", "the file is empty")
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        position, found, last = 0, 0, b""
        while found < count:
            try:
                chunk = _read_chunk(view, position)
                record = _unpack_chunk(chunk) if chunk.kind == "r" else None
            except ClipError as error:
                if not found or _is_whole(last):  # else it is the last record that was damaged, not this one
                    yield error
                return
            position = chunk.end
            if record is not None:
                found, last = found + 1, record
                yield record


def _is_whole(record: bytes) -> bool:
    try:
        unpack(record)
    except ClipError:
        return False
    return True


def _read_chunk(view: mmap.mmap, position: int) -> _Chunk:
    header, data_at = _read(view, position, _CHUNK_HEADER.size)
    _, size, _, kind_and_records, decoded = _CHUNK_HEADER.unpack(header)
    kind, records = chr(kind_and_records & 0xFF), kind_and_records >> 8
    # Riegeli's kinds: signature, metadata, padding, records and transposed records.
    if kind not in "smprt" or records > 1 or size > _MOST_BYTES or decoded > _MOST_BYTES:
        raise ClipError("altered", f"no record starts at byte {position} of the file, where one should")
    data, end = _read(view, data_at, size)
    if end < position + records:
        end = position + records
    return _Chunk(kind, records, data, decoded, end)


def _read(view: mmap.mmap, position: int, size: int) -> tuple[bytes, int]:
    """Returns `size` bytes of content without block headers, and the position behind them."""
    pieces = []
    while size:
        if position % _BLOCK == 0:
            position += _BLOCK_HEADER
        piece = view[position : position + min(size, _BLOCK - position % _BLOCK)]
        if not piece:
            raise ClipError("truncated", f"the file ends at byte {len(view)}, inside the record")
        pieces.append(piece)
        position, size = position + len(piece), size - len(piece)
    return b"".join(pieces), position


def _unpack_chunk(chunk: _Chunk) -> bytes:
    """Returns the record of a chunk, which is a compression type, the record's size, the record."""
    compression, rest = chr(chunk.data[0]) if chunk.data else "", chunk.data[1:]
    try:
        sizes_size, rest = _varint(rest)
        values = rest[sizes_size:]
        if compression == "\0":
            record = values
        else:
            decoded, packed = _varint(values)
            record = _decompress(packed, decoded, compression)
    except (ValueError, OSError, IndexError) as error:
        raise ClipError("altered", f"the stored record does not decompress: {error}") from None
    if len(record) != chunk.decoded:
        raise ClipError("altered", f"the record has {len(record)} bytes where {chunk.decoded} were stored")
    return record


def _decompress(packed: bytes, size: int, compression: str) -> bytes:
    import pyarrow

    codecs: dict[str, Any] = {"z": "zstd", "b": "brotli"}
    if compression not in codecs or size > _MOST_BYTES:
        raise ValueError(f"compression {compression!r}, {size} bytes")
    return pyarrow.decompress(packed, decompressed_size=size, codec=codecs[compression], asbytes=True)


def _varint(data: bytes) -> tuple[int, bytes]:
    """Returns a number in groups of 7 bits, and the bytes after it."""
    value = 0
    # Ten groups of 7 bits hold any number of 64.
    for place, byte in enumerate(data[:10]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, data[place + 1 :]
    raise ValueError("a length is damaged")
