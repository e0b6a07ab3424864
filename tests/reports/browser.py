"""Chromium without a window, steered through a pipe by its DevTools protocol; no package is needed for that."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = (
    "--headless",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-extensions",
)
WATCHED = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.requestWillBeSent")


class Page:
    """A page. `events` are what it has said, requested and done wrong since the last file was opened."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.to_browser, self.from_browser = to_browser, from_browser
        self.unread = b""
        self.calls = 0
        self.events: list[dict[str, Any]] = []
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def message(self) -> dict[str, Any]:
        while b"\0" not in self.unread:
            read = os.read(self.from_browser, 1 << 20)
            assert read, "the browser has ended"
            self.unread += read
        message, _, self.unread = self.unread.partition(b"\0")
        return dict(json.loads(message))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.calls += 1
        request = {"id": self.calls, "method": method, "params": params}
        os.write(self.to_browser, json.dumps(request | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.calls:
                assert "error" not in message, (method, message["error"])
                return dict(message["result"])
            self.events.append(message)

    def open(self, file: Path, width: int, scheme: str = "light") -> None:
        """Load `file` into a window of that width, with the colour scheme "light" or "dark"."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events = []
        self.call("Page.navigate", url=file.resolve().as_uri())
        while not self.seen("Page.loadEventFired"):
            self.events.append(self.message())

    def run(self, script: str) -> Any:
        """The value of the expression `script` in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=13, **text)

    def seen(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def picture(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])


@contextmanager
def page(profile: Path) -> Iterator[Page]:
    """An empty page; `profile` is the folder where the browser keeps its files."""
    assert PROGRAM is not None
    read_by_browser, to_browser = os.pipe()
    from_browser, written_by_browser = os.pipe()

    def connect() -> None:
        """In the new process: its ends of the pipes are the descriptors 3 and 4, as Chromium expects them."""
        ends = os.dup(read_by_browser), os.dup(written_by_browser)
        os.dup2(ends[0], 3)
        os.dup2(ends[1], 4)

    process = subprocess.Popen(
        [PROGRAM, *FLAGS, f"--user-data-dir={profile}"],
        preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read_by_browser)
    os.close(written_by_browser)
    try:
        opened = Page(to_browser, from_browser)
        yield opened
        opened.session = ""
        opened.call("Browser.close")
    finally:
        os.close(to_browser)
        os.close(from_browser)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
