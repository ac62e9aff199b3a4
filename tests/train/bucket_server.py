"""A store of buckets on this machine, and a proxy before it that lets requests fail."""

import http.client
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_PER_HOP = ("connection", "content-length", "expect", "transfer-encoding")  # headers that are not handed on


@contextmanager
def store(bucket: str) -> Iterator[str]:
    """Gives the address of an emulator of Google's store that holds one empty bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["start", "--host", "127.0.0.1", "--port", str(port), "--in-memory", "--default-bucket", bucket]
    command = [sys.executable, "-m", "gcp_storage_emulator", *words]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/storage/v1/b/{bucket}")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the emulator does not answer"
            time.sleep(0.1)


@dataclass
class Faults:
    """Which requests fail.

    Attributes:
        every: each so-manieth request is answered 503; 0 for none.
        drops: the connection of each so-manieth is dropped; 0 for none.
        seen: requests so far.
        failed: those that failed.
    """

    every: int = 0
    drops: int = 0
    seen: int = 0
    failed: int = 0

    def next(self) -> str:
        """What befalls the next request: "", "busy" or "dropped"."""
        self.seen += 1
        busy = self.every and self.seen % self.every == 0
        dropped = self.drops and self.seen % self.drops == 0
        self.failed += bool(busy or dropped)
        return "busy" if busy else "dropped" if dropped else ""


@contextmanager
def faulty(behind: str, faults: Faults) -> Iterator[str]:
    """Gives the address of a proxy that hands requests on to an emulator, but for those that fail."""
    handler = type("_Handler", (_Proxy,), {"behind": behind, "faults": faults, "lock": threading.Lock()})
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, address: object) -> None:
        """Says nothing of clients that were killed."""


class _Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each request takes 40 ms
    behind: str
    faults: Faults
    lock: threading.Lock

    def _handle(self) -> None:
        body = self._body()
        with self.lock:
            fate = self.faults.next()
        if fate == "dropped":
            self.close_connection = True
        elif fate == "busy":
            self._answer(503, [], b'{"error": {"code": 503, "message": "try again"}}')
        else:
            self._hand_on(body)

    def _hand_on(self, body: bytes) -> None:
        connection = http.client.HTTPConnection(self.behind.removeprefix("http://"), timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _PER_HOP}
        if body or self.command in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = str(len(body))
        connection.request(self.command, self.path, body=body or None, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        given = [(name, value) for name, value in answer.getheaders() if name.lower() not in _PER_HOP]
        if answer.status in (200, 206) and "alt=media" in self.path:
            # The emulator leaves it out, and a client that writes only over what it has read needs it.
            given.append(("x-goog-generation", self._generation()))
        self._answer(answer.status, given, content)
        connection.close()

    def _generation(self) -> str:
        described = urllib.parse.urlsplit(self.path).path.replace("/download/", "/")
        try:
            with urllib.request.urlopen(f"{self.behind}{described}") as found:
                return str(json.load(found)["generation"])
        except urllib.error.HTTPError:
            return "0"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = _handle  # noqa: N815

    def log_message(self, *words: object) -> None:
        """Says nothing."""
