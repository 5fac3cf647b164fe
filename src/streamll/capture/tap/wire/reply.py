"""One HTTP reply to a request for a stream: bytes in, deltas out, one JSON body at the end.

The reply need not be a stream: servers answer with an HTTP error, with JSON although a stream was
asked for, or with a proxy's page. Such a body is kept as it is. What decides is what the body looks
like, not its content type, which readers of plain replies ignore as well.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from typing import Any

from streamll.capture.deltas import Delta, Deltas
from streamll.capture.tap.wire import base
from streamll.capture.tap.wire.sse import ErrorEvent, FrameSplitter
from streamll.capture.tap.wire.template import Shape, Template

_REFUSING_STATUSES = frozenset({400, 403, 404, 405, 406, 415, 422, 501})
_OF_STREAMS = re.compile(rb"(?<![a-z])stream").search
_REFUSES = re.compile(
    rb"not (?:be )?(?:support|allow|available|implement|enabled|permit)|n't support|unsupported"
    rb"|cannot use|disabled"
).search
"""What an error of any other kind has to say as well."""
_STREAM_STARTS = (b"data:", b"data\n", b"data\r", b"event:", b":", b"id:", b"retry:", b"error: {")
_LONGEST_START = max(len(start) for start in _STREAM_STARTS)
_SKIPPED = b"\xef\xbb\xbf\r\n \t"  # a byte order mark, empty lines, blanks before a field

GRACE_AFTER_END_S = 0.1
"""How long the body may take to end after the stream has, so that the connection can be kept."""
GRACE_AFTER_REASON_S = 1.0
"""How long the end may take after usage and the reason why the reply is over."""
GRACE_AFTER_EARLY_REASON_S = 5.0
"""How long usage may take after the reason, and more after a reason that came too early to be believed.
Then the plain reply is asked for: neither is the reply known to be whole, nor does it have to wait for a
line that stays open.
"""


class WireReply:
    """Sans-I/O: ``opened`` with the status, ``feed`` each chunk, ``finish``, then ask for ``body``.

    ``feed`` and ``finish`` never raise: what was read before a fault counts. From then on ``fault`` is
    set, there is no use in reading on, and ``body`` raises it.
    """

    __slots__ = (
        "_assembler", "_closed", "_has_said", "_kept", "_may_stream", "_splitter", "_template",
        "fault", "plain", "status", "streamed",
    )  # fmt: skip

    def __init__(self, assembler: base.Assembler) -> None:
        self.streamed = False
        """The body is a stream, whose deltas have been returned as they came."""
        self.status = 0
        self.fault: base.WireFault | None = None
        self._assembler = assembler
        self._splitter = FrameSplitter()
        self._template: Template | None = getattr(assembler, "template", None)
        self.plain: Shape | None = None
        """What the next chunk looks like if only its text is new: ``feed`` may then be left out."""
        self._may_stream = True
        self._has_said = False
        self._closed = True
        self._kept: list[bytes] = []  # a plain body; a stream's first bytes while undecided

    def opened(self, status: int) -> None:
        self.status = status
        self._may_stream = status < base.HTTP_ERROR

    def feed(self, chunk: bytes) -> Deltas:
        """The deltas of the frames that ``chunk`` completes."""
        if self.plain is not None:
            if (deltas := self.plain.deltas_in(chunk, 0, len(chunk))) is not None:
                return deltas
            self.plain = None
        if not self.streamed:
            self._kept.append(chunk)
            if not (self._may_stream and self._begins_as_stream()):
                return ()
            self.streamed = True
            chunk = b"".join(self._kept)
            self._kept.clear()
        if self._assembler.complete:
            return ()
        frames = self._splitter.feed(chunk)
        if len(frames) == 1 and type(frames[0]) is bytes:
            try:
                deltas = self._assembler.frame(frames[0])
            except Exception as error:  # noqa: BLE001 - a bug here must not end the program
                self._fail(error)
                return ()
            self._remember(chunk, frames[0])
            self._has_said |= bool(deltas)
            return deltas
        return self._read(frames)

    def _remember(self, chunk: bytes, frame: bytes) -> None:
        """Know the next chunk by its bytes, if this is one frame that has a shape, and is over."""
        shape = self._template.shape if self._template is not None else None
        if shape is None or self.grace is not None or not self._splitter.idle:
            return
        before, found, after = chunk.partition(frame)
        if found:
            self.plain = shape.within(before, after)

    def give_up(self) -> None:
        """The body has not ended: the connection was lost, or left in a silence."""
        self._closed = False

    def finish(self) -> Deltas:
        """The body will not be read on: the deltas of a frame without its blank line."""
        return () if self.fault is not None else self._read(self._splitter.finish(), ended=True)

    @property
    def whole(self) -> bool:
        """Nothing of the reply is missing: what goes wrong from now on does no harm."""
        return self.streamed and (self._assembler.complete or self._assembler.finished)

    @property
    def usage(self) -> Any:
        """What the provider has reported of tokens so far, in its own words; ``None`` before it has."""
        if self.streamed:
            return self._assembler.usage
        if not 0 < self.status < base.HTTP_ERROR:
            return None
        try:
            body = base.decode_object(b"".join(self._kept))
        except base.WireFault:
            return None
        return body.get("usage") or body.get("usageMetadata")

    @property
    def outlives_a_cut(self) -> bool:
        """Whether losing the connection is no error: the reply is whole, or may be."""
        return self.whole or (self.streamed and self._assembler.doubtful)

    @property
    def grace(self) -> float | None:
        """How many seconds of silence to wait for what may still come; None before any end."""
        if not self.streamed:
            return None
        if self._assembler.complete:
            return GRACE_AFTER_END_S
        if self._assembler.finished and self._assembler.usage:
            return GRACE_AFTER_REASON_S
        return GRACE_AFTER_EARLY_REASON_S if self._assembler.has_reason else None

    @property
    def refused(self) -> bool:
        """The server does not take this request *as a stream*; it may without."""
        told = self._error.lower()
        if not _OF_STREAMS(told):
            return False
        return self.status in _REFUSING_STATUSES or bool(_REFUSES(told))

    @property
    def _error(self) -> bytes:
        """What came in place of a reply, if it may be about streaming."""
        if self.streamed:
            is_first = isinstance(self.fault, base.ErrorFrame) and not self._has_said
            return self.fault.body if is_first else b""  # type: ignore[union-attr]
        body = b"".join(self._kept)
        if self.status in _REFUSING_STATUSES or self.status == 500:  # noqa: PLR2004
            return body
        with contextlib.suppress(base.WireFault):
            return body if self.status < base.HTTP_ERROR and _tells_an_error(body) else b""
        return b""

    def body(self) -> bytes:
        """What the same request would have got without streaming. Raises a ``WireFault``."""
        if not (self.streamed or self._is_array_of_frames()):
            return self._plain_body()
        if self.fault is not None:
            raise self.fault
        if not (self._closed or self.whole):
            raise base.Confused("a reason of the end that came too early to be one")
        try:
            return json.dumps(self._assembler.body()).encode()
        except base.WireFault:
            raise
        except Exception as error:
            raise base.UnknownShape(error) from error

    def _plain_body(self) -> bytes:
        body = b"".join(self._kept)
        if self.status >= base.HTTP_ERROR:
            return _error_in_a_frame(body)
        if body.lstrip()[:1] == b"{" and _is_lines_of_json(body):
            raise base.Confused("lines of JSON in place of a stream")
        return body

    def _is_array_of_frames(self) -> bool:
        """Whether the body is a stream in one JSON array. Its frames have then been read."""
        body = b"".join(self._kept)
        if self.status >= base.HTTP_ERROR or body.lstrip()[:1] != b"[":
            return False
        try:
            frames = json.loads(body)
        except ValueError:
            return False
        if not frames or any(type(frame) is not dict for frame in frames):
            return False
        self._read([json.dumps(frame).encode() for frame in frames])
        return True

    def _read(self, frames: Sequence[bytes], *, ended: bool = False) -> Deltas:
        deltas: list[Delta] = []
        for data in frames:
            if self._assembler.complete or self.fault is not None:
                break
            try:
                if isinstance(data, ErrorEvent):
                    raise base.error_under_its_name(data)  # noqa: TRY301
                deltas += self._assembler.frame(data)
            except Exception as error:  # noqa: BLE001
                self._fail(error, ended=ended)
        self._has_said |= bool(deltas)
        return deltas

    def _fail(self, error: Exception, *, ended: bool = False) -> None:
        if isinstance(error, base.MalformedFrame):
            if self.whole:
                return  # words after the end
            if ended and not self._assembler.doubtful:
                error = base.CutShort("the stream ended inside a frame")
            else:
                error = base.Confused(str(error))
        self.fault = error if isinstance(error, base.WireFault) else base.UnknownShape(error)

    def _begins_as_stream(self) -> bool:
        begin = b"".join(self._kept).lstrip(_SKIPPED)[:_LONGEST_START]
        if begin.startswith(_STREAM_STARTS):
            return True
        self._may_stream = len(begin) < _LONGEST_START
        return False


def _error_in_a_frame(body: bytes) -> bytes:
    """The body of an HTTP error; of one that is written as a stream, the error in its frame."""
    if not body.lstrip(_SKIPPED).startswith(_STREAM_STARTS):
        return body
    splitter = FrameSplitter()
    frames = [*splitter.feed(body), *splitter.finish()]
    try:
        told = frames and (isinstance(frames[0], ErrorEvent) or _tells_an_error(frames[0]))
    except base.MalformedFrame:
        return body
    return bytes(frames[0]) if told else body


def _tells_an_error(data: bytes) -> bool:
    return base.error_in(base.decode_object(data), data) is not None


def _is_lines_of_json(body: bytes) -> bool:
    """Whether a body is not one JSON object but several, one a line."""
    first, _, rest = body.strip().partition(b"\n")
    if rest.lstrip()[:1] != b"{":
        return False
    try:
        base.decode_object(first)
    except base.MalformedFrame:
        return False
    return True
