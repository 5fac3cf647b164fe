"""Fields of a reply that is a JSON object; the rule is ``JSONAdapter.parse``, which BAML shares.

::

    reply    = prose "{" [member ("," member)*] "}" prose
    member   = string ":" value           blanks may stand between all of these
    string   = '"' (character | escape)* '"'
    escape   = backslash ('"' | backslash | "/" | "b" | "f" | "n" | "r" | "t" | "u" hex*4)

The object begins at the first ``{`` that precedes a quote. A ``str`` field whose value is a
string is released decoded, character by character; an escape once it is complete, the first
half of a surrogate pair once it is certain whether the second half follows. Any other value
of a ``str`` field becomes ``str(value)``, as in ``parse_value``, and is released at its end.
Fields of other types are released as the model wrote them, quotes included. Nested objects are
never searched for fields.

The adapter takes ``json_repair.loads(reply)``, else that of the first balanced ``{…}``. So a
reply is well-formed if it is one valid JSON object (RFC 8259), alone or with prose or a code
fence around it that cannot be mistaken for JSON: prose without braces, without a comment sign
(``#``, ``/``) in the line of the object's ``{``, without a comma after its ``}``, and without
``[`` and ``(`` if strings of the object contain unbalanced braces, since the adapter then counts
those as well. Beyond that, raw control characters and unknown escapes in strings, and missing
or additional commas, are read as ``json_repair`` mostly reads them; at anything else the
parser gives up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from streamll.core.parsing.base import Piece, Text
from streamll.core.parsing.release import StateParser
from streamll.core.parsing.strings import decode_string, match_end, string_part

_RAW_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_BLANKS = re.compile(r"\s*")
_BETWEEN_MEMBERS = re.compile(r"[\s,]*")
_BRACKET_OR_QUOTE = re.compile(r'["{}\[\]]')
_SCALAR = re.compile(r"[^\s,}\]]*")


class JSONParser(StateParser):
    """Reads one object."""

    def __init__(self, fields: Mapping[str, bool | None]) -> None:
        super().__init__(fields, JSONParser._before_object)
        self._escaped = False  # the last character of a raw string was a backslash
        self._depth = 0  # of brackets in a raw value
        self._parts: list[str] = []  # of the key, or of a value to be converted
        self._final = False  # the text must be the final value
        self._convert = False  # and the value is not a string

    def feed(self, chunk: str) -> Sequence[Piece]:
        field = self._flow
        if field is not None and chunk and '"' not in chunk and "\\" not in chunk:
            return (Text(field, chunk),)
        self._read(chunk)
        inside = (self._state is JSONParser._in_string and not self._held) or (
            self._state is JSONParser._in_raw_string and not (self._convert or self._escaped)
        )
        self._flow = self._field if inside else None
        return self._take()

    def finish(self) -> Sequence[Piece]:
        self._end_value()
        self._state = JSONParser._after_object
        self._held = ""
        return super().finish()

    # --- the object ---------------------------------------------------------------------------

    def _before_object(self, text: str, at: int) -> int:
        brace = text.find("{", at)
        if brace < 0:
            return len(text)
        self._state = JSONParser._after_brace
        return brace + 1

    def _after_brace(self, text: str, at: int) -> int:
        """An object with members, or a brace in prose."""
        at = match_end(_BLANKS, text, at)
        if at < len(text):
            is_key = text[at] == '"'
            self._state = JSONParser._before_key if is_key else JSONParser._before_object
        return at

    def _before_key(self, text: str, at: int) -> int:
        at = match_end(_BETWEEN_MEMBERS, text, at)
        if at < len(text):
            is_key = text[at] == '"'
            self._state = JSONParser._in_key if is_key else JSONParser._after_object
        return at + 1

    def _in_key(self, text: str, at: int) -> int:
        raw, end, self._held = string_part(text, at)
        self._parts.append(decode_string(raw))
        if text[end : end + 1] == '"':
            self._state = JSONParser._before_colon
            return end + 1
        return end

    def _before_colon(self, text: str, at: int) -> int:
        at = match_end(_BLANKS, text, at)
        if at < len(text) and text[at] == ":":
            self._final = self._open("".join(self._parts))
            self._parts.clear()
            self._state = JSONParser._before_value
            return at + 1
        if at < len(text):
            self._state = JSONParser._after_object
        return at

    def _before_value(self, text: str, at: int) -> int:
        at = match_end(_BLANKS, text, at)
        if at == len(text):
            return at
        is_string = text[at] == '"'
        self._convert = self._final and not is_string
        if not is_string:
            is_nested = text[at] in "{["
            self._state = JSONParser._in_brackets if is_nested else JSONParser._in_scalar
            return at
        if not self._final:
            self._add('"')
        self._state = JSONParser._in_string if self._final else JSONParser._in_raw_string
        return at + 1

    def _after_object(self, text: str, at: int) -> int:
        return len(text)

    # --- the value of a str field ---------------------------------------------------------------

    def _in_string(self, text: str, at: int) -> int:
        raw, end, self._held = string_part(text, at)
        self._release(decode_string(raw))
        if text[end : end + 1] == '"':
            self._end_value()
            return end + 1
        return end

    # --- values as the model wrote them ---------------------------------------------------------

    def _in_raw_string(self, text: str, at: int) -> int:
        """A string: the value, or inside its brackets."""
        end = match_end(_RAW_STRING, text, at + self._escaped)
        self._escaped = text[end : end + 1] == "\\"
        self._add(text[at : end + 1])
        if text[end : end + 1] == '"':
            if self._depth:
                self._state = JSONParser._in_brackets
            else:
                self._end_value()
        return end + 1

    def _in_brackets(self, text: str, at: int) -> int:
        """An object or list, outside its strings."""
        match = _BRACKET_OR_QUOTE.search(text, at)
        end = match.end() if match else len(text)
        self._add(text[at:end])
        sign = match.group() if match else ""
        if sign == '"':
            self._state = JSONParser._in_raw_string
        elif sign:
            self._depth += 1 if sign in "{[" else -1
            if not self._depth:
                self._end_value()
        return end

    def _in_scalar(self, text: str, at: int) -> int:
        """A number, or a word such as ``null``."""
        end = match_end(_SCALAR, text, at)
        self._add(text[at:end])
        if end < len(text):
            self._end_value()
        return end

    def _add(self, raw: str) -> None:
        if self._convert:
            self._parts.append(raw)
        else:
            self._release(raw)

    def _end_value(self) -> None:
        if self._convert and self._field is not None:
            raw = "".join(self._parts)
            if raw != "null" or self._fields[self._field] is not None:
                self._release(_as_str(raw))
        self._convert = False
        self._parts.clear()
        self._close()
        self._state = JSONParser._before_key


def _as_str(raw: str) -> str:
    """What ``parse_value`` makes of a value that is not a string."""
    try:
        return str(json.loads(raw))
    except (ValueError, RecursionError):
        return raw
