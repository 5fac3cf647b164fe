"""A real Chromium for browser tests: this machine's, or the one ``make test`` unpacks."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

UNPACKED = Path(__file__).parents[2] / ".cache" / "chromium" / "chromium"
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    return found or (str(UNPACKED) if os.access(UNPACKED, os.X_OK) else None)


class _Browser:
    """Started once in a process. Playwright's event loop runs inside a greenlet of this thread, to which
    it is lent: who else wants a loop here must not see that one.
    """

    def __init__(self, path: str) -> None:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._loop = asyncio.get_running_loop()
        self.chromium = self._playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        atexit.register(self._stop)

    @contextmanager
    def lent(self) -> Iterator:
        asyncio._set_running_loop(self._loop)
        try:
            yield self.chromium
            for context in self.chromium.contexts:  # none where it has been stopped
                context.close()
        finally:
            asyncio._set_running_loop(None)

    def _stop(self) -> None:
        with self.lent():
            self._playwright.stop()


_started = functools.cache(_Browser)


@contextmanager
def launched() -> Iterator:
    """A browser without pages. Not for a whole session: within, this thread has an event loop."""
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install Debian's chromium, or run the tests with make test")
    with _started(path).lent() as browser:
        yield browser
