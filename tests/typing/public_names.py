"""What a type checker knows of streamll's public names. Read by checkers, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import dspy
from pydantic import BaseModel
from typing_extensions import assert_type

import streamll
from streamll import AsyncStream, Event, EventConsumer, Stream, StreamConfig, TokenEvent
from streamll.core.errors import CircuitOpen, FirstTokenTimeout, StreamllError, StreamTimeout
from streamll.core.events import FieldCorrected, LMEnd, RunEnd
from streamll.sinks import BaseSink, CallbackSink, JSONLSink, MemorySink, TerminalSink
from streamll.streams import Collected, smooth
from streamll.testing import Fault, PracticeServer, RecordedRequest, Reply
from streamll.typed import Partial


class Finding(BaseModel):
    title: str


class QA(dspy.Module):  # type: ignore[misc,unused-ignore]
    def forward(self, question: str) -> Any:
        return question


@streamll.instrument(stream_fields=["answer"], sinks=[MemorySink()])
class Instrumented(QA):
    pass


def declared(program: QA) -> None:
    assert_type(streamll.instrument(program, stream_fields="*"), QA)
    assert_type(streamll.instrument(Instrumented), type[Instrumented])


def read(program: QA) -> None:
    config = StreamConfig(idle_timeout=5, overflow="coalesce", on_partial="continue")
    with streamll.stream(program, fields=["answer"], config=config)(question="?") as events:
        assert_type(events, Stream)
        for event in events:
            assert_type(event, Event)
            if isinstance(event, TokenEvent):
                assert_type(event.token, str)
                assert_type(event.predictor, str | None)
            elif isinstance(event, LMEnd):
                assert_type(event.cost, float | None)
            elif isinstance(event, FieldCorrected):
                assert_type(event.text, str)
            elif isinstance(event, RunEnd):
                assert_type(event.run_id, str | None)
        assert_type(events.text("answer"), str)
        assert_type(events.run_id, str)
        texts: Iterator[str] = iter(events.tokens("answer"))
        findings: Iterator[Finding] = events.items("findings", as_type=Finding)
        assert_type(next(events.partials("findings", list[Finding])), Partial[list[Finding]])
        assert_type(next(events.items("findings", as_type=Finding)), Finding)
        assert_type(next(events.items("findings")), Any)
        assert_type(next(events.partials("findings", list[Finding])).value, list[Finding])
        print(texts, findings)


async def read_async(program: QA) -> None:
    async with streamll.stream(program)(question="?") as events:
        assert_type(events, AsyncStream)
        async for event in events:
            assert_type(event, Event)
        later: AsyncIterator[Finding] = events.items("findings", as_type=Finding)
        assert_type(await anext(later), Finding)
        assert_type(await anext(events.partials("findings")), Partial[Any])
        async for piece in smooth(events):
            print(piece)


def errors(error: StreamllError) -> None:
    if isinstance(error, FirstTokenTimeout):
        timeout: TimeoutError = error
        assert_type(error.limit, float)
        print(timeout, isinstance(error, StreamTimeout))
    if isinstance(error, CircuitOpen):
        assert_type(error.retry_after, float)


def sinks() -> None:
    class Printing(BaseSink):
        def handle_event(self, event: Event) -> None:
            print(event.event_type)

    def note(event: Event) -> None:
        print(event)

    streamll.watch(sinks=[Printing(), TerminalSink(), CallbackSink(note), JSONLSink("a.jsonl")])
    streamll.unwatch()
    with streamll.configure(include=["inputs"], redact=lambda event: event):
        pass
    streamll.set_context(request_id="1")
    with streamll.trace("retrieval") as traced:
        traced.emit("found", data={"documents": 3})
    streamll.emit("done", seconds=3)


def consume() -> None:
    consumer = EventConsumer("sqlite:///runs.db")

    @consumer.on("token")
    async def show(event: Event) -> None:
        print(event)

    print(show)


def practise(server: PracticeServer) -> None:
    def answer(request: RecordedRequest) -> Reply | Fault | None:
        return Reply({"answer": "42"}) if request.streaming else Fault(status=500)

    server.respond(answer)
    server.script("text", Reply("more", chunk=1))


async def gathered(collected: Collected) -> None:
    assert_type(collected.text, str)
