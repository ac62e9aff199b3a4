"""Whole train steps compiled for accelerators that are not there."""

import importlib.util
import json

import jax
import pytest

from ivjax.cli import main

libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install -e '.[plan]'"
)

# What one device must have, in GiB, and how near the estimate of temporaries has to be to the compiled ones.
FLAGSHIPS = {
    "finetune_1b_k710": ("v5e:8x8", ["init_from=()", "mesh.data=-1", "mesh.fsdp=16", "remat=full"]),
}


@pytest.fixture(autouse=True)
def _usual_precision():
    """Kernels for TPU multiply bfloat16 as it is: the exact products of other tests are none of theirs."""
    with jax.default_matmul_precision("default"):
        yield


def planned(capsys, *words):
    status = main(["plan", *words, "--compile", "--json"])
    return status, json.loads(capsys.readouterr().out)


@libtpu
def test_a_tiny_step_compiles_for_eight_chips(capsys):
    words = ["stage1_synthetic", "stage.student.depth=2", "mesh.data=2", "mesh.fsdp=4", "ema=none"]
    status, found = planned(capsys, *words, "--topology", "v5e:2x4")
    compiled = found["compiled"]
    assert status == 0 and found["memory"]["fits"]
    given = sum(found["memory"]["given"].values())
    assert compiled["arguments"] == pytest.approx(given, rel=0.1)
    assert not compiled["warnings"] and not compiled["census"]["unknown_loops"]
    sent = {axis for traffic in compiled["census"]["traffic"] for axis in traffic["axes"]}
    assert sent == {"data", "fsdp"}


@libtpu
@pytest.mark.slow
def test_a_step_that_does_not_read_all_it_is_given_compiles(capsys):
    # The target's pooling is loaded with it, and the loss compares tokens.
    words = ["next_stage2_tiny", "mesh.data=2", "mesh.fsdp=4", "init_from=()", "--topology", "v5e:2x4"]
    status, found = planned(capsys, *words)
    assert status == 0 and not found["compiled"]["warnings"]


@libtpu
@pytest.mark.slow
def test_generation_compiles_and_its_temporaries_do_not_grow_with_the_video(capsys):
    def compiled(frames):
        asked = f"frames={frames},new=64,chunk=512,clips=2"
        words = ["internvideo2_5_chat_8b_tiny", "--generate", asked, "--topology", "v5p:1x1x1"]
        status, found = planned(capsys, *words)
        assert status == 0 and set(found["compiled"]) == {"see", "prefill", "decode"}
        return found

    short, long = compiled(8192), compiled(16384)
    for name in ("see", "prefill"):
        assert long["compiled"][name]["heap"] < 1.05 * short["compiled"][name]["heap"]
    for found in (short, long):
        # Caches are what prefill returns; a step of decoding writes them in place.
        assert found["compiled"]["prefill"]["output"] == pytest.approx(found["memory"]["cache"], rel=0.1)
        assert found["compiled"]["decode"]["output"] < 2**20


@libtpu
@pytest.mark.slow
def test_heads_of_a_generation_are_split_over_chips(capsys):
    words = ["videochat2_vicuna_7b_tiny", "--generate", "frames=64,new=64", "--topology", "v5e:2x2"]
    _, found = planned(capsys, *words)
    assert found["mesh"]["tensor"] == 4 and not found["warnings"]
    sent = {axis for t in found["compiled"]["decode"]["census"]["traffic"] for axis in t["axes"]}
    assert sent == {"tensor"}
    estimated = found["times"]["decode"]["sent"]["tensor"]
    # Sums of a step, which are exact; and the logits, which are gathered by the argmax as it likes.
    assert sum(t["bytes"] for t in found["compiled"]["decode"]["census"]["traffic"]) < 2 * estimated


@libtpu
@pytest.mark.slow
@pytest.mark.parametrize("name", FLAGSHIPS)
def test_a_flagship_fits_and_is_as_estimated(name, capsys):
    topology, changes = FLAGSHIPS[name]
    status, found = planned(capsys, name, *changes, "--topology", topology)
    compiled, memory = found["compiled"], found["memory"]
    assert status == 0 and memory["fits"] and not compiled["warnings"]
    assert compiled["arguments"] == pytest.approx(sum(memory["given"].values()), rel=0.01)
    assert memory["temporaries"] == pytest.approx(compiled["alive"], rel=0.25)
    sent = sum(traffic["bytes"] for traffic in compiled["census"]["traffic"])
    assert sent == pytest.approx(sum(found["bytes_sent_per_device"].values()), rel=0.25)


@libtpu
@pytest.mark.slow
def test_a_step_that_does_not_fit_reports_its_bytes(capsys):
    words = ["stage1_synthetic", "batch=65536", "remat=none", "ema=none", "stage.student.depth=2"]
    status, found = planned(capsys, *words, "--topology", "v5e:1x1")
    assert status == 1 and not found["memory"]["fits"]
    assert found["compiled"]["total"] > found["compiled"]["limit"]
