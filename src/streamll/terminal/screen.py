"""The rows at the bottom of a terminal that are redrawn, and the text that stays above them.

A frame overwrites the rows in place, with one write, and touches only those that changed, so
nothing flickers. Text that stays, ours or the program's own (``program_output``), goes above.
While the screen is open, ``input`` removes the rows for its question.
``close`` restores everything. This module does not decide what is shown, or when.

Between two writes the terminal is in its normal state: the cursor stays visible, below the rows,
so that however the program ends or stops, no signal handler has to restore anything. While
another job has the terminal (Ctrl-Z, ``bg``) nothing is redrawn; text that stays is printed.

Escape sequences: ECMA-48 (CSI), DEC private modes 7 (auto-wrap) and 2026 (synchronized output).
"""

from __future__ import annotations

import builtins
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamll.terminal.drawing import Line, columns
from streamll.terminal.keyboard import in_use
from streamll.terminal.output import Output
from streamll.terminal.program_output import ProgramOutput, program_output
from streamll.terminal.stops import Stops

WRAP_OFF, WRAP_ON = "\x1b[?7l", "\x1b[?7h"
HOLD, RELEASE = "\x1b[?2026h", "\x1b[?2026l"  # for terminals that can show a frame atomically
ERASE_RIGHT, ERASE_BELOW = "\x1b[K", "\x1b[J"
END = f"{ERASE_RIGHT}\r\n"

QUIET_S = 0.05
"""After this time without output of the program, its next line redraws the region at once."""


@dataclass(eq=False)
class Screen:
    """The live region of one terminal."""

    _output: Output
    _encode: Callable[[Line], str]
    _size: Callable[[], tuple[int, int]]
    _program: ProgramOutput = field(default_factory=lambda: program_output)
    is_open: bool = False
    is_paused: bool = False
    _lines: list[Line] = field(default_factory=list)
    _width: int = 0
    _written_above: float = 0.0
    _input: Callable[..., str] = builtins.input
    _kept_back: list[Line] = field(default_factory=list)
    _is_lost: bool = False  # something else has written to the terminal
    _stops: Stops = field(default_factory=Stops)

    @property
    def lock(self) -> threading.RLock:
        """For writes to the terminal."""
        return self._program.lock

    @property
    def is_broken(self) -> bool:
        return self._output.is_broken

    def open(self) -> None:
        with self.lock:
            if self.is_open:
                return
            self.is_open = True
            self._program.follow(self)
            self._input, builtins.input = builtins.input, self._ask
            self._take_over()

    def close(self) -> None:
        """Remove the live rows and restore the terminal."""
        with self.lock:
            if not self.is_open:
                return
            self._give_back()
            self.is_open = False
            if builtins.input == self._ask:
                builtins.input = self._input
            self._program.leave(self)

    def _take_over(self) -> None:
        """Show the bars of the program that are on the terminal in the region instead."""
        if self._program.region is None:
            taken = [stream.take_in() for stream in self._program.streams.values()]
            if not self._output.is_behind:
                self._output.write("".join(taken))
            self._program.region = self
        self._begin()

    def _give_back(self) -> None:
        """Remove the region, and leave the terminal to the program."""
        self._clear()
        if self._program.region is self:
            self._program.region = None
            for stream in self._program.streams.values():
                stream.let_out()

    def _begin(self) -> None:
        """Move to the beginning of a row: these blanks wrap unless the cursor is at one."""
        self._width = self._size()[0]
        self._is_lost = False
        if not self._output.is_behind:
            self._output.write(f"{' ' * (self._width - 1)}\r{ERASE_RIGHT}")

    def expect_frame(self, seconds: float | None) -> None:
        """This thread draws again in so many seconds, unless the program is stopped meanwhile."""
        with self.lock:
            self._stops.expect(seconds)

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
        with in_use:
            with self.lock:
                steps_aside = self.is_open and not self.is_paused
                if steps_aside:
                    self._give_back()
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
                self._take_over()
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
            partial = [
                line
                for stream in self._program.streams.values()
                for line in stream.unfinished(width)
            ]
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
        frame = self._composed(above, region, width, redraw=redraw)
        if self._stops.noticed():  # asked last: the stop may have come while this was drawn
            self.lose()
            if not self._find():  # it goes on in the background
                self._output.write(above)
                return
            frame = self._composed(above, region, width, redraw=True)
        self._lines, self._width = region, width
        self._output.write(frame)

    def _composed(self, above: str, region: list[Line], width: int, *, redraw: bool) -> str:
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
        return "".join([*frame, WRAP_ON, RELEASE])

    def _rows(self) -> int:
        """Rows the region takes now; a terminal that became narrower has wrapped its lines."""
        width, height = self._size()
        rows = len(self._lines)
        if width < self._width:
            rows = sum(max(1, -(-columns(line) // width)) for line in self._lines)
        return min(rows, height - 1)
