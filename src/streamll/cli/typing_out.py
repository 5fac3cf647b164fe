"""A reply while it is written: words wrapped at the window's width, nothing that steers it."""

from __future__ import annotations

from collections.abc import Callable

from streamll.terminal.text import cells, clean
from streamll.terminal.wrap import fold

LEAST_WIDTH = 12
FULL_LINE = 100
"""Lines longer than this are hard to read, however wide the window."""


class TypingOut:
    """``add`` pieces of text; each is written at once.

    A word that grows past the margin moves to the next line: only the line that is being
    written is ever written again. ``width`` is asked anew each time; without one nothing is
    wrapped or written again. ``indent`` begins every
    line; where it holds escape sequences, ``indent_width`` says how many columns it takes.
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
        room = max(LEAST_WIDTH, min(width - 1, FULL_LINE) - self._indent_width)
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
