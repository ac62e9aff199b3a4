"""Config files: variants, the batch that steps and rates follow, and errors."""

from dataclasses import replace

import pytest

from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment, variants_of, with_each, with_overrides
from ivjax.experiment.run_options import Checkpointing, Phase, Trains
from tests.train.micro import experiment

CONFIG = """
from dataclasses import replace
from tests.train.micro import experiment

experiment = replace(experiment, follows_batch={follows})
variants = {{
    "long": ("steps=400", "schedule.warmup=40"),
    "wide": ("stage.student.width=64", "schedule.peak=1e-3"),
    "phased": ("phases=(Phase('a',3),Phase('b',4))",),
}}
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(CONFIG.format(follows=True))
    return str(file)


def test_a_variant_applies_its_overrides_and_variants_combine(config):
    whole = load_experiment(config)
    assert (whole.steps, whole.stage.student.width) == (20, 32)
    assert load_experiment(f"{config}:long").steps == 400
    both = load_experiment(f"{config}:long+wide", ["steps=7"])
    assert (both.steps, both.schedule.warmup, both.stage.student.width) == (7, 40, 64)
    assert list(variants_of(config)) == ["long", "wide", "phased"]


@pytest.mark.parametrize("name", ["lang", "long+lang", ""])
def test_an_unknown_variant_names_the_known_ones(config, name):
    with pytest.raises(UserError, match=f"no variant '{name[-4:]}' .its variants are long, wide, phased"):
        load_experiment(f"{config}:{name}")


def test_a_variant_of_a_config_without_any_and_a_malformed_list_are_errors(tmp_path):
    with pytest.raises(UserError, match="stage1_synthetic has no variant 'x' .it has none"):
        load_experiment("stage1_synthetic:x")
    file = tmp_path / "mine.py"
    file.write_text("from tests.train.micro import experiment\nvariants = {'long': 'steps=400'}")
    with pytest.raises(UserError, match='variants is not {"name": '):
        variants_of(str(file))


@pytest.mark.parametrize(
    "overrides, steps, warmup, peak",
    [
        (["batch=32"], 10, 2, 4e-3),
        (["batch=8"], 40, 8, 1e-3),
        (["batch=32", "steps=15"], 15, 2, 4e-3),
        (["steps=15", "batch=32", "schedule.peak=1e-3"], 15, 2, 1e-3),
        (["batch=32", "schedule.warmup=5"], 10, 5, 4e-3),
        (["batch=16"], 20, 4, 2e-3),
        (["batch=32", "schedule=WarmupCosine(1e-3)"], 20, 0, 1e-3),
        (["batch=32", "follows_batch=false"], 20, 4, 2e-3),
    ],
)
def test_steps_and_rates_follow_the_batch_where_the_config_says_so(config, overrides, steps, warmup, peak):
    said = []
    found = load_experiment(config, overrides, said.append)
    assert (found.steps, found.schedule.warmup, found.schedule.peak) == (steps, warmup, peak)
    assert found.batch == int(next(o for o in overrides if o.startswith("batch"))[6:])
    assert all("batch is" in line for line in said)


def test_a_batch_that_steps_follow_needs_the_phases_as_well(config):
    with pytest.raises(UserError, match="follows_batch scales no phases, .*; set phases.0.steps"):
        load_experiment(f"{config}:phased", ["batch=32"])
    found = load_experiment(f"{config}:phased", ["batch=32", "phases.0.steps=1"])
    assert [phase.steps for phase in found.phases] == [1, 4]


def test_a_batch_alone_is_warned_about_where_the_config_does_not_say_that_steps_follow():
    said = []
    found = load_experiment("stage1_synthetic", ["batch=32"], said.append)
    assert found.steps == 300 and said == [
        "batch is 32 instead of 16; steps=300 and schedule.peak=0.002 stay as they are "
        "(follows_batch=true scales them)"
    ]
    said.clear()
    load_experiment("stage1_synthetic", ["batch=32", "steps=150"], said.append)
    load_experiment("stage1_synthetic", ["steps=150"], said.append)
    assert said == []


def test_a_batch_alone_is_warned_about_phase_by_phase():
    said = []
    load_experiment("viclip_b16:two_phases", ["batch=1024"], said.append)
    assert said == [
        "batch is 1024 instead of 32768 in masked (not in unmasked, with a batch of its own); the steps of "
        "phases and schedule.peak=0.0002 stay as they are (phases.0.steps=... and schedule.peak=... change "
        "them)"
    ]
    said.clear()
    changed = "phases=(Phase('a',3,('batch=8',)),)"
    load_experiment("stage1_synthetic", ["batch=32", changed], said.append)
    load_experiment("viclip_b16:two_phases", ["batch=1024", "phases.0.steps=9"], said.append)
    load_experiment("viclip_b16:two_phases", ["batch=1024", "schedule.peak=1e-4"], said.append)
    assert said == []
    phased = with_overrides(load_experiment("stage1_synthetic"), [changed])
    with_overrides(phased, ["batch=32"], said.append)
    assert said == ["batch=32 has no effect: every phase sets a batch of its own"]


def test_each_line_about_several_runs_is_said_once():
    said = []
    runs = [(f"batch={batch}", f"seed={seed}") for batch in (16, 32, 64) for seed in (1, 2)]
    found = with_each(load_experiment("stage1_synthetic"), runs, said.append)
    assert [experiment.batch for experiment in found] == [16, 16, 32, 32, 64, 64]
    assert [line.partition(";")[0] for line in said] == [f"batch is {n} instead of 16" for n in (32, 64)]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Trains("", 1.0), "a pattern is empty"),
        (
            lambda: replace(experiment, trains=(Trains("vision", -1.0),)),
            "trains.0.rate=-1.0; it must be at least 0",
        ),
        (lambda: Phase("a/b", 1), "'a/b' is no name for a folder"),
        (
            lambda: replace(experiment, phases=(Phase("a", 1), Phase("b", 0))),
            "phases.1.steps=0; it must be at least 1",
        ),
        (lambda: Phase("a", 1, ("steps=3",)), "changes 'steps=3'; write path=value, but not for steps"),
        (lambda: replace(experiment, phases=(Phase("a", 1), Phase("a", 2))), "'a' is the name of 2 phases"),
        (lambda: Checkpointing(best="-"), "checkpoint.best names no metric"),
    ],
)
def test_options_of_a_run_are_checked(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "no config .*; give a path to a .py file, or one of: .*stage1_synthetic"),
        ("import nothing_of_this_name", "fails with ModuleNotFoundError"),
        ("x = 1", "defines no `experiment"),
    ],
)
def test_a_bad_config_file_is_an_error(tmp_path, text, message):
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=message):
        load_experiment(str(file))
