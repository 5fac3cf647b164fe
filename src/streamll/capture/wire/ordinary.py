"""Recognises the frame that comes a thousand times: like an earlier one, but for its text.

Of a long reply's frames nearly all are equal up to one string. Such a frame needs no JSON
reading: where everything around the string is byte for byte what it was, everything it means
besides the string is what it was. Only what needs no further bookkeeping may be learnt.

Providers whose frames differ in more (a sequence number, padding) never match; then this costs
two comparisons per frame and a few lessons.
"""

from __future__ import annotations

import re

import msgspec

_LESSONS = 3

_decode_string = msgspec.json.Decoder(str).decode


class OrdinaryFrame:
    """The text of one ``key`` of the frames of one reply."""

    __slots__ = ("_after", "_before", "_end", "_lessons", "_pattern", "_start")

    def __init__(self, key: str) -> None:
        self._pattern = re.compile(rb'"%s"\s*:\s*"((?:[^"\\]|\\.)*)"' % key.encode())
        self._lessons = _LESSONS
        self._before = b"\n"  # no frame's data begins with a line feed and ends with one
        self._after = b"\n"
        self._start = self._end = 0

    def text_of(self, data: bytes) -> str | None:
        """The text, or None for a frame that has to be read."""
        if data.startswith(self._before) and data.endswith(self._after):
            try:
                return _decode_string(data[self._start : self._end])
            except msgspec.MsgspecError:
                return None
        return None

    def learn(self, data: bytes) -> bool:
        """Take ``data`` as the model: it says its text and nothing else that counts."""
        if not self._lessons:
            return False
        self._lessons -= 1
        places = list(self._pattern.finditer(data))
        if len(places) != 1:
            return False  # the key occurs elsewhere too: which is the text is not for us to say
        start, end = places[0].span(1)
        self._before, self._after = data[:start], data[end:]
        self._start, self._end = start - 1, end - len(data) + 1  # with the quotes
        return True
