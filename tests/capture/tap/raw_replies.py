"""A provider that writes given bytes, and HTTP replies in every framing to give it."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

WORDS = ["It", " is", " blue", ", of", " course", ': "sky"', " and\n", "söß"] * 4
TEXT = "".join(WORDS)
RESET, CLOSE, KEEP = object(), object(), object()


def frames(words: Iterable[str] = WORDS) -> list[bytes]:
    """A chat completion as server-sent events."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    choices = [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None},
        *({"index": 0, "delta": {"content": w}, "finish_reason": None} for w in words),
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]
    bodies = [{**head, "choices": [choice]} for choice in choices]
    bodies.append({**head, "choices": [], "usage": usage})
    return [f"data: {json.dumps(body)}\n\n".encode() for body in bodies] + [b"data: [DONE]\n\n"]


def in_chunks(pieces: Iterable[bytes], extension: bytes = b"") -> bytes:
    chunks = (b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in pieces)
    return b"".join(chunks) + b"0\r\n\r\n"


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def reply_of(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} 200 OK", "Content-Type: text/event-stream", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def _deflated(data: bytes) -> bytes:
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return raw.compress(data) + raw.flush()


CHUNKED = "Transfer-Encoding: chunked"
_all = b"".join(frames())
_gzip, _deflate = gzip.compress(_all), _deflated(_all)

FRAMINGS: dict[str, tuple[bytes, object]] = {
    "a chunk for each frame": (reply_of(in_chunks(frames()), CHUNKED), KEEP),
    "chunks with extensions": (reply_of(in_chunks(frames(), b";a=b"), CHUNKED), KEEP),
    "chunks across frames": (reply_of(in_chunks(cut(_all, 37)), CHUNKED), KEEP),
    "trailers": (reply_of(in_chunks(frames())[:-2] + b"X-T: 1\r\n\r\n", CHUNKED), KEEP),
    "a length": (reply_of(_all, f"Content-Length: {len(_all)}"), KEEP),
    "gzip in chunks": (
        reply_of(in_chunks(cut(_gzip, 19)), CHUNKED, "Content-Encoding: gzip"), KEEP,
    ),
    "deflate of a length": (
        reply_of(_deflate, f"Content-Length: {len(_deflate)}", "Content-Encoding: deflate"), KEEP,
    ),
    "HTTP/1.0, to the end of the connection": (reply_of(_all, version="1.0"), CLOSE),
    "to the end of the connection": (reply_of(_all), CLOSE),
    "a connection that is to be closed": (
        reply_of(in_chunks(frames()), CHUNKED, "Connection: close"), CLOSE,
    ),
}  # fmt: skip
"""By name: the bytes of a reply, and what becomes of its connection."""

PLAIN = FRAMINGS["a chunk for each frame"][0]


class RawProvider:
    """Sends ``answers``, one for each request: pieces of bytes, then what happens to the connection.

    ``served`` has the number of requests for each connection.
    """

    def __init__(self, *answers: Sequence[object], tls: ssl.SSLContext | None = None) -> None:
        self.served: list[int] = []
        self.targets: list[str] = []
        self._answers = list(answers)
        self._tls = tls
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port: int = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        for each in (self._socket, *self._open):
            with_shutdown(each)
        for thread in self._threads:
            thread.join(60)  # some answers wait for seconds
            assert not thread.is_alive()

    def __enter__(self) -> RawProvider:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection, len(self.served)))
            self.served.append(0)
            self._open.append(connection)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            while request := read_request(connection):
                self.targets.append(request.split(b" ", 2)[1].decode())
                with self._lock:
                    self.served[number] += 1
                    *pieces, end = self._answers.pop(0)
                for piece in pieces:
                    piece(connection) if callable(piece) else connection.sendall(piece)
                if end is RESET:
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                if end is not KEEP:
                    break
        except OSError:
            pass
        connection.close()


def read_request(connection: socket.socket) -> bytes:
    """A request with its body; empty at the end of the connection."""
    received = b""
    while True:
        head, blank, body = received.partition(b"\r\n\r\n")
        if blank:
            lengths = [h for h in head.lower().split(b"\r\n") if h.startswith(b"content-length")]
            if not lengths or len(body) >= int(lengths[0].partition(b":")[2]):
                return received
        if not (more := connection.recv(65536)):
            return b""
        received += more


def with_shutdown(connection: socket.socket) -> None:
    """Close a socket that another thread may be waiting for."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    connection.close()


class Proxy:
    """A plain HTTP proxy: tunnels after CONNECT, and requests with a whole URL passed on."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._sockets: list[socket.socket] = [socket.create_server(("127.0.0.1", 0))]
        self.port: int = self._sockets[0].getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        for each in list(self._sockets):
            with_shutdown(each)
        for thread in list(self._threads):
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._sockets[0].accept()
            except OSError:
                return
            self._sockets.append(connection)
            self._start(self._serve, connection)

    def _start(self, function: Callable[..., None], *args: object) -> None:
        self._threads.append(threading.Thread(target=function, args=args))
        self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        request = read_request(connection)
        if not request:
            return
        method, target, _ = request.split(b" ", 2)
        self.asked.append(f"{method.decode()} {target.decode()}")
        address = target if method == b"CONNECT" else target.split(b"/")[2]
        host, _, port = address.decode().rpartition(":")
        beyond = socket.create_connection((host, int(port)))
        self._sockets.append(beyond)
        if method == b"CONNECT":
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            beyond.sendall(request)
        self._start(self._copy, connection, beyond)
        self._copy(beyond, connection)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        with_shutdown(target)
