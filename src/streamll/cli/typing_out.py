"""A reply as it is written: wrapped at the window's width, free of control sequences."""

from __future__ import annotations

from collections.abc import Callable

from streamll.terminal.text import cells, clean
from streamll.terminal.wrap import fold

MIN_COLUMNS = 12
MAX_COLUMNS = 100
"""Longer lines are hard to read, however wide the window."""


class TypingOut:
    """Writes the pieces of text that are added, each at once.

    A word that grows past the margin moves to the next line, for which the last line is rewritten.
    ``width`` is called for each piece; where it returns ``None``, nothing is wrapped or rewritten.
    Every line begins with ``indent``, which takes ``indent_width`` columns (default: its length;
    needed where it has escape sequences).
    """

    def __init__(
        self,
        write: Callable[[str], None],
        width: Callable[[], int | None],
        indent: str,
        indent_width: int | None = None,
    ) -> None:
        self._write = write
        self._width = width
        self._indent = indent
        self._indent_width = cells(indent) if indent_width is None else indent_width
        self._line: str | None = None

    def add(self, text: str) -> None:
        first, *others = clean(text).split("\n")
        self._extend(first)
        for line in others:
            self._write("\n")
            self._line = None
            self._extend(line)

    def end(self) -> None:
        if self._line is not None:
            self._write("\n")
            self._line = None

    def _extend(self, text: str) -> None:
        if not text:
            return
        before = self._line
        if before is None:
            before = self._line = ""
            self._write(self._indent)
        width = self._width()
        if width is None:
            self._write(text)
            return
        room = max(MIN_COLUMNS, min(width - 1, MAX_COLUMNS) - self._indent_width)
        lines = fold(before + text, room)
        if len(lines) == 1:
            self._write(text)
        else:
            if lines[0].startswith(before):
                self._write(lines[0][len(before) :])
            else:
                self._write(f"\r\x1b[K{self._indent}{lines[0]}")
            for line in lines[1:]:
                self._write(f"\n{self._indent}{line}")
        self._line = lines[-1]
