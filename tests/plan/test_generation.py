"""Plans of generation: bytes and FLOPs against hand calculation, meshes, words, and what is refused."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import pytest

from ivjax.cli import main
from ivjax.errors import UserError
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.plan.estimate import mesh_of
from ivjax.plan.generation import request, search
from ivjax.plan.generation.generation_plan import plan_generation
from ivjax.plan.generation.language_costs import (
    bytes_of,
    decode_costs,
    decode_temporaries,
    prefill_flops,
)
from ivjax.plan.generation.programs import GenerationPrograms
from ivjax.plan.generation.request import GenerationRequest, parse_request
from ivjax.plan.generation.search import GenerationJob, default_shape, mesh_from
from ivjax.plan.generation.words import generation_lines, smallest_lines
from ivjax.plan.roofline import Assumptions
from ivjax.plan.topology import parse

CHAT = "internvideo2_5_chat_8b"
TINY = DIALOGUES[f"{CHAT}_tiny"]


def programs(name=CHAT, topology="v5p:1x1x1", shape=MeshShape(), **request):
    """The programs of a generation on a mesh of devices that are not there."""
    top = parse(topology)
    mesh = mesh_of(shape, top.chip, top.devices)
    return GenerationPrograms(DIALOGUES[name], GenerationRequest(**{"frames": 512} | request), mesh)


def planned(name=f"{CHAT}_tiny", topology="v5p:1x1x1", shape=MeshShape(), **request):
    asked = GenerationRequest(**{"frames": 16, "new": 8, "question": 4, "chunk": 8} | request)
    return plan_generation(name, DIALOGUES[name], asked, parse(topology), shape, Assumptions())


@pytest.mark.parametrize("tensor, keys", [(1, 1), (4, 4), (16, 1)])
def test_caches_and_weights_are_those_of_the_formula(tensor, keys):
    topology = {1: "v5p:1x1x1", 4: "v5e:2x2", 16: "v5e:4x4"}[tensor]
    found = programs(topology=topology, shape=MeshShape(tensor=tensor))
    with jax.sharding.use_abstract_mesh(found.mesh):
        # 8,192 visual tokens and 128 others are 9 chunks; and 256 new ones.
        assert (found.visual, found.prompt, found.length) == (8192, 8320, 9216)
        # 16 devices do not divide the 8 heads of keys, so each stores all of them.
        assert bytes_of([run.cache for run in found.caches]) == 2 * 32 * 8 * 128 * (9216 + 256) * 2 // keys
        if tensor == 1:
            assert sum(leaf.size for leaf in jax.tree.leaves(found.params)) == 8_075_365_376
            assert bytes_of(found.params) == 8_075_365_376 * 2


def test_float32_weights_are_cast_in_every_call():
    half, full = programs(), programs(weights="float32")
    with jax.sharding.use_abstract_mesh(half.mesh):
        blocks = bytes_of(half.params["language"]["blocks"])
        more = decode_temporaries(full, "tpu") - decode_temporaries(half, "tpu")
        read = decode_costs(full).read - decode_costs(half).read
        head = bytes_of(half.params["language"]["head"])
    # As compiled for a v5p: 13.3 GiB.
    assert more == blocks == pytest.approx(13_312 * 2**20, rel=0.01)
    # Read in four bytes, written in two and read again.
    assert read == 3 * blocks + head


def test_an_int8_cache_has_a_byte_a_number_and_a_scale_a_head():
    found = programs(cache="int8", frames=16, batch=3)
    with jax.sharding.use_abstract_mesh(found.mesh):
        slots = found.options.slots(found.length)
        assert bytes_of([run.cache for run in found.caches]) == 3 * 2 * 32 * 8 * slots * (128 + 4)


def test_visual_dropout_shortens_the_caches_of_later_layers():
    found = programs(layers=(8, 16), ratios=(1.0, 0.5, 0.25), chunk=64)
    with jax.sharding.use_abstract_mesh(found.mesh):
        slots = [run.cache.slots for run in found.caches]
        assert [run.cache.keys.shape[0] for run in found.caches] == [8, 8, 16]
    length = found.length
    assert slots == [length + 256, length - 4096 + 256, length - 6144 + 256]


@pytest.mark.parametrize(
    "name, frames, tflops",
    [(CHAT, 512, 132), (CHAT, 10_000, 8944), ("videochat_flash_qwen2_7b_224", 10_000, 7226)],
)
def test_prefill_flops_are_those_that_were_counted(name, frames, tflops):
    found = programs(name, frames=frames)
    with jax.sharding.use_abstract_mesh(found.mesh):
        assert sum(prefill_flops(found, found.visual).values()) == pytest.approx(tflops * 1e12, rel=0.01)


def test_parts_are_bound_by_what_takes_longest():
    plan = planned()
    decode, chip = plan.times["decode"], plan.topology.chip
    assert decode.memory == decode.read / chip.memory_bandwidth and decode.bound == "memory"
    assert plan.first_token == sum(plan.times[part].seconds for part in ("vision", "bridge", "prefill"))
    assert plan.answer == pytest.approx(plan.first_token + 7 * decode.seconds)
    assert plan.tokens_per_s == pytest.approx(1 / decode.seconds)
    # Every weight of the layers and of the head is read for a token, and all slots of the cache.
    assert decode.read > plan.memory.weights["language"] - 2 * 64 * 512 + plan.memory.cache


def test_a_tensor_axis_sends_two_sums_a_layer():
    plan = planned(topology="v5e:2x2", shape=MeshShape(data=1, tensor=2, fsdp=2))
    size = TINY.language
    sums = 2 * size.depth * 2 * (size.width * 2) * 1 / 2
    assert plan.times["decode"].sent["tensor"] == sums + 4 * size.vocabulary / 2
    assert plan.times["decode"].sent["fsdp"] > 0
    assert any("does not divide 1 row" in warning for warning in plan.warnings)


def test_rows_over_data_share_caches_and_heads_that_do_not_divide_are_told():
    alone, shared = planned(batch=4), planned(topology="v5e:2x2", shape=MeshShape(data=4), batch=4)
    assert shared.memory.cache * 4 == alone.memory.cache and not shared.warnings
    split = planned(topology="v5e:2x2", shape=MeshShape(data=1, tensor=4))
    assert any("tensor=4 does not divide the 1 heads of keys" in warning for warning in split.warnings)


_QUICK = ("videochat2_vicuna_7b_tiny", "videochat_flash_qwen2_7b_448_tiny")
_KINDS = [
    pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow)
    for name in DIALOGUES
    if name.endswith("_tiny")
]


@pytest.mark.parametrize("name", _KINDS)
def test_every_kind_of_dialogue_model_is_planned(name):
    plan = planned(name, "h200:1")
    assert plan.fits and plan.visual == DIALOGUES[name].visual_tokens(16)
    text = "\n".join(generation_lines(plan))
    assert "bound by" in text and "it fits" in text and "first token after" in text


def test_the_smallest_slices_are_the_first_that_fit(monkeypatch):
    monkeypatch.setattr(search, "CHIPS", {name: search.CHIPS[name] for name in ("v5e", "h200", "cpu")})
    said = []
    request = parse_request("frames=10000,new=256,clips=1")
    # The tower of the tiny model, because its trace takes most of the time.
    size = replace(DIALOGUES[CHAT], vision=TINY.vision, bridge=replace(TINY.bridge, out=4096))
    plans = GenerationJob("chat", size, request, Assumptions(), said.append).smallest()
    assert [plan.topology.name for plan in plans] == ["v5e:2x2", "h200:1"]
    assert plans[0].mesh["tensor"] == 4 and all(plan.fits for plan in plans)
    assert any("v5e:1x1, one device: weights and caches alone take" in line for line in said)
    assert "v5e:2x2" in "\n".join(smallest_lines(plans))
    assert "ask for fewer frames" in "\n".join(smallest_lines([]))


def test_the_default_mesh_splits_heads_evenly_and_the_rest_by_rows_or_parameters():
    size, sixteen = DIALOGUES[CHAT], parse("v5e:4x4")
    assert default_shape(size, GenerationRequest(64), sixteen) == MeshShape(data=1, fsdp=2, tensor=8)
    assert default_shape(size, GenerationRequest(64, batch=4), sixteen) == MeshShape(data=2, tensor=8)
    assert mesh_from(["mesh.tensor=4", "mesh.fsdp=-1"]) == MeshShape(data=1, fsdp=-1, tensor=4)
    assert mesh_from([]) is None


def test_plan_prints_json_from_the_command_line(capsys):
    words = "frames=16,new=8,question=4,chunk=8,layers=1,ratios=1:0.5,kind=uniform"
    assert main(["plan", f"{CHAT}_tiny", "--generate", words, "--topology", "v5p:1x1x1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["visual_tokens"] == 32 and found["request"]["layers"] == [1]
    assert found["memory"]["fits"] and found["times"]["decode"]["bound"] == "memory"
    assert set(found["memory"]["temporaries"]) == {"see", "prefill", "decode"}


@pytest.mark.parametrize(
    "words, problem",
    [
        ([CHAT, "--generate", "new=4"], "--generate needs the frames of a video"),
        ([CHAT, "--generate", "frame=4"], "no option 'frame'"),
        ([CHAT, "--generate", "frames=4,frames=8"], "names frames twice"),
        ([CHAT, "--generate", "frames"], "write options as in frames=512,new=256"),
        ([CHAT, "--generate", "frames=0"], "frames=0: it must be a whole number of 1 or more"),
        ([CHAT, "--generate", "frames=16,cache=int4"], "cache=int4: it must be compute or int8"),
        ([CHAT, "--generate", "frames=16,layers=a:b"], "layers=a:b: it must be numbers with colons between"),
        ([CHAT, "--generate", "frames=16,layers=40,ratios=1:0.5"], "dropout.layers=(40,)"),
        ([CHAT, "--generate", "frames=15"], "15 frames does not divide into clips of 4"),
        ([CHAT, "steps=4", "--generate", "frames=16"], "a preset, which takes no overrides"),
        ([CHAT, "--generate", "frames=16", "new=4"], "new=4 belongs to --generate; write its options with"),
        ([CHAT, "--generate", "frames=16,layers=8"], "layers alone drops nothing; give layers and ratios"),
        ([CHAT, "--generate", "frames=16,kind=uniform"], "kind alone drops nothing; give layers and ratios"),
        ([CHAT, "--generate", "frames=16,layers=8,ratios=0.5:0.25"], "must begin with 1 and fall"),
        ([CHAT, "--generate", "frames=16", "--released", "x.md"], "leave out the config and --generate"),
        ([CHAT, "mesh.tensors=4", "--generate", "frames=16"], "mesh.tensors=4 is no axis of a mesh"),
        ([CHAT, "--generate", "frames=16", "--page", "x.html"], "--page belongs to plans of training"),
        ([CHAT, "--generate", "frames=16", "--slices", "2"], "leave out --slices"),
        (["internvideo2_5_chat", "--generate", "frames=16"], "is no dialogue model"),
        (["stage1_tiny", "--generate", "frames=16"], "trains no dialogue model"),
        (["--generate", "frames=16"], "--generate needs a model"),
        ([CHAT, "mesh.tensor=4", "--generate", "frames=16", "--search"], "leave out mesh.tensor=4"),
        ([CHAT], "plan its answers with --generate frames=512,new=256"),
    ],
)
def test_impossible_generations_get_one_sentence(words, problem, capsys):
    assert main(["plan", *words, "--topology", "v5p:1x1x1"]) == 2
    assert problem in capsys.readouterr().err


def test_a_plan_says_in_words_what_is_generated():
    text = "\n".join(generation_lines(planned(frames=4, new=1, cache="int8")))
    assert "1 row of 4 frames: 8 visual tokens and 4 others" in text and "; 1 new token\n" in text
    assert "1 clip at a time, chunks of 8 tokens, cache in int8" in text


def test_a_search_that_finds_no_mesh_says_so_and_has_the_status_of_what_does_not_fit(capsys):
    assert main(["plan", CHAT, "--generate", "frames=512", "--topology", "v5e:1x1", "--search"]) == 1
    assert "no mesh of v5e:1x1 holds the weights and caches" in capsys.readouterr().err


def test_slices_are_refused_without_a_topology_too(capsys):
    assert main(["plan", CHAT, "--generate", "frames=16", "--slices", "2"]) == 2
    assert "a generation runs in one slice" in capsys.readouterr().err


def test_a_config_is_planned_by_the_dialogue_model_that_it_trains(monkeypatch):
    @dataclass(frozen=True)
    class Stage:
        steps: int
        model: object

    asked = []
    experiment = SimpleNamespace(stage=Stage(3, TINY))
    monkeypatch.setattr(request, "load_experiment", lambda *words: asked.append(words) or experiment)
    assert request.dialogue_named("chat_tiny", ("batch=4",)) is TINY
    assert asked == [("chat_tiny", ("batch=4",))]


def test_a_request_is_read():
    assert parse_request("frames=8, layers=4:18, ratios=1:0.75:0.25, weights=float32") == GenerationRequest(
        8, layers=(4, 18), ratios=(1.0, 0.75, 0.25), weights="float32"
    )
    with pytest.raises(UserError, match="kind=best: it must be uniform or attention"):
        parse_request("frames=8,kind=best")
