"""`ivjax train CONFIG --options`: every option with its value, what it may be, and what it means."""

import dataclasses
import subprocess
import sys

import pytest

from ivjax.cli import main
from ivjax.experiment.files import load_experiment, shipped_configs
from ivjax.experiment.listing import leaves
from ivjax.experiment.option_listing import kind_in_words, meanings_of, options_below
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.ranges import Count, Rate


@pytest.mark.parametrize("config", shipped_configs())
def test_every_option_of_every_shipped_config_is_listed_with_its_meaning(config):
    experiment = load_experiment(config)
    found = {option.path: option for option in options_below(experiment)}
    assert leaves(experiment).keys() <= found.keys()
    stage = options_below(experiment, "stage")
    assert stage[0].path == "stage" and all(o.path.startswith("stage.") for o in stage[1:])
    # Entries of tuples and mappings are explained by the field that holds them.
    unexplained = [o.path for o in found.values() if not o.about and not _is_entry(o.path, experiment)]
    assert unexplained == []


def _is_entry(path, experiment):
    parent, _, last = path.rpartition(".")
    if last.isdecimal():  # also below a value that is none, whose default has entries
        return True
    value = experiment
    for name in parent.split(".") if parent else ():
        value = _at(value, name)
    return isinstance(value, tuple) or (not dataclasses.is_dataclass(value) and value is not None)


def _at(value, name):
    if isinstance(value, tuple):
        return value[int(name)]
    return getattr(value, name) if dataclasses.is_dataclass(value) else (value or {}).get(name)


def test_the_alternatives_that_are_listed_can_be_written():
    experiment = load_experiment("stage1_tiny")
    [stage, *_] = options_below(experiment, "stage")
    [other] = [way for way in stage.ways if "MaskedPixels(" in way]
    assert other == "ivjax.stages.masked_pixels.MaskedPixels(encoder=..., decoder=...)"
    student = {o.path: o for o in options_below(experiment)}["stage.student"]
    assert student.ways[0] == "a preset: S14, B14, L14, 1B, 6B, internvl_c"
    assert apply_overrides(experiment, ["stage.student=B14"]).stage.student.width == 768
    rate = {o.path: o for o in options_below(experiment)}["schedule"]
    assert rate.kind == "WarmupCosine or FlooredCosine" and rate.ways == ("FlooredCosine(peak=...)",)


def test_a_tower_can_be_exchanged_for_one_of_another_family():
    experiment = load_experiment("finetune_tiny")
    [encoder] = [o for o in options_below(experiment) if o.path == "stage.classifier.encoder"]
    [way] = [way for way in encoder.ways if "VideoMaeSize(" in way]
    call = way.replace("...", "24").replace("heads=24", "heads=2")
    changed = apply_overrides(experiment, [f"stage.classifier.encoder={call}"])
    assert type(changed.stage.classifier.encoder).__name__ == "VideoMaeSize"


def test_options_below_a_value_that_is_none_are_those_of_its_default():
    experiment = apply_overrides(load_experiment("finetune_tiny"), ["stage.probe=none"])
    found = {o.path: o for o in options_below(experiment, "stage.probe")}
    assert found["stage.probe"].value == "none" and len(found) > 1
    below = [o for path, o in found.items() if path != "stage.probe"]
    assert all(o.started and "(if it is set)" in o.text() for o in below)


def test_the_command_lists_and_suggests_and_imports_no_jax(capsys):
    assert main(["train", "viclip_tiny", "--options", "stage.visio"]) == 2
    assert "no option 'stage.visio'; did you mean 'stage.vision" in capsys.readouterr().err
    # As for overrides: by what is meant, and nothing rather than letters that are alike by chance.
    assert main(["train", "viclip_tiny", "--options", "lr"]) == 2
    assert "no option 'lr'; did you mean 'schedule.peak'?" in capsys.readouterr().err
    assert main(["train", "viclip_tiny", "--options", "nonsense"]) == 2
    assert "no option 'nonsense'; --options alone lists all of them" in capsys.readouterr().err
    assert main(["train", "viclip_tiny", "schedule.peak=0.5", "--options", "schedule.peak"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "schedule.peak = 0.5"
    code = (
        "import sys; from ivjax.cli import main; main(['train', 'stage1_1b', '--options', 'stage']); "
        "sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_a_reader_that_has_seen_enough_ends_the_command_without_a_complaint():
    command = [sys.executable, "-m", "ivjax", "train", "stage1_1b", "--options"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    assert child.stderr.read() == b"" and child.wait() == 141
    child.stderr.close()


def test_a_meaning_spans_lines_and_comes_from_parents_too():
    @dataclasses.dataclass
    class Parent:
        """A parent.

        Attributes:
            first, other: what is
                first.
        """

        first: int
        other: int

    @dataclasses.dataclass
    class Child(Parent):
        """A child.

        Attributes:
            second: what follows.
        """

        second: float | None = None

    assert meanings_of(Child) == {
        "first": "what is first.",
        "other": "what is first.",
        "second": "what follows.",
    }
    assert kind_in_words(float | None) == "number or none"
    assert kind_in_words(tuple[int, ...]) == "tuple of integer"
    assert (
        kind_in_words(tuple[Count, Rate] | None)
        == "(integer at least 1, number at least 0 and below 1) or none"
    )
