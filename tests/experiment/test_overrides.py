"""Overrides: what a path reaches, what a text may stand for, and what errors say."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from ivjax.data_pipelines.sampling import Dense
from ivjax.errors import UserError
from ivjax.evals.suites import Retrieval
from ivjax.experiment.files import load_experiment
from ivjax.experiment.listing import diff, leaves, show
from ivjax.experiment.overrides import apply_overrides, expand
from ivjax.experiment.schedules import FlooredCosine
from ivjax.models.internvideo2 import EncoderSize
from tests.train.micro import experiment


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
        ("plain={'video':2,'text':3}", Tree(plain={"video": 2.0, "text": 3.0})),
        ("maybe.rate=0.25", Tree(maybe=OtherLeaf(0.25))),
        ("maybe=OtherLeaf()", Tree(maybe=OtherLeaf())),
        ("never=Leaf(1)", Tree(never=Leaf(1))),
        ("either=OtherLeaf(rate=1)", Tree(either=OtherLeaf(1.0))),
    ],
)
def test_overrides_reach_into_tuples_mappings_and_optional_values(override, expected):
    assert apply_overrides(Tree(), [override]) == expected


def test_a_class_can_be_given_by_its_full_name():
    def override(suite: str) -> str:
        return f"evals=(EvalRun({suite}, 100, 'shards/x'),)"

    (planned,) = apply_overrides(experiment, [override("ivjax.evals.suites.Retrieval(clips=2)")]).evals
    assert planned.suite == Retrieval(clips=2) and planned.every == 100
    for wrong in (
        "ivjax.experiment.run_options.EvalLoss()",
        "ivjax.no.such.Suite()",
        "subprocess.Popen('x')",
    ):
        with pytest.raises(UserError, match="evals=.*expected a tuple like"):
            apply_overrides(experiment, [override(wrong)])


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
    with pytest.raises(UserError, match=r"or one of .*Dense\(frames=...\)") as caught:
        apply_overrides(given, ["data.fields.video.rule=Mask()"])
    for rule in ("Dense", "Intervals", "Ticks"):
        assert str(caught.value).count(f"{rule}(") == 1
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
        ("seed=-1", "seed=-1; it must be at least 0"),
        ("schedule.peak=nan", "schedule.peak=nan: expected a number, got 'nan'"),
        ("trains=x", r"expected a tuple like \(Trains, ...\)"),
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
    # Brackets inside quotes open nothing.
    assert list(expand(["name='a(',c)"])) == [("name='a('",), ("name=c)",)]
    assert list(expand([])) == [()]
