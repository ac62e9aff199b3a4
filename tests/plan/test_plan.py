"""From an estimate to seconds, words, a page, and the best of several plans."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh

from ivjax.cli import main
from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment
from ivjax.models.rules import BLOCKS
from ivjax.plan import mesh_search, recipe_table
from ivjax.plan.census import Census, Traffic
from ivjax.plan.compiled_step import CompiledStep, TooLarge, _gathered, _too_large, _traffic
from ivjax.plan.page import memory_breakdown, page
from ivjax.plan.roofline import Assumptions, checked_assumptions, speed
from ivjax.plan.table import lines
from ivjax.plan.topology import parse
from ivjax.plan.training_plan import HEAP_GROWTH, over_slices, single_run
from ivjax.plan.units import readable_seconds
from ivjax.train.chips import CHIPS
from ivjax.train.sharding import undivided
from tests.plan.plans import GIB, estimated, planned


def test_the_slowest_of_products_memory_and_links_bounds_the_step():
    chip = CHIPS["v5e"]
    topology, mesh = parse("v5e:4x4"), {"data": 2, "fsdp": 8}
    cases = {
        "products": dict(executed=3 * chip.flops),
        "memory bandwidth": dict(read=3 * chip.memory_bandwidth, executed=1.0),
        "links of fsdp": dict(executed=1.0, read=1.0, sent={"fsdp": 6 * chip.link_bandwidth, "data": 1.0}),
    }
    for bound, costs in cases.items():
        found = speed(estimated(mesh, **costs), topology, 64, 100, Assumptions())
        assert found.bound == bound and found.step == pytest.approx(3.0, rel=1e-6)
        assert found.mfu == pytest.approx(1e15 / (16 * chip.flops * 3.0), rel=1e-6)


def test_hours_hosts_and_cost_follow_from_the_step_time():
    topology = parse("v5e:4x4")
    found = estimated({"data": 16}, executed=topology.chip.flops, read=0.0)  # one second a step
    fast = speed(found, topology, 64, 3600, Assumptions(price=1.5, decode_ms=20.0))
    assert (fast.step, fast.clips_per_s, fast.clips_per_host) == (1.0, 64.0, 16.0)
    assert (fast.host_bytes_per_s, fast.decode_cores) == (16e6, pytest.approx(0.32))
    assert (fast.days, fast.chip_hours, fast.cost) == (pytest.approx(1 / 24), 16.0, 24.0)
    half = speed(found, topology, 64, 3600, Assumptions(efficiency=0.5))
    assert half.step == 2.0 and half.cost is None


def test_a_chip_with_two_devices_is_paid_once():
    topology = parse("tpu7x:2x2x1")
    found = estimated({"data": 8}, executed=topology.chip.flops, read=0.0)
    assert speed(found, topology, 64, 3600, Assumptions()).chip_hours == pytest.approx(4.0)


def test_between_slices_only_a_share_of_the_gradient_goes_over_the_network():
    topology = parse("v5e:4x4", slices=2)
    gradient = 1e9
    sent = 2 * 31 / 32 * gradient
    found = speed(
        estimated({"data": 32}, slices=2, sent={"data": sent}), topology, 64, 1, Assumptions()
    ).links
    chip = topology.chip
    per_device = chip.network_bandwidth / chip.devices_per_host
    assert found["slices"] == pytest.approx(2 * (1 / 2) * gradient / 16 / per_device)
    assert found["data"] == pytest.approx(2 * 15 / 16 * gradient / (2 * chip.link_bandwidth))


def test_gpus_of_a_host_are_joined_faster_than_hosts():
    topology = parse("h200:64")
    chip = topology.chip
    found = speed(
        estimated({"data": 8, "fsdp": 8}, sent={"data": 1e9, "fsdp": 1e9}), topology, 64, 1, Assumptions()
    ).links
    assert found["fsdp"] == pytest.approx(1e9 / chip.link_bandwidth)
    assert found["data"] == pytest.approx(1e9 / (chip.network_bandwidth / 8))


@pytest.mark.parametrize(
    "given", [(0.0, None, None), (1.5, None, None), (1.0, -1.0, None), (1.0, None, -2.0)]
)
def test_assumptions_out_of_range_are_refused(given):
    with pytest.raises(UserError, match="--"):
        checked_assumptions(*given)


@pytest.mark.parametrize(
    "seconds, text", [(2e-5, "20 us"), (0.25, "250 ms"), (90, "1.5 min"), (2e5, "2.31 days")]
)
def test_durations_are_readable(seconds, text):
    assert readable_seconds(seconds) == text


def test_gaps_of_the_heap_count_until_it_is_compiled():
    plan = planned(given=2 * GIB, temporaries=10 * GIB)
    assert plan.needed == 2 * GIB + int(HEAP_GROWTH["tpu"] * 10 * GIB) and not plan.fits
    assert planned(given=2 * GIB, temporaries=9 * GIB).fits
    exact = dataclasses.replace(plan, compiled=compiled(heap=11 * GIB))
    assert exact.needed == 2 * GIB + 11 * GIB and exact.fits
    assert not dataclasses.replace(plan, compiled=TooLarge(1.0, 20 * GIB, 15 * GIB)).fits


def compiled(heap=3 * GIB, alive=2 * GIB, traffic=(), warnings=()):
    census = Census(tuple(traffic), ())
    return CompiledStep(60.0, 2 * GIB, alive, heap, 0, 0, 0, census, ((GIB, "bf16[4,4]"),), tuple(warnings))


def test_the_table_shows_fit_bound_and_cost():
    text = "\n".join(lines(planned()))
    assert "16 devices, 4 hosts" in text and "fits" in text
    assert "bound by memory bandwidth" in text and "at the price given" in text
    too_large = "\n".join(lines(planned(temporaries=100 * GIB)))
    assert "DOES NOT FIT" in too_large
    far = dataclasses.replace(planned(), compiled=compiled(alive=2 * GIB, warnings=("something is wrong",)))
    text = "\n".join(lines(far))
    assert "0.50 of what the compiled program has alive" in text and "bf16[4,4]" in text
    assert "WARNING: something is wrong" in text


def test_the_page_needs_no_other_files_and_its_bar_is_to_scale():
    plan = planned(given=4 * GIB, temporaries=2 * GIB)
    text = page(plan)
    assert "http" not in text and "<script" not in text
    usable = plan.topology.chip.usable_memory
    assert sum(memory_breakdown(plan).values()) == pytest.approx(plan.needed, rel=1e-6)
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", text)]
    assert sum(widths) == pytest.approx(100 * plan.needed / usable, abs=0.01)


def test_excess_traffic_and_large_gathers_are_warned_about():
    expected = estimated({"data": 2, "fsdp": 8}, sent={"fsdp": 1 * GIB})
    expected.costs.largest["fsdp"] = 100 * 2**20
    quiet = Census((Traffic("all-gather", ("fsdp",), 10, int(1.2 * GIB), 100 * 2**20),), ())
    assert not [*_traffic(quiet, expected), *_gathered(quiet, expected)]
    loud = Census((Traffic("all-gather", ("fsdp",), 10, 2 * GIB, 400 * 2**20),), ("body.1",))
    warnings = [*_traffic(loud, expected), *_gathered(loud, expected)]
    assert [w.split()[0] for w in warnings] == ["2.00", "the", "an"]


@pytest.mark.parametrize(
    "message",
    [
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm.",
        "RESOURCE_EXHAUSTED: memory required for HLO temporaries (20.5G) exceeds available HBM (15.75G).",
    ],
)
def test_a_compiler_error_of_too_little_memory_is_parsed(message):
    found = _too_large(ValueError(message), 1.0, parse("v5e:4x4"))
    assert (found.total, found.limit) == (20.5 * GIB, 15.75 * GIB)
    with pytest.raises(UserError, match="does not compile for v5e:4x4: something else"):
        _too_large(ValueError("something else\nand more"), 1.0, parse("v5e:4x4"))


def test_leaves_that_an_axis_does_not_divide_are_named():
    kernel = jax.ShapeDtypeStruct((2, 12, 16), jnp.float32)
    tree = {"params": {"blocks": {"mlp": {"fc1": {"kernel": kernel}}}}}
    path = "params/blocks/mlp/fc1/kernel"
    assert not [*undivided(tree, AbstractMesh((4, 8), ("fsdp", "tensor")), BLOCKS)]
    assert [*undivided(tree, AbstractMesh((8, 8), ("fsdp", "tensor")), BLOCKS)] == [(path, 12, "fsdp")]


def test_slices_of_the_topology_become_those_of_the_mesh():
    experiment = load_experiment("stage1_synthetic")
    assert over_slices(experiment, parse("v5e:4x4", 2)).mesh.slices == 2
    assert over_slices(experiment, parse("h200:8", 2)).mesh.slices == 1


def test_one_phase_of_several_is_planned():
    whole = load_experiment("viclip_l14:two_phases")
    for phase in whole.phases:
        found = single_run(whole, phase.name)
        assert found.steps == phase.steps and not found.phases
    assert [single_run(whole, phase.name).stage.mask > 0 for phase in whole.phases] == [True, False]
    for wanted in (None, "third"):
        with pytest.raises(UserError, match="the config has phases masked, unmasked; choose one by --phase"):
            single_run(whole, wanted)
    single = dataclasses.replace(whole, phases=())
    assert single_run(single, None) is single
    with pytest.raises(UserError, match="the config has no phases; leave out --phase"):
        single_run(single, "masked")


def test_plans_are_ranked_by_fit_then_time_then_traffic():
    slow = planned(read=3e12, remat="full")
    fast = planned(read=1e12)
    busy = planned(read=1.001e12, sent={"data": 1e9}, remat="dots")
    huge = planned(read=1e10, temporaries=100 * GIB)
    assert mesh_search.ranked([huge, slow, busy, fast]) == [fast, busy, slow, huge]


def test_search_changes_mesh_then_remat_then_micro_batches(monkeypatch):
    def pretend(name, experiment, topology, assumed, compiled=False):
        mesh = experiment.mesh
        if mesh.tensor > 2:
            raise UserError("4 heads")
        keeps = {"none": 8, "dots": 3, "full": 1}[experiment.remat]
        again = {"none": 1.0, "dots": 1.1, "full": 1.3}[experiment.remat]
        return dataclasses.replace(
            planned(
                temporaries=keeps * 4 * GIB // experiment.accumulate,
                given=16 * GIB // mesh.fsdp,
                executed=1e15 * again * experiment.accumulate**0.1,
                read=1.0,
                sent={"fsdp": 1e9 * mesh.fsdp},
            ),
            experiment=experiment,
        )

    monkeypatch.setattr(mesh_search, "make_plan", pretend)
    said = []
    start = dataclasses.replace(load_experiment("stage1_synthetic"), remat="none")
    plans = mesh_search.search("made_up", start, parse("v5e:4x4"), Assumptions(), said.append)
    best = plans[0].experiment
    assert (best.remat, best.accumulate) == ("full", 1) and plans[0].fits
    assert any("4 heads" in line for line in said)
    assert len(said) == len(plans) + sum("not possible" in line for line in said)


def test_search_splits_the_tokens_of_texts_too(monkeypatch):
    def pretend(name, experiment, topology, assumed, compiled=False):
        if experiment.mesh.context != 4:
            raise UserError("only context=4")
        return dataclasses.replace(planned(), experiment=experiment)

    monkeypatch.setattr(mesh_search, "make_plan", pretend)
    texts, clips = (load_experiment(name) for name in ("dialogue_internvideo2_5", "stage1_synthetic"))
    best = mesh_search.search("texts", texts, parse("v5e:16x16"), Assumptions(), lambda line: None)[0]
    assert (best.experiment.mesh.fsdp, best.experiment.mesh.context) == (64, 4)
    with pytest.raises(UserError, match="no mesh of v5e:16x16 can run clips"):
        mesh_search.search("clips", clips, parse("v5e:16x16"), Assumptions(), lambda line: None)


def test_a_recipe_gets_the_smallest_mesh_that_fits(monkeypatch):
    def pretend(name, experiment, topology, assumed, compiled=False):
        fits = experiment.mesh.fsdp * experiment.accumulate >= 8 and experiment.accumulate >= 2
        return planned(temporaries=GIB if fits else 100 * GIB)

    monkeypatch.setattr(recipe_table, "make_plan", pretend)
    monkeypatch.setattr(recipe_table, "state_bytes", lambda *_: 0)
    chosen = recipe_table.smallest("x", dataclasses.replace(load_experiment("stage1_1b")), parse("v5e:4x4"))
    assert (chosen.mesh.fsdp, chosen.accumulate) == (4, 2)


def test_a_recipe_of_fewer_texts_than_devices_splits_their_tokens(monkeypatch):
    tried = []

    def pretend(name, experiment, topology, assumed, compiled=False):
        tried.append((experiment.mesh.context, experiment.mesh.fsdp, experiment.accumulate))
        return planned(temporaries=100 * GIB if len(tried) < 8 else GIB)

    stored = lambda experiment, *_: GIB if experiment.mesh.fsdp >= 32 else 100 * GIB  # noqa: E731
    monkeypatch.setattr(recipe_table, "make_plan", pretend)
    monkeypatch.setattr(recipe_table, "state_bytes", stored)
    recipe_table.smallest("x", load_experiment("dialogue_internvideo2_5"), parse("v5e:16x16"))
    # What does not even hold its parameters is not traced; more micro-batches have still fewer rows each.
    split = [(2, 32, 1), (2, 64, 1), (2, 128, 1), (4, 32, 2), (4, 64, 2), (8, 32, 4)]
    assert tried == split
    with pytest.raises(UserError, match="batch=128 of y does not divide over v5e:16x16"):
        few = dataclasses.replace(load_experiment("stage1_1b"), batch=128)
        recipe_table.smallest("y", few, parse("v5e:16x16"))


def test_an_unknown_cell_of_the_recipe_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="RECIPE@TOPOLOGY"):
        recipe_table.write_recipes(tmp_path / "x.md", ["stage1_1b@v5e:3x3"], "", print)


def test_plan_prints_json_and_writes_a_page_from_the_command_line(tmp_path, capsys):
    command = ["plan", "stage1_synthetic", "ema=none", "--topology", "cpu:8", "--price", "0.1"]
    assert main([*command, "--json", "--page", str(tmp_path / "plan.html")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mesh"] == {"data": 8, "fsdp": 1, "tensor": 1, "context": 1}
    assert set(found["memory"]["given"]) == {"params", "moments", "step", "skipped", "batch"}
    assert found["memory"]["given"]["params"] == 4 * found["parameters"]
    assert found["memory"]["given"]["moments"] == 8 * found["parameters"] + 4
    assert found["memory"]["fits"] and found["speed"]["cost"] > 0
    assert (tmp_path / "plan.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "words, problem",
    [
        (["stage1_synthetic"], "needs a config and --topology"),
        (["stage1_synthetic", "--topology", "v5e:3x3"], "v5e:3x3"),
        (["stage1_synthetic", "--topology", "v5e:4x4", "mesh.fsdp=6"], "multiple of 6 devices"),
        (["stage1_synthetic", "--topology", "v5e:4x4", "batch=24"], "does not divide into 16 equal parts"),
        (["stage1_synthetic", "--topology", "cpu:8", "mesh.context=2"], "cannot split the 17 tokens"),
        (["stage1_synthetic", "--topology", "cpu:8", "--slices", "2"], "slices"),
        (["stage1_synthetic", "--topology", "cpu:8", "--efficiency", "7"], "--efficiency 7"),
        (["no_such_config", "--topology", "cpu:8"], "no config 'no_such_config'"),
    ],
)
def test_impossible_plans_get_one_sentence(words, problem, capsys):
    assert main(["plan", *words]) == 2
    assert problem in capsys.readouterr().err
