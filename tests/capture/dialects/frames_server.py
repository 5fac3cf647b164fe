"""A server that sends what a case says, byte by byte as the case says it.

The practice server speaks its wires as they are documented. This one has no idea of a wire: a request
for a stream gets raw frames, any other the plain reply, each from the ``Play`` that its path names.
"""

from __future__ import annotations

import itertools
import json
import socketserver
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from case import PAUSE

PAUSE_S = 0.2
HOLD_S = 60.0
"""How long a line is held open. A client that waits for the server's end waits as long."""

CUTS = ("whole", "frame", "byte")
"""How a stream is cut: one chunk, a chunk for each frame, a chunk for each byte."""


@dataclass
class Sent:
    """What is sent: ``pieces`` of a body, and then ``end``.

    * ``"close"``: the body ends as it should.
    * ``"eof"``: the end of the connection is that of the body, which no header announces.
    * ``"cut"``: the connection is lost.
    * ``"open"``: nothing more comes, and the line stays open.
    """

    pieces: Sequence[bytes]
    end: str = "close"
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    trailers: bytes = b""


CODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS, "raw deflate": -zlib.MAX_WBITS}


def encoded(pieces: Sequence[bytes], coding: str) -> list[bytes]:
    """Each piece so that it can be read by itself."""
    made = zlib.compressobj(wbits=CODINGS[coding])
    sent = [piece if piece is PAUSE else made.compress(piece) + made.flush(zlib.Z_SYNC_FLUSH)
            for piece in pieces]  # fmt: skip
    return [*sent, made.flush()]


def cut(frames: Sequence[bytes], how: str) -> list[bytes]:
    """The chunks of a stream, with its pauses."""
    chunks: list[bytes] = []
    for pauses, group in itertools.groupby(frames, lambda frame: frame is PAUSE):
        given = list(group)
        whole = b"".join(given)
        if pauses or how == "frame":
            chunks += [frame for frame in given if frame]
        elif how == "byte":
            chunks += [whole[at : at + 1] for at in range(len(whole))]
        elif whole:
            chunks.append(whole)
    return chunks


@dataclass
class Play:
    """One call's replies, and what the server saw of it."""

    stream: Sent
    plain: Sent
    streams: int = 0
    plains: int = 0
    client_left: threading.Event = field(default_factory=threading.Event)
    """Set when a client closes a connection that is held open."""

    @property
    def requests(self) -> int:
        return self.streams + self.plains


class FramesServer:
    """``with FramesServer() as server: url = server.play(Play(…))``."""

    def __init__(self) -> None:
        self.plays: dict[str, Play] = {}
        self._numbers = itertools.count()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.plays = self.plays
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def play(self, play: Play) -> str:
        """The base URL, without a version, at which these replies are given."""
        key = str(next(self._numbers))
        self.plays[key] = play
        host, port = self._server.server_address[:2]
        return f"http://{host}:{port}/{key}"

    def __enter__(self) -> FramesServer:  # noqa: PYI034 - Self needs Python 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    plays: dict[str, Play]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is no error."""


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        while self._answer_one():
            pass

    def _answer_one(self) -> bool:
        """Answer one request; whether the connection can be used again."""
        line = self.rfile.readline()
        if not line.strip():
            return False
        target = line.split()[1].decode()
        length = 0
        while (header := self.rfile.readline().strip()) != b"":
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = json.loads(self.rfile.read(length) or b"{}")
        play = self.server.plays[target.split("/")[1]]
        if body.get("stream") or ":streamGenerateContent" in target:
            play.streams += 1
            return self._send(play, play.stream)
        play.plains += 1
        return self._send(play, play.plain)

    def _send(self, play: Play, sent: Sent) -> bool:
        chunked = sent.end != "eof"
        framing = {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
        headers = {"content-type": sent.content_type, **framing}
        lines = [f"{name}: {value}" for name, value in {**headers, **sent.headers}.items()]
        head = "\r\n".join([f"HTTP/1.1 {sent.status} X", *lines, "", ""]).encode()
        for pauses, pieces in itertools.groupby(sent.pieces, lambda piece: piece is PAUSE):
            if pauses:
                self.wfile.write(head)
                head = b""
                time.sleep(PAUSE_S)
            elif chunked:
                head += b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            else:
                head += b"".join(pieces)
        end = b"0\r\n" + sent.trailers + b"\r\n" if sent.end == "close" else b""
        self.wfile.write(head + end)
        if sent.end == "open":
            self._hold(play)
        return sent.end == "close"

    def _hold(self, play: Play) -> None:
        self.connection.settimeout(HOLD_S)
        try:
            if self.connection.recv(1) == b"":
                play.client_left.set()
        except ConnectionError:
            play.client_left.set()
        except TimeoutError:
            pass
