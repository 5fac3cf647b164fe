"""X7: leaving a stream closes the provider's connection at once; the reader's task goes on."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import dspy
import pytest
from dspy_lines import ENGINES
from patience import Stopwatch
from programs import QA, AsyncQA, Heard

import streamll
from brokers.servers import wait_until
from streamll.capture import running
from streamll.core.events import TERMINAL
from streamll.testing import Fault, Reply

BOUND = 0.1
"""Seconds from leaving the stream to the closed connection, seen from the server (X7)."""
REPLY = {"reasoning": "r " * 50, "answer": "a " * 50}


def first_token(events):
    for event in events:
        if event.event_type == "token":
            return event
    raise AssertionError("no token came")


async def first_token_async(events):
    async for event in events:
        if event.event_type == "token":
            return event
    raise AssertionError("no token came")


def closed_within_bound(request, left):
    assert left.until(request.wait_closed()) < BOUND
    assert request.finished_at is None


SILENT = [Reply(REPLY, fault=Fault(stall_after=20)), Reply(REPLY, hold_after=20)]
TALKING = Reply({"reasoning": "r " * 9000, "answer": "a"}, pace=0.005, packets=True)  # 45 s


@pytest.mark.parametrize("reply", [*SILENT, TALKING], ids=["stalled", "held", "talking"])
def test_sync_reader_of_a_sync_program(lm, practice, reply):
    practice.script(reply)
    with streamll.stream(QA())(question="Why?") as events:
        first_token(events)
        left = Stopwatch()
    closed_within_bound(practice.requests[0], left)


@pytest.mark.parametrize("reply", [*SILENT, TALKING], ids=["stalled", "held", "talking"])
@pytest.mark.parametrize("program", [QA, AsyncQA], ids=["sync program", "async program"])
def test_async_reader(lm, practice, reply, program):
    practice.script(reply, REPLY)

    async def main():
        async with streamll.stream(program())(question="Why?") as events:
            await first_token_async(events)
            left = Stopwatch()
        await asyncio.sleep(0)  # the reader's own task is untouched: a later await works
        closed_within_bound(practice.requests[0], left)
        async with streamll.stream(program())(question="Why?") as events:
            return await events.result()

    assert asyncio.run(main()).answer == REPLY["answer"].strip()


@pytest.mark.parametrize("wire", ["openai", "responses", "anthropic"])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_wire_and_engine(practice, wire, engine):
    if (wire, engine) == ("responses", "litellm"):
        return  # LiteLLM's Responses API does not stream in DSPy: whole text, nothing to leave
    practice.script(Reply(REPLY, fault=Fault(stall_after=20)))
    lm = practice.lm(wire, engine=engine, num_retries=0)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        with streamll.stream(QA())(question="Why?") as events:
            first_token(events)
            left = Stopwatch()
        closed_within_bound(practice.requests[0], left)


def test_silence_before_the_first_byte(lm, practice):
    practice.script(Reply(REPLY, fault=Fault(silent=True)))
    with streamll.stream(QA())(question="Why?") as events:
        for event in events:
            if event.event_type == "lm.start":
                break
        (request,) = practice.wait_for_requests(1)
        left = Stopwatch()
    closed_within_bound(request, left)


def test_an_exception_in_the_block_leaves_too(lm, practice):
    practice.script(SILENT[0])
    with pytest.raises(KeyError), streamll.stream(QA())(question="Why?") as events:
        first_token(events)
        left = Stopwatch()
        raise KeyError
    closed_within_bound(practice.requests[0], left)


def test_cancelling_the_readers_task_stops_the_program(lm, practice):
    practice.script(SILENT[0])

    async def read():
        async with streamll.stream(AsyncQA())(question="Why?") as events:
            async for _ in events:
                pass

    async def main():
        task = asyncio.create_task(read())
        await asyncio.to_thread(practice.wait_for_requests, 1)
        await asyncio.to_thread(practice.requests[0].wait_chunks, 20)
        left = Stopwatch()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return left

    left = asyncio.run(main())
    closed_within_bound(practice.requests[0], left)


def best_of_n():
    return dspy.BestOfN(
        module=dspy.ChainOfThought("question -> answer"), N=5, threshold=2.0,
        reward_fn=lambda inputs, prediction: 0.0,
    )  # fmt: skip


class Fan(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.ChainOfThought("question -> answer")

    def forward(self, question):
        pairs = [(self.predict, {"question": f"{question} {i}"}) for i in range(6)]
        return dspy.Parallel(num_threads=1, disable_progress_bar=True)(pairs)


class Evaluated(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.ChainOfThought("question -> answer")

    def forward(self, question):
        examples = [
            dspy.Example(question=f"{question} {i}").with_inputs("question") for i in range(6)
        ]
        evaluate = dspy.Evaluate(
            devset=examples, metric=lambda example, prediction: 1.0, num_threads=1
        )
        return evaluate(self.predict)


@pytest.mark.parametrize("program", [best_of_n, Fan, Evaluated])
def test_programs_that_carry_on_after_errors_stop_too(lm, practice, program):
    """BestOfN, Parallel and Evaluate catch exceptions and go on; a cancelled run does not."""
    practice.script(Reply(REPLY, hold_after=20))
    heard = Heard()
    with (
        streamll.configure(tokens_in_evaluate=True),
        streamll.stream(program(), sinks=[heard])(question="Why?") as events,
    ):
        first_token(events)
        left = Stopwatch()
    closed_within_bound(practice.requests[0], left)
    wait_until(lambda: "run.cancelled" in heard.types, 60, "the run's end")
    assert len(practice.requests) == 1
    assert heard.types[-1] == "run.cancelled"


def test_a_cancelled_call_is_not_retried(practice):
    lm = practice.lm(num_retries=5)
    practice.script(Reply(REPLY, fault=Fault(stall_after=20)))
    heard = Heard()
    with (
        dspy.context(lm=lm, adapter=dspy.ChatAdapter()),
        streamll.stream(QA(), sinks=[heard])(question="Why?") as events,
    ):
        first_token(events)
    wait_until(lambda: "run.cancelled" in heard.types, 60, "the run's end")
    assert len(practice.requests) == 1
    partial = heard.events[-1].partial
    assert partial["generate.predict.reasoning"].startswith("r r")


def test_leaving_an_inner_stream_stops_only_the_inner_program(lm, practice, heard):
    practice.script(Reply(REPLY, hold_after=20), {"answer": "outer goes on"})
    qa = QA()

    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        def forward(self, question):
            with streamll.stream(qa)(question=question) as events:
                first_token(events)
            return self.predict(question=question)

    outer = streamll.instrument(Outer(), sinks=[heard])
    assert outer("Why?").answer == "outer goes on"
    practice.requests[0].wait_closed()
    assert heard.types[-1] == "run.end"


@pytest.mark.parametrize("program", [QA, AsyncQA], ids=["sync program", "async program"])
def test_a_cancelled_stream_can_be_read_to_its_end(lm, practice, program, monkeypatch):
    monkeypatch.setattr(running, "CANCEL_GRACE_S", 60)  # a busy machine's program ends late
    practice.script(Reply(REPLY, hold_after=20))

    async def main():
        kinds = []
        async with streamll.stream(program())(question="Why?") as events:
            with pytest.raises(streamll.StreamCancelled):
                async for event in events:
                    kinds.append(event.event_type)
                    if event.event_type == "token":
                        events.cancel()
        return kinds

    assert asyncio.run(main())[-1] == "run.cancelled"


@pytest.mark.parametrize("way", ["left", "cancelled and left", "too late"])
def test_what_a_program_does_to_end_is_not_cancelled_again(lm, practice, way):
    saved = asyncio.Event()

    class Saving(AsyncQA):
        async def aforward(self, **inputs):
            try:
                return await super().aforward(**inputs)
            finally:
                began.set()
                await go_on.wait()  # as for a database
                saved.set()

    practice.script(SILENT[1])
    began, go_on = asyncio.Event(), asyncio.Event()
    config = streamll.StreamConfig(timeout=0.3 if way == "too late" else None)

    async def read():
        with contextlib.suppress(streamll.StreamllError):
            async with streamll.stream(Saving(), config=config)(question="Why?") as events:
                if way == "too late":
                    async for _ in events:
                        pass
                await first_token_async(events)
                if way == "cancelled and left":
                    events.cancel()
                    async for _ in events:
                        await asyncio.sleep(0)
        await asyncio.wait_for(began.wait(), 60)
        go_on.set()
        await asyncio.wait_for(saved.wait(), 60)

    asyncio.run(read())


def test_a_program_that_outlives_its_cancellation_does_not_hold_its_reader(monkeypatch):
    monkeypatch.setattr(running, "CANCEL_GRACE_S", 0.05)
    release = threading.Event()

    def busy():
        release.wait(60)

    with streamll.stream(busy)() as events:
        assert next(events).event_type == "run.start"
        events.cancel()
        with pytest.raises(streamll.StreamCancelled):
            list(events)
        assert not release.is_set()
        release.set()


@pytest.mark.parametrize("program", [QA, AsyncQA], ids=["sync program", "async program"])
def test_a_run_without_a_reader(lm, practice, program, monkeypatch):
    monkeypatch.setattr(running, "CANCEL_GRACE_S", 60)
    practice.script(REPLY, Reply(REPLY, hold_after=20))
    sink, question = Heard(), {"question": "Why?"}

    async def main():
        stream = streamll.stream(program(), sinks=[sink], read=False)
        async with stream(**question) as events:
            result = await events.result()
            assert events.run_id == sink.events[0].run_id
        async with stream(**question) as events:
            events.cancel()
            with pytest.raises(streamll.StreamCancelled):
                await events.result()
        return result

    assert asyncio.run(main()).answer == REPLY["answer"].strip()
    ends = [e.event_type for e in sink.events if e.event_type in TERMINAL]
    assert ends == ["run.end", "run.cancelled"]
    assert "token" in {event.event_type for event in sink.events}
