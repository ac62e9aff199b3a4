"""Drives a headless Chromium over its debugging pipe; needs no package beside the browser itself."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = ("--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
_PATIENCE = 60.0  # seconds for one answer


def browser_file() -> str | None:
    """Returns the program, if there is one."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Browser:
    """One tab.

    Attributes:
        problems: errors and warnings of the console, and requests that failed or went to a network.
    """

    def __init__(self, reads: int, writes: int):
        self._reads, self._writes = reads, writes
        self._pending = b""
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Calls a method of the protocol; returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        wanted, until = self._number, time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            answer = self._next()
            if answer.get("id") == wanted:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                found: dict[str, Any] = answer["result"]
                return found
            self._note(answer)
        raise TimeoutError(method)

    def open(self, page: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """Opens a page in a window of a size, and waits until it is loaded."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        # Still, so that two pictures of a page are alike.
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])
        self.size(width, height)
        self.call("Page.navigate", url=page.absolute().as_uri())
        until = time.monotonic() + _PATIENCE
        while self.run("document.readyState") != "complete" and time.monotonic() < until:
            time.sleep(0.05)

    def size(self, width: int, height: int) -> None:
        """Changes the size of the window."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def run(self, code: str) -> Any:
        """Returns the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:500])
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Presses a key, such as `press("Tab", 9)`."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, out: Path) -> Path:
        """Writes the whole page as a PNG file."""
        self.size(self.run("innerWidth"), min(self.run("document.documentElement.scrollHeight"), 16000))
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(shot["data"]))
        return out

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            read = os.read(self._reads, 1 << 20)
            if not read:
                raise EOFError("the browser has ended")
            self._pending += read
        message, _, self._pending = self._pending.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(params["args"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                self.problems.append(f"asked for {url}")


@contextlib.contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """Runs the browser with an empty profile in a folder."""
    program = browser_file()
    assert program is not None
    to_browser, from_browser = os.pipe(), os.pipe()

    def wire() -> None:
        # The browser reads from 3 and writes to 4. Copies first, as either may be an end of the other pipe.
        reads, writes = os.dup(to_browser[0]), os.dup(from_browser[1])
        os.dup2(reads, 3)
        os.dup2(writes, 4)

    sandbox = ("--no-sandbox",) if os.getuid() == 0 else ()
    command = [program, *_FLAGS, *sandbox, f"--user-data-dir={profile}"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, preexec_fn=wire, close_fds=False, stdout=quiet, stderr=quiet) as process:
        os.close(to_browser[0])
        os.close(from_browser[1])
        try:
            yield Browser(from_browser[0], to_browser[1])
        finally:
            # Without anybody at the other end it ends by itself.
            os.close(to_browser[1])
            os.close(from_browser[0])
            process.wait(_PATIENCE)
