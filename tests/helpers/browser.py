"""Chromium without a window, driven through its debugging protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from unknot.report.page import write_report

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-pipe", "--hide-scrollbars", "--window-size=1200,900",
]  # fmt: skip
# Our ends may be 3 or 4 themselves, so they are moved out of the way first.
LAUNCH = """import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, at in zip(ends, (3, 4)):
    os.dup2(end, at)
    os.close(end)
os.execv(sys.argv[3], sys.argv[3:])"""
WITH_WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WITHOUT_WEBGL = ["--disable-gpu", "--disable-3d-apis"]


class Browser:
    """Chromium behind its DevTools protocol: messages end in a zero byte on file descriptors 3 and 4."""

    def __init__(self, chromium: str, home: Path, flags: list[str]) -> None:
        self.home = home
        ours, theirs = os.pipe(), os.pipe()  # commands go through the first, answers come by the second
        command = [chromium, *FLAGS, *flags, f"--user-data-dir={home}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(ours[0]), str(theirs[1]), *command],
            pass_fds=(ours[0], theirs[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours[0])
        os.close(theirs[1])
        self._out, self._in = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb")
        self._rest = b""
        self._next = 0
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        try:
            self.send("Browser.close")
            self.process.wait(timeout=30)
        finally:
            self.process.kill()
            self.process.wait()
            self._out.close()
            self._in.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._next += 1
        message = {"id": self._next, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while (answer := self._receive()).get("id") != self._next:
            self.events.append(answer)
        assert "error" not in answer, answer["error"]
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, method: str, session: str) -> None:
        """Until that event of the session has come."""
        while not any(e.get("method") == method and e.get("sessionId") == session for e in self.events):
            self.events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._in.fileno(), 1 << 20)
            assert more, "the browser ended"
            self._rest += more
        message, self._rest = self._rest.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(message)
        return answer


class Tab:
    """One page, and everything that it asked for or complained of."""

    def __init__(
        self,
        browser: Browser,
        address: str,
        *,
        width: int = 1200,
        height: int = 900,
        media: dict[str, str] | None = None,
    ) -> None:
        self.browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self.target = target
        self.session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.resize(width, height)
        features = [{"name": name, "value": value} for name, value in (media or {}).items()]
        self.send("Emulation.setEmulatedMedia", features=features)
        self.send("Page.navigate", url=address)
        browser.wait("Page.loadEventFired", self.session)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.send(method, self.session, **params)

    def resize(self, width: int, height: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        done = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def press(self, key: str) -> None:
        text = {"text": " "} if key == " " else {}
        named = {"key": key, "code": "Space" if key == " " else key, **text}
        codes = {" ": 32, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, windowsVirtualKeyCode=codes[key], **named)

    def centre(self, selector: str) -> dict[str, float]:
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.run(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        return {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}

    def mouse(self, kind: str, at: dict[str, float]) -> None:
        held = kind != "mouseReleased"
        self.send(
            "Input.dispatchMouseEvent", type=kind, button="left", buttons=int(held), clickCount=1, **at
        )  # fmt: skip

    def click(self, selector: str) -> None:
        at = self.centre(selector)
        self.mouse("mousePressed", at)
        self.mouse("mouseReleased", at)

    def drag(self, selector: str, right: float, down: float) -> None:
        at = self.centre(selector)
        self.mouse("mousePressed", at)
        for part in (0.5, 1.0):
            self.mouse("mouseMoved", {"x": at["x"] + part * right, "y": at["y"] + part * down})
            self.run("new Promise(requestAnimationFrame)")
        self.mouse("mouseReleased", {"x": at["x"] + right, "y": at["y"] + down})
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Console messages, exceptions and the browser's own log."""
        told = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        self.send("Runtime.evaluate", expression="0")  # what was said before has arrived then
        return [
            json.dumps(event["params"])[:500]
            for event in self.browser.events
            if event.get("sessionId") == self.session
            and event["method"] in told
            and "willReadFrequently" not in json.dumps(event)  # a hint to Plotly, for its marker glyphs
        ]

    def requests(self) -> list[str]:
        return [
            event["params"]["request"]["url"]
            for event in self.browser.events
            if event.get("sessionId") == self.session and event["method"] == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        self.browser.send("Target.closeTarget", targetId=self.target)


def address(path: Path, *results: object, theme: str = "light", title: str = "unknot report") -> str:
    return write_report(path / "report.html", *results, title=title).as_uri() + f"?theme={theme}"


def assert_quiet(tab: Tab) -> None:
    """Nothing on the console, and nothing asked of anybody."""
    assert tab.complaints() == []
    assert {url.split(":")[0] for url in tab.requests()} <= {"file", "data", "blob"}
