"""Weight files that were made to take all time, all memory or the terminal are refused in one sentence."""

import json
import shutil
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from ivjax.cli import main
from ivjax.convert.comparison import compare
from ivjax.convert.conversion import import_file
from ivjax.convert.engine.match_report import MatchReport
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.origins import open_weights
from ivjax.errors import UserError
from tests.convert.torch_files import write_torch, write_zip
from tests.faults.mutated_torch import bomb, number, text
from tests.goldens import FOLDER

EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
HUB = FOLDER / "hub"


def write_header(path, header, data=b""):
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    return path


def refusal(path):
    """What is said of a file, and the seconds of CPU time until then."""
    began = time.process_time()
    with pytest.raises(UserError) as raised:
        compare(open_weights(path), str(path)).report.check(str(path))
    return str(raised.value), time.process_time() - began


def test_200_000_unknown_names_are_refused_at_once_in_a_short_sentence(tmp_path):
    path = write_header(tmp_path / "w.safetensors", {f"blocks.{n}.w{n % 50}": EMPTY for n in range(200_000)})
    said, seconds = refusal(path)
    assert said.endswith(
        "holds 200,000 tensors: no model that is read here has so many; give the file of one model"
    )
    assert seconds < 8 and len(said) < 300


def test_a_model_of_too_many_tensors_that_is_known_is_still_named(tmp_path):
    experts = {f"model.layers.{n % 60}.mlp.experts.{n // 60}.up_proj.weight": EMPTY for n in range(12_000)}
    path = write_header(
        tmp_path / "w.safetensors", {"model.layers.0.self_attn.q_proj.weight": EMPTY, **experts}
    )
    assert "holds 12,001 tensors: it is a language model with experts" in refusal(path)[0]


@pytest.mark.parametrize("pattern", ["t{0}", "blocks.{0}.w{1}", "p{2}.x{1}.w", "a.b.c.d.e.f.g.h.i.j.{0}"])
def test_10_000_unknown_names_take_seconds(tmp_path, pattern):
    names = (pattern.format(n, n % 30, n // 30) for n in range(9_999))
    path = write_header(tmp_path / "w.safetensors", dict.fromkeys([*names, "last"], EMPTY))
    said, seconds = refusal(path)
    assert "no checkpoint family matches" in said and seconds < 20


@pytest.mark.parametrize(
    "name", ["a." * 50_000, "1." * 50_000, "x" * 100_000], ids=["dots", "numbers", "letters"]
)
def test_a_name_without_end_is_refused(tmp_path, name):
    said, seconds = refusal(write_header(tmp_path / "w.safetensors", {name: EMPTY, f"{name}b": EMPTY}))
    assert said.endswith("has a tensor with a name of 100,001 characters, as no model has") and seconds < 5


def test_names_cannot_break_a_line_or_steer_a_terminal(tmp_path, capfd):
    path = write_header(tmp_path / "w.safetensors", {"a\nivjax: all is well": EMPTY, "\x1b[2J\ud800": EMPTY})
    assert main(["convert", "inspect", str(path)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "called a ivjax: all is well, \\x1b[2J\\ud800, ..." in line and line.isprintable()


def test_a_report_shows_names_in_lines_of_bounded_length():
    report = MatchReport(0, surplus={"\x1b[2J": "why", "long" * 1000: "why"}, unused={"a\nb": "why"})
    lines = report.text().splitlines()
    assert "error     \\x1b[2J is left over: why" in lines and "unused    a b: why" in lines
    assert max(map(len, lines)) < 700


BOMB = bomb(60)  # a tuple of 2**60 leaves


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02}" + BOMB + b"Ns.",
        b"\x80\x02}(" + BOMB + b"Nu.",
        b"\x80\x02(" + BOMB + b"Nd.",
        b"\x80\x04\x8f(" + BOMB + b"\x90.",
        b"\x80\x04(" + BOMB + b"\x91.",
        b"\x80\x02(" + text("storage") + BOMB + text("0") + b"tQ.",
        b"\x80\x02(" + text("storage") + b"ctorch\nFloatStorage\n" + BOMB + text("cpu") + b"K\x04tQ.",
    ],
    ids=["item", "items", "dict", "set", "frozen", "kind", "key"],
)
def test_a_tuple_that_takes_for_ever_to_hash_is_never_hashed(tmp_path, program):
    with pytest.raises(UserError, match=r"the pickle in .*w.pth is damaged"):
        open_tensors(write_zip(tmp_path / "w.pth", program, []))


def test_keys_of_plain_tuples_are_read(tmp_path):
    content = {"model": {"a": np.ones(2, np.float32)}, "groups": {("a", 1): 2, None: 3}}
    assert set(open_tensors(write_torch(tmp_path / "w.pth", content))) == {"a"}


def test_a_pickle_of_more_opcodes_than_any_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="it has over 2,000,000 opcodes"):
        open_tensors(write_zip(tmp_path / "w.pth", b"\x80\x02" + b"]" * 2_100_000 + b".", []))


def one_tensor(shape, strides):
    axes, steps = ((b"(" + b"".join(map(number, numbers)) + b"t") for numbers in (shape, strides))
    storage = text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
    rest = b"K\x00" + axes + steps + b"\x89ccollections\nOrderedDict\n)RtRs."
    return b"\x80\x02}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + rest


def test_four_bytes_do_not_fill_all_memory_by_a_step_of_0(tmp_path):
    tensors = open_tensors(write_zip(tmp_path / "w.pth", one_tensor((2**40, 2), (0, 0)), [bytes(16)]))
    with pytest.raises(
        UserError, match=r"a repeats its stored numbers to shape \(1099511627776, 2\); save it"
    ):
        tensors["a"]
    tensors = open_tensors(write_zip(tmp_path / "few.pth", one_tensor((3, 4), (0, 1)), [bytes(16)]))
    assert tensors["a"].shape == (3, 4)


@pytest.mark.parametrize("axes", [(2**60,) * 20_000, (2**20_000,), (1,) * 65])
def test_axes_that_no_array_can_have_are_damage(tmp_path, axes):
    began = time.process_time()
    with pytest.raises(UserError, match=r"the pickle in .* is damaged \(ValueError: a tensor has"):
        open_tensors(write_zip(tmp_path / "w.pth", one_tensor(axes, (0,) * len(axes)), [bytes(16)]))
    if len(axes) > 1:
        facts = {"dtype": "F32", "shape": axes, "data_offsets": [0, 4]}
        with pytest.raises(UserError, match="too many of them"):
            open_tensors(write_header(tmp_path / "w.safetensors", {"a": facts}, bytes(4)))
    assert time.process_time() - began < 5


def test_a_header_longer_than_any_real_one_is_refused_before_it_is_read(tmp_path):
    path = write_header(tmp_path / "w.safetensors", {"__metadata__": {"x": "y" * 2**24}})
    tracemalloc.start()
    with pytest.raises(UserError, match="its header is cut short, or too long"):
        open_tensors(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_a_long_name_of_each_of_many_modules_takes_no_memory(tmp_path):
    module, name = b"c__torch__.model\nModel\n)\x81}", text("n" * 1_000_000)
    inside = b"\x80\x02" + module + name + b"q\x01" + (module + b"h\x01") * 800
    path = write_zip(tmp_path / "w.pt", inside + module + b"b" + b"sb" * 801 + b".", [])
    tracemalloc.start()
    with pytest.raises(UserError, match="has names of over 2,000 characters"):
        open_tensors(path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("place, value", [(46, 0xFF), (6, 0xFF), (10, 99)], ids=["name", "version", "method"])
def test_a_damaged_directory_of_an_archive_is_damage(tmp_path, place, value):
    whole = bytearray(write_torch(tmp_path / "w.pth", {"a": np.ones(2, np.float32)}).read_bytes())
    entry = whole.index(b"PK\1\2")
    whole[entry + 8 + 1] |= 8  # the names are UTF-8
    whole[entry + place] = value
    (tmp_path / "w.pth").write_bytes(whole)
    with pytest.raises(UserError, match="damaged|compressed"):
        open_tensors(tmp_path / "w.pth")


def test_a_damaged_byte_order_is_damage(tmp_path):
    path = write_torch(tmp_path / "w.pth", {"a": np.ones(2, np.float32)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("weights/byteorder", "little")
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"little")] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match="byteorder is damaged"):
        open_tensors(path)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A file in this project's format, and the sizes that it names."""
    path = tmp_path_factory.mktemp("own") / "w.safetensors"
    import_file(HUB / "videomae_classifier", path, say=lambda line: None)
    return path, json.loads(open_tensors(path).metadata["sizes"])


def with_sizes(own, folder, sizes):
    """The same file, of other sizes."""
    tensors = open_tensors(own[0])
    header = {name: {**EMPTY, "shape": [0, *tensors.shape(name)]} for name in tensors}
    about = {**tensors.metadata, "sizes": sizes if isinstance(sizes, str) else json.dumps(sizes)}
    return write_header(folder / "w.safetensors", {"__metadata__": about, **header})


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("patch", "8", "patch is '8'; it must be a whole number"),
        ("width", True, "width is True; it must be a whole number"),
        ("width", 2.5, "width is 2.5; it must be a whole number"),
        ("depth", None, "depth is None; it must be a whole number"),
        ("image", [8], "image is (8,); it must be tuple[int, int]"),
        ("heads", 0, "heads=0; it must be"),
        ("frames", 10**30, "it must be"),
        ("depth", 100_000, "depth is 100000, and no model's is above 1000"),
        ("mlp_width", 2**30, "mlp_width is 1073741824, and no model's is above 1048576"),
    ],
)
def test_sizes_that_cannot_be_are_named(own, tmp_path, field, value, words):
    sizes = json.loads(json.dumps(own[1]))
    holder = next(part for part in (sizes, *sizes.values()) if isinstance(part, dict) and field in part)
    holder[field] = value
    said, seconds = refusal(with_sizes(own, tmp_path, sizes))
    assert said.startswith("the sizes that the file names are damaged (") and words in said and seconds < 5


@pytest.mark.parametrize("sizes", ["[" * 100_000, "[]", "3", '"x"', "{}", '{"width": 3}'])
def test_sizes_that_are_none_are_damage(own, tmp_path, sizes):
    assert refusal(with_sizes(own, tmp_path, sizes))[0].startswith(
        "the sizes that the file names are damaged ("
    )


@pytest.mark.parametrize("value", ["24", None, -1, 10**30, 10_000_000, [24], 0])
def test_a_config_whose_sizes_cannot_be_is_refused(tmp_path, value):
    folder = shutil.copytree(HUB / "videomae_classifier", tmp_path / "hub")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": value}))
    said, _ = refusal(folder)
    assert "no videomae_classifier_hub that is computed here: " in said
    assert "mlp_width" in said or "wrong kind" in said
