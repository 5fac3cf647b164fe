"""Server-sent events, cut out of a byte stream: ``feed`` bytes, get the frames' data.

Follows the WHATWG HTML standard, "Server-sent events": LF, CRLF and CR end lines, also when CR and LF
arrive in different chunks; comments and unknown fields are skipped; several ``data`` lines of a frame
are joined by LF; a byte order mark at the start is dropped. Works on bytes, which are not decoded
here, and looks at each a bounded number of times, however long a line and however small the chunks.

Event names, ids and retry times are dropped: every provider repeats the name inside the data. The
name ``error`` counts, since what comes under it need not say that it is one: such data is an
``ErrorEvent``. Under a name that no wire has, data without any of a reply's keys is no frame: a
reader that listens for a wire's events does not hear of it.

Beyond the standard, as gateways send it: blanks before a field's name; frames of one line each
without a blank line between them; a JSON object without ``data:``, as a whole block; an error
under the field name ``error``. Data without content (nothing, blanks, ``null``, a comment, a word
that keeps the line alive) is no frame.
"""

from __future__ import annotations

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANKS = b" \t"
_ERRORS = frozenset({b"error", b"exception"})
_PINGS = frozenset({b"ping", b"pong", b"heartbeat", b"keepalive", b"keep-alive", b"keep_alive"})
_OWN = (b"message", b"content", b"response", b"chat", b"completion", b"chunk", b"delta", b"data")
"""What the names begin with under which servers send frames."""
_KEYS = (b'"choices"', b'"candidates"', b'"delta"', b'"error"', b'"usage', b'"response',
         b'"message_', b'"content_block', b'"base_resp"')  # fmt: skip
_END = b"[DONE]\n"
_NOTHING = frozenset({b"", b"null", b'""', b"[]"})


class ErrorEvent(bytes):
    """The data of a frame that is an error by its name; any text, or JSON of any shape."""


class FrameSplitter:
    """Splits one response. A frame is complete when its blank line has arrived."""

    __slots__ = ("_after_cr", "_at_start", "_pending")

    def __init__(self) -> None:
        self._pending: list[bytes] = []  # the pieces of an incomplete frame
        self._after_cr = False
        self._at_start = True

    @property
    def idle(self) -> bool:
        """Between two frames."""
        return not (self._pending or self._after_cr or self._at_start)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every frame that ``chunk`` completes."""
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_lf(chunk)
        if not chunk:
            return []
        if (  # one frame of one line: what a provider sends that sends each frame at once
            not self._pending
            and chunk[:6] == b"data: "
            and chunk[-1:] == b"\n"
            and chunk.find(b"\n") == len(chunk) - 2
        ):
            self._at_start = False
            data = chunk[6:-2]
            return [data] if data[:1] == b"{" or _is_content(data) else []
        if pending := self._pending:
            completes = b"\n\n" in chunk or (chunk[:1] == b"\n" and pending[-1][-1:] == b"\n")
            if not completes:
                pending.append(chunk)
                return self._announced_end(chunk)
            chunk = b"".join(pending) + chunk
            pending.clear()
        blocks = chunk.split(b"\n\n")
        if rest := blocks.pop():
            pending.append(rest)
        if blocks and self._at_start:
            self._at_start = False
            blocks[0] = blocks[0].removeprefix(_BYTE_ORDER_MARK)
        if len(blocks) == 1 and not rest:
            return _frames(blocks[0])
        frames = [data for block in blocks for data in _frames(block)]
        return [*frames, *self._announced_end(rest)] if rest else frames

    def finish(self) -> list[bytes]:
        """The stream has ended; a last frame may lack its blank line."""
        rest = b"".join(self._pending)
        self._pending.clear()
        if self._at_start:
            rest = rest.removeprefix(_BYTE_ORDER_MARK)
        return _frames(rest)

    def _announced_end(self, chunk: bytes) -> list[bytes]:
        """What waits for a blank line, if its last line is the end: on an open line none may come."""
        if chunk[-1:] != b"\n":
            return []
        tail = b""
        for piece in reversed(self._pending):
            tail = piece + tail
            if len(tail) >= len(_END):
                break
        return self.finish() if tail.endswith(_END) else []

    def _with_lf(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._after_cr = False
        if chunk:
            self._after_cr = chunk[-1:] == b"\r"
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _frames(block: bytes) -> list[bytes]:
    """The data of a block: mostly one frame; none for comments and a bare event name."""
    if block[:7] == b"data: {" and b"\n" not in block:
        return [block[6:]]
    event, lines = b"", []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        name = name.removeprefix(_BYTE_ORDER_MARK).strip(_BLANKS)  # of two streams in one
        value = value[1:] if value[:1] == b" " else value
        if name == b"data":
            lines.append(value)
        elif name == b"event":
            event = value.strip().lower()
        elif name == b"error" and value.strip():
            return [ErrorEvent(value.strip())]
    if not lines:
        bare = block.strip()
        return [bare] if bare[:1] == b"{" and bare[-1:] == b"}" else []
    if len(lines) > 1 and all(map(_is_whole, lines)):  # no blank line between them
        return [line for line in lines if line.strip()]
    data = b"\n".join(lines)
    if event in _ERRORS:
        return [ErrorEvent(data.strip())]
    says_nothing = event in _PINGS or not _is_content(data)
    return [] if says_nothing or (event and _is_foreign(event, data)) else [data]


def _is_content(data: bytes) -> bool:
    data = data.strip()
    return data[:1] != b":" and data not in _NOTHING and data.lower() not in _PINGS


def _is_foreign(event: bytes, data: bytes) -> bool:
    if event.startswith(_OWN) or data.strip() == b"[DONE]":
        return False
    return data.lstrip()[:1] != b"{" or not any(key in data for key in _KEYS)


def _is_whole(line: bytes) -> bool:
    """Whether a line of a frame's data is a frame of its own: lines of JSON rarely are."""
    line = line.strip()
    return not line or line == b"[DONE]" or (line[:1] == b"{" and line[-1:] == b"}")
