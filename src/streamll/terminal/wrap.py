"""Text that is wrapped while it grows.

Words stay whole if they fit, East Asian text breaks between characters, and a word longer than
a line is cut. A finished line never changes when more text arrives, so each addition costs only
its own length.
"""

from __future__ import annotations

import re

from streamll.terminal.text import cells, character_cells, clean

# Scripts written without blanks between words: each character may begin a line …
_WIDE = (
    "\u1100-\u115f\u2e80-\u2fdf\u3003-\u3007\u3012-\u3013\u3020-\u33ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f"
    "\U00020000-\U0003fffd"
)
# … except those that close a phrase or continue the character before.
_CLOSING = "、。，．・：；？！」』）】〕〉》ー々"
_WORD = re.compile(rf"([ \u3000]*)([「『（【〔〈《]*[{_WIDE}][{_CLOSING}]*|[^ \u3000{_WIDE}]+)")


def fold(line: str, width: int) -> list[str]:
    """One line of text as lines of at most ``width`` columns; at least one.

    Blanks at a break are dropped. Blanks at the very end stay, to separate a word that follows
    later, and may exceed the width.
    """
    if cells(line) <= width:
        return [line]
    lines: list[str] = []
    current, used, end = "", 0, 0
    for match in _WORD.finditer(line):
        blanks, word = match.groups()
        end = match.end()
        size = cells(blanks) + cells(word)
        if used + size <= width:
            current += blanks + word
            used += size
            continue
        if current:
            lines.append(current)
        elif not lines and blanks:  # the indentation of a word that does not fit beside it
            word = blanks[: width // 2] + word
        *full, current = cut(word, width)
        lines += full
        used = cells(current)
    lines.append(current + line[end:])
    return lines


def cut(word: str, width: int) -> list[str]:
    """A word in pieces of at most ``width`` columns."""
    if word.isascii():
        return [word[start : start + width] for start in range(0, len(word), width)] or [""]
    pieces, current, used = [], "", 0
    for character in word:
        size = character_cells(character)
        if size and used + size > width and current:
            pieces.append(current)
            current, used = "", 0
        current += character
        used += size
    return [*pieces, current]


class WrappedText:
    """Text that arrives in pieces, and its lines at some width."""

    __slots__ = ("_lines", "_parts", "_pending", "_width", "length")

    def __init__(self, text: str = "") -> None:
        self._parts: list[str] = []
        self._pending: list[str] = []
        self._lines: list[str] = [""]  # all but the last are final
        self._width = 0
        self.length = 0
        if text:
            self.append(text)

    def append(self, text: str) -> None:
        self._parts.append(text)
        self._pending.append(text)
        self.length += len(text)

    def replace(self, text: str) -> None:
        self._parts = [text]
        self.length = len(text)
        self._width = 0  # wrapped again when the lines are next read

    @property
    def text(self) -> str:
        """The text as it arrived, not cleaned."""
        self._parts = ["".join(self._parts)]
        return self._parts[0]

    def ending(self, length: int) -> str:
        """The last ``length`` characters, as they arrived."""
        return self.text[-length:]

    def lines(self, width: int) -> list[str]:
        """The lines at ``width`` columns, of which the last still grows; not to be modified."""
        if width != self._width:
            self._width = width
            self._lines = [""]
            self._pending = [self.text]
        if self._pending:
            first, *others = clean("".join(self._pending)).split("\n")
            self._pending = []
            self._lines[-1:] = fold(self._lines[-1] + first, width)
            for line in others:
                self._lines += fold(line, width)
        return self._lines
