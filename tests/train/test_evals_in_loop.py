"""Evals between the steps: when they run, what they log, and which checkpoint is kept as the best."""

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
import pytest

from ivjax.convert.formats.orbax_files import restore_params
from ivjax.convert.loading import load
from ivjax.errors import UserError
from ivjax.experiment.run_options import Checkpointing, EvalLoss, EvalRun
from ivjax.ops.trees import paths_of
from ivjax.train.loop import train
from tests.train import line


@dataclass(frozen=True)
class NormOfParameters:
    """A suite whose score rises and falls: the distance of the parameters' norm from `target`."""

    name: ClassVar[str] = "norm"
    METRICS: ClassVar[tuple[str, ...]] = ()
    scale: float = 1.0

    def check(self, experiment, data):
        """Finds nothing wrong."""

    def run(self, experiment, params, data, mesh, say):
        """Returns metrics as eval suites do."""
        assert data == "somewhere" and mesh.size == 1
        total = sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(params))
        return {"square": self.scale * total, "zigzag": float(np.sin(1e4 * total))}


@dataclass(frozen=True)
class Known(NormOfParameters):
    """The same, which says beforehand what it logs."""

    METRICS: ClassVar[tuple[str, ...]] = ("square", "zigzag")


@dataclass(frozen=True)
class Unreadable(NormOfParameters):
    """A suite whose clips have gone since the start."""

    name: ClassVar[str] = "unreadable"

    def run(self, experiment, params, data, mesh, say):
        """Fails as eval suites do."""
        raise UserError("3 of 9 clips cannot be scored")


EXPERIMENT = dataclasses.replace(
    line.experiment,
    steps=9,
    checkpoint=Checkpointing(every=5, keep_last=1, best="norm/zigzag"),
    eval_loss=EvalLoss(every=4, batches=2),
    evals=(EvalRun(NormOfParameters(), 2, "somewhere"),),
)


def run(folder, experiment=EXPERIMENT):
    said: list[str] = []
    assert train(experiment, folder, said.append, jax.devices()[:1]) == 0
    return said


def metric(folder, name):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}


def best(folder):
    return json.loads((folder / "best" / "best.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    seldom = EvalRun(NormOfParameters(), 1000, "somewhere", name="seldom")
    evals = (*EXPERIMENT.evals, EvalRun(Unreadable(), 4, "somewhere"), seldom)
    said = run(folder, dataclasses.replace(EXPERIMENT, evals=evals))
    (folder / "said.txt").write_text("\n".join(said))
    return folder


def test_evals_run_at_their_steps_and_at_the_end(whole):
    assert list(metric(whole, "norm/square")) == [2, 4, 6, 8, 9]
    assert list(metric(whole, "eval/loss")) == [4, 8, 9]
    assert list(metric(whole, "seldom/square")) == [9]  # although its `every` was never reached


def test_an_eval_that_fails_is_said_and_ends_no_training(whole):
    said = [line for line in (whole / "said.txt").read_text().splitlines() if "unreadable" in line]
    reason = "training goes on: 3 of 9 clips cannot be scored"
    assert said == [f"unreadable failed after step {step}, {reason}" for step in (4, 8, 9)]
    assert "unreadable" not in (whole / "metrics.jsonl").read_text()


def test_the_best_checkpoint_outlives_the_rotation_and_can_be_loaded(whole):
    values = metric(whole, "norm/zigzag")
    step = max(values, key=values.get)
    assert best(whole) == {"metric": "norm/zigzag", "value": values[step], "step": step}
    assert [place.name for place in (whole / "best" / "checkpoints").iterdir()] == [str(step)]
    params = load(whole / "best").params
    total = sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(params))
    assert total == pytest.approx(metric(whole, "norm/square")[step], rel=1e-6)


@pytest.mark.slow
def test_the_lowest_value_is_the_best_with_a_minus(tmp_path):
    lowest = dataclasses.replace(EXPERIMENT, checkpoint=Checkpointing(every=5, best="-norm/zigzag"), ema=0.5)
    run(tmp_path, lowest)
    values = metric(tmp_path, "norm/zigzag")
    assert best(tmp_path)["value"] == min(values.values())
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params, ema = (restore_params(tmp_path / "best", here, average) for average in (False, True))
    assert any(np.any(leaf != dict(paths_of(params))[path]) for path, leaf in paths_of(ema))


@pytest.mark.parametrize("killed_after", ["the best was saved", "the checkpoint was saved"])
def test_killed_and_continued_gives_the_same_curve_and_the_same_best(
    tmp_path, whole, monkeypatch, killed_after
):
    """Killed at step 8, after which the checkpoint of step 5 is the newest, or of step 8 itself."""

    class KilledError(Exception):
        pass

    def kill(session, last):
        evaluate(session, last)
        if session.step == 8:
            if killed_after == "the checkpoint was saved":
                session.checkpoints.save(8, session.state, session.position, session.meta())
            raise KilledError

    from ivjax.train.evaluation import evaluate

    with monkeypatch.context() as patched:
        patched.setattr("ivjax.train.loop.evaluate", kill)
        with pytest.raises(KilledError):
            run(tmp_path)
    said = run(tmp_path)
    assert any("continuing from step" in line for line in said)
    for name in ("norm/square", "norm/zigzag", "eval/loss", "loss"):
        assert metric(tmp_path, name) == metric(whole, name), name
    assert best(tmp_path) == best(whole)


def test_a_best_metric_that_an_eval_turns_out_not_to_log_ends_no_training(tmp_path):
    wanted = Checkpointing(every=5, best="norm/zigzg")
    said = run(tmp_path, dataclasses.replace(EXPERIMENT, checkpoint=wanted))
    lines = [line for line in said if line.startswith("no best checkpoint")]
    assert len(lines) == 5 and not (tmp_path / "best").exists()
    assert lines[0].startswith("no best checkpoint after step 2: checkpoint.best=norm/zigzg is not among ")
    assert lines[0].endswith("did you mean 'norm/zigzag'?")


def test_a_best_metric_that_nothing_logs_is_refused(tmp_path):
    def with_best(name, **options):
        return dataclasses.replace(EXPERIMENT, checkpoint=Checkpointing(best=name), **options)

    with pytest.raises(UserError, match=r"best=probe/top1 is logged by no eval .* logs norm/..., eval/..."):
        run(tmp_path, with_best("probe/top1"))
    known = (EvalRun(Known(), 2, "somewhere"),)
    with pytest.raises(UserError, match="norm/zigzg: the eval norm logs no 'zigzg'; did you mean 'zigzag'"):
        run(tmp_path, with_best("norm/zigzg", evals=known))
    with pytest.raises(UserError, match="best=-eval/fast: .* logs no 'fast'; it logs loss, squared"):
        run(tmp_path, with_best("-eval/fast"))
    twice = (EvalRun(NormOfParameters(), 2, "somewhere"), EvalRun(NormOfParameters(2.0), 2, "somewhere"))
    with pytest.raises(UserError, match="'norm' is the name of several evals; give each a name"):
        run(tmp_path, with_best("norm/zigzag", evals=twice))
