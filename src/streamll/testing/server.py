"""The practice LM server: an HTTP server that answers as the providers do, as a test says."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from .answers import answer
from .chunkings import Chunk
from .connection import Connection, Exchange, HTTPRequest
from .formats import read_prompt
from .model import practise
from .plan import Head, Pacing, Step, Write, plan
from .recorded import HEADERS_KEPT, RecordedRequest
from .replies import Fault, Reply, ReplyLike, as_reply
from .wires import WIRES, Wire
from .wires.base import encode

Scripted = ReplyLike | Callable[[RecordedRequest], ReplyLike]
Responder = Callable[[RecordedRequest], ReplyLike | None]
T = TypeVar("T")


class PracticeServer:
    def __init__(
        self,
        *,
        pace: float = 0.0,
        chunk: Chunk = "token",
        packets: bool = False,
        fault: Fault | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.pace = pace
        self.chunk: Chunk = chunk
        self.packets = packets
        self.fault = fault
        self.host = host
        self.port = port
        self.requests: list[RecordedRequest] = []
        self._changed = threading.Condition()
        self._script: deque[Scripted] = deque()
        self._responder: Responder | None = None
        self._permits: dict[RecordedRequest, asyncio.Semaphore] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._ready = threading.Event()

    # --- where ------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """``http://host:port``."""
        return f"http://{self.host}:{self.port}"

    @property
    def openai_url(self) -> str:
        """The ``api_base`` of OpenAI-compatible clients."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The ``api_base`` of Anthropic clients."""
        return self.url

    # --- what to answer ---------------------------------------------------------------------

    def script(self, *replies: Scripted) -> None:
        with self._changed:
            self._script.extend(replies)

    def respond(self, responder: Responder | None) -> None:
        self._responder = responder

    # --- what happened ----------------------------------------------------------------------

    def wait_for(
        self, condition: Callable[[], T], timeout: float = 5.0, what: str = "the condition"
    ) -> T:
        with self._changed:
            result = self._changed.wait_for(condition, timeout)
        if not result:
            raise TimeoutError(f"after {timeout:g} s still waiting for {what}; {self.requests}")
        return result

    def wait_for_requests(self, count: int = 1, timeout: float = 5.0) -> list[RecordedRequest]:
        self.wait_for(lambda: len(self.requests) >= count, timeout, f"{count} requests")
        return self.requests[:]

    def release(self) -> None:
        for request in self.requests:
            if not request.over:
                request.release()

    # --- running ----------------------------------------------------------------------------

    def __enter__(self) -> PracticeServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="practice-server", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    def stop(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, self.host, self.port, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            while self._writers:
                await asyncio.sleep(0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await Connection(reader, writer, self._handle).serve()
        finally:
            self._writers.discard(writer)

    # --- one request ------------------------------------------------------------------------

    def _handle(self, request: HTTPRequest) -> Exchange:
        path = urlsplit(request.target).path
        wire = next((wire for wire in WIRES if wire.path == path), None)
        body = parsed(request.body)
        messages = wire.messages(body) if wire else []
        record = RecordedRequest(
            method=request.method,
            path=path,
            body=body,
            headers={k: v for k, v in request.headers.items() if k in HEADERS_KEPT},
            messages=messages,
            prompt=read_prompt(messages),
            streaming=bool(body.get("stream")),
            changed=self._changed,
            let_go=self._let_go,
        )
        permits = asyncio.Semaphore(0)
        with self._changed:
            self.requests.append(record)
            self._permits[record] = permits
            self._changed.notify_all()
        return Exchange(record, self._steps(wire, record), permits)

    def _steps(self, wire: Wire | None, record: RecordedRequest) -> Iterable[Step]:
        if wire is None:
            return not_found(record)
        reply = self._reply(record, wire)
        chunk = self.chunk
        definite = answer(
            reply,
            record.body,
            record.messages,
            record.prompt,
            chunk=chunk,
            count=wire.count(record.body),
        )
        return plan(reply, definite, wire, Pacing(self.pace, self.packets))

    def _reply(self, record: RecordedRequest, wire: Wire) -> Reply:
        with self._changed:
            item = self._script.popleft() if self._script else None
        if item is None and self._responder is not None:
            item = self._responder
        value = item(record) if callable(item) else item
        reply = Reply() if value is None else as_reply(value)
        import dataclasses

        if (
            reply.text is None
            and reply.chunks is None
            and not reply.tool_calls
            and not reply.refusal
        ):
            made = practise(record.prompt, record.messages, wire.tools(record.body))
            reply = dataclasses.replace(reply, **made)
        if reply.fault is None and self.fault is not None:
            reply = dataclasses.replace(reply, fault=self.fault)
        return reply

    def _let_go(self, record: RecordedRequest) -> None:
        self._loop.call_soon_threadsafe(self._permits[record].release)

    # --- clients ----------------------------------------------------------------------------

    def lm(self, wire: str = "openai", model: str | None = None, **options: Any) -> Any:
        import dspy

        provider, base, kind = {
            "openai": ("openai", self.openai_url, "chat"),
            "responses": ("openai", self.openai_url, "responses"),
            "anthropic": ("anthropic", self.anthropic_url, "chat"),
        }[wire]
        settings = {"api_base": base, "api_key": "practice", "model_type": kind, "cache": False}
        return dspy.LM(f"{provider}/{model or 'practice'}", **{**settings, **options})


def parsed(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body) if body else {}
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def not_found(record: RecordedRequest) -> list[Step]:
    message = f"The practice server has no {record.method} {record.path}."
    data = encode({"error": {"message": message, "type": "invalid_request_error"}})
    return [Head(404, "application/json", [], len(data)), Write(data)]
