"""Processes of a job on one machine: one that dies, one that fails, a parent that is killed."""

import os
import signal
import socket
import subprocess
import sys
import time

from ivjax.launch.local import _wait

_SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]


def gone(pid):
    """Whether a process has ended, also one that nobody has asked for its status."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_death_of_any_process_ends_the_job():
    started = time.monotonic()
    children = [subprocess.Popen(_SLEEP), subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])]
    children.append(subprocess.Popen(_SLEEP))
    assert _wait(children) == 1
    assert time.monotonic() - started < 60
    assert [child.returncode for child in children] == [-signal.SIGTERM, 7, -signal.SIGTERM]


def test_children_of_a_killed_parent_end():
    code = (
        "import subprocess, sys; from ivjax.launch.host_entry import end_with_parent\n"
        f"child = subprocess.Popen({_SLEEP!r}, preexec_fn=end_with_parent)\n"
        "print(child.pid, flush=True); child.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert not gone(child)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while not gone(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_bad_input_in_one_process_of_a_job_ends_it_at_once():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    code = (
        "import sys; from ivjax import cli; from ivjax.train.distributed import Job, join\n"
        f"number = int(sys.argv[1]); join(Job({address!r}, 2, number))\n"
        "print('joined', flush=True)\n"
        "input() if number == 0 else None\n"
        "sys.exit(cli.main(['train', 'stage1_tiny']))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    first, second = (
        subprocess.Popen([sys.executable, "-c", code, str(number)], env=environment, **pipes)
        for number in range(2)
    )
    try:
        said = second.communicate(timeout=120)[1]
        assert second.returncode == 2 and "a run needs a folder" in said
        # The other one still stands where it stood, and had not to be waited for.
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
