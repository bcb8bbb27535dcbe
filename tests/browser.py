"""A headless Chromium at the end of a pipe, spoken to in the DevTools protocol; no further package is needed."""

import base64
import json
import os
import subprocess
from contextlib import contextmanager

VARIABLE = "LAVA_CONV_BROWSER"  # names the binary of Chromium or Chrome
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")


class Page:
    """One page. `problems`: what its console and its loader complained of."""

    def __init__(self, send, receive):
        self._send, self._receive, self._number = send, receive, 0
        self.problems, self.requests, self._seen = [], [], set()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = None
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    _session = None

    def call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._send.write(json.dumps(message).encode() + b"\0")
        self._send.flush()
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        data = bytearray()
        while (byte := self._receive.read(1)) != b"\0":
            assert byte, "the browser has gone"
            data += byte
        event = json.loads(data)
        name = event.get("method", "")
        if name in ("Runtime.exceptionThrown", "Log.entryAdded", "Network.loadingFailed", "Runtime.consoleAPICalled"):
            self.problems.append(json.dumps(event["params"]))
        if name == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])
        self._seen.add(name)
        return event

    def open(self, path, width, height=900, dark=False):
        """Load a file at a width in pixels, in light or dark."""
        self.problems, self.requests, self._seen = [], [], set()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=f"file://{os.path.abspath(path)}")
        while "Page.loadEventFired" not in self._seen:
            self._next()

    def evaluate(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path):
        """The whole page, however long, as PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))


@contextmanager
def browser(folder):
    """A page of the browser that the variable names; `folder` is for its profile."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    flags = [*FLAGS, f"--user-data-dir={folder}", "--remote-debugging-pipe"]
    command = ["bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{from_write}', os.environ[VARIABLE], *flags]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, pass_fds=(to_read, from_write), **quiet)
    os.close(to_read)
    os.close(from_write)
    try:
        with os.fdopen(to_write, "wb") as send, os.fdopen(from_read, "rb") as receive:
            yield Page(send, receive)
    finally:
        process.terminate()
        process.wait(30)
