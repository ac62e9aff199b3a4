"""Ways in which a stored clip can be broken."""

import io
import json
import struct
import zlib

import av
import numpy as np

from ivjax.data_pipelines.store.records import Clip, pack, split


def with_payload(clip: Clip, payload: bytes) -> bytes:
    """A record whose header fits `payload`: only decoding can tell that something is wrong."""
    return pack(Clip(**{**clip.__dict__, "payload": payload}))


def with_header(clip: Clip, **changes) -> bytes:
    """A record with other header values."""
    header, payload = split(pack(clip))
    encoded = json.dumps(header | changes, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return struct.pack("<4sI", b"IVJX", len(encoded)) + encoded + payload


def sound_only() -> bytes:
    """An mp4 without a video stream."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def picture_of_size(side: int) -> bytes:
    """A PNG whose header claims `side` x `side` pixels."""
    header = b"IHDR" + struct.pack(">II", side, side) + bytes([8, 2, 0, 0, 0])
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = (header, data, b"IEND")
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def other_codec(payload: bytes) -> bytes:
    """The mp4 with a codec tag that nobody knows."""
    place = payload.index(b"avc1", payload.index(b"stsd"))
    return payload[:place] + b"zzz1" + payload[place + 4 :]


def index_only(payload: bytes) -> bytes:
    """The mp4 up to where its pictures begin."""
    return payload[: payload.index(b"mdat") + 4]


def damaged(clip: Clip, way: int, part: int) -> tuple[bytes, str]:
    """The clip's record broken in way 0 ... 9, and the cause that a reader must name.

    `part` 1 ... 9 says after how many tenths a truncated record ends.
    """
    whole, payload = pack(clip), clip.payload
    noise = np.random.default_rng(part).bytes(len(payload))
    ways = (
        lambda: (b"", "empty"),
        lambda: (whole[: len(whole) * part // 10], "truncated"),
        lambda: (with_payload(clip, noise), "unreadable"),
        lambda: (with_payload(clip, other_codec(payload)), "unknown codec"),
        lambda: (with_payload(clip, sound_only()), "no video stream"),
        lambda: (with_payload(clip, b""), "empty"),
        lambda: (with_payload(clip, picture_of_size(60000)), "absurd size"),
        lambda: (with_payload(clip, index_only(payload)), "truncated"),
        lambda: (with_header(clip, start=5.0, end=3.0), "wrong times"),
        lambda: (with_header(clip, captions=["caf\udce9"]), "not utf-8"),
    )
    return ways[way]()
