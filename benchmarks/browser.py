"""Headless Chromium by the DevTools protocol over a pipe: no driver, no port, nothing downloaded."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 120.0
"""Seconds to wait for an answer: a loaded machine takes its time."""


def found() -> str | None:
    """Path of a Chromium on this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a running Chromium.

    Args:
        reader: Descriptor of its answers, each ended by a zero byte.
        writer: Descriptor of its orders.
    """

    def __init__(self, reader: int, writer: int) -> None:
        self.reader, self.writer = os.fdopen(reader, "rb", buffering=0), os.fdopen(writer, "wb", buffering=0)
        self.number, self.rest, self.session = 0, b"", ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One order, and what Chromium answers.

        Raises:
            RuntimeError: It answers with an error, or not within `PATIENCE`.
        """
        self.number += 1
        order = {"id": self.number, "method": method, "params": params}
        if self.session:
            order["sessionId"] = self.session
        self.writer.write(json.dumps(order).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            answer = self._next()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
        raise RuntimeError(f"{method}: no answer within {PATIENCE:.0f} seconds")

    def open(self, url: str, width: int, height: int, dark: bool = False, media: str = "screen") -> None:
        """Shows a page.

        Args:
            url: Its address, `file://` or `http://`.
            width: Of the window in CSS pixels; below 600 it is a phone's, two device pixels to one.
            height: Of the window.
            dark: Whether the user prefers dark colors.
            media: screen or print.
        """
        phone = width < 600
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.send("Page.navigate", url=url)
        until = time.monotonic() + PATIENCE
        ready = "document.readyState === 'complete' && location.href !== 'about:blank'"
        while not self.run(ready) and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(0.3)  # fonts and the first paint

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for.

        Raises:
            RuntimeError: The page raises.
        """
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script[:80]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def picture(self, path: Path, clip: tuple[float, float, float, float]) -> None:
        """Writes a PNG of a part of the page: left, top, width, height in CSS pixels of the page."""
        left, top, width, height = clip
        area = {"x": left, "y": top, "width": width, "height": height, "scale": 1}
        # Beyond the window Chromium lays the page out anew, and charts that follow its size are caught empty.
        beyond = bool(self.run(f"{left + width} > innerWidth || {top + height} > innerHeight"))
        shot = self.send("Page.captureScreenshot", format="png", clip=area, captureBeyondViewport=beyond)
        path.write_bytes(base64.b64decode(shot["data"]))

    def paper(self, path: Path) -> None:
        """Writes a PDF as the page prints."""
        path.write_bytes(base64.b64decode(self.send("Page.printToPDF", preferCSSPageSize=True)["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            chunk = self.reader.read(1 << 16)
            if not chunk:
                raise RuntimeError("Chromium has ended")
            self.rest += chunk
        line, _, self.rest = self.rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def started() -> Iterator[Browser]:
    """A Chromium of its own, with an empty profile that is gone with it.

    Raises:
        RuntimeError: There is none, or it does not start.
    """
    program = found()
    if program is None:
        raise RuntimeError("no Chromium here: apt-get install chromium")
    orders, writer = os.pipe()
    reader, answers = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = (
            f'exec "$0" --headless --remote-debugging-pipe --no-sandbox --disable-gpu --hide-scrollbars '
            f'--disable-dev-shm-usage --user-data-dir="{profile}" 3<&{orders} 4>&{answers}'
        )
        process = subprocess.Popen(
            ["bash", "-c", command, program],
            pass_fds=(orders, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(orders)
        os.close(answers)
        try:
            yield Browser(reader, writer)
        finally:
            process.terminate()
            process.wait()
