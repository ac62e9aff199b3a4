"""A part of what `python -m tests.faults` does: kills and damages at random moments and places."""

import random

import pytest

from tests.faults.damages import damage_runs
from tests.faults.full_disk import fill_disks
from tests.faults.kills import kill_build, kill_hosts, kill_sweep, kill_training

pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]


def test_kills_and_damages_leave_the_curves_as_they_are(tmp_path):
    rng = random.Random(0)
    kill_build(tmp_path, 2, rng)
    kill_training(tmp_path, 4, rng)
    kill_sweep(tmp_path, 1, rng)
    assert len(list(damage_runs(tmp_path, 1, rng))) > 10
    fill_disks(tmp_path, 1, rng)


def test_a_job_goes_on_by_itself_after_the_death_of_a_process(tmp_path):
    kill_hosts(tmp_path, 2, 2, random.Random(1))
