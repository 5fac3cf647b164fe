"""E9: whoever stops reading a stream stops its provider, however they stop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from patience import Stopwatch

from brokers.servers import wait_until
from streamll.core.errors import StreamCancelled
from streamll.services import CallStatus, Hooks
from streamll.testing import RecordingSink, Reply

pytestmark = pytest.mark.since_3_4

WIRES = ("openai", "responses", "anthropic")
CLOSE_TIMEOUT_S = 0.1
HELD_REPLY = Reply("one two three four five", hold_after=2)


async def break_out(model):
    async for _ in model.invoke_stream("x"):
        break
    return Stopwatch()


async def close(model):
    stream = model.invoke_stream("x")
    await stream.__anext__()
    left = Stopwatch()
    await stream.aclose()
    assert [chunk async for chunk in stream] == []
    return left


async def leave_the_block(model):
    async with model.invoke_stream("x") as stream:
        await stream.__anext__()
        return Stopwatch()


async def forget(model):
    stream = model.invoke_stream("x")
    await stream.__anext__()
    left = Stopwatch()
    del stream
    return left


async def raise_inside(model):
    try:
        async for _ in model.invoke_stream("x"):
            raise KeyError
    except KeyError:
        return Stopwatch()


async def cancel_the_task(model):
    got = asyncio.Event()

    async def read():
        async for _ in model.invoke_stream("x"):
            got.set()

    task = asyncio.create_task(read())
    await got.wait()
    await asyncio.sleep(0.02)  # it waits for the next chunk
    left = Stopwatch()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return left


async def time_out(model):
    stream = model.invoke_stream("x")
    await stream.__anext__()
    try:
        async with asyncio.timeout(0.05) if hasattr(asyncio, "timeout") else _Deadline(0.05):
            async for _ in stream:
                pass
    except (asyncio.TimeoutError, TimeoutError):
        return Stopwatch()


class _Deadline:
    """``asyncio.timeout`` for Python 3.10."""

    def __init__(self, seconds):
        self.seconds = seconds

    async def __aenter__(self):
        task = asyncio.current_task()
        self.handle = asyncio.get_running_loop().call_later(self.seconds, task.cancel)

    async def __aexit__(self, kind, error, traceback):
        self.handle.cancel()
        if kind is asyncio.CancelledError:
            raise TimeoutError from error


STOPS = [break_out, close, leave_the_block, forget, raise_inside, cancel_the_task, time_out]


def closes_at_once(leave):
    """Whether leaving closes the connection at once; a busy machine gets three chances."""
    return any(leave() < CLOSE_TIMEOUT_S for _ in range(3))


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("wire", WIRES)
def test_stopping_closes_the_connection_at_once(make_model, practice, run, wire, stop):
    model = make_model(wire)

    async def leave():
        practice.script(HELD_REPLY)
        left = await stop(model)
        closed = await asyncio.to_thread(practice.requests[-1].wait_closed)
        return left.until(closed)

    assert closes_at_once(lambda: run(leave()))


def test_a_loop_ends_although_a_stream_was_left_open(make_model, practice, run):
    """The loop ends while a stream is open: its connection ends too."""
    practice.script(HELD_REPLY)
    kept = []

    async def leave_open():
        reading = aiter(make_model().invoke_stream("x"))
        kept.append(reading)
        await anext(reading)

    run(leave_open())
    practice.requests[0].wait_closed()


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("how", ["break", "close", "forget"])
def test_stopping_in_a_thread_closes_the_connection_at_once(make_model, practice, wire, how):
    model = make_model(wire)
    assert closes_at_once(lambda: leave_in_a_thread(model, practice, how))


def leave_in_a_thread(model, practice, how):
    practice.script(HELD_REPLY)
    stream = model.invoke_stream("x")
    next(stream)
    left = Stopwatch()
    if how == "break":
        for _ in stream:
            left = Stopwatch()
            break
        del stream
    elif how == "close":
        stream.close()
    else:
        del stream
    return left.until(practice.requests[-1].wait_closed())


def test_cancelling_invoke_closes_the_connection_at_once(make_model, practice, run):
    seen, told = RecordingSink(), []
    model = make_model(sinks=[seen], hooks=Hooks(on_error=lambda *about: told.append(about)))

    async def cancel():
        practice.script(Reply("x", hold_after=0))
        count = len(practice.requests)
        task = asyncio.create_task(model.invoke("x"))
        await asyncio.to_thread(practice.wait_for_requests, count + 1)
        await asyncio.sleep(0.02)
        left = Stopwatch()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return left.until(await asyncio.to_thread(practice.requests[-1].wait_closed))

    assert closes_at_once(lambda: run(cancel()))
    assert seen.catch_up(60)
    assert seen.events[-1].event_type == "run.cancelled"
    assert told == []  # nothing failed


def test_a_cancelled_invoke_keeps_the_partial_text(make_model, practice, run):
    practice.script(HELD_REPLY)
    seen = RecordingSink()
    model = make_model(sinks=[seen])

    async def cancel():
        asked = model.invoke("x")
        assert asked.calling.execution.status is CallStatus.PENDING
        task = asyncio.create_task(asked)
        await asyncio.to_thread(wait_until, lambda: len(seen.tokens) == 2, 60, "two tokens")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return asked.calling.execution

    execution = run(cancel())
    assert execution.status is CallStatus.CANCELLED
    assert execution.partial == "one two"
    assert execution.duration > 0


def test_a_paused_reader_stops_reading_the_provider_s_socket(make_model, practice, run):
    """B7: bounded, however long the reply is."""
    practice.script(Reply("word " * 4_000_000, chunk=1000))
    stream = make_model().invoke_stream("x")

    async def pause():
        await stream.__anext__()
        sent = -1
        while sent != practice.requests[0].chunks_sent:
            sent = practice.requests[0].chunks_sent
            await asyncio.sleep(0.5)
        return practice.requests[0].finished_at

    assert run(pause()) is None  # the sockets' own buffers are full, and there it ends
    run(stream.aclose())
    practice.requests[0].wait_closed()
    assert practice.requests[0].chunks_sent < 20_000


def test_closing_a_model_closes_its_idle_connections(make_model, practice, run):
    practice.respond(lambda _: "whole")
    model = make_model()

    def no_connection_is_open():
        deadline = time.monotonic() + 60
        while practice._connections and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        return not practice._connections

    assert model.invoke_sync("x").text == "whole"
    assert practice._connections
    (lm,) = model._lms.lms
    kept = list(lm._engine_store.values())  # so that they are closed, not just dropped
    model.close()
    assert no_connection_is_open()

    async def asked():
        assert (await model.invoke("x")).text == "whole"
        assert practice._connections
        kept.extend(lm._engine_store.values())
        await model.aclose()
        return await asyncio.to_thread(no_connection_is_open)

    assert run(asked())
    assert model.invoke_sync("x").text == "whole"  # and it may be used again


def test_another_thread_may_close_a_stream_while_it_begins(make_model, practice):
    practice.script(HELD_REPLY)
    stream = make_model().invoke_stream("x")
    begin = stream._open

    def closed_meanwhile(opened):
        reading = begin(opened)
        closing = threading.Thread(target=stream.close)
        closing.start()
        closing.join(60)
        return reading

    stream._open = closed_meanwhile
    with pytest.raises(StreamCancelled):
        next(stream)
    assert list(stream) == []


def test_a_stream_that_was_never_read_sends_no_request(make_model, practice):
    stream = make_model().invoke_stream("x")
    stream.close()
    del stream
    assert practice.requests == []
