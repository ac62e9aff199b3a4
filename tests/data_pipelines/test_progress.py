"""Progress: a bar with rate and time left on a terminal, lines in a log."""

import io
import threading

import pytest

from ivjax.progress import Progress, duration


class Clock:
    """Time that stands still until it is told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_a_log_gets_a_line_every_ten_seconds_with_rate_and_time_left():
    clock, lines, stream = Clock(), [], io.StringIO()
    with Progress(100, "clips", lines.append, stream, clock=clock) as progress:
        for _ in range(25):
            clock.now += 1
            progress.advance(2)
    assert lines == [
        "20 of 100 clips (20%), 2.0 clips/s, 40 s left",
        "40 of 100 clips (40%), 2.0 clips/s, 30 s left",
        "50 of 100 clips (50%), 2.0 clips/s, 25 s left",
    ]
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_that_ends_complete():
    clock, lines, stream = Clock(), [], Terminal()
    with Progress(8, "rows", lines.append, stream, clock=clock) as progress:
        for _ in range(8):
            clock.now += 0.5
            progress.advance()
    drawn = stream.getvalue().split("\r")
    assert "[###....................." in drawn[1] and "1 of 8 rows (12%), 2.0 rows/s, 4 s left" in drawn[1]
    assert drawn[-1].endswith("8 of 8 rows (100%), 2.0 rows/s, 4 s\n")
    assert "#" * 24 + "]" in drawn[-1] and lines == []


def test_what_an_earlier_run_did_counts_as_done_and_not_as_speed():
    clock = Clock()
    progress = Progress(100, "clips", stream=io.StringIO(), done=60, clock=clock)
    clock.now += 5
    progress.advance(10)
    assert progress.text() == "70 of 100 clips (70%), 2.0 clips/s, 15 s left"


def test_without_a_total_the_time_spent_is_told():
    clock = Clock()
    progress = Progress(None, "rows", stream=io.StringIO(), clock=clock)
    clock.now += 4
    progress.advance(12_000)
    assert progress.text() == "12,000 rows, 3,000.0 rows/s, 4 s"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 of 6 runs (0%)"),
        (30.0, "1 of 6 runs (17%), 2.0 runs/min, 2:30 min left"),
        (3600.0, "1 of 6 runs (17%), 1.0 runs/h, 5:00:00 h left"),
        (36000.0, "1 of 6 runs (17%), 0.1 runs/h, 50:00:00 h left"),
        (1.25, "1 of 6 runs (17%), 0.8 runs/s, 6 s left"),
    ],
)
def test_slow_work_has_its_rate_by_the_minute_or_hour_and_none_before_its_first_unit(seconds, said):
    clock = Clock()
    progress = Progress(6, "runs", lambda _: None, io.StringIO(), clock=clock)
    clock.now += seconds or 5.0
    if seconds:
        progress.advance()
    assert progress.text() == said


def test_threads_may_advance_at_once():
    progress = Progress(4000, "clips", lambda _: None, io.StringIO())
    threads = [threading.Thread(target=lambda: [progress.advance() for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.done == 4000


def test_durations_read_easily():
    assert [duration(s) for s in (0.4, 59.4, 185, 7384)] == ["0 s", "59 s", "3:05 min", "2:03:04 h"]
