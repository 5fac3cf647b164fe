"""A client that sees what no library shows: the bytes, and how they were cut into writes."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field

from streamll.testing.wires import WIRES as APIS

PROMPT = "What is a practice server?"
WIRES = tuple(wire.name for wire in APIS)
PATHS = {wire.name: wire.address for wire in APIS}


@dataclass
class Received:
    """One HTTP reply. ``chunks`` are the parts of a chunked body: one for each write."""

    status: int
    headers: dict[str, str]
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str | None, str]]:
        """The server-sent events: name and data."""
        found = []
        for block in self.body.decode().replace("\r\n", "\n").split("\n\n"):
            lines = [line.partition(": ") for line in block.split("\n") if line]
            values = {name: value for name, _, value in lines if name}
            if "data" in values:
                found.append((values.get("event"), values["data"]))
        return found

    @property
    def data(self) -> list:
        """The events' data, parsed; without the closing ``[DONE]``."""
        return [json.loads(data) for _, data in self.events if data != "[DONE]"]

    def text(self, wire: str) -> str:
        return "".join(text for part in self.data if (text := text_of(wire, part)))


def text_of(wire: str, part: dict) -> str | None:
    return TEXTS[wire](part)


def chat_text(part: dict) -> str | None:
    choices = part.get("choices") or [{}]
    return choices[0].get("delta", {}).get("content")


def responses_text(part: dict) -> str | None:
    return part["delta"] if part["type"] == "response.output_text.delta" else None


def message_text(part: dict) -> str | None:
    return part["delta"].get("text") if part["type"] == "content_block_delta" else None


def gemini_text(part: dict) -> str | None:
    parts = part["candidates"][0]["content"]["parts"] if "candidates" in part else []
    return "".join(each.get("text", "") for each in parts if not each.get("thought"))


TEXTS = {
    "openai": chat_text,
    "responses": responses_text,
    "anthropic": message_text,
    "gemini": gemini_text,
}
"""How the text in a frame of each wire is read."""


class RawClient:
    """One connection. Every wait is bounded by the socket's timeout."""

    def __init__(self, server) -> None:
        self.socket = socket.create_connection((server.host, server.port), timeout=60)
        self.file = self.socket.makefile("rb")

    def send(self, wire: str = "openai", prompt: str = PROMPT, **options) -> None:
        path, body = request(wire, prompt, **options)
        self.send_raw("POST", path, json.dumps(body).encode())

    def send_raw(self, method: str, path: str, data: bytes = b"", **headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: practice", f"content-length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + data)

    def head(self) -> Received:
        line = self.file.readline()
        if not line:
            raise ConnectionError("the server sent nothing")
        headers = {}
        while (header := self.file.readline().strip()) != b"":
            name, _, value = header.decode().partition(": ")
            headers[name.lower()] = value
        return Received(int(line.split()[1]), headers)

    def chunk(self, received: Received) -> bytes:
        """One more part of a chunked body; empty at its end."""
        size = self.file.readline()
        if not size:
            raise ConnectionError("the server closed the connection")
        data = self.file.read(int(size, 16) + 2)[:-2]
        received.chunks += [data] if data else []
        received.complete = not data
        return data

    def receive(self) -> Received:
        """A whole reply, or as much as comes before the server closes."""
        received = self.head()
        try:
            if "content-length" in received.headers:
                length = int(received.headers["content-length"])
                received.chunks.append(self.file.read(length))
                received.complete = len(received.body) == length
            else:
                while self.chunk(received):
                    pass
        except (ConnectionError, ValueError):
            pass
        return received

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def request(wire: str, prompt: str = PROMPT, **options) -> tuple[str, dict]:
    """A path and a body that a client of this wire would send."""
    if wire == "gemini":
        return gemini_request(prompt, **options)
    messages = [{"role": "user", "content": prompt}]
    bodies = {
        "openai": {"messages": messages},
        "responses": {"input": prompt},
        "anthropic": {"max_tokens": 99, "messages": messages},
    }
    return PATHS[wire], {"model": "m", **bodies[wire], **options}


def gemini_request(prompt: str, *, stream: bool = False, **options) -> tuple[str, dict]:
    """The address asks for the stream, not the body."""
    path = PATHS["gemini"].replace("MODEL", "m")
    if stream:
        path = path.replace(":generateContent", ":streamGenerateContent?alt=sse")
    return path, {"contents": [{"role": "user", "parts": [{"text": prompt}]}], **options}
