"""The time ledger: every second has one place, and a kill turns seconds into lost work."""

import pytest

from ivjax.train import ledger as module
from ivjax.train.ledger import TimeLedger


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

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
