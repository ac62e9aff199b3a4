"""The config: overrides, sweeps, the printed text, and the golden text of every shipped config.

After a deliberate change of a default, write the golden texts anew:
    python -c "from tests.test_config import write_texts; write_texts()"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ivjax.data_pipelines.load.mixture import Media, Mixture
from ivjax.data_pipelines.sampling import Dense
from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment, shipped_configs, variants_of
from ivjax.experiment.listing import diff, leaves, resolved_text, show
from ivjax.experiment.options import Checkpointing, Phase, Trains
from ivjax.experiment.overrides import apply_overrides, expand
from ivjax.experiment.schedules import FlooredCosine
from ivjax.models.internvideo2.encoder import EncoderSize
from tests.train.micro import experiment

TEXTS = Path(__file__).parent / "configs"


def write_texts() -> None:
    for old in TEXTS.glob("*.txt"):
        old.unlink()
    for name in shipped_configs():
        for file, text in texts_of(name).items():
            (TEXTS / file).write_text(text)


def texts_of(name: str) -> dict[str, str]:
    """The golden texts of a config: its own experiment whole, each variant as its difference from it."""
    whole = load_experiment(name)
    texts = {f"{name}.txt": resolved_text(whole)}
    variants = [
        "\n  ".join([variant, *diff(leaves(whole), leaves(load_experiment(f"{name}:{variant}")))])
        for variant in variants_of(name)
    ]
    return texts | ({f"{name}.variants.txt": "\n".join([*variants, ""])} if variants else {})


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_resolved_texts_of_shipped_configs_and_their_variants(name):
    texts = texts_of(name)
    assert {file.name for file in TEXTS.glob(f"{name}.*")} == set(texts)
    for file, text in texts.items():
        assert text == (TEXTS / file).read_text(), file


@pytest.mark.parametrize("name", ["micro", "stage1_tiny", "viclip_tiny", "finetune_6b_k400"])
def test_every_value_can_be_fed_back_as_an_override(name):
    given = experiment if name == "micro" else load_experiment(name)
    overrides = [f"{p}={show(v)}" for p, v in leaves(given).items() if not isinstance(v, type)]
    assert len(overrides) > 40
    assert apply_overrides(given, overrides) == given


@pytest.mark.parametrize(
    "override, path, value",
    [
        ("steps=7", "steps", 7),
        ("optimizer.decay=1e-3", "optimizer.decay", 1e-3),
        ("optimizer.betas=(0.8,0.9)", "optimizer.betas", (0.8, 0.9)),
        ("optimizer.betas.1=0.9", "optimizer.betas", (0.9, 0.9)),
        ("stage.student.image=(28,42)", "stage.student.image", (28, 42)),
        ("scan_layers=false", "scan_layers", False),
        ("remat=offload", "remat", "offload"),
        ("ema=none", "ema", None),
        ("ema=0.5", "ema", 0.5),
        ("stage.mae=none", "stage.mae", None),
        ("init_from=('a','x=b#c')", "init_from", ("a", "x=b#c")),
    ],
)
def test_an_override_sets_its_value_and_nothing_else(override, path, value):
    changed = apply_overrides(experiment, [override])
    assert leaves(changed)[path] == value
    different = {line.split(":")[0] for line in diff(leaves(experiment), leaves(changed))}
    assert all(name == path or name.startswith(f"{path}.") for name in different)


def test_a_preset_replaces_a_whole_part():
    assert apply_overrides(experiment, ["stage.student=6B"]).stage.student == EncoderSize.PRESETS["6B"]


@dataclass(frozen=True)
class Leaf:
    size: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class OtherLeaf:
    rate: float = 0.5


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...] = (Leaf(1), Leaf(2))
    pair: tuple[Leaf, OtherLeaf] = (Leaf(3), OtherLeaf())
    by_name: Mapping[str, Leaf] = field(default_factory=lambda: {"video": Leaf(4), "text": Leaf(5)})
    maybe: OtherLeaf | None = None
    never: Leaf | None = None
    either: Leaf | OtherLeaf = Leaf(6)
    plain: Mapping[str, float] = field(default_factory=lambda: {"video": 1.0})


@pytest.mark.parametrize(
    "override, expected",
    [
        ("leaves.1.size=7", Tree(leaves=(Leaf(1), Leaf(7)))),
        ("leaves.0.names=('a',)", Tree(leaves=(Leaf(1, ("a",)), Leaf(2)))),
        ("leaves=(Leaf(9),Leaf(size=8,names=('x','y')))", Tree(leaves=(Leaf(9), Leaf(8, ("x", "y"))))),
        ("leaves=()", Tree(leaves=())),
        ("pair.1.rate=0.1", Tree(pair=(Leaf(3), OtherLeaf(0.1)))),
        ("by_name.text.size=7", Tree(by_name={"video": Leaf(4), "text": Leaf(7)})),
        ("by_name.text=Leaf(7)", Tree(by_name={"video": Leaf(4), "text": Leaf(7)})),
        ("plain.video=2", Tree(plain={"video": 2.0})),
        ("maybe.rate=0.25", Tree(maybe=OtherLeaf(0.25))),
        ("maybe=OtherLeaf()", Tree(maybe=OtherLeaf())),
        ("never=Leaf(1)", Tree(never=Leaf(1))),
        ("either=OtherLeaf(rate=1)", Tree(either=OtherLeaf(1.0))),
    ],
)
def test_overrides_reach_into_tuples_mappings_and_optional_values(override, expected):
    assert apply_overrides(Tree(), [override]) == expected


def test_leaves_and_their_difference_go_into_tuples_and_mappings():
    found = leaves(Tree())
    assert found["leaves.1"] is Leaf and found["leaves.1.size"] == 2 and found["by_name.text.names"] == ()
    changed = apply_overrides(Tree(), ["by_name.video.size=0", "leaves=(Leaf(1),)"])
    assert diff(found, leaves(changed)) == [
        "by_name.video.size: 4 -> 0",
        "leaves.1: Leaf -> (absent)",
        "leaves.1.size: 2 -> (absent)",
        "leaves.1.names: () -> (absent)",
    ]


def test_a_protocol_takes_the_classes_beside_the_present_value():
    given = load_experiment("finetune_1b_ssv2")
    changed = apply_overrides(given, ["data.fields.video.rule=Dense(frames=16)"])
    assert changed.data.fields["video"].rule == Dense(16)
    with pytest.raises(UserError, match=r"or one of .*Dense\(frames=...\)"):
        apply_overrides(given, ["data.fields.video.rule=Mask()"])
    given = load_experiment("stage1_tiny")
    assert apply_overrides(given, ["stage.mask=Mask(kind='tube')"]).stage.mask.kind == "tube"
    assert apply_overrides(given, ["schedule=FlooredCosine(1e-3,warmup=5)"]).schedule == FlooredCosine(
        1e-3, warmup=5
    )


@pytest.mark.parametrize(
    "override, message",
    [
        ("leaves.2.size=1", "no 'leaves.2.size'; did you mean 'leaves"),
        ("leaves.size=1", "no 'leaves.size'; did you mean 'leaves"),
        ("by_name.txt.size=1", "no 'by_name.txt.size'; did you mean 'by_name.text.size'"),
        ("never.size=1", r"cannot be set because never is none; set it first, to Leaf\(size=...\)"),
        ("maybe.rote=1", "no 'maybe.rote'; did you mean 'maybe"),
        (
            "leaves.0=3",
            r"leaves.0=3: expected an override of one of its fields \(size, names\) or .* Leaf",
        ),
        ("leaves=(Leaf(),)", "expected a tuple like"),
        ("leaves=(3,)", "expected a tuple like"),
        ("either=Tree()", "expected .*OtherLeaf"),
    ],
)
def test_a_bad_path_below_a_tuple_or_a_mapping_is_explained(override, message):
    with pytest.raises(UserError, match=message):
        apply_overrides(Tree(), [override])


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


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_the_stage_of_every_variant_takes_what_its_data_gives(name):
    for variant in ["", *(f":{variant}" for variant in variants_of(name))]:
        found = load_experiment(name + variant)
        objective = found.stage.build(found.compute)
        mixtures = found.data.mixtures if isinstance(found.data, Media) else {"video": found.data}
        for medium, mixture in mixtures.items():
            if isinstance(mixture, Mixture):
                rows = objective.media[medium].batch
                assert rows["video"].shape[0] == mixture.fields["video"].rule.frames, variant
                assert "targets" not in rows or rows["targets"].shape == (mixture.mix.classes,), variant


@pytest.mark.parametrize("name", ["viclip_b16:two_phases", "viclip_l14:two_phases"])
def test_changes_of_phases_are_overrides_of_the_experiment(name):
    found = load_experiment(name)
    assert len(found.phases) == 2
    for phase in found.phases:
        assert apply_overrides(found, phase.changes).stage.mask == (0.0 if phase.changes else 0.9)


CONFIG = """
from dataclasses import replace
from tests.train.micro import experiment

experiment = replace(experiment, follows_batch={follows})
variants = {{
    "long": ("steps=400", "schedule.warmup=40"),
    "wide": ("stage.student.width=64", "schedule.peak=1e-3"),
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
    assert list(variants_of(config)) == ["long", "wide"]


@pytest.mark.parametrize("name", ["lang", "long+lang", ""])
def test_an_unknown_variant_names_the_known_ones(config, name):
    with pytest.raises(UserError, match=f"no variant '{name[-4:]}' .its variants are long, wide"):
        load_experiment(f"{config}:{name}")


def test_variants_of_a_config_without_any(tmp_path):
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


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trains": (("", 1.0),)}, "a pattern is empty"),
        ({"trains": (("vision", -1.0),)}, "has rate=-1.0; it must be 0 .frozen. or more"),
        ({"phases": (("a/b", 1),)}, "'a/b' is no name for a folder"),
        ({"phases": (("a", 0),)}, "has steps=0; it must be at least 1"),
        ({"phases": (("a", 1, ("steps=3",)),)}, "changes 'steps=3'; write path=value, but not for steps"),
        ({"phases": (("a", 1), ("a", 2))}, "'a' is the name of 2 phases"),
        ({"checkpoint": Checkpointing}, "checkpoint.best names no metric"),
    ],
)
def test_new_options_are_checked(changes, message):
    kinds = {"trains": Trains, "phases": Phase}
    with pytest.raises(UserError, match=message):
        for name, values in changes.items():
            if values is Checkpointing:
                Checkpointing(best="-")
            replace(experiment, **{name: tuple(kinds[name](*value) for value in values)})


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
