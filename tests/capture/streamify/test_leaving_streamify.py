"""X7: whoever leaves a stream stops its program and the provider, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
import time

import dspy
import pytest
from dspy_and_ours import read, values
from patience import Stopwatch

import streamll
from streamll.testing import Fault, Reply

SOON = 0.1


class TooLateError(AssertionError):
    """The provider was stopped, but not in time."""


def soon(seconds: float) -> None:
    if seconds >= SOON:
        raise TooLateError(f"after {seconds:.3f} s")


def three_tries(test):
    """A machine that has other work to do may be late; a mistake is late every time."""

    @functools.wraps(test)
    def tried(*args, **kwargs):
        for left in (2, 1, 0):
            try:
                return test(*args, **kwargs)
            except TooLateError:
                if not left:
                    raise
        return None

    return tried


@pytest.fixture
def endless(practice, lm):
    """A provider that goes on for a minute."""
    practice.respond(lambda request: Reply("on and on " * 3000, pace=0.02, packets=True))
    return practice


@pytest.fixture(params=[False, True], ids=["sync program", "async program"])
def streaming(request):
    qa = dspy.Predict("question -> answer")
    return streamll.streamify(qa, is_async_program=request.param)


async def left(practice, leave) -> float:
    """Seconds from leaving to the provider's seeing the connection closed."""
    begin = Stopwatch()
    await leave()
    closed = await asyncio.to_thread(practice.requests[-1].wait_closed)
    assert practice.requests[-1].finished_at is None
    return begin.until(closed)


def unharmed() -> bool:
    task = asyncio.current_task()
    return not getattr(task, "cancelling", int)()


@three_tries
def test_aclose(endless, streaming):
    async def main():
        stream = streaming(question="?")
        await values(stream, 3)
        soon(await left(endless, stream.aclose))
        await asyncio.sleep(0.01)
        return unharmed()

    assert asyncio.run(main())


@three_tries
def test_break_out_of_the_loop(endless, streaming):
    async def main():
        async def reading():
            async for _ in streaming(question="?"):
                break

        soon(await left(endless, reading))
        return unharmed()

    assert asyncio.run(main())


@three_tries
def test_del(endless, streaming):
    async def main():
        held = [streaming(question="?")]
        await values(held[0], 3)

        async def drop():
            held.clear()

        soon(await left(endless, drop))
        return unharmed()

    assert asyncio.run(main())


@three_tries
def test_an_error_of_the_readers_own(endless, streaming):
    async def main():
        async def reading():
            with contextlib.suppress(LookupError):
                async with contextlib.aclosing(streaming(question="?")) as stream:
                    async for _ in stream:
                        raise LookupError

        soon(await left(endless, reading))
        return unharmed()

    assert asyncio.run(main())


@three_tries
def test_cancelling_the_readers_task(endless, streaming):
    async def main():
        before = len(endless.requests)
        tasks = [asyncio.create_task(read(streaming(question="?")))]
        await asyncio.to_thread(endless.wait_for_requests, before + 1)
        await asyncio.to_thread(endless.requests[-1].wait_chunks, 3)

        async def cancel():
            tasks[0].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tasks[0]
            assert tasks.pop().cancelled()  # before 3.11 it keeps what it was reading

        soon(await left(endless, cancel))
        return unharmed()

    assert asyncio.run(main())


@three_tries
def test_a_silent_provider_is_left_too(practice, lm, streaming):
    practice.respond(lambda request: Fault(stall_after=2))

    async def main():
        stream = streaming(question="?")
        await values(stream, 2)
        await asyncio.to_thread(practice.requests[-1].wait_held)
        soon(await left(practice, stream.aclose))

    asyncio.run(main())


@pytest.mark.parametrize("way", ["close", "del", "break", "throw"])
@pytest.mark.parametrize("program_is_async", [False, True])
@three_tries
def test_an_ordinary_generator(endless, way, program_is_async):
    qa = dspy.Predict("question -> answer")
    streaming = streamll.streamify(qa, is_async_program=program_is_async, async_streaming=False)
    stream = streaming(question="?")
    for _ in stream:
        break
    begin = Stopwatch()
    if way == "throw":
        with contextlib.suppress(LookupError):
            stream.throw(LookupError())
    elif way == "close":
        stream.close()
    del stream
    soon(begin.until(endless.requests[-1].wait_closed()))
    assert endless.requests[-1].finished_at is None


@three_tries
def test_apply_sync_streaming_closes_what_it_reads(endless):
    streaming = streamll.streamify(dspy.Predict("question -> answer"))
    stream = streamll.apply_sync_streaming(streaming(question="?"))
    next(stream)
    begin = Stopwatch()
    stream.close()
    soon(begin.until(endless.requests[-1].wait_closed()))


def test_a_stream_that_is_never_read_never_starts(practice, lm):
    stream = streamll.streamify(dspy.Predict("question -> answer"))(question="?")
    del stream
    other = streamll.streamify(dspy.Predict("question -> answer"), async_streaming=False)
    del other
    assert practice.requests == []


def test_no_further_request_after_leaving(practice, lm):
    """The program is in a tool when its reader leaves; it gets no further than its next call."""
    inside, go_on = threading.Event(), threading.Event()
    after: queue.Queue[str] = queue.Queue()

    class Program(dspy.Module):
        def __init__(self):
            self.qa = dspy.Predict("question -> answer")

        def forward(self, question):
            inside.set()
            go_on.wait(60)
            try:
                self.qa(question=question)
            except BaseException as error:
                after.put(type(error).__name__)
                raise

    async def main():
        stream = streamll.streamify(Program())(question="?")
        reading = asyncio.create_task(read(stream))
        await asyncio.to_thread(inside.wait, 60)
        reading.cancel()
        await asyncio.wait({reading})

    asyncio.run(main())
    go_on.set()
    assert after.get(timeout=60) == "Unwind"
    assert practice.requests == []


@three_tries
@pytest.mark.parametrize("async_streaming", [True, False])
def test_an_async_program_is_left_wherever_it_waits(async_streaming):
    ended: queue.Queue[float] = queue.Queue()

    class Sleeping(dspy.Module):
        async def aforward(self):
            streamll.status("asleep")
            try:
                await asyncio.sleep(60)
            finally:
                ended.put(time.monotonic())

    streaming = streamll.streamify(
        Sleeping(), is_async_program=True, async_streaming=async_streaming
    )

    async def main():
        stream = streaming()
        await anext(stream)
        begin = Stopwatch()
        await stream.aclose()
        return begin

    if async_streaming:
        begin = asyncio.run(main())
    else:
        stream = streaming()
        next(stream)
        begin = Stopwatch()
        stream.close()
    soon(begin.until(ended.get(timeout=60)))


@three_tries
@pytest.mark.parametrize("async_streaming", [True, False])
def test_leaving_does_not_wait_for_a_tool_that_blocks(async_streaming):
    go_on = threading.Event()

    class Blocking(dspy.Module):
        def forward(self):
            streamll.status("blocked")
            go_on.wait(60)

    streaming = streamll.streamify(Blocking(), async_streaming=async_streaming)

    async def main():
        stream = streaming()
        await anext(stream)
        begin = Stopwatch()
        await stream.aclose()
        return begin.seconds

    if async_streaming:
        seconds = asyncio.run(main())
    else:
        stream = streaming()
        next(stream)
        begin = Stopwatch()
        stream.close()
        seconds = begin.seconds
    go_on.set()
    soon(seconds)


def test_the_readers_loop_may_end_first(endless):
    stream = streamll.streamify(dspy.Predict("question -> answer"))(question="?")
    asyncio.run(values(stream, 2))
    asyncio.run(values(stream, 2))  # another loop reads on
    del stream
    endless.requests[0].wait_closed()


def test_a_cancelled_anext_loses_nothing(practice, lm, streaming):
    text = "[[ ## answer ## ]]\none two three\n\n[[ ## completed ## ]]"
    practice.respond(lambda request: Reply(text, pace=0.02, packets=True))

    async def main():
        stream, got = streaming(question="?"), []
        while True:
            try:
                got.append(await asyncio.wait_for(anext(stream), 0.005))
            except asyncio.TimeoutError:
                continue
            except StopAsyncIteration:
                return got

    assert asyncio.run(main())[-1].answer == "one two three"
