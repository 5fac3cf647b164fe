"""Text for a terminal: sanitized, measured, shortened, wrapped; numbers formatted for people.

Model output is not trusted: an escape sequence in an answer must not move the cursor, set the
window's title or hide a line. Control characters become visible characters, in text (``clean``)
and in quoted tokens (``quote``).

Words stay whole if they fit a line, East Asian text breaks between characters, and a word longer
than a line is cut. A line that ``WrappedText`` has finished never changes when more text arrives,
so each addition costs only its own length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

TAB = "    "

# Scripts written without blanks between words: each character may begin a line …
_WIDE = (
    "\u1100-\u115f\u2e80-\u2fdf\u3003-\u3007\u3012-\u3013\u3020-\u33ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f"
    "\U00020000-\U0003fffd"
)
# … except those that close a phrase or continue the character before.
_CLOSING = "、。，．・：；？！」』）】〕〉》ー々"
_WORD = re.compile(rf"([ \u3000]*)([「『（【〔〈《]*[{_WIDE}][{_CLOSING}]*|[^ \u3000{_WIDE}]+)")

# C0 without newline, DEL, C1, line and paragraph separators, the bidirectional overrides that
# make text read differently from its content, and lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_VISIBLE = {
    **{chr(code): chr(0x2400 + code) for code in range(0x20)},  # ␛ and the other control pictures
    "\x7f": "␡",
    "\t": TAB,
    "\r": "",  # of a CRLF, which may arrive in two pieces
    "\u2028": "\n",
    "\u2029": "\n",
}


def clean(text: str) -> str:
    """``text`` without anything a terminal interprets, except newlines."""
    return _UNSAFE.sub(lambda match: _VISIBLE.get(match[0], "\ufffd"), text)


def quote(text: str) -> str:
    """``text`` as a JSON string: one line, Unicode kept, control characters escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def one_line(text: object, limit: int = 500) -> str:
    """``text`` sanitized, on one line, blanks collapsed, cut after ``limit`` characters."""
    line = " ".join(clean(str(text)).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def compact(value: object, limit: int = 200) -> str:
    """Any value as JSON-like text on one line."""
    if isinstance(value, str):
        return one_line(quote(value), limit)
    try:
        shown = json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError):
        shown = repr(value)
    return one_line(shown, limit)


def arguments(values: Mapping[str, Any] | None, limit: int = 200) -> str:
    """Keyword arguments as they are written in a call: ``query="Paris", limit=3``."""
    if not values:
        return ""
    written = ", ".join(f"{name}={compact(value, limit)}" for name, value in values.items())
    return one_line(written, limit)


def seconds(value: float) -> str:
    """A duration for people: ``<1 ms``, ``4 ms``, ``0.31 s``, ``1.2 s``, ``42 s``, ``2 min 05 s``."""
    if value < 0.0995:  # noqa: PLR2004
        return f"{value * 1000:.0f} ms" if value >= 0.001 else "<1 ms"  # noqa: PLR2004
    if value < 9.95:  # noqa: PLR2004
        return f"{value:.2f} s" if value < 0.995 else f"{value:.1f} s"  # noqa: PLR2004
    minutes, rest = divmod(round(value), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def dollars(value: float) -> str:
    """Two significant digits for small sums, cents otherwise; never an exponent."""
    if value >= 1:
        return f"${value:,.2f}"
    digits = 2
    while digits < 8 and round(value, digits) < 10 ** (1 - digits):  # noqa: PLR2004
        digits += 1
    whole, _, fraction = f"{value:.{digits}f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


def amount(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@lru_cache(maxsize=8192)
def character_cells(character: str) -> int:
    """Columns one character takes, at most: a variation selector may widen the one before it."""
    from rich.cells import get_character_cell_size

    return 1 if character == "\ufe0f" else get_character_cell_size(character)


def cells(text: str) -> int:
    """Columns that ``text`` (one line, clean) takes at most."""
    return len(text) if text.isascii() else sum(map(character_cells, text))


def head(text: str, width: int) -> str:
    """The beginning of a line, at most ``width`` columns, with ``…`` if it is cut."""
    if cells(text) <= width:
        return text
    used, end = 1, 0
    for end, character in enumerate(text):  # noqa: B007
        used += character_cells(character)
        if used > width:
            break
    return text[:end] + "…" if width > 0 else ""


def tail(text: str, width: int) -> str:
    """The end of a line, at most ``width`` columns, with ``…`` if it is cut."""
    end = text[-4 * width :]  # every character but a few combining ones takes a column
    return head(end[::-1], width)[::-1]


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
    pieces, current, used = [], "", 0
    for character in word:
        size = character_cells(character)
        if size and used + size > width and current:
            pieces.append(current)
            current, used = "", 0
        current += character
        used += size
    return [*pieces, current]


@dataclass(slots=True, eq=False)
class WrappedText:
    """Text that arrives in pieces, and its lines at some width."""

    length: int = 0
    _parts: list[str] = field(default_factory=list)
    _pending: list[str] = field(default_factory=list)
    _lines: list[str] = field(default_factory=lambda: [""])  # all but the last are final
    _width: int = 0

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
