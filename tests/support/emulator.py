"""A minimal terminal emulator: it knows the escape sequences that the live view may use.

Any other sequence fails the test, so that hostile text cannot get through.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

import warm

from streamll.terminal.text import character_cells

SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")
UNFINISHED = re.compile(r"\x1b(\[[0-9;?]*)?\Z")


class Emulator:
    """``feed`` takes the program's output; ``text`` is the screen with its scroll-back history."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns, self.rows = columns, rows
        self.history: list[str] = []
        self.screen: list[list[str]] = [[]]
        self.row = self.column = 0
        self.wraps = True
        self.cursor_visible = True
        self.was_hidden = False
        self._rest = ""

    @property
    def lines(self) -> list[str]:
        return [*self.history, *("".join(row).rstrip() for row in self.screen)]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()

    @property
    def visible(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.screen]

    def feed(self, data: str) -> None:
        data = self._rest + data
        unfinished = UNFINISHED.search(data)  # completed by the next read
        self._rest = unfinished[0] if unfinished else ""
        data = data[: len(data) - len(self._rest)]
        position = 0
        while position < len(data):
            if match := SEQUENCE.match(data, position):
                self._obey(match[1], match[2])
                position = match.end()
                continue
            self._put(data[position])
            position += 1

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._down()
        elif character == "\b":  # some terminals erase the echo of Ctrl-C
            self.column = max(0, self.column - 1)
        else:
            assert character.isprintable(), f"the terminal would obey {character!r}"
            size = character_cells(character)
            if self.column + size > self.columns:
                if not self.wraps:
                    return
                self.column = 0
                self._down()
            row = self.screen[self.row]
            row += [" "] * (self.column + size - len(row))
            row[self.column : self.column + size] = [character] + [""] * (size - 1)
            self.column += size

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.screen):
            self.screen.append([])
        if len(self.screen) > self.rows:
            self.history.append("".join(self.screen.pop(0)).rstrip())
            self.row -= 1

    def _obey(self, parameters: str, command: str) -> None:
        number = int(parameters) if parameters.isdecimal() else 1
        if command == "A":
            self.row = max(0, self.row - number)
        elif command == "K":
            del self.screen[self.row][self.column :]
        elif command == "J":
            del self.screen[self.row][self.column :]
            del self.screen[self.row + 1 :]
        elif (parameters, command) in {("?25", "l"), ("?25", "h")}:
            self.cursor_visible = command == "h"
            self.was_hidden |= not self.cursor_visible
        elif parameters == "?7":
            self.wraps = command == "h"
        else:
            assert command == "m" or parameters == "?2026", f"unknown: {parameters}{command}"


class TerminalSession:
    """A command running on a pseudo-terminal, and the emulator that shows its output."""

    def __init__(
        self, *command: str, columns: int = 80, rows: int = 24, cwd: str | None = None, **env: str
    ) -> None:
        self.emulator = Emulator(columns, rows)
        self.raw = ""
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        popen = warm.Popen if command[0] == sys.executable else subprocess.Popen
        self.process = popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            # The size comes from the pseudo-terminal, not from variables of the surrounding shell.
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": "", **env},
            start_new_session=True,
        )
        os.close(theirs)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def __enter__(self) -> TerminalSession:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.hang_up()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def hang_up(self) -> None:
        """Close the terminal."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def wait_for(self, condition: Callable[[Emulator], bool], seconds: float = 60) -> None:
        """Read until ``condition`` holds for the emulator."""
        deadline = time.monotonic() + seconds
        while not condition(self.emulator):
            assert time.monotonic() < deadline, f"still waiting:\n{self.emulator.text}"
            assert self._read(0.1), f"the command ended before:\n{self.emulator.text}"

    def finish(self, seconds: float = 60) -> int:
        """Read to the end; returns the exit code."""
        deadline = time.monotonic() + seconds
        while self._read(0.1):
            assert time.monotonic() < deadline, f"still running:\n{self.emulator.text}"
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        """Read once and show it; False when the other side has closed."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux's end of file on a terminal
            return False
        text = self._decode(data)
        self.raw += text
        self.emulator.feed(text)
        return bool(data)
