"""A real Firefox, this machine's or the one ``make test`` unpacks, spoken to by WebDriver BiDi.

Firefox's own remote control needs nothing between it and a test. It is for one file of tests: the few
methods of ``Page`` do what Playwright's do in the Chromium of all others.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

UNPACKED = Path(__file__).parents[2] / ".cache" / "firefox" / "firefox"
BOUND = 180.0  # seconds for one answer; the first needs all of a browser that has just begun
SETTINGS = """
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("app.update.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("extensions.systemAddon.update.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("browser.topsites.contile.enabled", false);
user_pref("browser.newtabpage.enabled", false);
user_pref("browser.region.update.enabled", false);
user_pref("browser.search.update", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "data:,#remote-settings-dummy/v1");
"""
KEYS = {
    "Enter": "\ue007", "Tab": "\ue004", "Escape": "\ue00c", "Control": "\ue009",
    "Home": "\ue011", "Backspace": "\ue003",
}  # fmt: skip
CENTRE = """(selector) => {
  const element = document.querySelector(selector);
  element.scrollIntoView({ block: "center" });
  const { x, y, width, height } = element.getBoundingClientRect();
  return [x + width / 2, y + height / 2].map(Math.round);
}"""
WAIT = """(args) => new Promise((found) => {
  const condition = %s, look = () => { if (condition(...args)) found(true); else setTimeout(look, 20); };
  look();
})"""


def find_firefox() -> str | None:
    names = ("firefox", "firefox-esr")
    found = os.environ.get("FIREFOX") or next(filter(None, map(shutil.which, names)), None)
    return found or (str(UNPACKED) if os.access(UNPACKED, os.X_OK) else None)


@contextmanager
def launched() -> Iterator[Firefox]:
    path = find_firefox()
    if path is None:
        pytest.skip("no Firefox: install Debian's firefox-esr, or run the tests with make test")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        Path(profile, "user.js").write_text(SETTINGS, "utf-8")
        command = [path, "--headless", "--no-remote", "--remote-debugging-port=0"]
        process = subprocess.Popen(
            [*command, "--profile", profile],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "HOME": profile, "MOZ_CRASHREPORTER_DISABLE": "1"},
        )
        try:
            yield from _connected(process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes of its pages
            process.wait()


def _connected(process: subprocess.Popen[str]) -> Iterator[Firefox]:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"BiDi listening on (ws://([^:]+):(\d+))", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()  # never full
            line_to = socket.create_connection((found[2], int(found[3])))  # by no proxy
            address, patient = f"{found[1]}/session", {"open_timeout": BOUND, "ping_interval": None}
            with connect(address, max_size=None, sock=line_to, **patient) as session:
                yield Firefox(session)
            return
    raise AssertionError("Firefox ended before it could be spoken to")


class Firefox:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._number = 0
        self.problems: list[str] = []
        """Errors in the scripts of pages, and dialogs they have opened."""
        self.tell("session.new", capabilities={})
        self.tell(
            "session.subscribe", events=["log.entryAdded", "browsingContext.userPromptOpened"]
        )

    def tell(self, method: str, **params: Any) -> Any:
        self._number += 1
        self._session.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            try:
                said = json.loads(self._session.recv(BOUND))
            except TimeoutError:
                raise AssertionError(f"{method}: no answer in {BOUND} s {self.problems}") from None
            if said.get("id") == self._number:
                assert said["type"] == "success", f"{method}: {said['error']}: {said['message']}"
                return said["result"]
            self._hear(said.get("method"), said.get("params", {}))

    def _hear(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "browsingContext.userPromptOpened":
            self.problems.append(f"dialog: {params['message']}")
        elif (
            method == "log.entryAdded"
            and params["type"] == "javascript"
            and params["level"] == "error"
        ):
            self.problems.append(params["text"])

    def new_page(self, url: str) -> Page:
        page = Page(self, self.tell("browsingContext.create", type="tab")["context"])
        page.goto(url)
        return page


class Page:
    def __init__(self, browser: Firefox, context: str) -> None:
        self._browser = browser
        self._context = context

    def goto(self, url: str) -> None:
        self._tell("browsingContext.navigate", url=url, wait="complete")

    def reload(self) -> None:
        self._tell("browsingContext.reload", wait="complete")

    def close(self) -> None:
        self._tell("browsingContext.close")

    def evaluate(self, function: str, *args: Any) -> Any:
        """What a function of the page's returns for ``args``, both as JSON."""
        result = self._browser.tell(
            "script.callFunction",
            functionDeclaration=f"async (args) => JSON.stringify(await ({function})(...JSON.parse(args)) ?? null)",
            arguments=[{"type": "string", "value": json.dumps(args)}],
            awaitPromise=True,
            target={"context": self._context},
        )
        assert result["type"] == "success", result["exceptionDetails"]["text"]
        return json.loads(result["result"]["value"])

    def wait(self, condition: str, *args: Any) -> None:
        """Until a function of the page's returns something true for ``args``."""
        self.evaluate(WAIT % condition, args)

    def wait_text(self, selector: str, text: str) -> None:
        self.wait(
            "(s, t) => [...document.querySelectorAll(s)].some((e) => e.textContent.includes(t))",
            selector,
            text,
        )

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.evaluate(
            "(s) => [...document.querySelectorAll(s)].map((e) => e.textContent)", selector
        )
        return found

    def click(self, selector: str) -> None:
        self.wait("(s) => document.querySelector(s)", selector)
        x, y = self.evaluate(CENTRE, selector)
        self._act(
            "pointer",
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        )

    def press(self, *keys: str) -> None:
        """Each key, one after the other; ``Control+Enter`` is both at once."""
        for chord in keys:
            held = [KEYS.get(key, key) for key in chord.split("+")]
            downs = [{"type": "keyDown", "value": key} for key in held]
            self._act("key", *downs, *({"type": "keyUp", "value": key} for key in reversed(held)))

    def screenshot(self, path: str | Path) -> None:
        data = self._tell("browsingContext.captureScreenshot")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def _act(self, kind: str, *actions: dict[str, Any]) -> None:
        self._tell(
            "input.performActions", actions=[{"type": kind, "id": kind, "actions": list(actions)}]
        )

    def _tell(self, method: str, **params: Any) -> Any:
        return self._browser.tell(method, context=self._context, **params)
