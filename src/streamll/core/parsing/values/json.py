r"""A JSON value (RFC 8259) while it arrives: text in, changes out, each character read once.

::

    value  = blank* (object | list | string | number | word)
    word   = "true" | "false" | "null", also as Python writes them

An object or a list may follow prose or the opening of a code fence; anything may follow the
value. Commas between members and items may be missing or too many. Strings may contain raw
control characters and unknown escapes. On anything else (single quotes, comments, keys without
quotes) the reader gives up: what was reported stays, ``is_lost`` is set, and the caller corrects
the value once the program has repaired the reply. Nothing ever raises.

``is_exact`` says whether the text was one JSON value and nothing else, so that every JSON parser
reads it as ``builder.value``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from streamll.core.parsing.strings import decode_string, match_end, string_part
from streamll.core.parsing.values.builder import Change, TooDeep, ValueBuilder
from streamll.core.parsing.values.schema import ANYTHING, SchemaView

_BLANKS = re.compile(r"[ \t\n\r]*")
_OPENING = re.compile(r"[\[{]")
_SCALAR = re.compile(r"[^\s,}\]:\"{\[]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_CONTROL = re.compile("[\0-\x1f]")
_ODD_ESCAPE = re.compile(r'\\(?:\\|["/bfnrt]|u[0-9a-fA-F]{4}|(.?))', re.DOTALL)
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
LONGEST_NUMBER = 400
"""Characters of a number; anything longer is not one."""


class JSONValueReader:
    """Reads one value; each state method reads a stretch of text and returns where it stopped."""

    def __init__(self, schema: SchemaView = ANYTHING, *, prose: bool = False) -> None:
        """``prose``: text may precede the value, which must be an object or a list then."""
        self.builder = ValueBuilder(schema)
        self.is_exact = True
        self.is_lost = False
        self._state: Callable[[JSONValueReader, str, int], int] = (
            JSONValueReader._before_all if prose else JSONValueReader._before_value
        )
        self._held = ""  # an escape that is not complete
        self._flows = False  # inside a string, nothing held back
        self._scalar: list[str] = []
        self._is_key = False
        self._key: list[str] = []
        self._brackets: list[str] = []  # the open ones; the builder may ignore some of them
        self._comma: bool | None = None  # whether one follows the last value; before any: None

    def feed(self, text: str) -> Sequence[Change]:
        """The changes that are certain after ``text``."""
        if self._flows and '"' not in text and "\\" not in text and text.isprintable():
            return self.builder.more_text(text)
        text, self._held = self._held + text, ""
        at = 0
        try:
            while (at := self._skip_blanks(text, at)) < len(text):
                at = self._state(self, text, at)
        except TooDeep:
            self._lose()
        self._flows = (
            self._state is JSONValueReader._in_string and not self._is_key and not self._held
        )
        return self.builder.take()

    def finish(self) -> Sequence[Change]:
        """The text has ended; a number may have ended with it."""
        if self._state is JSONValueReader._in_scalar and not self._brackets:
            self._end_scalar()
        if not self.builder.is_complete:
            self.is_exact = False
        self._state = JSONValueReader._after_all
        self._flows = False
        return self.builder.take()

    def _skip_blanks(self, text: str, at: int) -> int:
        inside = self._state in (JSONValueReader._in_string, JSONValueReader._in_scalar)
        return at if inside else match_end(_BLANKS, text, at)

    def _doubt(self, doubt: bool) -> None:
        self.is_exact = self.is_exact and not doubt

    def _lose(self) -> None:
        self.is_exact = False
        self.is_lost = True
        self._state = JSONValueReader._after_all

    # --- around the value -----------------------------------------------------------------------

    def _before_all(self, text: str, at: int) -> int:
        """Prose or a code fence; the first bracket begins the value."""
        if self.is_exact and text[at] == '"':  # a text, even if it holds a list or an object
            self._lose()
            return at
        match = _OPENING.search(text, at)
        if match is None or match.start() > at:
            self.is_exact = False
        if match is None:
            return len(text)
        self._state = JSONValueReader._before_value
        return match.start()

    def _after_all(self, text: str, at: int) -> int:
        self.is_exact = False
        return len(text)

    # --- values -----------------------------------------------------------------------------------

    def _before_value(self, text: str, at: int) -> int:
        sign = text[at]
        if sign == '"':
            self.builder.begin_text()
            self._is_key = False
            self._state = JSONValueReader._in_string
        elif sign in "[{":
            self.builder.begin([] if sign == "[" else {})
            self._brackets.append(sign)
            self._comma = None
            self._state = JSONValueReader._between
        elif sign in ",]}:'/#":
            self._lose()
        else:
            self._state = JSONValueReader._in_scalar
            return at
        return at + 1

    def _between(self, text: str, at: int) -> int:
        """In a list or object, outside its items or members."""
        in_list = self._brackets[-1] == "["
        sign = text[at]
        if sign == ("]" if in_list else "}"):
            self._doubt(self._comma is True)
            self._brackets.pop()
            self.builder.end()
            self._ended()
            return at + 1
        if sign == ",":
            self._doubt(self._comma is not False)
            self._comma = True
            return at + 1
        self._doubt(self._comma is False)
        if in_list:
            self._state = JSONValueReader._before_value
            return at
        self._is_key = True
        self._state = JSONValueReader._in_string
        if sign != '"':
            self._lose()
        return at + 1

    def _before_colon(self, text: str, at: int) -> int:
        if text[at] != ":":
            self._lose()
            return at
        self.builder.key("".join(self._key))
        self._key.clear()
        self._state = JSONValueReader._before_value
        return at + 1

    def _ended(self) -> None:
        self._comma = False
        self._state = JSONValueReader._between if self._brackets else JSONValueReader._after_all

    # --- numbers and words --------------------------------------------------------------------------

    def _in_scalar(self, text: str, at: int) -> int:
        end = match_end(_SCALAR, text, at)
        self._scalar.append(text[at:end])
        if end < len(text):
            self._end_scalar()
        elif sum(map(len, self._scalar)) > LONGEST_NUMBER:
            self._lose()
        return end

    def _end_scalar(self) -> None:
        written = "".join(self._scalar)
        self._scalar = []
        if written in _WORDS:
            self.is_exact = self.is_exact and written.islower()
            self.builder.put(_WORDS[written])
        elif (number := number_of(written)) is not None:
            self.builder.put(number)
        else:
            self._lose()
            return
        self._ended()

    # --- strings --------------------------------------------------------------------------------------

    def _in_string(self, text: str, at: int) -> int:
        raw, end, self._held = string_part(text, at)
        self._take(raw)
        if end == len(text) or text[end] != '"':
            return end
        if self._is_key:
            self._state = JSONValueReader._before_colon
        else:
            self.builder.end_text()
            self._ended()
        return end + 1

    def _take(self, raw: str) -> None:
        if not raw:
            return
        if self.is_exact and (_CONTROL.search(raw) or _has_odd_escape(raw)):
            self.is_exact = False
        text = decode_string(raw)
        if self._is_key:
            self._key.append(text)
        else:
            self.builder.text(text)


def _has_odd_escape(raw: str) -> bool:
    return "\\" in raw and any(match[1] is not None for match in _ODD_ESCAPE.finditer(raw))


def number_of(written: str) -> int | float | None:
    match = _NUMBER.fullmatch(written)
    if match is None:
        return None
    try:
        number: Any = json.loads(written)
    except ValueError:
        return None
    return number if isinstance(number, int) or math.isfinite(number) else None
