"""The config: overrides, sweeps, the printed text, and the golden text of every shipped config.

After a deliberate change of a default, write the golden texts anew:
    python -c "from tests.test_config import write_texts; write_texts()"
"""

from pathlib import Path

import pytest

from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment, shipped_configs
from ivjax.experiment.listing import diff, leaves, resolved_text, show
from ivjax.experiment.overrides import apply_overrides, expand
from ivjax.models.internvideo2.encoder import EncoderSize
from tests.train.micro import experiment

TEXTS = Path(__file__).parent / "configs"


def write_texts() -> None:
    for name in shipped_configs():
        (TEXTS / f"{name}.txt").write_text(resolved_text(load_experiment(name)))


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_resolved_text_of_shipped_configs(name):
    assert resolved_text(load_experiment(name)) == (TEXTS / f"{name}.txt").read_text()


def test_every_value_can_be_fed_back_as_an_override():
    overrides = [f"{p}={show(v)}" for p, v in leaves(experiment).items() if not isinstance(v, type)]
    assert len(overrides) > 40
    assert apply_overrides(experiment, overrides) == experiment


@pytest.mark.parametrize(
    "override, path, value",
    [
        ("steps=7", "steps", 7),
        ("optimizer.decay=1e-3", "optimizer.decay", 1e-3),
        ("optimizer.betas=(0.8,0.9)", "optimizer.betas", (0.8, 0.9)),
        ("stage.student.image=(28,42)", "stage.student.image", (28, 42)),
        ("scan_layers=false", "scan_layers", False),
        ("remat=offload", "remat", "offload"),
        ("ema=none", "ema", None),
        ("ema=0.5", "ema", 0.5),
        ("stage.mae=none", "stage.mae", None),
    ],
)
def test_an_override_sets_its_value_and_nothing_else(override, path, value):
    changed = apply_overrides(experiment, [override])
    assert leaves(changed)[path] == value
    different = {line.split(":")[0] for line in diff(leaves(experiment), leaves(changed))}
    assert all(name == path or name.startswith(f"{path}.") for name in different)


def test_a_preset_replaces_a_whole_part():
    assert apply_overrides(experiment, ["stage.student=6B"]).stage.student == EncoderSize.PRESETS["6B"]


@pytest.mark.parametrize(
    "override, message",
    [
        ("optimzer.decay=1", "no 'optimzer.decay'; did you mean 'optimizer.decay'"),
        ("optimizer.decay.x=1", "no 'optimizer.decay.x'; did you mean 'optimizer.decay'"),
        ("stage.student.widht=1", "did you mean 'stage.student.width'"),
        ("steps=3.5", "steps=3.5: expected an integer, got '3.5'"),
        ("optimizer.decay=much", "expected a number"),
        ("scan_layers=1", "expected true or false"),
        ("remat=all", "expected one of none, dots, full, offload"),
        ("optimizer.betas=(0.9,)", "expected a tuple like"),
        ("optimizer.betas=0.9,0.95", r"lists 2 values where one is wanted; .* optimizer.betas=\(0.9,0.95\)"),
        ("stage=other", "expected an override of one of its fields"),
        ("stage.student=9B", "expected one of the presets S14, B14, L14, 1B, 6B"),
        ("ema=", "expected a number"),
        ("steps", "is not an override; write path=value"),
    ],
)
def test_a_bad_override_says_what_was_expected(override, message):
    with pytest.raises(UserError, match=message):
        apply_overrides(experiment, [override])


def test_comma_lists_make_all_combinations():
    assert list(expand(["a=1,2", "b=x", "c=(1,2),[3,4]"])) == [
        (f"a={a}", "b=x", f"c={c}") for a in (1, 2) for c in ("(1,2)", "[3,4]")
    ]
    assert list(expand(["name='a,b',c"])) == [("name='a,b'",), ("name=c",)]
    assert list(expand([])) == [()]


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
