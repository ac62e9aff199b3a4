"""Workers: each request is done once, a dead one is replaced, a signal stops all."""

import os
import signal
import sys
import time

import pytest

from ivjax.sweep import pool as module
from ivjax.sweep.pool import Pool

# Answers like a worker; a request may make it die, or make it wait for a signal and report that it stopped.
_FAKE = """
import json, os, signal, sys, time
def stop(*_):
    print(json.dumps({"status": "stopped"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    open(request["log"], "a").write("allocating " + request["do"] + "\\n")
    if request["do"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if request["do"] == "wait":
        signal.signal(signal.SIGTERM, stop)
        open(request["log"], "a").write("waiting")
        signal.pause()
        continue
    print(json.dumps({"status": "done", "by": os.getpid()}), flush=True)
"""


@pytest.fixture
def work(monkeypatch, tmp_path):
    """Sends requests by name to a pool; gives (request, reply) of each, and whether the pool was stopped."""
    monkeypatch.setattr(module, "COMMAND", (sys.executable, "-c", _FAKE))

    def run(names, size, hears=lambda pool, name: None):
        replies = []
        requests = [{"do": name, "log": str(tmp_path / f"{n}.txt")} for n, name in enumerate(names)]
        with Pool(size).listening() as pool:

            def told(request, reply):
                replies.append((request["do"], reply))
                hears(pool, request["do"])

            pool.work(requests, told)
        return replies, pool.stopping

    return run


def test_a_worker_does_one_request_after_the_other_and_a_dead_one_is_replaced(work):
    replies, stopped = work(["a", "b", "die", "c"], 1)
    assert [name for name, _ in replies] == ["a", "b", "die", "c"] and not stopped
    (_, first), (_, second), (_, died), (_, last) = replies
    assert first["by"] == second["by"] != last["by"]
    assert died["status"] == "failed"
    assert "SIGKILL, which mostly means too little memory" in died["why"]
    assert died["why"].endswith("allocating die")


def test_several_workers_share_the_requests(work):
    replies, _ = work(list("abcdef"), 2)
    assert sorted(name for name, _ in replies) == list("abcdef")
    assert len({reply["by"] for _, reply in replies}) <= 2


def test_a_signal_lets_busy_workers_save_and_starts_no_new_run(work, tmp_path):
    waiting = tmp_path / "1.txt"

    def hears(pool, name):
        if name == "a":
            while not waiting.is_file() or not waiting.read_text().endswith("waiting"):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            while not pool.stopping:
                time.sleep(0.01)

    replies, stopped = work(["a", "wait", "b", "c"], 2, hears)
    assert stopped and dict(replies)["wait"] == {"status": "stopped"}
    assert not {"b", "c"} & dict(replies).keys()
