"""The body of a reply, packet by packet: HTTP's framing undone, read, and told to the listener.

No I/O: whoever has a connection calls ``feed`` with what it receives. lm15's own decoder of the body
(chunked, of a length, to the end of the connection, compressed) does the framing and decides what
is an error; only whole chunks are cut out here, since it copies the rest of a packet with each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from streamll.capture.deltas import Deltas
from streamll.capture.tap.listener import Guarded

_LONGEST_SIZE = 16  # hexadecimal digits of a chunk's size, and the line end


class Reader(Protocol):
    """Makes deltas of what a transport brings: bytes of a wire, or an engine's events."""

    @property
    def fault(self) -> Exception | None:
        """Set when reading on is of no use."""

    @property
    def grace(self) -> float | None:
        """Seconds of silence to wait for what may still come, once nothing has to.

        None before that; from then on, perhaps others, but never None again.
        """

    def feed(self, item: Any, /) -> Deltas: ...

    def give_up(self) -> None:
        """The grace was over, or the connection lost, before the end of what there is to read."""


class Intake:
    """``feed`` packets; when it returns True, look at ``paused`` and ``over``.

    Once paused, feed nothing until ``go_on`` has returned False. Raises lm15's ``ProtocolError``,
    and ``Unwind`` where the run was cancelled.
    """

    def __init__(self, decoder: Any, reader: Reader, to: Guarded) -> None:
        self.paused = False
        """The listener has no room: ``pause`` before ``go_on``."""
        self.said = False
        """The last packet said something."""
        self.decoder = decoder
        self.reader = reader
        self.to = to
        self._cut = whole_chunks_of(decoder)
        self._chunks: Iterator[bytes] = iter(())

    @property
    def over(self) -> bool:
        """Nothing more is to be read: the body has ended, or its reader has no use for it."""
        return self.decoder.complete or self.reader.fault is not None

    def feed(self, packet: bytes) -> bool:
        """Read a packet. Returns whether anything but text has come of it."""
        self._chunks = self._cut(packet)
        return self.go_on()

    def go_on(self) -> bool:
        """Read what was left of a packet when the listener paused."""
        self.paused = self.said = False
        feed, hear = self.reader.feed, self.to.hear
        for chunk in self._chunks:
            deltas = feed(chunk)
            if deltas:
                self.said = True
            if hear(deltas):
                self.paused = True
                return True
            if self.reader.fault is not None:
                return True
        return self.over or self.reader.grace is not None

    def eof(self) -> bool:
        """The connection has ended, and with it the body, if its framing allows that."""
        self.decoder.eof()
        self._chunks = iter((tail,) if (tail := self.decoder.drain()) else ())
        return self.go_on()


def whole_chunks_of(decoder: Any) -> Any:
    """``decoder.feed``; for lm15's decoder of chunks, without its copies."""
    known = {"_buf", "_state", "_remaining", "DATA", "SIZE"}.issubset(dir(decoder))
    return (lambda packet: _chunks(decoder, packet)) if known else decoder.feed


def _chunks(decoder: Any, packet: bytes) -> Iterator[bytes]:
    """The decoder gets what is no whole chunk: the parts of one, the end, and what is malformed."""
    at, length = 0, len(packet)
    if decoder._state == decoder.DATA:  # noqa: SLF001
        at = decoder._remaining + 2  # noqa: SLF001 - and its line end
        yield from decoder.feed(packet[:at])
    while at < length and not decoder._buf and decoder._state == decoder.SIZE:  # noqa: SLF001
        end_of_size = packet.find(b"\r\n", at, at + _LONGEST_SIZE)
        try:
            begin = end_of_size + 2
            end = begin + int(packet[at:end_of_size], 16)
        except ValueError:
            break
        if end_of_size < 0 or end <= begin or packet[end : end + 2] != b"\r\n":
            break
        at = end + 2
        yield packet[begin:end]
    if at < length:
        yield from decoder.feed(packet[at:])
