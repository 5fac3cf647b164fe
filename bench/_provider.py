"""A provider that costs the measurement nothing: it runs in a process of its own and every
frame is rendered before the request arrives.

The address says how to answer: ``/{milliseconds between frames}/{chunks}/v1``, or with the form of
the reply, ``/{milliseconds}/{chunks}/json/v1`` (``chat``, ``json``, ``xml``). At 0 milliseconds the
whole answer is written at once, otherwise each frame leaves in a packet of its own.

The practice server of ``streamll.testing`` is for tests; this one has no features to pay for.
"""

from __future__ import annotations

import functools
import json
import socket
import socketserver
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FIELDS = ("reasoning", "answer")
SENTENCE = "every token of a running program, delivered live, once and in order to any reader"


# What stands before a field, after the first and after the last.
FORMS = {
    "chat": (
        ["[[", " ##", " FIELD", " ##", " ]]", "\n"],
        ["\n\n"],
        ["\n\n", "[[", " ##", " completed", " ##", " ]]"],
    ),
    "json": (['"FIELD', '":', ' "'], ['",', "\n"], ['"', "}"]),
    "xml": (["<", "FIELD", ">", "\n"], ["\n", "</", "FIELD", ">\n"], ["\n", "</", "FIELD", ">\n"]),
}


@functools.cache
def field_text(chunks: int) -> str:
    """The text of either field: half of the answer's chunks."""
    return "\n".join([SENTENCE] * (chunks // SENTENCE.count(" ")))


@functools.cache
def pieces(chunks: int, form: str = "chat") -> tuple[str, ...]:
    """An adapter's reply of about ``chunks`` pieces, cut before its words as tokens are."""
    begin, end, last = FORMS[form]
    text = field_text(chunks // len(FIELDS))
    if form == "json":
        text = json.dumps(text)[1:-1]
    words = [word if i == 0 else f" {word}" for i, word in enumerate(text.split(" "))]
    pieces: list[str] = []
    for number, field in enumerate(FIELDS):
        pieces += [piece.replace("FIELD", field) for piece in begin]
        pieces += words
        pieces += [piece.replace("FIELD", field) for piece in (end if number == 0 else last)]
    return ("{", *pieces) if form == "json" else tuple(pieces)


@functools.cache
def frames(chunks: int, form: str = "chat") -> tuple[bytes, ...]:
    """The reply as server-sent events, each an HTTP chunk of its own."""
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-mini",
    }
    deltas = [
        {"role": "assistant", "content": ""},
        *({"content": p} for p in pieces(chunks, form)),
        {},
    ]
    bodies = [
        {
            **head,
            "choices": [
                {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"},
            ],
        }
        for delta in deltas
    ]
    usage = {"prompt_tokens": 100, "completion_tokens": chunks, "total_tokens": 100 + chunks}
    lines = [json.dumps(body) for body in (*bodies, {**head, "choices": [], "usage": usage})]
    events = [f"data: {line}\n\n".encode() for line in (*lines, "[DONE]")]
    return (*(b"%x\r\n%b\r\n" % (len(event), event) for event in events), b"0\r\n\r\n")


class Provider(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with suppress(ConnectionError):
            self.serve()

    def serve(self) -> None:
        while request_line := self.rfile.readline():
            length = 0
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if not json.loads(self.rfile.read(length)).get("stream"):
                raise RuntimeError("this provider only streams")
            _, milliseconds, chunks, form, *_ = request_line.split()[1].decode().split("/")
            form = form if form in FORMS else "chat"
            self.answer(float(milliseconds) / 1000, frames(int(chunks), form))

    def answer(self, pace: float, frames: tuple[bytes, ...]) -> None:
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\n"
            b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        if not pace:
            self.wfile.write(b"".join(frames))
            return
        due = time.monotonic()
        for frame in frames:
            self.wfile.write(frame)
            due += pace
            time.sleep(max(0.0, due - time.monotonic()))


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 2048  # a thousand may connect at once
    address_family = socket.AF_INET


@contextmanager
def provider() -> Iterator[str]:
    """The address of a provider in a process of its own."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    with Server(("127.0.0.1", 0), Provider) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
