"""The rows at the bottom of a terminal that are redrawn, and the text that stays above them.

A frame overwrites the rows in place, with one write, and touches only those that changed, so
nothing flickers. Text that stays, ours or the program's own, goes above. While the screen is
open it replaces the program's standard streams, and ``input`` removes the rows for its question.
``close`` restores everything. This module does not decide what is shown, or when.

Between two writes the terminal is in its normal state: the cursor stays visible, below the rows,
so that however the program ends or stops, no signal handler has to restore anything. While
another job has the terminal (Ctrl-Z, ``bg``) nothing is redrawn; text that stays is printed.

Escape sequences: ECMA-48 (CSI), DEC private modes 7 (auto-wrap) and 2026 (synchronized output).
"""

from __future__ import annotations

import builtins
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from streamll.terminal import text as tx
from streamll.terminal.drawing import Line, columns
from streamll.terminal.output import Output, is_terminal

WRAP_OFF, WRAP_ON = "\x1b[?7l", "\x1b[?7h"
HOLD, RELEASE = "\x1b[?2026h", "\x1b[?2026l"  # for terminals that can show a frame atomically
ERASE_RIGHT, ERASE_BELOW = "\x1b[K", "\x1b[J"
END = f"{ERASE_RIGHT}\r\n"

QUIET_S = 0.05
"""After this time without output of the program, its next line redraws the region at once."""

# Escape sequences that move the cursor; colours and links are passed on.
_MOVING = re.compile(r"\x1b\[[0-?]*[ -/]*[@-ln-~]|\x1b[78cDEHM]")
_ANY_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")


@dataclass(eq=False)
class Screen:
    """The live region of one terminal."""

    _output: Output
    _encode: Callable[[Line], str]
    _size: Callable[[], tuple[int, int]]
    lock: threading.RLock = field(default_factory=threading.RLock)  # for writes to the terminal
    is_open: bool = False
    is_paused: bool = False
    _lines: list[Line] = field(default_factory=list)
    _width: int = 0
    _written_above: float = 0.0
    _redirected: list[Redirected] = field(default_factory=list)
    _input: Callable[..., str] = builtins.input
    _kept_back: list[Line] = field(default_factory=list)
    _is_lost: bool = False  # something else has written to the terminal

    @property
    def is_broken(self) -> bool:
        return self._output.is_broken

    def open(self) -> None:
        with self.lock:
            if self.is_open:
                return
            self.is_open = True
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if is_terminal(stream) and not isinstance(stream, Redirected):
                    self._redirected.append(Redirected(name, stream, self))
                    setattr(sys, name, self._redirected[-1])
            self._input, builtins.input = builtins.input, self._ask
            self._begin()

    def close(self) -> None:
        """Remove the live rows and restore the terminal."""
        with self.lock:
            if not self.is_open:
                return
            self._clear()
            self.is_open = False
            if builtins.input == self._ask:
                builtins.input = self._input
            for stream in self._redirected:
                stream.end()
            self._redirected = []

    def _begin(self) -> None:
        """Move to the beginning of a row: these blanks wrap unless the cursor is at one."""
        self._width = self._size()[0]
        self._is_lost = False
        if not self._output.is_behind:
            self._output.write(f"{' ' * (self._width - 1)}\r{ERASE_RIGHT}")

    def lose(self) -> None:
        """Rows drawn before must not be overwritten any more: the next frame begins below."""
        with self.lock:
            if self._output.foreground is not None:
                self._lines = []
                self._is_lost = True

    def _find(self) -> bool:
        """Whether the terminal is ours; if it was not before, the region begins again."""
        if self._output.is_behind:
            self.lose()
            return False
        if self._is_lost:
            self._begin()
        return True

    def _clear(self) -> None:
        if self._lines and self._find():
            self._frame("", [], self._width, redraw=True)

    def _ask(self, prompt: object = "", /) -> str:
        """Replaces ``input``: the region is removed until the answer has been given."""
        with self.lock:
            steps_aside = self.is_open and not self.is_paused
            if steps_aside:
                self._clear()
                for stream in self._redirected:
                    stream.let_out()
                self.is_paused = True
        try:
            return self._input(prompt)
        finally:
            if steps_aside:
                self._resume()

    def _resume(self) -> None:
        with self.lock:
            self.is_paused = False
            if self.is_open:
                self._begin()
            if self._kept_back:
                self._frame(self._encoded(self._kept_back), [], self._size()[0], redraw=True)
            self._kept_back = []

    def draw(self, lines: Sequence[Line], staying: Sequence[Line] = ()) -> None:
        """Show ``lines`` in the live region, and ``staying`` above it permanently."""
        with self.lock:
            self.open()
            if self.is_paused:
                self._kept_back += staying
                return
            if not self._find():
                self._output.write(self._encoded(staying))
                return
            width, height = self._size()
            partial = [line for stream in self._redirected for line in stream.unfinished(width)]
            region = [*partial, *lines][-max(1, height - 1) :]
            self._frame(self._encoded(staying), region, width, redraw=bool(staying))

    def above(self, text: str) -> None:
        """Write text of the program, in whole lines, above the region.

        If a program prints a lot, the region is not redrawn each time, but with the next frame.
        """
        text = text.replace("\n", END)
        with self.lock:
            if not self._find():
                self._output.write(text)
                return
            before, self._written_above = self._written_above, time.monotonic()
            region = self._lines if self._written_above - before > QUIET_S else []
            self._frame(text, region, self._size()[0], redraw=True)

    def _encoded(self, lines: Sequence[Line]) -> str:
        return "".join(f"{self._encode(line)}{END}" for line in lines)

    def _frame(self, above: str, region: list[Line], width: int, *, redraw: bool) -> None:
        """Overwrite the region from its first row on; the text ``above`` pushes it down."""
        before = self._rows()
        redraw = redraw or width != self._width
        frame = [HOLD, f"\x1b[{before}A\r" if before else "\r", above, WRAP_OFF]
        for number, line in enumerate(region):
            if not redraw and number < len(self._lines) and self._lines[number] == line:
                frame.append("\r\n")
            else:
                frame.append(f"{self._encode(line)}{END}")
        if above or region:
            frame.append(ERASE_BELOW)
        elif before:  # not from the top row on: some terminals scroll that into history
            frame.append(f"{END * before}\x1b[{before}A")
        frame += [WRAP_ON, RELEASE]
        self._lines, self._width = region, width
        self._output.write("".join(frame))

    def _rows(self) -> int:
        """Rows the region takes now; a terminal that became narrower has wrapped its lines."""
        width, height = self._size()
        rows = len(self._lines)
        if width < self._width:
            rows = sum(max(1, -(-columns(line) // width)) for line in self._lines)
        return min(rows, height - 1)


@dataclass(eq=False)
class Redirected:
    """Replaces ``sys.stdout`` or ``sys.stderr`` while a screen is open.

    Completed lines go above the region; an unfinished line is shown in the region. After ``end``,
    and in a forked child, everything is passed through unchanged.
    """

    _name: str
    _stream: TextIO
    _screen: Screen
    _process: int = field(default_factory=os.getpid)
    _unfinished: str = ""

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._passes():
            return self._stream.write(text)
        with self._screen.lock:
            whole, newline, rest = (self._unfinished + _MOVING.sub("", text)).rpartition("\n")
            self._unfinished = _last_state(rest)
            if newline:
                lines = "\n".join(_last_state(line) for line in whole.split("\n"))
                self._screen.above(f"{lines}\n")
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._passes():
            self._stream.flush()

    def _passes(self) -> bool:
        screen = self._screen
        return not screen.is_open or screen.is_paused or os.getpid() != self._process

    def unfinished(self, width: int) -> list[Line]:
        """The unfinished line, as a row of the region."""
        shown = tx.tail(tx.clean(_ANY_ESCAPE.sub("", self._unfinished)), width - 1)
        return [[("field", shown)]] if shown else []

    def end(self) -> None:
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._stream)
        self.let_out()

    def let_out(self) -> None:
        """Write the unfinished line as it is."""
        if self._unfinished:
            text, self._unfinished = self._unfinished, ""
            Output(self._stream).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _last_state(line: str) -> str:
    """The final text of a line: progress bars restart it with a carriage return."""
    return line.rstrip("\r").rpartition("\r")[2]


def behind(stream: TextIO) -> TextIO:
    """The original stream of a redirected one."""
    return stream._stream if isinstance(stream, Redirected) else stream  # noqa: SLF001 - its own module
