"""Suites on the devices of a mesh and on several processes: the numbers of one device."""

import dataclasses
import json
import threading
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from ivjax.convert.loading import load
from ivjax.errors import UserError
from ivjax.evals import compiled
from ivjax.evals.hosts import Hosts
from ivjax.evals.items import EvalData
from ivjax.evals.pair_model import open_pairs
from ivjax.evals.running import run_on_model
from ivjax.evals.suites import LinearProbe, Retrieval, ViewClassification
from ivjax.evals.vectors import Setting, _vectors
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.run_options import EvalRun
from ivjax.stages.cross_modal import LossWeights
from ivjax.train.checks import check_evals
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import shardings_of
from tests.evals.fakes import ColourEncoder
from tests.evals.small_run import CLIPS, save_small_run, small_experiment, write_test_set
from tests.evals.stage2_model import STAGE
from tests.train import micro
from tests.train.processes import finish, start

EIGHT = MeshShape(data=2, fsdp=2, tensor=2)


def quiet(line):
    pass


def one_device() -> Mesh:
    return build_mesh(MeshShape(), jax.devices()[:1])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run folder, its experiment, its parameters and a test set with a record that cannot be read."""
    folder = tmp_path_factory.mktemp("small")
    corpus = write_test_set(folder / "corpus", broken=True)
    experiment = save_small_run(folder / "run", corpus)
    return folder / "run", experiment, load(folder / "run").params, str(corpus)


@pytest.fixture(scope="module")
def alone(small):
    """The metrics of one device."""
    _, experiment, params, corpus = small
    return Retrieval(batch=4, broken=0.1).run(experiment, params, corpus, one_device(), quiet)


@pytest.mark.slow
def test_vectors_on_eight_devices_are_those_of_one(small):
    folder, experiment, *_ = small
    assert load(folder).tokenizer == experiment.data.fields["text"].tokenizer
    clips = np.random.default_rng(0).integers(0, 256, (5, 4, 14, 14, 3), np.uint8)
    texts = [f"clip {number}" for number in range(11)]
    one, eight = (open_pairs(str(folder), batch=4, mesh=m) for m in (one_device(), build_mesh(EIGHT)))
    np.testing.assert_allclose(eight.video(clips), one.video(clips), atol=1e-5)
    np.testing.assert_allclose(eight.text(texts), one.text(texts), atol=1e-5)
    np.testing.assert_allclose(eight.tokens(clips), one.tokens(clips), atol=1e-4)
    kernel = eight._params["vision"]["blocks"]["mlp"]["fc1"]["kernel"]
    assert kernel.size == 2 * kernel.addressable_shards[0].data.size  # spread over fsdp


def test_sharded_parameters_stay_where_they_are_and_give_the_metrics_of_one_device(small, alone):
    _, experiment, params, corpus = small
    mesh = build_mesh(EIGHT)
    rules = experiment.stage.build(experiment.compute).rules
    sharded = jax.device_put(params, shardings_of(params, mesh, rules))
    kept = compiled.placed(sharded, mesh)
    assert all(a is b for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(sharded), strict=True))
    found = Retrieval(batch=4, broken=0.1).run(experiment, sharded, corpus, mesh, quiet)
    assert found == alone and found["t2v_meanr"] > 1


def test_evals_between_steps_compile_once_leave_no_threads_and_repeat_to_the_digit(small, alone, caplog):
    _, experiment, params, corpus = small
    before = set(threading.enumerate())
    suite = Retrieval(batch=4, broken=0.1)
    later = jax.tree.map(lambda leaf: leaf * 1.5, params)
    with jax.log_compiles():
        assert suite.run(experiment, later, corpus, one_device(), quiet) != alone
        assert suite.run(experiment, params, corpus, one_device(), quiet) == alone
    assert not [line for line in caplog.messages if "Compiling" in line]
    assert set(threading.enumerate()) <= before


def test_an_eval_that_fails_leaves_no_threads(small):
    _, experiment, params, corpus = small
    before = set(threading.enumerate())
    with pytest.raises(UserError, match="1 of 14 clips cannot be scored"):
        Retrieval(batch=4).run(experiment, params, corpus, one_device(), quiet)
    broken = jax.tree.map(lambda leaf: leaf * np.nan, params)
    with pytest.raises(UserError, match="vectors of clips are not finite") as caught:
        Retrieval(batch=4, broken=0.1).run(experiment, broken, corpus, one_device(), quiet)
    assert caught.traceback and set(threading.enumerate()) <= before


def test_a_stage_that_cannot_give_what_a_suite_reads_is_refused_by_name(small):
    _, experiment, params, corpus = small
    with pytest.raises(UserError, match="DualEncoder holds a .*, which has no classes; give a classifier"):
        ViewClassification().run(experiment, params, corpus, one_device(), quiet)


def test_an_eval_that_cannot_run_is_an_error_before_the_first_step(small, tmp_path):
    _, experiment, _, corpus = small
    for suite, data, reason in (
        (
            ViewClassification(),
            corpus,
            "evals: classify: DualEncoder holds a DualTower, which has no",
        ),
        (LinearProbe(train=str(tmp_path)), corpus, "evals: probe: .*holds no videos and no images"),
        (LinearProbe(train=corpus, branch="text"), corpus, "evals: probe: DualEncoder has no encoder #text"),
        (Retrieval(), str(tmp_path / "gone"), "evals: retrieval: .*gone does not exist"),
    ):
        planned = dataclasses.replace(experiment, evals=(EvalRun(suite, every=1, data=data),))
        with pytest.raises(UserError, match=reason):
            check_evals(planned)
    LinearProbe(train=corpus).check(experiment, corpus)


def test_shares_of_the_hosts_are_disjoint_and_whole():
    drawn = iter(range(10))
    assert list(Hosts(1, 4).share(drawn)) == [1, 5, 9] and list(drawn) == []
    shares = [list(Hosts(index, 3).share(range(10))) for index in range(3)]
    assert sorted(sum(shares, [])) == list(range(10))


class OfTwo(Hosts):
    """The first of two hosts; `others` are the states of the second, one for each round."""

    others: list
    sent: list

    def gather(self, value):
        """Returns the value of this host and that of the other."""
        self.sent.append(value)
        return [value, self.others.pop(0)]


def first_of_two(*others):
    host = OfTwo(0, 2)
    for name, value in (("others", list(others)), ("sent", [])):
        object.__setattr__(host, name, value)
    return host


def test_all_hosts_go_on_until_none_has_clips_and_hear_of_a_failure():
    host = first_of_two((True, True), (True, True), (False, True))
    assert list(host.in_step(iter([[1, 2]]))) == [[1, 2], []]
    with pytest.raises(UserError, match="another process of this job failed at its clips"):
        list(first_of_two((True, False)).in_step(iter([[1]])))
    host = first_of_two((True, True))
    with pytest.raises(ZeroDivisionError):
        list(host.in_step(1 / 0 for _ in "x"))
    assert host.others == [] and host.sent == [(False, False)]


def test_all_hosts_hear_of_a_test_set_that_one_of_them_lacks(small, tmp_path):
    _, _, _, corpus = small
    for data, other, words in ((corpus, "b is gone", "^b is gone$"), (str(tmp_path / "a"), "", "a does not")):
        model = SimpleNamespace(hosts=first_of_two(other))
        with pytest.raises(UserError, match=words):
            run_on_model(Retrieval(), model, EvalData(data), "w", quiet)
        assert [bool(problem) for problem in model.hosts.sent] == [not other]


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_other_hosts_hear_of_vectors_that_are_not_finite(clips):
    class Broken(ColourEncoder):
        def video(self, clips):
            """Returns vectors that are not finite."""
            return super().video(clips) * np.nan

    host = first_of_two((True, True), (True, True))
    frames = iter(np.zeros((clips, 4, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match="vectors of clips are not finite; the weights are broken"):
        list(_vectors(Setting(Broken(), EvalData("x"), batch=2, hosts=host), frames))
    assert host.sent == [(True, True), (False, False)]


def evaluated(processes, out, folder, corpus, *options):
    """What `ivjax eval` of retrieval prints in so many processes; it writes `out`."""
    job = ("launch", "local", "--processes", str(processes), "--devices", "1", "eval", str(folder))
    suite = ("--suite", "retrieval", "--data", str(corpus), "--batch", "4", "--out", str(out))
    return finish(start(*job, *suite, *options))


@pytest.mark.multiprocess
@pytest.mark.slow
def test_two_processes_give_the_result_of_one_and_write_it_once(small, alone, tmp_path):
    folder, _, _, corpus = small
    out = tmp_path / "two.json"
    printed = evaluated(2, out, folder, corpus, "--broken", "0.1", "--fsdp", "2", "--json")
    result = json.loads(out.read_text())
    assert result["metrics"] == alone and result["protocol"]["videos"] == CLIPS
    assert result["broken"]["count"] == 1 and printed.count('"metrics"') == 1


@pytest.mark.multiprocess
@pytest.mark.slow
def test_two_processes_rerank_as_one_does(tmp_path):
    corpus = write_test_set(tmp_path / "corpus")
    experiment = small_experiment(tmp_path / "run", corpus)
    text = dataclasses.replace(STAGE.text, context=8, places=8, vocabulary=20, seen=16)
    seen = dataclasses.replace(STAGE, text=text, audio=None, joint_width=None, weights=LossWeights())
    # Wider parameters saturate the attention, which blows rounding up until it changes the order.
    micro.saved(tmp_path / "run", dataclasses.replace(experiment, stage=seen), scale=0.5)
    metrics = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        evaluated(processes, out, tmp_path / "run", corpus, "--rerank", "5", "--fsdp", str(processes))
        metrics.append(json.loads(out.read_text())["metrics"])
    assert metrics[0] == metrics[1]
    assert metrics[0]["t2v_rerank_meanr"] != metrics[0]["t2v_meanr"]
