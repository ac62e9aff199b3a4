"""The processes of a job watch each other: one that dies, one that stands still, and what is said of them."""

import jax
import pytest

from ivjax.train import watch as module
from ivjax.train.watch import PATIENCE_SECONDS, STALL_SECONDS, Watch, watched


class Store:
    """The store of a job's keys and values, as jax's client gives it."""

    def __init__(self):
        self.kept = {}

    def key_value_set(self, key, text, allow_overwrite):
        assert allow_overwrite
        self.kept[key] = text

    def key_value_try_get(self, key):
        if key not in self.kept:
            raise jax.errors.JaxRuntimeError("NOT_FOUND: no such key")
        return self.kept[key]

    def key_value_dir_get(self, folder):
        return [(key, text) for key, text in self.kept.items() if key.startswith(f"{folder}/")]


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def job(monkeypatch):
    """Three processes whose signs of life are given by hand, with the clock that they see."""
    monkeypatch.setattr(Watch, "_watch", lambda self: None)
    clock, store = Clock(), Store()
    monkeypatch.setattr(module, "time", clock)
    watches = [Watch(store, process, 3) for process in range(3)]
    for watch in watches:
        watch.where = lambda: (7, "step")
    return clock, watches


def pass_time(clock, watches, seconds, said=None):
    """Lets time pass, with signs of life of these processes; returns the sentences that end them."""
    found = [None] * len(watches)
    for _ in range(round(seconds / 5)):
        clock.now += 5
        found = [watch._beat() for watch in watches]
    return found


def test_the_others_say_who_is_gone(job):
    clock, watches = job
    assert pass_time(clock, watches, 30) == [None] * 3
    assert pass_time(clock, watches[:2], PATIENCE_SECONDS) == [None] * 2
    ends = pass_time(clock, watches[:2], 15)
    assert all("process 2 was last seen at step 7 (step)" in end for end in ends)
    # Within the time that the docs state.
    assert clock.now <= 30 + PATIENCE_SECONDS + 15


def test_a_process_that_is_done_is_not_missed(job):
    clock, watches = job
    pass_time(clock, watches, 30)
    watches[2].end()
    assert pass_time(clock, watches[:2], 10 * PATIENCE_SECONDS) == [None] * 2


def test_a_job_that_stands_still_says_who_is_behind(job):
    clock, watches = job
    watches[1].where = lambda: (6, "data wait")
    assert pass_time(clock, watches, STALL_SECONDS) == [None] * 3
    ends = pass_time(clock, watches, 10)
    assert all("process 1 was last seen at step 6 (data wait)" in end for end in ends)


def test_a_long_eval_of_one_process_is_no_standstill(job):
    clock, watches = job
    watches[1].where = lambda: (6, "eval")
    assert pass_time(clock, watches, 3 * STALL_SECONDS) == [None] * 3


def test_the_step_behind_a_long_eval_is_no_standstill(job):
    clock, watches = job
    for phase in ("step", "eval", "step"):
        for watch in watches:
            watch.where = lambda phase=phase: (7, phase)
        assert pass_time(clock, watches, STALL_SECONDS - 10) == [None] * 3
    assert all(pass_time(clock, watches, 20))


def test_slow_steps_are_no_standstill(job):
    clock, watches = job
    for step in (7, 8, 9):
        for watch in watches:
            watch.where = lambda step=step: (step, "step")
        assert pass_time(clock, watches, STALL_SECONDS - 10) == [None] * 3
    assert pass_time(clock, watches, 5 * STALL_SECONDS) == [None] * 3


def test_an_error_of_one_process_alone_stays_itself():
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"), watched(lambda: (3, "step")):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
