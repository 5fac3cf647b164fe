"""The last rows of text that a program writes: those that it may still write anew.

Progress bars go back to the beginning of their row with a carriage return, or up some rows with
an escape sequence. This follows their cursor (ECMA-48: CUU, EL, ED); colours and links are part
of the text. It knows no terminal: text in, finished rows out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_HEIGHT = 50
"""How many rows a program can go back up."""

_STEP = re.compile(r"(\n|\r|\x1b\[[0-?]*[ -/]*[@-ln-~]|\x1b[78cDEHM])")
_UP = re.compile(r"\x1b\[(\d*)[AF]")
_ERASES_ROW = re.compile(r"\x1b\[[02]?K")
_ERASES_BELOW = re.compile(r"\x1b\[0?J")


@dataclass(eq=False)
class Rows:
    """The rows that are not finished yet, and where the next text goes."""

    texts: list[str] = field(default_factory=lambda: [""])
    cursor: int = 0
    is_bar: bool = False
    """Whether the row at the cursor, or one above it, has been written anew."""
    _height: int = 0  # how many rows above its last one the program goes back to
    _newlines: int = 0  # since it went up
    _hides_cursor: bool = False  # as long as it draws rows anew
    _follows_bar: bool = False  # the row before this one is a bar, which may go on
    _starts_anew: bool = False  # the next text replaces the row's

    def feed(self, text: str, spare: int = 0) -> list[str]:
        """Take text; returns the rows that are finished, but for the ``spare`` latest ones."""
        for step in _STEP.split(text):
            if step == "\n":
                self._down()
            elif step == "\r":
                self._starts_anew = True
            elif step.startswith("\x1b") and _STEP.fullmatch(step):
                self._obey(step)
            elif step:
                self._put(step)
        return self._pop(len(self.texts) - 1 - max(self._kept, spare))

    @property
    def _kept(self) -> int:
        """How many rows above the last one may still be written anew."""
        new = self._newlines if self._hides_cursor else int(self._follows_bar)
        return min(max(self._height, new), MAX_HEIGHT)

    def settle(self) -> None:
        """Begin a new row, unless this one is a bar; the rows above the bar are finished."""
        self._pop(len(self.texts) - 1 - self._kept)
        if not (self.is_bar or self._hides_cursor):
            self.texts, self.cursor, self._starts_anew = [""], 0, False

    def _pop(self, count: int) -> list[str]:
        count = min(count, self.cursor)
        if count <= 0:
            return []
        finished, self.texts = self.texts[:count], self.texts[count:]
        self.cursor -= count
        return finished

    def _put(self, text: str) -> None:
        if self._starts_anew:
            self.texts[self.cursor] = ""
            self._starts_anew = False
            self.is_bar = True
        self.texts[self.cursor] += text

    def _down(self) -> None:
        self.cursor += 1
        self._newlines += 1
        if self.cursor == len(self.texts):
            self.texts.append("")
        if self._newlines > self._height:
            self._follows_bar = self.is_bar and not self._height
            self._height, self.is_bar = 0, False
        self._starts_anew = self.texts[self.cursor] != ""

    def _obey(self, sequence: str) -> None:
        if up := _UP.fullmatch(sequence):
            count = int(up[1] or 1)
            below = len(self.texts) - 1 - self.cursor
            self._height = max(self._height, below + count)
            self._newlines = 0
            if self.cursor:
                self.cursor = max(0, self.cursor - count)
                self._starts_anew = self.is_bar = True
        elif _ERASES_BELOW.fullmatch(sequence):
            del self.texts[self.cursor + 1 :]
            self._erase()
        elif _ERASES_ROW.fullmatch(sequence):
            self._erase(whole="2" in sequence)
        elif sequence in ("\x1b[?25l", "\x1b[?25h"):
            self._hides_cursor = sequence.endswith("l")
            self._newlines = 0

    def _erase(self, *, whole: bool = False) -> None:
        """Empty the row at the cursor; text is only ever added at its end."""
        if whole or self._starts_anew:
            self.texts[self.cursor] = ""
