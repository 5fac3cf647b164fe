"""Frames that are alike but for one string: known by their bytes, so that only the string is read.

Nearly all frames of a reply repeat the one before, with other text in it. Decoding such a frame
whole, to find that nothing else has changed, costs more than everything that is done with its text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamll.capture.tap.wire.base import decode_object

Place = tuple[str | int, ...]

_decode_string = msgspec.json.Decoder(str).decode
_STAND_IN = "streamll\x00"


TEMPLATES = 8
"""So many a reply may have. One that changes its shape with every frame is better read whole."""


class Template:
    """The shape of one reply's latest frames. ``forget`` it when a frame of another kind came."""

    __slots__ = ("_from", "_left", "_prefix", "_suffix", "_to")

    def __init__(self) -> None:
        self._left = TEMPLATES
        self._prefix: bytes | None = None
        self._suffix = b""

    def text_in(self, data: bytes) -> str | None:
        """The new string in ``data``; ``None`` if it is another frame, or has to be read whole."""
        prefix = self._prefix
        if prefix is not None and data.startswith(prefix) and data.endswith(self._suffix):
            try:
                return _decode_string(data[self._from : self._to])
            except msgspec.DecodeError:
                return None
        return None

    def learn(self, data: bytes, place: Place, text: str) -> None:
        """The frame ``data`` says nothing new but ``text``, its string at ``place``."""
        if self._prefix is None and self._left:
            self._left -= 1
            if cut := _around(data, place, text):
                self._prefix, self._suffix = cut
                self._from, self._to = len(self._prefix), -len(self._suffix)

    def forget(self) -> None:
        self._prefix = None


def _around(data: bytes, place: Place, text: str) -> tuple[bytes, bytes] | None:
    """What stands before and after the string.

    ``None`` where it cannot be told which of the frame's bytes are that string: it occurs twice,
    or is written with escapes of the provider's own. A later frame will do.
    """
    try:
        written = msgspec.json.encode(text)
    except UnicodeEncodeError:  # half a surrogate pair
        return None
    prefix, found, suffix = data.partition(written)
    if not found or not suffix or written in suffix:
        return None
    other = decode_object(prefix + msgspec.json.encode(_STAND_IN) + suffix)
    expected = decode_object(data)
    _put(expected, place, _STAND_IN)
    return (prefix, suffix) if other == expected else None


def _put(holder: Any, place: Place, value: str) -> None:
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
