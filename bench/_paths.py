"""The ways from a provider's socket to a reader of text, each in a few lines.

Every path is given the provider's address and returns a function that makes one call and
returns the text its reader saw, so that a path that loses text cannot look cheap.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import dspy
import msgspec
from _provider import FIELDS
from dspy.lm15 import AsyncLMRouter, LMRouter, Message, Request, RouterConfig
from dspy.streaming import StreamListener, StreamResponse

import streamll
from streamll.core.events import Event, TokenEvent
from streamll.sinks import BaseSink

Call = Callable[[], str]
QUESTION = "What does it cost to watch?"


def program(url: str) -> dspy.Module:
    """What all paths but the lowest run: a ChainOfThought through an ordinary ``dspy.LM``."""
    qa = dspy.ChainOfThought("question -> answer")
    qa.set_lm(dspy.LM("openai/gpt-4o-mini", api_base=url, api_key="none", cache=False))
    return qa


# --- the floor: a socket, a split and a JSON decoder ----------------------------------------------


class Delta(msgspec.Struct):
    content: str = ""


class Choice(msgspec.Struct):
    delta: Delta


class Chunk(msgspec.Struct):
    choices: list[Choice]


def request_bytes(url: str) -> bytes:
    body = json.dumps({"stream": True}).encode()
    path = urlsplit(url).path
    return b"POST %b/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(), len(body), body,
    )  # fmt: skip


class Floor:
    """Server-sent events out of an HTTP/1.1 response that is known to be well-behaved."""

    def __init__(self) -> None:
        self.decode = msgspec.json.Decoder(Chunk).decode
        self.rest = b""
        self.text: list[str] = []
        self.ended = False

    def feed(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line == b"data: [DONE]":
                self.ended = True
            elif line.startswith(b"data: "):
                for choice in self.decode(line[6:]).choices:
                    self.text.append(choice.delta.content)


def floor_sync(url: str) -> Call:
    address = urlsplit(url)

    def call() -> str:
        floor = Floor()
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(request_bytes(url))
            while not floor.ended:
                floor.feed(connection.recv(65536))
        return "".join(floor.text)

    return call


def floor_async(url: str) -> Call:
    address = urlsplit(url)

    class Client(asyncio.Protocol):
        def __init__(self) -> None:
            self.floor = Floor()
            self.done = asyncio.get_running_loop().create_future()

        def data_received(self, data: bytes) -> None:
            self.floor.feed(data)
            if self.floor.ended and not self.done.done():
                self.done.set_result(None)

    async def call() -> str:
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_connection(Client, address.hostname, address.port)
        transport.write(request_bytes(url))
        await client.done
        transport.close()
        return "".join(client.floor.text)

    return in_loop(call)


# --- DSPy's own client, without DSPy around it ----------------------------------------------------


def router_config(url: str) -> RouterConfig:
    return RouterConfig(api_keys={"openai-chat": "none"}, base_urls={"openai-chat": url})


REQUEST = Request(model="openai-chat:gpt-4o-mini", messages=(Message.user(QUESTION),))


def engine_sync(url: str) -> Call:
    router = LMRouter(router_config(url))

    def call() -> str:
        return "".join(
            event.delta.text
            for event in router.stream(REQUEST)
            if event.type == "delta" and event.delta.type == "text"
        )

    return call


def engine_async(url: str) -> Call:
    router = AsyncLMRouter(router_config(url))

    async def call() -> str:
        return "".join(
            [
                event.delta.text
                async for event in router.stream(REQUEST)
                if event.type == "delta" and event.delta.type == "text"
            ]
        )

    return in_loop(call)


# --- dspy.streamify ------------------------------------------------------------------------------


def streamify_sync(url: str) -> Call:
    listeners = [StreamListener(field, allow_reuse=True) for field in FIELDS]
    qa = dspy.streamify(program(url), stream_listeners=listeners, async_streaming=False)

    def call() -> str:
        return "".join(c.chunk for c in qa(question=QUESTION) if isinstance(c, StreamResponse))

    return call


def streamify_async(url: str) -> Call:
    listeners = [StreamListener(field, allow_reuse=True) for field in FIELDS]
    qa = dspy.streamify(program(url), stream_listeners=listeners, is_async_program=True)

    async def call() -> str:
        return "".join(
            [c.chunk async for c in qa(question=QUESTION) if isinstance(c, StreamResponse)]
        )

    return in_loop(call)


# --- streamll ------------------------------------------------------------------------------------


def stream_sync(url: str) -> Call:
    stream = streamll.stream(program(url), fields=FIELDS)

    def call() -> str:
        with stream(question=QUESTION) as events:
            return "".join(e.token for e in events if isinstance(e, TokenEvent))

    return call


def stream_async(url: str) -> Call:
    stream = streamll.stream(program(url), fields=FIELDS)

    async def call() -> str:
        async with stream(question=QUESTION) as events:
            return "".join([e.token async for e in events if isinstance(e, TokenEvent)])

    return in_loop(call)


class Listening(BaseSink):
    """The least a sink can do with text: keep it."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []

    def handle_event(self, event: Event) -> None:
        if isinstance(event, TokenEvent):
            self.text.append(event.token)

    def take(self) -> str:
        self.catch_up(10)
        text, self.text = "".join(self.text), []
        return text


def instrument_sync(url: str) -> Call:
    sink = Listening()
    qa = streamll.instrument(program(url), stream_fields=FIELDS, sinks=[sink])

    def call() -> str:
        qa(question=QUESTION)
        return sink.take()

    return call


def instrument_async(url: str) -> Call:
    sink = Listening()
    qa = streamll.instrument(program(url), stream_fields=FIELDS, sinks=[sink])

    async def call() -> str:
        await qa.acall(question=QUESTION)
        return sink.take()

    return in_loop(call)


# --- one event loop for all async paths ----------------------------------------------------------

_loop = asyncio.new_event_loop()


def in_loop(call) -> Call:
    return lambda: _loop.run_until_complete(call())
