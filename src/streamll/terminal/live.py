"""The live view: runs are drawn while they run, then left in the scrollback.

Events only change the run trees. A ticker draws at most ``FRAMES_PER_S`` frames, and only while a
run is under way, so a token costs next to nothing. The end of a run is drawn at once, by ``show``:
when it returns, a finished run is on the terminal.

One terminal has one view, however many sinks write to it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TextIO

from streamll.core.errors import logger
from streamll.core.events import Event
from streamll.terminal import layout, notebook
from streamll.terminal.drawing import ASCII, Glyphs, Line, encoder
from streamll.terminal.notebook import NotebookCanvas
from streamll.terminal.output import Output
from streamll.terminal.screen import Screen
from streamll.terminal.tree import RunTree

FRAMES_PER_S = 12
IDLE_S = 1.0
"""After this silence a run that was joined midway and has nothing open counts as over."""


@dataclass(eq=False)
class LiveView:
    """All running runs on one terminal or in one notebook."""

    _canvas: Screen | NotebookCanvas
    _size: Callable[[], tuple[int, int]]
    _glyphs: Glyphs = field(default_factory=Glyphs)
    _pause_s: float = 1 / FRAMES_PER_S
    _runs: dict[tuple[int, str], RunTree] = field(default_factory=dict)
    _ended: list[RunTree] = field(default_factory=list)
    _outside: RunTree = field(default_factory=lambda: RunTree(None, 0.0))
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ticker: threading.Thread | None = None
    _is_over: bool = False  # the terminal is gone
    _is_replaced: bool = False
    _prompt: Callable[[int, Glyphs], list[Line]] | None = None
    by_key = True  # it draws what is typed

    @property
    def is_idle(self) -> bool:
        """Whether another view may replace this one."""
        return not self._runs and not self._is_over

    def gives_way(self) -> bool:
        """Let another view have the terminal, if this one is idle. It shows nothing any more then."""
        with self._lock:
            self._is_replaced = self._is_replaced or self.is_idle
            return self._is_replaced

    def show(self, events: Iterable[Event], source: int = 0) -> bool:
        """Take events and draw runs that have ended; ``source`` identifies the sink.

        False if the terminal has got another view since this one was chosen: show them there.
        """
        with self._lock:
            if self._is_replaced:
                return False
            if self._is_over:
                return True
            now = time.monotonic()
            for event in events:
                self._take(event, source, now)
            if self._ended or self._outside.root.items:
                self._draw(now)
            if self._ticker is None and self._runs:
                ticker = threading.Thread(target=self._tick, name="streamll-view", daemon=True)
                self._ticker = ticker
                ticker.start()
            return True

    def _take(self, event: Event, source: int, now: float) -> None:
        run_id = event.identity.run_id
        if run_id is None:
            self._outside.apply(event, now)
            return
        run = self._runs.get((source, run_id))
        if run is None:
            run = self._runs[source, run_id] = RunTree(run_id, now)
        run.apply(event, now)
        if run.ended:
            self._ended.append(self._runs.pop((source, run_id)))

    def prompt(self, lines: Callable[[int, Glyphs], list[Line]] | None) -> None:
        """Show a prompt below the runs, or none."""
        with self._lock:
            self._prompt = lines
            if not self._is_over:
                self._draw(time.monotonic())

    def entered(self) -> None:
        """Nothing to do: it is not seen before it is drawn."""

    def close(self, source: int = 0) -> None:
        """Leave running runs in the scrollback as they are, and restore the terminal."""
        with self._lock:
            now = time.monotonic()
            self._leave([key for key in self._runs if key[0] == source], now)
            if self._ended or self._canvas.is_open:
                self._draw(now)

    def _leave(self, keys: Iterable[tuple[int, str]], now: float) -> None:
        """Let go of runs whose end will not be seen."""
        for key in keys:
            run = self._runs.pop(key)
            run.interrupt(now)
            self._ended.append(run)

    def _tick(self) -> None:
        while self._frame():
            time.sleep(self._pause_s)

    def _frame(self) -> bool:
        """Draw running runs; False if there are none."""
        with self._lock:
            now = time.monotonic()
            self._leave([key for key, run in self._runs.items() if run.is_adrift(now, IDLE_S)], now)
            try:
                if self._runs or self._ended:
                    self._draw(now)
            except Exception:
                logger.exception("the live view failed; the program goes on without it")
                self._end()
            if not self._runs:
                self._ticker = None
            self._canvas.expect_frame(self._pause_s if self._runs else None)
            return bool(self._runs)

    def _end(self) -> None:
        self._is_over = True
        self._runs.clear()
        self._canvas.close()

    def _draw(self, now: float) -> None:
        width, height = self._size()
        staying: list[Line] = []
        for run in self._ended:
            staying += [*layout.whole(run, width, now, self._glyphs), []]
        self._ended.clear()
        if self._outside.root.items:
            staying += layout.whole(self._outside, width, now, self._glyphs)
            self._outside = RunTree(None, 0.0)
        runs = list(self._runs.values())
        prompt = [[], *self._prompt(width, self._glyphs)] if self._prompt is not None else []
        room = height - len(prompt)
        drawn = layout.compose(runs, width, room, now, self._glyphs) if room > 0 else []
        self._canvas.draw([*drawn, *prompt], staying)
        if self._canvas.is_broken:
            self._end()
        elif not runs and self._prompt is None:
            self._canvas.close()


_views: dict[str, LiveView] = {}
_choosing = threading.Lock()


def _begin_in_child() -> None:
    global _choosing  # noqa: PLW0603 - a thread of the parent may hold it
    _choosing = threading.Lock()
    _views.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


def terminal_view(file: TextIO, width: int | None = None, height: int | None = None) -> LiveView:
    """The view of the terminal that ``file`` writes to, shared by all sinks on it."""
    try:
        terminal = os.ttyname(file.fileno())
    except (OSError, ValueError, AttributeError):
        terminal = f"file {id(file)}"
    return _shared(terminal, lambda: _terminal_view(file, width, height))


def notebook_view(width: int | None = None, height: int | None = None) -> LiveView:
    size = (width or notebook.WIDTH, height or notebook.HEIGHT)
    pause_s = 1 / notebook.FRAMES_PER_S
    return _shared("notebook", lambda: LiveView(NotebookCanvas(), lambda: size, _pause_s=pause_s))


def _shared(place: str, make: Callable[[], LiveView]) -> LiveView:
    with _choosing:  # sinks have threads of their own, and may begin at the same time
        view = _views.get(place)
        if view is None or view.gives_way():
            view = _views[place] = make()
        return view


def _terminal_view(file: TextIO, width: int | None, height: int | None) -> LiveView:
    from rich.console import Console

    console = Console(file=file, force_terminal=True, legacy_windows=False)
    encoding = (getattr(file, "encoding", None) or "utf-8").lower()

    def size() -> tuple[int, int]:
        try:
            actual = os.get_terminal_size(file.fileno())
        except (OSError, ValueError, AttributeError):
            actual = os.terminal_size((0, 0))
        return width or actual.columns or 80, height or actual.lines or 24

    def room() -> tuple[int, int]:
        """One column and row less: writing to the last ones makes some terminals wrap or scroll."""
        columns, rows = size()
        return max(columns - 1, 1), max(rows - 1, 1)

    screen = Screen(Output(file), encoder(console), size)
    return LiveView(screen, room, Glyphs() if encoding.startswith("utf") else ASCII)
