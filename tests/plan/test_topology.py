"""Topologies read from text, the chips they are made of, and the devices that a compiler makes of them."""

import importlib.metadata
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
import threading

import pytest
from jax.experimental import topologies

from ivjax.errors import UserError
from ivjax.plan.devices import compile_devices, libtpu_lock, prepare_environment
from ivjax.plan.topology import Topology, parse
from ivjax.train.chips import CHIPS, GIB, chip_of_kind
from ivjax.train.hardware import peak_flops

TPUS = [name for name, chip in CHIPS.items() if chip.platform == "tpu"]
KNOWN = "(there are v4, v5e, v5p, v6e, tpu7x, a100, h100, h200, cpu)"
FLAT = "(a side is 2, 4, 8 or 16, and a single chip 1x1)"
SOLID = "(a side is a multiple of 4, or 1 or 2 below 4x4x4 as in 2x2x1 and 2x2x4)"
GPUS = "takes 1, 2, 4 or whole hosts of 8"


@pytest.fixture
def variables(monkeypatch):
    """Environment variables that are put back afterwards."""
    for name in ("TPU_SKIP_MDS_QUERY", "TPU_WORKER_HOSTNAMES", "ALLOW_MULTIPLE_LIBTPU_LOAD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    return monkeypatch


@pytest.mark.parametrize(
    ("text", "slices", "name", "devices", "hosts"),
    [
        ("v5p:8x8x4", 1, "v5p:8x8x4", 256, 64),
        ("v5p:16x20x28", 1, "v5p:16x20x28", 8960, 2240),
        ("v5p:2x2x1", 1, "v5p:2x2x1", 4, 1),
        ("v5p:1x2x1", 3, "v5p:1x2x1 x3 slices", 6, 3),
        ("v4:4x4x4", 2, "v4:4x4x4 x2 slices", 128, 32),
        ("tpu7x:4x4x4", 1, "tpu7x:4x4x4", 128, 16),
        ("tpu7x:16x16x36", 1, "tpu7x:16x16x36", 18432, 2304),
        ("v5e:1x1", 1, "v5e:1x1", 1, 1),
        ("v5e:16x16", 4, "v5e:16x16 x4 slices", 1024, 256),
        (" V6E:4x2 ", 1, "v6e:4x2", 8, 2),
        ("h200:64", 1, "h200:64", 64, 8),
        ("64xh200", 1, "h200:64", 64, 8),
        ("a100:2", 2, "a100:2 x2 slices", 4, 2),
        ("cpu:9", 1, "cpu:9", 9, 2),
    ],
)
def test_a_topology_gives_its_devices_and_hosts(text, slices, name, devices, hosts):
    topology = parse(text, slices)
    assert (topology.name, topology.devices, topology.hosts) == (name, devices, hosts)
    assert topology.devices_per_slice * slices == devices


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("v7x:4x4x8", ": v7x is called tpu7x here; write tpu7x:4x4x8"),
        ("v7x-16", " is a name that counts cores: 8 chips; write the shape, tpu7x:2x2x2"),
        ("ironwood", ": ironwood is called tpu7x here; write tpu7x:4x4x4"),
        ("v5litepod-16", " is a name that counts chips: 16 chips; write the shape, v5e:4x4"),
        ("v5e-256", " is a name that counts chips: 256 chips; write the shape, v5e:16x16"),
        ("v5p-128", " is a name that counts cores: 64 chips; write the shape, v5p:4x4x4"),
        ("v4-8", " is a name that counts cores: 4 chips; write the shape, v4:2x2x1"),
        ("v5p-8x8x4", " lacks the colon before the shape; write v5p:8x8x4"),
        ("v5p", " needs the shape of a slice in chips, for example v5p:4x4x4"),
        ("v5e:4,4", " needs the shape of a slice in chips, for example v5e:8x8"),
        ("v5p:8x8", " has 2 dimensions and a v5p slice 3; the nearest is v5p:4x4x4"),
        ("v5e:16", " has 1 dimension and a v5e slice 2; the nearest is v5e:4x4"),
        ("v5e:3x3", f" does not exist {FLAT}; the nearest is v5e:2x4"),
        ("v5e:0x4", f" does not exist {FLAT}; the nearest is v5e:1x1"),
        ("v6e:1x2", f" does not exist {FLAT}; the nearest is v6e:1x1"),
        ("v5p:6x4x4", f" does not exist {SOLID}; the nearest is v5p:4x4x8"),
        ("v5p:4x0x4", f" does not exist {SOLID}; the nearest is v5p:1x1x1"),
        ("v4:2x2x8", f" does not exist {SOLID}; the nearest is v4:2x4x4"),
        (
            "v5e:32x32",
            " has 1024 chips and a pod of v5e 256; the nearest is v5e:16x16, and slices multiply it",
        ),
        (
            "v4:16x16x24",
            " has 6144 chips and a pod of v4 4096; the nearest is v4:16x16x16, and slices multiply it",
        ),
        ("h200:12", f": h200 {GPUS}; the nearest is h200:16"),
        ("h100:0", f": h100 {GPUS}; the nearest is h100:1"),
        ("3xa100", f": a100 {GPUS}; the nearest is a100:2"),
        ("h200:8x8", f": h200 {GPUS}; the nearest is h200:64"),
        ("h200-8", f": h200 {GPUS}; the nearest is h200:8"),
        ("h200", " needs a number of devices, for example h200:8"),
        ("cpu:0", ": cpu takes a number from 1 to 512; the nearest is cpu:1"),
        ("h300:8", f": no accelerator is called 'h300' {KNOWN}; did you mean 'h200'?"),
        ("4x4", f": no accelerator is called '4x4' {KNOWN}"),
    ],
)
def test_an_impossible_topology_is_answered_with_the_nearest(text, sentence):
    with pytest.raises(UserError) as error:
        parse(text)
    assert str(error.value) == f"topology {text!r}{sentence}"


@pytest.mark.parametrize("name", TPUS)
def test_the_nearest_slice_for_any_number_of_chips_is_legal_and_near(name):
    for chips in (1, 2, 3, 4, 7, 31, 64, 100, 250, 256):
        with pytest.raises(UserError) as error:
            parse(f"{name}:{chips}")
        offer = parse(str(error.value).split("the nearest is ")[1])
        assert 0.5 <= math.prod(offer.shape) / chips <= 2


@pytest.mark.parametrize(
    ("text", "slices", "wrong"), [("v5e:4x4", 0, "at least 1"), ("cpu:8", 2, "no slices")]
)
def test_impossible_slices_are_an_error(text, slices, wrong):
    with pytest.raises(UserError, match=f"slices={slices} of {text}: .*{wrong}"):
        parse(text, slices)


@pytest.mark.parametrize(
    ("kind", "tflops"),
    [
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5e", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        ("TPU v6e", 918),
        ("TPU7x", 1153.5),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
        ("TPU v6 lite x", None),
        ("an NVIDIA H200", None),
        ("cpu", None),
    ],
)
def test_peak_flops_go_by_the_kind_of_device(kind, tflops):
    assert peak_flops(kind) == (None if tflops is None else tflops * 1e12)


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_the_figures_of_a_chip_are_plausible(chip):
    assert chip_of_kind(chip.kind) is chip
    assert 0.7 < chip.usable_memory / chip.memory <= 1 and chip.memory >= 4 * GIB
    # Bytes per second: memory over links over the network's share, in this order everywhere.
    assert chip.memory_bandwidth >= chip.link_bandwidth > chip.network_bandwidth / chip.devices_per_host
    assert chip.domain % chip.devices_per_host == 0 and (chip.torus > 0) == (chip.platform == "tpu")


def test_a_device_of_tpu7x_is_half_a_chip():
    chip = CHIPS["tpu7x"]
    assert (chip.memory, chip.flops * 2, chip.link_bandwidth * 2) == (96 * GIB, 2307e12, 100e9)
    assert (chip.devices_per_host, chip.domain) == (8, 2 * 9216)


@pytest.mark.multiprocess
def test_nothing_imports_jax_before_the_environment_is_prepared():
    code = "import ivjax.train.chips, ivjax.plan.devices, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_environment_keeps_jax_on_the_cpu_with_enough_devices(variables):
    variables.setenv("XLA_FLAGS", "--one=1")
    prepare_environment(parse("cpu:12"))
    assert os.environ["XLA_FLAGS"] == "--one=1 --xla_force_host_platform_device_count=12"
    prepare_environment(parse("cpu:4"))
    assert os.environ["XLA_FLAGS"] == "--one=1 --xla_force_host_platform_device_count=12"
    prepare_environment(parse("cpu:16"))
    assert os.environ["XLA_FLAGS"] == "--one=1 --xla_force_host_platform_device_count=16"
    assert (os.environ["JAX_PLATFORMS"], os.environ["TPU_SKIP_MDS_QUERY"]) == ("cpu", "1")


def test_cpu_devices_are_those_of_this_process():
    assert [device.id for device in compile_devices(parse("cpu:3"))] == [0, 1, 2]
    with pytest.raises(UserError, match="cpu:500 needs 500 devices and this process started jax with 8;"):
        compile_devices(parse("cpu:500"))


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("v5e:4x4", "compiling for v5e needs libtpu: pip install 'ivjax[plan]'"),
        (
            "h200:8",
            "compiling for h200 needs the CUDA plugin: pip install --no-deps jax-cuda12-plugin==0.11.2 "
            "jax-cuda12-pjrt==0.11.2 nvidia-cuda-nvcc-cu12",
        ),
    ],
)
def test_a_missing_compiler_is_named_with_its_packages(monkeypatch, text, advice):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.11.2")
    with pytest.raises(UserError) as error:
        compile_devices(parse(text))
    assert str(error.value) == advice


@pytest.mark.parametrize(
    ("jax", "libtpu", "advice"),
    [
        ("0.11.2", "0.0.42.1", "; jax 0.11.2 needs pip install 'libtpu==0.0.48.*' (no such symbol)"),
        ("0.11.2", "0.0.48.3", " (no such symbol)"),
        ("0.13.0", "0.0.42.1", "; jax 0.13.0 names its own: pip install 'jax[tpu]==0.13.0' (no such symbol)"),
    ],
)
def test_a_failing_libtpu_is_compared_with_the_version_of_this_jax(variables, jax, libtpu, advice):
    def fail(**options):
        raise RuntimeError("no such symbol\nand a page of addresses")

    variables.setattr(importlib.util, "find_spec", lambda name: name)
    variables.setattr(importlib.metadata, "version", {"jax": jax, "libtpu": libtpu}.__getitem__)
    variables.setattr(topologies, "get_topology_desc", fail)
    with pytest.raises(UserError) as error:
        compile_devices(parse("v5e:4x4"))
    assert str(error.value) == f"libtpu {libtpu} gives no v5e:4x4{advice}"


@pytest.mark.parametrize(
    ("text", "slices"), [(f"{name}:{'2x2x2' if CHIPS[name].torus == 3 else '4x4'}", 2) for name in TPUS]
)
def test_libtpu_gives_the_devices_of_the_topology(variables, text, slices):
    pytest.importorskip("libtpu", reason="libtpu is not installed")
    topology = parse(text, slices)
    devices = compile_devices(topology)
    assert len(devices) == topology.devices and {d.slice_index for d in devices} == set(range(slices))
    assert len({device.process_index for device in devices}) == topology.hosts
    assert chip_of_kind(devices[0].device_kind) is topology.chip


@pytest.mark.parametrize("text", ["v5e:1x1", "v5p:1x2x1", "v5p:4x4x1", "tpu7x:1x1x1"])
def test_libtpu_gives_a_part_of_a_host_and_a_flat_slice(variables, text):
    pytest.importorskip("libtpu", reason="libtpu is not installed")
    devices = compile_devices(parse(text))
    assert len({device.process_index for device in devices}) == parse(text).hosts


def test_a_compiler_with_another_number_of_devices_is_an_error(variables):
    described = topologies.TopologyDescription([object()] * 3)
    variables.setattr(importlib.util, "find_spec", lambda name: name)
    variables.setattr(topologies, "get_topology_desc", lambda **options: described)
    with pytest.raises(UserError, match="v5e:2x2 has 4 devices and the compiler gives 3"):
        compile_devices(Topology(CHIPS["v5e"], (2, 2)))


class Told:
    """A stderr that lets a test wait for the first word written."""

    def __init__(self):
        self.text, self.written = "", threading.Event()

    def write(self, text):
        self.text += text
        self.written.set()

    def flush(self):
        pass


def test_the_compile_lock_lets_one_process_in_and_the_next_says_that_it_waits(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stderr, order = Told(), []

    def second():
        with libtpu_lock():
            order.append("second")

    thread = threading.Thread(target=second)
    with monkeypatch.context() as patched, libtpu_lock():
        patched.setattr(sys, "stderr", stderr)
        thread.start()
        assert stderr.written.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert stderr.text.count("waiting for another process") == 1
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]


def test_the_lock_is_free_again_after_an_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyError), libtpu_lock():
        raise KeyError
    with libtpu_lock():
        assert capsys.readouterr().err == ""
