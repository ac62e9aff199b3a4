"""A process that answers requests: a JSON line in, a JSON line out. It ends with its parent."""

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    """Answers on what was standard output; everything printed meanwhile goes to the log of the request."""
    # A copy of standard output: XLA and FFmpeg print to descriptor 1, which would garble the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    # A thread of its own, so that the end of the parent is noticed in the middle of a run.
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()
    from ivjax.sweep.requests import answer  # takes seconds, and the parent may be gone before

    while True:
        request = requests.get()
        with Path(request["log"]).open("a") as log:
            _redirect(log)
            reply = answer(request, lambda line: print(line, flush=True))
        answers.write(json.dumps(reply) + "\n")


def _listen(commands: TextIO, requests: "queue.Queue[dict[str, Any]]") -> None:
    for line in commands:
        requests.put(json.loads(line))
    # The parent is done or was killed. What is not saved by now, the next start does again.
    # Not sys.exit, which only ends a thread, and would wait for compiled code to return.
    os._exit(0)


def _redirect(log: TextIO) -> None:
    """Also what compiled code prints."""
    for stream in (1, 2):
        os.dup2(log.fileno(), stream)


if __name__ == "__main__":
    main()
