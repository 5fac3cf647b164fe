"""A reply as it is written: wrapped at the window's width, free of control sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from streamll.terminal.text import cells, clean
from streamll.terminal.wrap import fold

MIN_COLUMNS = 12
MAX_COLUMNS = 100
"""Longer lines are hard to read, however wide the window."""


@dataclass(eq=False)
class TypingOut:
    """Writes the pieces of text that are added, each at once.

    A word that grows past the margin moves to the next line, for which the last line is rewritten.
    ``width`` is called for each piece; where it returns ``None``, nothing is wrapped or rewritten.
    Every line begins with ``indent``, which takes ``indent_width`` columns (default: its length;
    needed where it has escape sequences).
    """

    write: Callable[[str], None]
    width: Callable[[], int | None]
    indent: str
    indent_width: int | None = None
    _line: str | None = field(init=False, default=None)

    def add(self, text: str) -> None:
        first, *others = clean(text).split("\n")
        self._extend(first)
        for line in others:
            self.write("\n")
            self._line = None
            self._extend(line)

    def end(self) -> None:
        if self._line is not None:
            self.write("\n")
            self._line = None

    def _extend(self, text: str) -> None:
        if not text:
            return
        before = self._line
        if before is None:
            before = self._line = ""
            self.write(self.indent)
        width = self.width()
        if width is None:
            self.write(text)
            return
        taken = cells(self.indent) if self.indent_width is None else self.indent_width
        room = max(MIN_COLUMNS, min(width - 1, MAX_COLUMNS) - taken)
        lines = fold(before + text, room)
        if len(lines) == 1:
            self.write(text)
        else:
            if lines[0].startswith(before):
                self.write(lines[0][len(before) :])
            else:
                self.write(f"\r\x1b[K{self.indent}{lines[0]}")
            for line in lines[1:]:
                self.write(f"\n{self.indent}{line}")
        self._line = lines[-1]
