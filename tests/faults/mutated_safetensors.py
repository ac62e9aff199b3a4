"""Mutated .safetensors files, and mutated config.json files beside whole ones."""

import copy
import json
import random
import struct
from collections.abc import Callable, Mapping
from typing import Any

Header = dict[str, Any]
WEIRD: tuple[Any, ...] = (
    0, -1, 1.5, 100_000, 10**7, 2**31 - 1, 2**31, 2**63, 10**18, 10**30, 1e300, float("nan"), float("inf"),
    True, None, "", "x", "1", [], [1], {}, {"a": 1}, [[[]]], "\x1b[2J", "\ud800", "a" * 10_000,
    "__import__('os').system('true')",
)  # fmt: skip


def file_of(header: Header | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A .safetensors file of a header, or of what stands in its place."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def parts_of(whole: bytes) -> tuple[Header, bytes]:
    """The header and the data of a .safetensors file."""
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    return json.loads(whole[8:end]), whole[end:]


def mutated(rng: random.Random, whole: bytes, number: int) -> tuple[str, bytes]:
    """Mutation `number` of a whole file: what was done, and the file."""
    name = list(MUTATIONS)[number % len(MUTATIONS)]
    return name, MUTATIONS[name](rng, whole)


def mutated_json(rng: random.Random, text: str) -> str:
    """A JSON object one value of which, at any depth, is another or is missing; or that is cut short."""
    value = json.loads(text)
    kind = rng.randrange(10)
    if kind == 0:
        return text[: rng.randrange(len(text))]
    if kind == 1:
        return json.dumps(rng.choice(WEIRD))
    holders = list(_holders(value))
    holder = rng.choice(holders)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    if kind == 2:
        del holder[key]
    else:
        holder[key] = copy.deepcopy(rng.choice(WEIRD))
    return json.dumps(value)


def _holders(value: Any):
    """Yields every object and list that is not empty, from the outermost."""
    if isinstance(value, dict | list) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


def _flipped(rng: random.Random, whole: bytes, begin: int, end: int, times: int = 1) -> bytes:
    changed = bytearray(whole)
    for _ in range(times):
        changed[rng.randrange(begin, end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _header_end(whole: bytes) -> int:
    return 8 + struct.unpack("<Q", whole[:8])[0]


def _entry(change: Callable[[random.Random, dict[str, Any], Header], None]):
    """A mutation of the entry of one tensor."""

    def mutation(rng: random.Random, whole: bytes) -> bytes:
        header, data = parts_of(whole)
        entry = header[rng.choice([name for name in header if name != "__metadata__"])]
        change(rng, entry, header)
        return file_of(header, data)

    return mutation


def _set(field: str, *values: Any):
    return _entry(lambda rng, entry, header: entry.__setitem__(field, copy.deepcopy(rng.choice(values))))


def _metadata(*values: Any):
    def mutation(rng: random.Random, whole: bytes) -> bytes:
        header, data = parts_of(whole)
        value = rng.choice(values)
        old = header.get("__metadata__", {})
        header["__metadata__"] = {**old, **value} if isinstance(value, dict) else value
        return file_of(header, data)

    return mutation


def _sizes(rng: random.Random, whole: bytes) -> bytes:
    """Other sizes than the tensors', in a file that names them."""
    header, data = parts_of(whole)
    about = header.setdefault("__metadata__", {})
    about["sizes"] = mutated_json(rng, about.get("sizes", '{"width": 8}'))
    return file_of(header, data)


def _renamed(rng: random.Random, whole: bytes) -> bytes:
    header, data = parts_of(whole)
    name = rng.choice([name for name in header if name != "__metadata__"])
    new = rng.choice(
        ["", "../" * 20 + "etc/passwd", "\x1b[31mred", "\u202eevil", "a" * 100_000, "\ud800", "x/y/z", "\n\n",
         "1." * 50_000, "blocks." + "9" * 5000 + ".x", name + "\n", name * 20]
    )  # fmt: skip
    header[new] = header.pop(name)
    return file_of(header, data)


def _many(rng: random.Random, whole: bytes) -> bytes:
    header, data = parts_of(whole)
    pattern = rng.choice(["t{0}", "blocks.{0}.norm1.weight", "a.b.c.d.{0}", "p{1}.x.{0}", "{0}.{0}.{0}"])
    count = rng.choice([1000, 9000, 200_000])
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    many = {pattern.format(number, number // 30): empty for number in range(count)}
    return file_of({**header, **many} if rng.random() < 0.5 else many, data)


def _twice(rng: random.Random, whole: bytes) -> bytes:
    """A header that has a name twice."""
    header, data = parts_of(whole)
    name = rng.choice([name for name in header if name != "__metadata__"])
    again = json.dumps({name: {**header[name], "shape": [7]}})
    return file_of(f"{json.dumps(header)[:-1]},{again[1:]}".encode(), data)


def _deep(rng: random.Random, whole: bytes) -> bytes:
    depth = rng.choice([500, 5000, 100_000, 1_000_000])
    return file_of(b'{"a":' + b"[" * depth + b"]" * depth + b"}")


def _not_a_number(rng: random.Random, whole: bytes) -> bytes:
    header, data = parts_of(whole)
    place = str(next(v for k, v in header.items() if k != "__metadata__")["data_offsets"][1])
    text = json.dumps(header).replace(
        place, rng.choice(["NaN", "Infinity", "-Infinity", "1e308", "9" * 5000])
    )
    return file_of(text.encode(), data)


def _moved(rng: random.Random, entry: dict[str, Any], header: Header) -> None:
    first, last = entry["data_offsets"]
    entry["data_offsets"] = rng.choice(
        [[first - 5, last - 5], [float(first), float(last)], [last, first], [first + 2**40, last + 2**40],
         [first], [first, last, last], {}, "ab", [None, None], [str(first), str(last)], [0, last - first]]
    )  # fmt: skip


MUTATIONS: Mapping[str, Callable[[random.Random, bytes], bytes]] = {
    "a bit of the header": lambda rng, whole: _flipped(rng, whole, 8, _header_end(whole)),
    "bits of the header": lambda rng, whole: _flipped(rng, whole, 8, _header_end(whole), 20),
    "a bit of the length": lambda rng, whole: _flipped(rng, whole, 0, 8),
    "a bit of the data": lambda rng, whole: _flipped(rng, whole, _header_end(whole), len(whole)),
    "cut short": lambda rng, whole: whole[: rng.randrange(len(whole))],
    "more behind": lambda rng, whole: whole + bytes(rng.randrange(1, 1000)),
    "shape": _set(
        "shape",
        [-1],
        [2**40, 2**40],
        "abc",
        ["1"],
        [True],
        None,
        [None],
        {"1": 2},
        [[1, 2], [3]],
        [1.0],
        [0],
        [],
        [10**20],
        [10**4000],
        [1] * 100,
        [1] * 1_000_000,
        [2**60] * 100_000,
    ),  # fmt: skip
    "a tensor of nothing": _entry(lambda rng, e, h: e.update(shape=[0, 2**40], data_offsets=[0, 0])),
    "a scalar": _entry(lambda rng, e, h: e.update(shape=[], data_offsets=[0, 4])),
    "dtype": _set("dtype", "F8_E4M3", "float32", "", None, 3, ["F32"], {}, "O", "BF16", "\x1b[2J"),
    "place": _entry(_moved),
    "an entry that is none": lambda rng, whole: file_of({**parts_of(whole)[0], "x": rng.choice(WEIRD)}),
    "a field is missing": _entry(lambda rng, entry, header: entry.pop(rng.choice(list(entry)))),
    "metadata": _metadata([], "x", 5, {"format": "ivjax"}, {"format": "pt"}, {"a": {"b": 1}}, [1, 2], None),
    "family": _metadata(
        *(
            {"format": "ivjax", "family": name}
            for name in ("", "../x", "internvideo2", "viclip", "\x1b[2J", 3)
        )
    ),
    "long metadata": _metadata({"x": "y" * 10_000_000}, {"x": "y" * 20_000_000}),
    "sizes": _sizes,
    "other sizes": _sizes,
    "a name": _renamed,
    "names without end": _many,
    "a name twice": _twice,
    "not UTF-8": lambda rng, whole: whole[:20] + b"\xff" + whole[21:],
    "a byte order mark": lambda rng, whole: file_of(b"\xef\xbb\xbf" + whole[8 : _header_end(whole)]),
    "deep": _deep,
    "no number": _not_a_number,
    "another JSON": lambda rng, whole: file_of(
        rng.choice([b"[]", b"[1]", b'"a"', b"3", b"null", b"true", b"{}"])
    ),
    "length alone": lambda rng, whole: struct.pack("<Q", rng.choice([0, 1, 8, 2**28, 2**63, 2**64 - 1])),
    "a length that lies": lambda rng, whole: (
        struct.pack("<Q", rng.choice([0, 1, 10**10, 2**24, 2**62])) + whole[8:]
    ),
    "zeros": lambda rng, whole: file_of(bytes(rng.choice([10, 1_000_000]))),
    "short": lambda rng, whole: rng.choice([b"", b"\0", b"{}", file_of({}), file_of({"__metadata__": {}})]),
}
