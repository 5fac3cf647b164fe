"""Frames that differ only in one string: recognised by their bytes, so that only it is decoded.

Nearly all frames of a reply repeat the one before with another text. Decoding such a frame whole, to
find that nothing else has changed, costs more than everything that is done with its text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamll.capture.tap.wire.base import decode_object

Location = tuple[str | int, ...]
"""Keys and indexes that lead to a value inside a frame."""

MAX_SHAPES = 8
"""Shapes learned per reply. One that changes its shape with every frame is better decoded whole."""

_decode_string = msgspec.json.Decoder(str).decode
_PLACEHOLDER = "streamll\x00"


class Template:
    """The shape of a reply's latest frames. ``forget`` it after a frame of another shape."""

    __slots__ = ("_from", "_left", "_prefix", "_suffix", "_to")

    def __init__(self) -> None:
        self._left = MAX_SHAPES
        self._prefix: bytes | None = None
        self._suffix = b""

    def text_in(self, data: bytes) -> str | None:
        """The new string in ``data``; ``None`` for any other frame, which has to be decoded whole."""
        prefix = self._prefix
        if prefix is not None and data.startswith(prefix) and data.endswith(self._suffix):
            try:
                return _decode_string(data[self._from : self._to])
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
        return None

    def learn(self, data: bytes, location: Location, text: str) -> None:
        """Nothing is new in the frame ``data`` but ``text``, its string at ``location``."""
        if self._prefix is None and self._left:
            self._left -= 1
            if cut := _around(data, location, text):
                self._prefix, self._suffix = cut
                self._from, self._to = len(self._prefix), -len(self._suffix)

    def forget(self) -> None:
        self._prefix = None


def _around(data: bytes, location: Location, text: str) -> tuple[bytes, bytes] | None:
    """The bytes before and after the string.

    ``None`` where it is uncertain which of the frame's bytes are that string: it occurs twice, or is
    escaped differently. A later frame will do.
    """
    try:
        written = msgspec.json.encode(text)
    except UnicodeEncodeError:  # half a surrogate pair
        return None
    prefix, found, suffix = data.partition(written)
    if not found or not suffix or written in suffix:
        return None
    other = decode_object(prefix + msgspec.json.encode(_PLACEHOLDER) + suffix)
    expected = decode_object(data)
    holder: Any = expected
    for key in location[:-1]:
        holder = holder[key]
    holder[location[-1]] = _PLACEHOLDER
    return (prefix, suffix) if other == expected else None
