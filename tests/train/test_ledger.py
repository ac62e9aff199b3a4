"""The time ledger: every second has one place, and a kill turns seconds into lost work."""

import json

import pytest

from ivjax.errors import UserError
from ivjax.train import ledger as module
from ivjax.train.goodput import table, times_of
from ivjax.train.ledger import CATEGORIES, TimeLedger, read_times


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

        def time(self):
            return 1e9 + self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_every_second_is_booked_once(tmp_path, clock):
    ledger = TimeLedger(tmp_path)
    clock.now = 5.0
    ledger.enter("step")
    clock.now = 7.0
    with ledger.book("checkpoint"):
        clock.now = 7.5
    clock.now = 9.0
    totals = ledger.totals()
    assert (totals["compile"], totals["step"], totals["checkpoint"]) == (5.0, 3.5, 0.5)
    assert sum(totals.values()) == clock.now
    assert "step 3.5 s (39%)" in ledger.describe()


def test_what_a_kill_threw_away_is_lost_work(tmp_path, clock):
    killed = TimeLedger(tmp_path)
    clock.now = 2.0
    killed.enter("step")
    clock.now = 10.0
    killed.mark(100)
    clock.now = 13.0
    killed.write()
    clock.now = 50.0  # killed at 13, started again at 50
    again = TimeLedger(tmp_path)
    clock.now = 51.0
    again.restarted(100)
    again.enter("step")
    clock.now = 55.0
    totals = again.totals()
    assert totals["lost work"] == 3.0
    assert (totals["compile"], totals["step"]) == (3.0, 12.0)
    assert sum(totals.values()) == 13.0 + 5.0
    again.write()
    from_nothing = TimeLedger(tmp_path)
    from_nothing.restarted(0)
    assert from_nothing.totals()["lost work"] == 18.0


def test_the_table_sums_starts_processes_and_phases(tmp_path, clock):
    run, phase = tmp_path, tmp_path / "phases" / "1_short"
    phase.mkdir(parents=True)
    for folder, began in ((phase, 0.0), (run, 100.0)):
        for process, waited in ((0, 2.0), (1, 5.0)):
            clock.now = began
            ledger = TimeLedger(folder, process=process)
            clock.now += 1.0
            ledger.enter("data wait")
            clock.now += waited
            ledger.enter("step")
            clock.now = began + 20.0
            ledger.mark(10)
    clock.now = 140.0  # killed right after the mark, started again 20 s later
    again = TimeLedger(run)
    again.restarted(10)
    again.enter("step")
    clock.now = 160.0
    again.write()
    times = times_of(run)
    assert times.processes[0] == dict.fromkeys(CATEGORIES, 0.0) | {"compile": 2, "data wait": 4, "step": 54}
    assert times.processes[1]["data wait"] == 10
    assert (times.whole, times.between) == (160, 100)
    assert [start.step for start in times.starts] == [0, 0, 10]
    assert times.goodput == 54 / 160
    lines = table(times)
    assert lines[0].split() == ["seconds", "share", "mean", "of", "processes", "most"]
    waited = next(line for line in lines if line.startswith("data wait"))
    assert waited.split() == ["data", "wait", "4.0", "2.5%", "7.0", "10.0", "(process", "1)"]
    assert lines[-2].startswith("3 starts from 2001-09-09") and lines[-2].endswith("from step 0, 0, 10")
    assert lines[-1].startswith("goodput 33.8%")


def test_ledgers_of_older_versions_and_of_none(tmp_path):
    with pytest.raises(UserError, match="holds no ledger.json"):
        times_of(tmp_path)
    stored = {"totals": {"step": 3.0, "compile": 1.0}, "marks": {}}
    (tmp_path / "ledger.json").write_text(json.dumps(stored))
    assert table(times_of(tmp_path))[-1].startswith("goodput 75.0%")


@pytest.mark.parametrize("starts", [3, [[1.0]], [[None, 2.0, 3]], [[1.0, 2.0, float("inf")]]])
def test_damaged_starts_are_a_damaged_file(tmp_path, starts):
    (tmp_path / "ledger.json").write_text(json.dumps({"totals": {}, "marks": {}, "starts": starts}))
    with pytest.raises(ValueError):
        read_times(tmp_path / "ledger.json")
    with pytest.raises(UserError, match="cannot be read"):
        times_of(tmp_path)
    said: list[str] = []
    TimeLedger(tmp_path, said.append)
    assert "times start anew" in said[0]
