"""A provider for many streams at once: one timer wheel in a process of its own.

``/{milliseconds between tokens}/{tokens}/{form}/v1`` says how to answer. Each token is a frame in a
packet of its own, and its text is its number and the moment at which it was sent, ``17:8123456``
(microseconds of ``time.monotonic``, one clock for all processes of a machine), so that a reader knows
what was lost and how long each took. At 0 milliseconds, and where no stream is asked for, the whole
answer is written at once. In the form ``padded`` frames differ in OpenAI's ``obfuscation`` as well.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TICK_S = 0.001
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FIRST, LAST = "[[ ## answer ## ]]\n", "\n\n[[ ## completed ## ]]"
_BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt-4o-mini",
}
PADS = [b',"obfuscation":"%b"' % (b"aZ3kx9Qw7RtLmN2p"[:length]) for length in range(1, 16)]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return (
        b"data: %b\n\n" % json.dumps({**_BODY, "choices": [choice]}, separators=(",", ":")).encode()
    )


BEGIN = chunk(frame({"role": "assistant", "content": ""})) + chunk(frame({"content": FIRST}))
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
END = (
    chunk(frame({"content": LAST}))
    + chunk(frame({}, "stop"))
    + chunk(b"data: %b\n\n" % json.dumps({**_BODY, "choices": [], "usage": USAGE}).encode())
    + chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)
_BEFORE, _AFTER = frame({"content": "TEXT"}).split(b"TEXT")
_OBJECT, _CLOSE = _AFTER[: _AFTER.rindex(b"}")], b"}\n\n"


def now() -> int:
    return time.monotonic_ns() // 1000


def token(number: int, *, padded: bool) -> bytes:
    text = b" %d:%d" % (number, now())
    pad = random.choice(PADS) if padded else b""
    return chunk(b"".join((_BEFORE, text, _OBJECT, pad, _CLOSE)))


def plain(tokens: int) -> bytes:
    """The answer to a request that asks for no stream."""
    content = FIRST + "".join(f" {n}:{now()}" for n in range(tokens)) + LAST
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({**_BODY, "object": "chat.completion", "choices": [choice], "usage": USAGE})
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body.encode())


class Wheel:
    """All streams of one interval: a slot for each tick of it."""

    def __init__(self, interval_ms: int) -> None:
        self.slots: list[list[list]] = [[] for _ in range(interval_ms)]

    def add(self, connection: socket.socket, tokens: int, *, padded: bool) -> None:
        slot = int(time.monotonic() / TICK_S) % len(self.slots)
        self.slots[slot - 1].append([connection, 0, tokens, padded])

    def turn(self, tick: int) -> None:
        number = tick % len(self.slots)
        self.slots[number] = [stream for stream in self.slots[number] if self.send(stream)]

    @staticmethod
    def send(stream: list) -> bool:
        connection, number, tokens, padded = stream
        stream[1] = number + 1
        try:
            connection.send(END if number == tokens else token(number, padded=padded))
        except OSError:  # the reader has left, or does not read
            return False
        return number < tokens


def answer(connection: socket.socket, request: bytes, wheels: dict[int, Wheel]) -> None:
    _, interval, tokens, form, *_ = request.split(b" ", 2)[1].decode().split("/")
    if not json.loads(request.partition(b"\r\n\r\n")[2]).get("stream"):
        connection.sendall(plain(int(tokens)))
        return
    padded = form == "padded"
    if interval == "0":
        frames = [token(number, padded=padded) for number in range(int(tokens))]
        connection.sendall(b"".join((HEAD, BEGIN, *frames, END)))
        return
    connection.sendall(HEAD + BEGIN)
    wheel = wheels.setdefault(int(interval), Wheel(int(interval)))
    wheel.add(connection, int(tokens), padded=padded)


def is_whole(request: bytes) -> bool:
    head, blank, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(blank) and len(body) >= int(lengths[0].partition(b":")[2])


def serve(listening: socket.socket) -> None:
    selector, wheels = selectors.DefaultSelector(), {}
    selector.register(listening, selectors.EVENT_READ)
    requests: dict[socket.socket, bytes] = {}
    tick = int(time.monotonic() / TICK_S)
    while True:
        for key, _ in selector.select(max(0.0, (tick + 1) * TICK_S - time.monotonic())):
            if key.fileobj is listening:
                connection, _ = listening.accept()
                connection.settimeout(0)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ)
                requests[connection] = b""
                continue
            connection, data = key.fileobj, b""
            with suppress(OSError):
                data = connection.recv(1 << 20)
            requests[connection] += data
            if not data:
                selector.unregister(connection)
                del requests[connection]
                connection.close()
            elif is_whole(requests[connection]):
                request, requests[connection] = requests[connection], b""
                answer(connection, request, wheels)
        while (tick + 1) * TICK_S <= time.monotonic():
            tick += 1
            for wheel in wheels.values():
                wheel.turn(tick)


@contextmanager
def provider() -> Iterator[str]:
    """The address of the provider in a process of its own."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as server:
        print(server.getsockname()[1], flush=True)
        serve(server)
