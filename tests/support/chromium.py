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
from typing import Any

import pytest

UNPACKED = Path(__file__).parents[2] / ".cache" / "chromium" / "chromium"
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
# No page here draws in three dimensions, and a GPU that is imitated takes a quarter of a test's CPU.
ARGUMENTS += ["--disable-gpu", "--disable-software-rasterizer"]
VIEW = {"width": 1280, "height": 860}
HEARD = ("console", "dialog", "download", "pageerror", "popup", "request")
FORGET = "() => { try { localStorage.clear(); sessionStorage.clear(); } catch {} }"


def find_chromium() -> str | None:
    names = ("chromium-headless-shell", "chromium", "chromium-browser")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    return found or (str(UNPACKED) if os.access(UNPACKED, os.X_OK) else None)


class _Browser:
    """Started once in a process. Playwright's event loop runs inside a greenlet of this thread, to which
    it is lent: who else wants a loop here must not see that one.
    """

    def __init__(self, path: str) -> None:
        from playwright.sync_api import Page, sync_playwright

        # Else it looks in each frame, for which the page has to draw one, and again, and again.
        Page.wait_for_function = functools.partialmethod(Page.wait_for_function, polling=50)

        self._playwright = sync_playwright().start()
        self._loop = asyncio.get_running_loop()
        self._chromium = self._playwright.chromium.launch(
            executable_path=path, args=ARGUMENTS, timeout=120_000
        )
        self._kept: dict[bool, Any] = {}
        self._in_use: set[bool] = set()
        atexit.register(self._stop)

    @contextmanager
    def lent(self) -> Iterator[_Browser]:
        asyncio._set_running_loop(self._loop)
        try:
            yield self
        finally:
            asyncio._set_running_loop(None)

    @contextmanager
    def page(self, *, files: bool = False, viewport=VIEW, media=None, **options) -> Iterator:
        """A page as good as new: the same one each time, as a new one takes 0.4 s of CPU.

        ``files``: it is for a file, which Chromium shows in another process. ``media``: what
        ``emulate_media`` takes. With ``options`` (others of Playwright's ``new_context``), and where
        the page is in use, it is one in a context of its own.
        """
        media = {"color_scheme": "light", "reduced_motion": "no-preference", **(media or {})}
        if options or files in self._in_use:
            page = self._new_page(viewport=viewport, **media, **options)
            try:
                yield page
            finally:
                page.context.close()
            return
        self._in_use.add(files)
        try:
            page = self._kept_page(files)
            page.emulate_media(**media)
            page.set_viewport_size(viewport)
            yield page
        finally:
            self._in_use.remove(files)
            self._clear(files)

    def _new_page(self, **options):
        context = self._chromium.new_context(**options)
        context.set_default_timeout(60_000)
        return context.new_page()

    def _kept_page(self, files: bool):
        if files not in self._kept:
            self._kept[files] = self._new_page()
        return self._kept[files]

    def _clear(self, files: bool) -> None:
        page = self._kept[files]
        if page.is_closed():
            del self._kept[files]
            return
        for event in HEARD:
            for listener in page._impl_obj.listeners(event):
                page._impl_obj.remove_listener(event, listener)
        for other in page.context.pages[1:]:
            other.close()
        page.evaluate(FORGET)
        page.context.clear_cookies()
        page.context.clear_permissions()
        page.goto("about:blank")  # ends what it loads, reads and runs

    def _stop(self) -> None:
        with self.lent():
            self._playwright.stop()


_started = functools.cache(_Browser)


@contextmanager
def launched() -> Iterator[_Browser]:
    """A browser without pages. Not for a whole session: within, this thread has an event loop."""
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install Debian's chromium, or run the tests with make test")
    with _started(path).lent() as browser:
        yield browser
