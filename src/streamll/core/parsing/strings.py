"""The inside of a JSON string (RFC 8259, section 7) while it arrives: what is decided, decoded.

Shared by the readers of JSON. A backslash that begins no escape is kept, as ``json_repair`` does.
"""

from __future__ import annotations

import json
import re

from streamll.core.parsing.release import so_far

_HEX = "[0-9a-fA-F]"
_HIGH = rf"u[dD][89abAB]{_HEX}{{2}}"  # the first half of a surrogate pair, without backslash
_LOW_STEPS = (r"\\", "u", "[dD]", "[c-fC-F]", _HEX, _HEX)  # the second half, with it
_LOW = "".join(_LOW_STEPS)
_LOW_SO_FAR = so_far(*_LOW_STEPS[:-1])

# The part of a string that is decided: up to the quote or an incomplete escape.
_DECIDED = re.compile(
    rf"""[^"\\]*
    (?:\\(?: [^u]
           | u(?![dD][89abAB]){_HEX}{{4}}
           | {_HIGH} (?: {_LOW} | (?!{_LOW_SO_FAR}\Z) )
         )
       [^"\\]*
    )*""",
    re.VERBOSE,
)
_ESCAPE_SO_FAR = re.compile(rf"\\(?:{so_far('u', _HEX, _HEX, _HEX)}|{_HIGH}{_LOW_SO_FAR})")
_ESCAPE = re.compile(rf"\\(?:([\"\\/bfnrt]|u{_HEX}{{4}})|(')|)")

_lenient = json.JSONDecoder(strict=False)  # allows raw control characters in strings


def match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where a pattern that also matches the empty text ends."""
    match = pattern.match(text, at)
    assert match is not None
    return match.end()


def string_part(text: str, at: int) -> tuple[str, int, str]:
    """The decided part of a string's inside, still encoded, and where to read on.

    That is at its quote or the end of the text. Third is an incomplete escape to be held back.
    """
    end = match_end(_DECIDED, text, at)
    if end == len(text) or text[end] != "\\":
        return text[at:end], end, ""
    if _ESCAPE_SO_FAR.fullmatch(text, end):
        return text[at:end], len(text), text[end:]
    return text[at : end + 1], end + 1, ""  # the backslash begins no escape


def decode_string(raw: str) -> str:
    """The text of a string's inside; a backslash that begins no escape stays."""
    if "\\" not in raw:
        return raw
    try:
        text: str = _lenient.decode(f'"{raw}"')
    except ValueError:
        text = _lenient.decode(f'"{_ESCAPE.sub(_repaired, raw)}"')
    return text


def _repaired(escape: re.Match[str]) -> str:
    known, apostrophe = escape.groups()
    return apostrophe or (escape.group() if known else r"\\")
