"""A real Chromium for browser tests: this machine's, or the one ``make test`` unpacks."""

from __future__ import annotations

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


@contextmanager
def launched() -> Iterator:
    """A browser. Not for a whole session: while it is there, this thread has an event loop."""
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install Debian's chromium, or run the tests with make test")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()
