"""One HTTP reply to a request for a stream: bytes in, deltas out, one JSON body at the end.

A reply need not be a stream: servers answer with an HTTP error, with JSON although a stream was
asked for, with a proxy's page. Then it is kept as it is. What the body *is* decides, not its
content type: who reads a reply that is not streamed does not look at that either.
"""

from __future__ import annotations

import json

from streamll.capture.tap.wire.base import (
    LEAST_ERROR,
    Assembler,
    Confused,
    CutShort,
    MalformedFrame,
    WireFault,
)
from streamll.capture.tap.wire.sse import FrameSplitter

_REFUSING_STATUSES = frozenset({400, 403, 404, 405, 415, 422, 501})
_FIELDS = (b"data:", b"event:", b":", b"id:", b"retry:")  # what a stream can begin with
_ENOUGH = max(len(field) for field in _FIELDS)
_SKIPPED = b"\xef\xbb\xbf\r\n"  # a byte order mark, empty lines


class WireReply:
    """``opened`` with the status, ``feed`` the body, then ask for the ``body``.

    ``feed`` and ``body`` raise the assembler's ``WireFault``.
    """

    __slots__ = ("_assembler", "_kept", "_may_stream", "_splitter", "status", "streamed")

    def __init__(self, assembler: Assembler) -> None:
        self.streamed = False
        """It is a stream, and its text has been shown as it came."""
        self.status = 0
        self._assembler = assembler
        self._splitter = FrameSplitter()
        self._may_stream = True
        self._kept: list[bytes] = []  # all of a plain body; of a stream what came too soon to tell

    def opened(self, status: int) -> None:
        self.status = status
        self._may_stream = status < LEAST_ERROR

    def feed(self, chunk: bytes) -> None:
        if self.streamed:
            self._read(self._splitter.feed(chunk))
            return
        self._kept.append(chunk)
        if self._may_stream and self._begins_as_stream():
            self.streamed = True
            begin = b"".join(self._kept)
            self._kept.clear()
            self.feed(begin)

    @property
    def complete(self) -> bool:
        """The provider has said that the reply is over: what goes wrong now does no harm."""
        return self.streamed and self._assembler.complete

    @property
    def refused(self) -> bool:
        """The server does not take this request *as a stream*; it may without."""
        return self.status in _REFUSING_STATUSES and b"stream" in b"".join(self._kept).lower()

    def body(self) -> bytes:
        """What the same request would have got without streaming."""
        if not self.streamed:
            return b"".join(self._kept)
        try:
            self._read(self._splitter.finish())
        except MalformedFrame as fault:
            raise CutShort("the stream ended inside a frame") from fault
        try:
            return json.dumps(self._assembler.body()).encode()
        except WireFault:
            raise
        except Exception as error:
            raise Confused(error) from error

    def _read(self, frames: list[bytes]) -> None:
        read = self._assembler.frame
        try:
            for data in frames:
                read(data)
        except WireFault:
            raise
        except Exception as error:
            raise Confused(error) from error

    def _begins_as_stream(self) -> bool:
        begin = b"".join(self._kept).lstrip(_SKIPPED)[:_ENOUGH]
        if begin.startswith(_FIELDS):
            return True
        self._may_stream = len(begin) < _ENOUGH
        return False
