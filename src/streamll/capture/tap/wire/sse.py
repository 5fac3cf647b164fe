"""Server-sent events, cut out of a byte stream: ``feed`` bytes, get the frames' data.

Follows the WHATWG HTML standard, "Server-sent events": LF, CRLF and CR end lines, also when CR and LF
arrive in different chunks; comments and unknown fields are skipped; several ``data`` lines of a frame
are joined by LF; a byte order mark at the start is dropped. Works on bytes, which are not decoded
here, and looks at each a bounded number of times, however long a line and however small the chunks.

Event names, ids and retry times are dropped: every provider repeats the name inside the data.
"""

from __future__ import annotations

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FrameSplitter:
    """Splits one response. A frame is complete when its blank line has arrived."""

    __slots__ = ("_after_cr", "_at_start", "_pending")

    def __init__(self) -> None:
        self._pending: list[bytes] = []  # the pieces of an incomplete frame
        self._after_cr = False
        self._at_start = True

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
            return [chunk[6:-2]]
        if pending := self._pending:
            completes = b"\n\n" in chunk or (chunk[:1] == b"\n" and pending[-1][-1:] == b"\n")
            if not completes:
                pending.append(chunk)
                return []
            chunk = b"".join(pending) + chunk
            pending.clear()
        blocks = chunk.split(b"\n\n")
        if rest := blocks.pop():
            pending.append(rest)
        if not blocks:
            return []
        if self._at_start:
            self._at_start = False
            blocks[0] = blocks[0].removeprefix(_BYTE_ORDER_MARK)
        return [data for block in blocks if (data := _data(block)) is not None]

    def finish(self) -> list[bytes]:
        """The stream has ended; a last frame may lack its blank line."""
        rest = b"".join(self._pending)
        self._pending.clear()
        if self._at_start:
            rest = rest.removeprefix(_BYTE_ORDER_MARK)
        data = _data(rest)
        return [] if data is None else [data]

    def _with_lf(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._after_cr = False
        if chunk:
            self._after_cr = chunk[-1:] == b"\r"
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data(block: bytes) -> bytes | None:
    """A frame's data, or None where it has none (comments, a bare event name)."""
    if block[:6] == b"data: " and b"\n" not in block:
        return block[6:]
    lines = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value[1:] if value[:1] == b" " else value)
    return b"\n".join(lines) if lines else None
