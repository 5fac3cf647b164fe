"""The body of a reply, packet by packet: HTTP's framing undone, read, and told to the listener.

No I/O: whoever has a connection calls ``feed`` with what it receives. lm15's own decoder of the body
(chunked, of a length, to the end of the connection, compressed) does the framing and decides what
is an error; only whole chunks are cut out here, since it copies the rest of a packet with each.
"""

# ruff: noqa: SLF001 - the state of lm15's decoder

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streamll.capture.tap.listener import Guarded
from streamll.capture.tap.wire.reply import WireReply

_LONGEST_SIZE = 16  # hexadecimal digits of a chunk's size, and the line end


class Intake:
    """``feed`` packets; when it returns True, look at ``paused`` and ``over``.

    Once paused, feed nothing until ``go_on`` has returned False. Raises lm15's ``ProtocolError``,
    and ``Unwind`` where the run was cancelled.
    """

    def __init__(self, decoder: Any, reader: WireReply, to: Guarded) -> None:
        self.paused = False
        """The listener has no room: ``pause`` before ``go_on``."""
        self.said = False
        """The last packet said something."""
        self.decoder = decoder
        self.reader = reader
        self.to = to
        self._hear = to.hear
        self._chunked = {"_buf", "_state", "_remaining", "DATA", "SIZE"}.issubset(dir(decoder))
        self._between = False  # two chunks, so that the next packet may be one
        self._chunks: Iterator[bytes] = iter(())

    @property
    def over(self) -> bool:
        """Nothing more is to be read: the body has ended, or its reader has no use for it."""
        return self.decoder.complete or self.reader.fault is not None

    def feed(self, packet: bytes) -> bool:
        """Read a packet. Returns whether anything but text has come of it.

        As a rule a packet is one chunk with one token: then it is read by its bytes.
        """
        plain = self.reader.plain
        if self._between and plain is not None:
            at, end = packet.find(b"\r\n", 0, _LONGEST_SIZE) + 2, len(packet) - 2
            try:
                is_chunk = end - at == int(packet[: at - 2], 16) and packet[end:] == b"\r\n"
            except ValueError:
                is_chunk = False
            if is_chunk and (deltas := plain.deltas_in(packet, at, end)) is not None:
                self.paused = self._hear(deltas)
                return self.paused
        self._chunks = self._cut(packet) if self._chunked else self.decoder.feed(packet)
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
        self._between = self._chunked and self._at_boundary()
        return self.over or self.reader.grace is not None

    def eof(self) -> bool:
        """The connection has ended, and with it the body, if its framing allows that."""
        self.decoder.eof()
        self._chunks = iter((tail,) if (tail := self.decoder.drain()) else ())
        return self.go_on()

    # --- lm15's decoder of chunks, whose state has no public names --------------------------------

    def _at_boundary(self) -> bool:
        return not self.decoder._buf and self.decoder._state == self.decoder.SIZE

    def _cut(self, packet: bytes) -> Iterator[bytes]:
        """The decoder gets what is no whole chunk: the parts of one, the end, what is malformed."""
        at, length, decoder = 0, len(packet), self.decoder
        if decoder._state == decoder.DATA:
            at = decoder._remaining + 2  # and its line end
            yield from decoder.feed(packet[:at])
        while at < length and self._at_boundary():
            begin = packet.find(b"\r\n", at, at + _LONGEST_SIZE) + 2
            try:
                end = begin + int(packet[at : begin - 2], 16)
            except ValueError:
                break
            if end <= begin or packet[end : end + 2] != b"\r\n":
                break
            at = end + 2
            yield packet[begin:end]
        if at < length:
            yield from decoder.feed(packet[at:])
