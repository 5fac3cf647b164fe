"""Frames that differ only in one string: recognised by their bytes, so that only it is decoded.

Nearly all frames of a reply repeat the one before with another text, and with padding or ids beside it
that mean nothing. Decoding such a frame whole, to find that nothing else has changed, costs more
than everything that is done with its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from streamll.capture.deltas import Deltas
from streamll.capture.tap.wire.base import decode_object

Location = tuple[str | int, ...]
"""Keys and indexes that lead to a value inside a frame."""

MAX_SHAPES = 8
"""Shapes learned per reply. One that changes its shape with every frame is better decoded whole."""

_decode_string = msgspec.json.Decoder(str).decode
_PLACEHOLDER = "streamll\x00"

# Values that may stand for one another without a look at them. Each is valid JSON whatever it holds.
_STRING = rb'"[^"\\\x00-\x1f\x80-\xff]*"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_MEMBER = rb"[ ]*%b[ ]*:[ ]*(?:%b|%b)[ ]*" % (_STRING, _STRING, _NUMBER)
_KINDS = {
    str: re.compile(_STRING).match,
    int: re.compile(_NUMBER).match,
    float: re.compile(_NUMBER).match,
    dict: re.compile(rb"\{%b(?:,%b)*\}" % (_MEMBER, _MEMBER)).match,
}
_OTHERS: dict[type, Any] = {str: "streamll", int: 815, float: 8.15, dict: {"streamll": 815}}
"""A value of each kind that no frame has."""
_text = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL).match
_blanks = re.compile(rb"[ \t]*").match

Hole = Callable[[bytes, int], Any]


Holes = tuple[tuple[bytes, Hole], ...]
"""Values that do not count: the bytes before each, and what it is like."""


class Shape:
    """Bytes around a string and around ``Holes`` before and after it."""

    __slots__ = ("_after", "_before", "_keeper", "_outside", "_prefix", "_suffix", "say")

    def __init__(self, before: Holes, prefix: bytes, after: Holes, suffix: bytes) -> None:
        self.say: Callable[[str], Deltas]
        """Takes the string: its deltas."""
        self._keeper: Template | None = None  # where the last frame is kept, if it is to be
        self._before = before
        self._prefix = prefix
        self._after = after
        self._suffix = suffix
        self._outside = 0, 0  # bytes before and after it that are not the frame's

    def saying(self, say: Callable[[str], Deltas], keeper: Template | None) -> Shape:
        self.say, self._keeper = say, keeper
        return self

    def deltas_in(self, data: bytes, at: int, end: int) -> Deltas | None:
        """What ``data[at:end]`` says; None where it is not of this shape."""
        begin = at
        if self._before:
            begin = _behind(self._before, data, at)
        prefix, stop = self._prefix, end - len(self._suffix)
        if not (data.startswith(prefix, begin) and data.endswith(self._suffix, begin, end)):
            return None
        begin += len(prefix)
        if self._after:
            found = _text(data, begin)
            if found is None or _behind(self._after, data, found.end()) != stop:
                return None
            stop = found.end()
        try:
            text = _decode_string(data[begin:stop])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if not text:
            return None
        if self._keeper is not None:
            before, after = self._outside
            self._keeper.latest = data[at + before : end - after]
        return self.say(text)

    def within(self, before: bytes, after: bytes) -> Shape:
        """The shape of such frames with these bytes around them."""
        holes, prefix = self._before, self._prefix
        if holes:
            (literal, hole), *others = holes
            holes = ((before + literal, hole), *others)
        else:
            prefix = before + prefix
        outer = Shape(holes, prefix, self._after, self._suffix + after)
        outer._outside = len(before), len(after)
        return outer.saying(self.say, self._keeper)


def _behind(holes: Holes, data: bytes, at: int) -> int:
    """Where they end in ``data``, if they begin ``at``; else behind its end."""
    for literal, hole in holes:
        found = hole(data, at + len(literal)) if data.startswith(literal, at) else None
        if found is None:
            return len(data) + 1
        at = found.end()
    return at


class Template:
    """The shape of a reply's latest frames. ``forget`` it after a frame of another shape."""

    __slots__ = ("_left", "_seen", "_varied", "latest", "shape")

    def __init__(self) -> None:
        self.shape: Shape | None = None
        self.latest: bytes | None = None
        """The last frame that was read by a shape, where more than its text is wanted in the end."""
        self._left = MAX_SHAPES
        self._seen: dict[str, Any] = {}
        self._varied: set[str] = set()  # keys that have had several values

    def deltas_in(self, data: bytes) -> Deltas | None:
        """What a frame of the shape says; None for any other, which has to be decoded whole."""
        return None if self.shape is None else self.shape.deltas_in(data, 0, len(data))

    def learn(
        self,
        data: bytes,
        location: Location,
        text: str,
        say: Callable[[str], Deltas],
        varying: Iterable[str] = (),
        *,
        kept: bool = False,
    ) -> None:
        """Nothing counts in the frame ``data`` but ``text``, its string at ``location``.

        ``varying`` are keys of the frame whose values, if they vary, do not count either, or only
        in the end (``kept``). A frame that could not be read by the shape may be learned in its place.
        """
        if self._left:
            self._left -= 1
            frame = decode_object(data)
            values = {key: frame[key] for key in varying if key in frame}
            self._varied |= {
                key for key in values if self._seen.get(key, values[key]) != values[key]
            }
            self._seen = values
            varied = {key: values[key] for key in self._varied if key in values}
            if (shape := _shape_of(data, location, text, varied)) is not None:
                self.shape = shape.saying(say, self if kept else None)

    def forget(self) -> None:
        self.shape = None


def _shape_of(data: bytes, location: Location, text: str, values: dict[str, Any]) -> Shape | None:
    """The shape of a frame in which the string and these ``values`` of its keys may be others.

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
    expected = decode_object(data)
    before, after = _Cut(prefix, values), _Cut(suffix, values)
    other = decode_object(before.other + msgspec.json.encode(_PLACEHOLDER) + after.other)
    expected |= {key: _OTHERS[type(values[key])] for key in (*before.keys, *after.keys)}
    holder: Any = expected
    for key in location[:-1]:
        holder = holder[key]
    holder[location[-1]] = _PLACEHOLDER
    if other != expected:
        return None
    holes, end = after.holes, after.rest
    if (visible := end.rstrip(b" \t")) != end:  # padding as well
        holes, end = (*holes, (visible, _blanks)), b""
    return Shape(before.holes, before.rest, holes, end)


class _Cut:
    """Bytes of a frame, cut at the values of some of its keys."""

    def __init__(self, part: bytes, values: dict[str, Any]) -> None:
        self.keys: list[str] = []
        self.other = b""
        """The part with other values for these keys."""
        self.rest = part
        """What comes after them."""
        holes = []
        for begin, end, key in sorted(_places(part, values)):
            at = len(part) - len(self.rest)
            literal, self.rest = part[at:begin], part[end:]
            self.other += literal + msgspec.json.encode(_OTHERS[type(values[key])])
            self.keys.append(key)
            holes.append((literal, _KINDS[type(values[key])]))
        self.other += self.rest
        self.holes = tuple(holes)


def _places(part: bytes, values: dict[str, Any]) -> Iterator[tuple[int, int, str]]:
    """Where the values of keys are, as far as they are there, and simple."""
    for key, value in values.items():
        name = re.search(rb'"%b"[ ]*:[ ]*' % re.escape(key).encode(), part)
        if name and (match := _KINDS.get(type(value))) and (found := match(part, name.end())):
            yield name.end(), found.end(), key
