"""A headless Chromium that is driven through pipes, as far as these tests need one."""

import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ganshrink.browser import open_server

PATIENCE = 120  # seconds to wait for its next word
BINARY = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)


class Tab:
    """A page. `complaints` are errors of its console, what it threw, and what it asks for elsewhere."""

    def __init__(self, read: int, write: int) -> None:
        self.read, self.write, self.number, self.rest = read, write, 0, b""
        self.session: str | None = None
        self.complaints: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def open(self, address: str) -> None:
        self.ask("Page.navigate", url=address)
        self.value(
            "new Promise(done => document.readyState === 'complete' ? done(1) : addEventListener('load', () => done(1)))"
        )

    def value(self, expression: str) -> Any:
        """What an expression is in the page; of a promise, what it brings."""
        found = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.read], [], [], PATIENCE)
            told = os.read(self.read, 1 << 20) if ready else b""
            if not told:
                raise ConnectionError(
                    "Chromium has ended" if ready else f"Chromium is silent for {PATIENCE} s"
                )
            self.rest += told
        line, _, self.rest = self.rest.partition(b"\0")
        return json.loads(line)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event["method"]:
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.complaints.append(str(params["entry"]))
            case "Network.requestWillBeSent":
                address = params["request"]["url"]
                if not address.startswith(("http://127.0.0.1:", "data:", "blob:", "file:", "about:")):
                    self.complaints.append(f"it asks for {address}")


@contextmanager
def chromium() -> Iterator[Tab]:
    assert BINARY is not None
    (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Chromium reads from descriptor 3 and writes to 4.
        command = f'exec "$0" "$@" 3<&{their_read} 4>&{their_write}'
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
        options += ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # a camera
        process = subprocess.Popen(
            ["bash", "-c", command, BINARY, *options, f"--user-data-dir={profile}"],
            pass_fds=(their_read, their_write),
            stderr=subprocess.DEVNULL,
        )
        os.close(their_read)
        os.close(their_write)
        try:
            try:
                tab = Tab(our_read, our_write)
            except OSError as error:
                pytest.skip(f"Chromium does not start here: {error}")
            yield tab
        finally:
            process.terminate()
            process.wait()
            os.close(our_read)
            os.close(our_write)


def served(folder: Path) -> Iterator[str]:
    with open_server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
