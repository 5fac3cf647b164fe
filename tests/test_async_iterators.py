"""Every public async iterator: a read that times out, a loop for each item, closing during a read.

Servers read with a time-out to send heartbeats, and notebooks with one ``asyncio.run`` for each item;
so no iterator of this package may end because a read of it was cancelled.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
import re
import types
import typing
from contextlib import nullcontext, suppress

import dspy
import pytest

import streamll
from streamll import streams
from streamll.core.errors import StreamCancelled
from streamll.testing import Reply

ANSWER = "one two three four five"


class QA(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.predict(question=question)


class AsyncQA(QA):
    async def aforward(self, question):
        return await self.predict.acall(question=question)


class Listed(QA):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer: list[str]")


def read_of(method, *args, program=QA):
    """A reader inside ``async with streamll.stream(…)``: the iterator and the block."""

    async def open_(tmp_path):
        call = streamll.stream(program())(question="?")
        events = await call.__aenter__()
        return getattr(events, method)(*args) if method else events, call

    return open_


def whole(make):
    """A stream that is read as it is, in no block."""

    async def open_(tmp_path):
        return aiter(make(tmp_path)), nullcontext()

    return open_


def events_of():
    return streamll.stream(QA())(question="?")


def listener():
    return [streamll.StreamListener("answer")]


CASES = {
    "AsyncStream": read_of(None),
    "AsyncStream of a task": read_of(None, program=AsyncQA),
    "AsyncStream.tokens": read_of("tokens", "answer"),
    "AsyncStream.tokens of a task": read_of("tokens", "answer", program=AsyncQA),
    "AsyncStream.partials": read_of("partials", "answer"),
    "AsyncStream.items": read_of("items", "answer", program=Listed),
    "SafeDSpyStream": whole(lambda _: streamll.SafeDSpyStream("?")),
    "SafeDSpyStream of a task": whole(lambda _: streamll.SafeDSpyStream(AsyncQA(), question="?")),
    "SafeDSpyStream.into_stream": whole(lambda _: streamll.SafeDSpyStream("?").into_stream()),
    "SafeDSpyStream.with_retry": whole(lambda _: streamll.SafeDSpyStream.with_retry("?")),
    "DSpyStream": whole(lambda _: streamll.DSpyStream("?")),
    "DSpyStream.into_stream": whole(lambda _: streamll.DSpyStream("?").into_stream()),
    "streamify": whole(
        lambda _: streamll.streamify(QA(), stream_listeners=listener())(question="?")
    ),
    "streamify of a task": whole(
        lambda _: streamll.streamify(AsyncQA(), is_async_program=True)(question="?")
    ),
    "streaming_response": whole(
        lambda _: streamll.streaming_response(streamll.streamify(QA())(question="?"))
    ),
    "aggregate_streams": whole(lambda _: streamll.aggregate_streams([events_of()])),
    "smooth": whole(lambda _: streams.smooth(events_of(), interval=0.02)),
    "throttle": whole(lambda _: streams.throttle(events_of(), 40)),
    "map_tokens": whole(lambda _: streams.map_tokens(events_of(), str.upper)),
    "filter_tokens": whole(lambda _: streams.filter_tokens(events_of(), bool)),
    "buffer": whole(lambda _: streams.buffer(events_of(), 2)),
    "buffer seconds": whole(lambda _: streams.buffer(events_of(), 2, seconds=60)),
    "to_file": whole(lambda tmp_path: streams.to_file(events_of(), tmp_path / "text")),
    "with_progress": whole(lambda _: streams.with_progress(events_of())),
    "StreamProgress.follow": whole(lambda _: streams.StreamProgress().follow(events_of())),
}


@pytest.fixture
def reply(practice, request):
    lm = practice.lm(cache=False)
    dspy.configure(lm=lm, adapter=dspy.ChatAdapter())

    def respond(case, **pace):
        answer = repr(ANSWER.split()).replace("'", '"') if "items" in case else ANSWER
        practice.respond(
            lambda _: Reply(f"[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]", **pace)
        )

    return respond


async def read(case, tmp_path, timeout):
    stream, block = await CASES[case](tmp_path)
    got, timeouts = [], 0
    while True:
        try:
            got.append(await asyncio.wait_for(anext(stream), timeout))
        except asyncio.TimeoutError:
            timeouts += 1
        except StopAsyncIteration:
            await block.__aexit__(None, None, None)
            return got, timeouts


def form(items):
    """What is the same for two readings of the same program."""
    return [shown(item) for item in items]


def shown(item):
    if isinstance(item, list):
        return form(item)
    if isinstance(item, streams.Tagged):
        return shown(item.event)
    if isinstance(item, streamll.Event):
        return item.event_type, getattr(item, "token", "")
    if hasattr(item, "model_dump"):  # a provider's chunk
        return item.choices and item.choices[0].delta.content
    if isinstance(item, str):
        return re.sub(r'"created":\d+|"id":"[^"]*"|\\"(created|id|predict_id)\\":[^,]*', "", item)
    return repr(getattr(item, "value", item))


@pytest.mark.parametrize("case", CASES)
def test_reads_that_time_out_lose_nothing(case, reply, tmp_path):
    reply(case, pace=0.02)
    undisturbed, _ = asyncio.run(read(case, tmp_path, 30))
    for pace in (0.02, 0.3):  # on a busy machine all of a quick one may be there before it is read
        reply(case, pace=pace)
        got, timeouts = asyncio.run(read(case, tmp_path, 0.005))
        if timeouts:
            break
    assert timeouts  # how many, the machine decides
    assert form(got) == form(undisturbed)
    assert len(got) > 2


ON_THE_READERS_LOOP = {
    *(case for case in CASES if "of a task" in case and "DSpyStream" not in case),
    "aggregate_streams",
    "buffer seconds",
}
"""They have a task on the loop they are read on, which ends with that loop."""


@pytest.mark.parametrize("case", CASES)
def test_a_loop_for_each_item(case, reply, tmp_path):
    reply(case, pace=0.01)
    undisturbed, _ = asyncio.run(read(case, tmp_path, 30))
    if case in ON_THE_READERS_LOOP:
        reply(case, hold_after=9)  # else it may be over before a busy loop has given its first item
    stream, block = asyncio.run(CASES[case](tmp_path))

    def rest():
        got = []
        while True:
            try:
                got.append(asyncio.run(stream.__anext__()))
            except StopAsyncIteration:
                return got

    if case in ON_THE_READERS_LOOP:
        with pytest.raises(StreamCancelled):
            raise_error(rest())
    else:
        assert form(rest()) == form(undisturbed)
    asyncio.run(block.__aexit__(None, None, None))


def raise_error(got):
    """Some streams give an error as an item."""
    for item in got:
        for each in (item, getattr(item, "event", None)):
            if isinstance(each, streamll.StreamEvent.Error):
                raise each.error


@pytest.mark.parametrize("case", CASES)
def test_closing_during_a_read_ends_it(case, reply, tmp_path, practice):
    reply(case, hold_after=4)

    async def main():
        stream, block = await CASES[case](tmp_path)

        async def rest():
            return [item async for item in stream]

        reading = asyncio.create_task(rest())
        (request,) = await asyncio.to_thread(practice.wait_for_requests, 1)
        await asyncio.to_thread(request.wait_held)
        await stream.aclose()
        with suppress(StreamCancelled):
            await asyncio.wait_for(reading, 60)
        await block.__aexit__(None, None, None)
        assert await asyncio.to_thread(request.wait_closed)

    asyncio.run(main())


# --- none is missing here ---------------------------------------------------------------------------

ELSEWHERE = {
    "AsyncRemoteStream": "tests/remote/test_connect.py",
    "AsyncRemoteStream.tokens": "tests/remote/test_connect.py",
    "Connection": "tests/remote/test_connect.py",
    "Connection.start": "tests/remote/test_connect.py",
    "connect": "tests/remote/test_connect.py",
    "ChunkStream": "tests/chat/test_imodel_streams.py",
    "InvokeStream": "tests/chat/test_imodel_streams.py",
    "TurnStream": "tests/chat/test_communicate.py",
    "EventConsumer": "tests/consumer/test_consumer.py",
    "Iteration": "tests/consumer/test_consumer.py",
    "RabbitMQConsumer": "tests/consumer/test_consumer.py",
    "RedisStreamConsumer": "tests/consumer/test_consumer.py",
    "communicate_stream": "tests/chat/test_communicate.py",
    "iModel.invoke_stream": "tests/chat/test_imodel_streams.py",
}
"""Tested with what they read."""

NOT_READ = {
    "Call": "says to enter it",
    "Invocation": "says to await it",
    "iModel.invoke": "says to await it",
    "Stream": "is read with for",
    "RemoteStream": "is read with for",
    "RemoteStream.tokens": "is read with for",
    "Reading": "is read behind a bridge, by the streams of connect",
    "Loop": "stands for the stream that it reads",
    "WrittenStream": "a recorded reply, inside a provider's client",
}


def test_no_class_of_an_async_iterator_is_missing_here(reply, tmp_path):
    reply("")

    async def read_here():
        found = set()
        for open_ in CASES.values():
            stream, block = await open_(tmp_path)
            found.update(kind.__name__ for kind in type(getattr(stream, "_stream", stream)).__mro__)
            await stream.aclose()
            await block.__aexit__(None, None, None)
        return found

    assert async_iterables() <= asyncio.run(read_here()) | {"Piped"} | {*ELSEWHERE, *NOT_READ}


def async_iterables():
    """The names of all public classes that can be read with ``async for``."""
    return {
        value.__name__
        for info in pkgutil.walk_packages(streamll.__path__, "streamll.")
        if not info.name.endswith("__main__")
        for value in vars(importlib.import_module(info.name)).values()
        if inspect.isclass(value)
        and value.__module__ == info.name
        and hasattr(value, "__aiter__")
        and not value.__name__.startswith("_")
    }


def test_no_function_that_gives_an_async_iterator_is_missing_here():
    found = {name for name, function in public_functions() if gives_an_async_iterator(function)}
    assert {"smooth", "AsyncStream.tokens", "streaming_response"} <= found
    assert found <= {*CASES, *ELSEWHERE, *NOT_READ}


def public_functions():
    """Every public function and method, by the name it has in ``CASES``."""
    tables = (streamll.PUBLIC, streamll.ALSO)
    names = {name for table in tables for names in table.values() for name in names.split()}
    values = [getattr(streamll, name) for name in names]
    for value in (*values, *(getattr(streams, name) for name in streams.__all__)):
        if not inspect.isclass(value):
            if callable(value):
                yield value.__name__, value
        elif value.__name__ not in NOT_READ:
            for method, function in inspect.getmembers(value, inspect.isroutine):
                if not method.startswith("_") and method != "opened":
                    yield f"{value.__name__}.{method}", function


def gives_an_async_iterator(function):
    if inspect.isasyncgenfunction(function):
        return True
    try:
        given = typing.get_type_hints(function).get("return")
    except (NameError, TypeError):
        return False
    kinds = typing.get_args(given) if isinstance(given, types.UnionType) else (given,)
    return any(hasattr(typing.get_origin(kind) or kind, "__aiter__") for kind in kinds)
