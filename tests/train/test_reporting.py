"""The log lines of a run: how long it still takes, and rates that mean something."""

import re

from ivjax.experiment.run_folder import read_metrics
from ivjax.train.metrics import console_line
from ivjax.train.reporting import seconds_left
from tests.train.micro import run


def test_log_lines_say_the_time_left_until_the_last_one_and_no_mfu_of_unknown_devices(tmp_path):
    said: list[str] = []
    run(tmp_path, "steps=4", said=said)
    lines = [line for line in said if re.match(r"step \d/4  loss ", line)]
    assert len(lines) == 4
    assert [bool(re.search(r"  (\d+ s|[\d:]+ min) left$", line)) for line in lines] == [True] * 3 + [False]
    assert sum("MFU" in line for line in said) == 1
    assert all("MFU" not in line and line["clips/s"] > 0 for line in read_metrics(tmp_path))


def test_the_time_left_goes_by_the_pace_so_far():
    assert seconds_left(30.0, done=10, left=90) == 270.0
    assert seconds_left(30.0, 10, 0) is None and seconds_left(30.0, 10, -5) is None


def test_a_log_line_reads_well():
    values = {"loss": 1.23456, "skipped": 0}
    assert console_line(20, 300, values, 125.0) == "step 20/300  loss 1.235  skipped 0  2:05 min left"
    assert console_line(300, 300, values) == "step 300/300  loss 1.235  skipped 0"
