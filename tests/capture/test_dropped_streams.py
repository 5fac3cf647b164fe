"""X7: a stream that is dropped without having been left leaves nothing running."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import dspy
import pytest
from programs import QA, AsyncQA

import streamll
from streamll.testing import Reply

BOUND = 60
"""Seconds after which a test gives up waiting."""

LONG = {"reasoning": "r", "answer": "word " * 2000}


@pytest.fixture
def slow(practice, lm):
    """A server that has said a little and holds back the rest."""
    practice.script(Reply(LONG, hold_after=30))
    return practice


def a_token(events):
    return next(event for event in events if event.event_type == "token")


async def an_async_token(events):
    async for event in events:
        if event.event_type == "token":
            return


@pytest.fixture
def gone(new_threads):
    """``gone("streamll QA")``: the threads of that name have ended, or end before long."""

    def gone(name):
        for thread in new_threads(name):
            thread.join(BOUND)
        return not new_threads(name)

    return gone


def test_dropped_in_the_middle(slow, gone):
    """X7: the provider's connection is closed, the program's thread ends."""
    events = streamll.stream(QA())(question="Why?").__enter__()
    a_token(events)
    del events
    gc.collect()
    slow.requests[0].wait_closed()
    assert gone("streamll QA")


def test_dropped_while_the_program_waits_for_its_reader(practice, lm, gone):
    """X7: a program that waits for space in the buffer does not wait for ever."""
    practice.script(LONG)
    events = streamll.stream(QA())(question="Why?").__enter__()
    channel = events._program_run.channel
    practice.wait_for(lambda: practice.requests and practice.requests[0].finished_at)
    deadline = time.monotonic() + BOUND
    while not channel.statistics().waiting_producers and time.monotonic() < deadline:
        time.sleep(0.005)
    assert channel.statistics().waiting_producers == 1
    del events
    gc.collect()
    assert gone("streamll QA")


@pytest.mark.parametrize("program", [QA, AsyncQA])
def test_dropped_in_a_running_loop(slow, program, gone):
    """X7: a task is cancelled, a thread unwound."""

    async def main():
        events = await streamll.stream(program())(question="Why?").__aenter__()
        await an_async_token(events)
        del events
        gc.collect()
        await asyncio.to_thread(slow.requests[0].wait_closed)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), BOUND)

    asyncio.run(main())
    assert gone("streamll QA")


def test_dropped_after_its_loop(slow, gone):
    """X7: the loop of its reader is gone, the program runs in a thread."""

    async def main():
        events = await streamll.stream(QA())(question="Why?").__aenter__()
        await an_async_token(events)
        return events

    events = asyncio.run(main())
    del events
    gc.collect()
    slow.requests[0].wait_closed()
    assert gone("streamll QA")


def test_a_call_that_is_never_entered_does_nothing(practice, lm):
    """X7: it has not begun."""
    streamll.stream(QA())(question="Why?")
    gc.collect()
    assert practice.requests == []


def test_a_result_stays_after_the_block(lm):
    """X3: what has ended was not left, however it was read."""
    with streamll.stream(QA())(question="Why?") as events:
        for _ in events:
            pass
    assert events.result().answer == events.text("answer")


def test_a_stream_that_failed_leaves_nothing_in_memory(lm, gone):
    """X7: its error knows the frames that know the stream."""

    class Failure(Exception):
        pass

    class Failing(dspy.Module):
        def forward(self):
            raise Failure

    with streamll.stream(Failing())() as events:
        try:
            events.result()
        except Failure as error:
            left = weakref.ref(error)
    del events
    assert gone("streamll Failing")  # the thread in which it was raised
    gc.collect()
    assert left() is None


def test_calls_queued_in_parallel_do_not_start_after_the_stream_was_left(
    practice, lm, gone, new_threads
):
    """X7: ``dspy.Parallel`` works off its queue, also after the program that filled it."""
    practice.respond(lambda request: Reply(LONG, hold_after=30))

    class Fan(dspy.Module):
        def __init__(self):
            super().__init__()
            self.qa = QA()

        def forward(self):
            pairs = [(self.qa, {"question": f"Why {number}?"}) for number in range(8)]
            return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)

    with streamll.stream(Fan())() as events:
        practice.wait_for_requests(2)
        a_token(events)
    for request in practice.requests:
        request.wait_closed()
    assert gone("streamll Fan")
    for worker in new_threads("ThreadPoolExecutor"):
        worker.join(BOUND)
    assert len(practice.requests) == 2
