"""Mutated torch files: damaged zips, damaged pickles, and pickles that try to run something."""

import io
import random
import struct
import zipfile
from collections.abc import Callable, Mapping

MARK = "fault-ran"  # the file that a pickle would make in the working folder if it ran
_TOUCH = f"touch {MARK}".encode()
_LINE = f"__import__('os').system('touch {MARK}')".encode()


def text(word: bytes | str) -> bytes:
    """The opcode of a text."""
    data = word.encode() if isinstance(word, str) else word
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """The opcode of a whole number."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<I", len(data)) + data


def bomb(depth: int) -> bytes:
    """Opcodes of a tuple that holds another one twice, which holds a third one twice, and so on."""
    return b")" + b"2\x86" * depth


ATTACKS = (
    b"cos\nsystem\n(S'%s'\ntR." % _TOUCH,
    b"c__builtin__\neval\n(X%s%str." % (struct.pack("<I", len(_LINE)), _LINE),
    b"cbuiltins\nexec\n(%stR." % text(_LINE),
    b"csubprocess\nPopen\n((lS'touch'\naS'%s'\natR." % MARK.encode(),
    b"(S'%s'\nios\nsystem\n." % _TOUCH,
    b"(cos\nsystem\nS'%s'\no." % _TOUCH,
    b"ccollections\nOrderedDict\n)R(S'a'\ncposix\nsystem\n(S'%s'\ntRu." % _TOUCH,
    b"comegaconf.os\nsystem\n(S'%s'\ntR." % _TOUCH,
    b"cmmengine\nsys.modules\n(S'os'\ntR.",
    b"ctorch._utils\n_rebuild_parameter\n(cos\nsystem\ntR.",
    b"ctorch\nload\n(S'x'\ntR.",
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c%c%s\x85R." % (len(_TOUCH), _TOUCH),
    b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93%s\x85R." % text(_LINE),
    b"cargparse\nNamespace\n)R}X\x09\x00\x00\x00__class__cbuiltins\nint\nsb.",
    b"ccopyreg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtR.",
    b"ccollections\nOrderedDict\n}(%scos\nsystem\nub." % text("__reduce__"),
    b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
    b"cnumpy\ndtype\n(S'O'\ntR.",
    b"cbuiltins\ngetattr\n(cos\nS'system'\ntR.",
    b"c__torch__.model\nModel\n)\x81}%scos\nsystem\nsb." % text("__call__"),
)
ODD_PICKLES = (
    b"",
    b".",
    b"N.",
    b"0.",
    b"R.",
    b"b.",
    b"s.",
    b"(.",
    b"2.",
    b"\xff.",
    b"q.",
    b"\x82\x01.",
    b"\x84\x01\x00\x00\x00.",
    b"\x80\x02}.",
    b"\x80\x02]" + b"]a" * 100_000 + b".",
    b"\x80\x02" + b"]" * 3_000_000 + b".",
    b"\x80\x02]" + b"(" * 1_000_000 + b".",
    b"N" + b"\x85" * 500_000 + b".",
    b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
    *(b"\x80\x02}r" + struct.pack("<I", place) + b"." for place in (2**27, 2**31 - 1, 2**32 - 1)),
    b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b"x.",
    b"\x80\x05\x96" + struct.pack("<Q", 2**63 - 1) + b"x.",
    b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    b"\x80\x02\x8b" + struct.pack("<I", 2**31 - 1) + b"x.",
    *(b"\x80\x04\x95" + struct.pack("<Q", size) + b"}." for size in (5, 2**40, 2**63 - 1)),
    b"I" + b"9" * 100_000 + b"\n.",
    b"L" + b"9" * 5000 + b"L\n.",
    b"F" + b"1" * 5000 + b"\n.",
    b"\x80\x02" + bomb(60) + b".",
    b"\x80\x02}" + bomb(60) + b"Ns.",
    b"\x80\x02}(" + bomb(60) + b"Nu.",
    b"\x80\x02(" + bomb(60) + b"Nd.",
    b"\x80\x04\x8f(" + bomb(60) + b"\x90.",
    b"\x80\x04(" + bomb(60) + b"\x91.",
    b"\x80\x02}" + text("model") + bomb(60) + b"s.",
    b"\x80\x02(" + text("storage") + bomb(60) + text("0") + b"tQ.",
    b"\x80\x02(" + text("storage") + b"ctorch\nFloatStorage\n" + bomb(60) + text("cpu") + b"K\x04tQ.",
    b"\x80\x02" + bomb(60) + b"Q.",
    b"cargparse\nNamespace\n" + bomb(60) + b"R.",
    b"ctorch\nSize\n" + bomb(60) + b"R.",
    b"ctorch\nSize\n(S'aaaa'\ntR.",
    b"ctorch._utils\n_rebuild_tensor_v2\n(I1\nI2\nI3\nI4\ntR.",
    b"\x80\x02K\x05Q.",
    b"\x80\x02(tQ.",
    b"\x80\x02]Q.",
    b"\x80\x02X\x01\x00\x00\x00aQ.",
    b"Pabc\n.",
    b"\x80\x02(X\x07\x00\x00\x00storage]K\x01tQ.",
    b"c__torch__.model\nModel\n)\x81q\x00}(" + text("self") + b"h\x00ub.",
    b"c__torch__.model\nModel\n)\x81}(" + text("x" * 1_000_000) + b"K\x01ub.",
)


def mutated(rng: random.Random, whole: bytes, place: int) -> tuple[str, bytes]:
    """Mutation `place` of a whole file: what was done, and the file."""
    name = list(MUTATIONS)[place % len(MUTATIONS)]
    return name, MUTATIONS[name](rng, whole)


def _archive(
    pickled: bytes, members: Mapping[str, bytes], root: str = "archive", how=zipfile.ZIP_STORED
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{root}/data.pkl", pickled, how)
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def _opened(whole: bytes) -> tuple[bytes, dict[str, bytes], str]:
    """The pickle of a torch file, its other members, and the folder inside that holds them."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(name for name in members if name.endswith("/data.pkl"))
    return members.pop(name), members, name.split("/")[0]


def _pickle(change: Callable[[random.Random, bytes], bytes]):
    """A mutation of the pickle, in a zip that is whole."""

    def mutation(rng: random.Random, whole: bytes) -> bytes:
        pickled, members, root = _opened(whole)
        return _archive(change(rng, pickled), members, root)

    return mutation


def _bytes_of(rng: random.Random, pickled: bytes) -> bytes:
    changed = bytearray(pickled)
    for _ in range(rng.choice([1, 1, 3, 20])):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _shuffled(rng: random.Random, pickled: bytes) -> bytes:
    """A piece of the pickle in another place, or twice."""
    begin = rng.randrange(len(pickled))
    end = min(begin + rng.randrange(1, 200), len(pickled))
    to = rng.randrange(len(pickled))
    without = pickled if rng.random() < 0.5 else pickled[:begin] + pickled[end:]
    return without[:to] + pickled[begin:end] + without[to:]


def _tensor(
    offset: bytes = b"K\x00",
    shape: bytes = b"(K\x02K\x02t",
    strides: bytes = b"(K\x02K\x01t",
    kind: bytes = b"FloatStorage",
    key: bytes = text("0"),
    name: bytes = text("a"),
) -> bytes:
    """A pickle of a dict of one tensor."""
    storage = text("storage") + b"ctorch\n" + kind + b"\n" + key + text("cpu") + b"K\x04tQ"
    rest = offset + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}" + name + b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + rest + b"s."


def _one_tensor(rng: random.Random, whole: bytes) -> bytes:
    """A tensor that cannot be, or should not; under a name of the file, so that it is read."""
    pickled, _, _ = _opened(whole)
    axes = b"(" + number(2 ** rng.choice([20, 40, 62, 64, 20_000])) + b"K\x02t"
    tensors = (
        {"shape": b"(" + number(-2) + b"K\x02t"},
        {"strides": b"(" + number(2 ** rng.choice([30, 62, 63, 70])) + b"K\x01t"},
        {"shape": axes, "strides": b"(K\x00K\x00t"},
        {"shape": axes},
        {"shape": b"(" + b"K\x01" * 100 + b"t", "strides": b"(" + b"K\x01" * 100 + b"t"},
        {"shape": b"(" + number(2**60) * 20_000 + b"t", "strides": b"(" + b"K\x00" * 20_000 + b"t"},
        {"shape": b"t"},
        {"offset": number(rng.choice([-1, 2**40, 2**63, 100]))},
        {"kind": rng.choice([b"BoolStorage", b"QInt8Storage", b"UntypedStorage", b"ComplexFloatStorage"])},
        {"key": text(rng.choice(["../data.pkl", "../../../../etc/passwd", "0" * 1000, "", "\n", "1"]))},
        {"key": b"K\x00"},
        {"name": rng.choice([bomb(60), b"K\x05", b"N", text("\x1b[2J"), text("a" * 100_000), b")", b"]"])},
    )
    chosen = {"name": text(rng.choice(["a", _a_name(pickled)])), **rng.choice(tensors)}
    return _archive(_tensor(**chosen), {"archive/data/0": bytes(16)})


def _a_name(pickled: bytes) -> bytes:
    """A tensor's name in a pickle, as far as one is found."""
    begin = pickled.find(b"weight")
    start = pickled.rfind(b"X", 0, max(begin, 0))
    return pickled[start + 5 : begin + 6] if 0 <= start < begin else b"a"


def _long_names(rng: random.Random, whole: bytes) -> bytes:
    """Modules of a program inside each other, each under the same long name."""
    depth, name = rng.choice([10, 300, 900]), text("n" * rng.choice([10, 1_000_000]))
    module = b"c__torch__.model\nModel\n)\x81}"
    inner = name + b"q\x01" + b"K\x01s"
    opened = (module + name + b"q\x01") + (module + b"h\x01") * (depth - 1)
    return _archive(b"\x80\x02" + opened + module + inner + b"b" + b"sb" * depth + b".", {})


def _patched(find: bytes, offset: int, values: tuple[int, ...]):
    """A mutation of a byte behind the last place of a zip's signature."""

    def mutation(rng: random.Random, whole: bytes) -> bytes:
        changed = bytearray(whole)
        changed[whole.rfind(find) + offset] = rng.choice(values)
        return bytes(changed)

    return mutation


def _flipped(rng: random.Random, whole: bytes, begin: int) -> bytes:
    changed = bytearray(whole)
    changed[rng.randrange(begin, len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _unpacked_bomb(rng: random.Random, whole: bytes) -> bytes:
    """A compressed member that is a thousand times as large when it is unpacked."""
    pickled, members, root = _opened(whole)
    if rng.random() < 0.5:
        return _archive(pickled + bytes(50_000_000), members, root, zipfile.ZIP_DEFLATED)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{root}/data.pkl", pickled)
        bombs = rng.choice([[f"{root}/byteorder"], [name for name in members if "/data/" in name]])
        for name in bombs:
            archive.writestr(name, bytes(20_000_000), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _other_members(rng: random.Random, whole: bytes) -> bytes:
    pickled, members, root = _opened(whole)
    many = {f"{root}/x{place}": b"" for place in range(5000)}
    return rng.choice(
        [
            _archive(pickled, {}, root),
            _archive(pickled, {**members, "b/data.pkl": pickled}, root),
            _archive(pickled, {**members, "../../../escaped": b"x"}, root),
            _archive(b"\x80\x02}.", many, root),
            _archive(pickled, members, root).replace(b"data.pkl", b"data.pkx"),
            _archive(pickled, {name: data[: len(data) // 2] for name, data in members.items()}, root),
            _archive(pickled, {**members, f"{root}/byteorder": b"big"}, root),
        ]
    )


MUTATIONS: Mapping[str, Callable[[random.Random, bytes], bytes]] = {
    "a bit": lambda rng, whole: _flipped(rng, whole, 0),
    "a bit of the directory": lambda rng, whole: _flipped(rng, whole, whole.rfind(b"PK\1\2")),
    "cut short": lambda rng, whole: whole[: rng.randrange(len(whole))],
    "bytes of the pickle": _pickle(_bytes_of),
    "more bytes of the pickle": _pickle(_bytes_of),
    "a piece of the pickle": _pickle(_shuffled),
    "the pickle is cut short": _pickle(lambda rng, pickled: pickled[: rng.randrange(len(pickled))]),
    "an attack": lambda rng, whole: _archive(rng.choice(ATTACKS), {}),
    "an attack inside": _pickle(lambda rng, pickled: pickled[:-1] + rng.choice(ATTACKS)),
    "an attack before": _pickle(lambda rng, pickled: rng.choice(ATTACKS)[:-1] + b"0" + pickled[2:]),
    "an odd pickle": lambda rng, whole: _archive(rng.choice(ODD_PICKLES), {"archive/data/0": bytes(16)}),
    "another odd pickle": lambda rng, whole: _archive(rng.choice(ODD_PICKLES), {}),
    "a third odd pickle": lambda rng, whole: _archive(rng.choice(ODD_PICKLES), {}),
    "one tensor": _one_tensor,
    "another tensor": _one_tensor,
    "long names": _long_names,
    "members": _other_members,
    "a bomb": _unpacked_bomb,
    "another compression": _patched(b"PK\1\2", 10, (9, 12, 14, 99)),
    "encrypted": _patched(b"PK\1\2", 8, (1, 9)),
    "sizes of the directory": lambda rng, whole: _patched(b"PK\5\6", 8 + rng.randrange(12), (0, 0x7F, 0xFF))(
        rng, whole
    ),
    "no zip": lambda rng, whole: rng.choice(
        [_opened(whole)[0], b"PK\3\4" + rng.randbytes(300), rng.randbytes(2000), b"#!/bin/sh\n", b"",
         whole + rng.randbytes(100_000)]
    ),
}  # fmt: skip
