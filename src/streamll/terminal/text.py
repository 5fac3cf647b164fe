"""Text for a terminal: sanitized, measured and shortened; numbers formatted for people.

Model output is not trusted: an escape sequence in an answer must not move the cursor, set the
window's title or hide a line. Control characters become visible characters, in text (``clean``)
and in quoted tokens (``quote``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

TAB = "    "

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
    whole = round(value)
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{whole} s"
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
    """Columns one character takes, at most.

    A variation selector may widen the character before it, so it counts as one column.
    """
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
    if len(text) > 4 * width:  # every character but a few combining ones takes a column
        text = text[-4 * width :]
    elif cells(text) <= width:
        return text
    used, start = 1, len(text)
    while start and used + character_cells(text[start - 1]) <= width:
        start -= 1
        used += character_cells(text[start])
    return "…" + text[start:] if width > 0 else ""
