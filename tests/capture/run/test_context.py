"""A5, A17, D5, D6: context, traces, statuses and custom events, inside and outside runs."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from programs import QA, contiguous

import streamll
from streamll.core.errors import ConfigurationError
from streamll.core.events import KINDS, Status, StreamllEvent, TokenEvent
from streamll.core.ordering import OrderCheck
from streamll.core.wire import decode, encode


class RAG(QA):
    """Seed 003's pipeline."""

    def forward(self, question):
        with streamll.trace("retrieval") as ctx:
            with streamll.trace("index"):
                pass
            ctx.emit("docs_found", data={"count": 3})
        streamll.status("Answering…")
        return super().forward(question)


def test_traces_events_and_statuses_join_the_run_in_order(lm, heard):
    """D5, A17."""
    streamll.instrument(RAG(), sinks=[heard])("Why?")
    assert contiguous(heard.events)
    assert heard.types[1:8] == [
        "module.start", "trace.start", "trace.start", "trace.end", "docs_found",
        "trace.end", "status",
    ]  # fmt: skip
    outer, inner = heard.of("trace.start")
    assert inner.parent_trace_id == outer.trace_id
    assert heard.of("trace.end")[1].duration > 0
    (found,) = heard.of("docs_found")
    assert found.data["count"] == 3
    assert found.data["trace"] == "retrieval"
    assert found.path == ("RAG",)


def test_a_trace_reports_the_error_that_passes_through(lm, heard):
    class Failing(dspy.Module):
        def forward(self):
            with streamll.trace("step"):
                raise LookupError("gone")

    with pytest.raises(LookupError):
        streamll.instrument(Failing(), sinks=[heard])()
    assert heard.of("trace.end")[0].error_type == "LookupError"


def again(event):
    """As somebody gets it who reads a log."""
    return decode(encode(event))


class Loud:
    """Renders as text, without being one."""

    def __str__(self):
        return "LOUD"


@pytest.mark.parametrize(("said", "text"), [(3, "3"), (None, "None"), (Loud(), "LOUD")])
def test_whatever_a_program_says_is_text(heard, said, text):
    """A value that is none made the run unreadable for everybody who read it from a log."""

    class Says(dspy.Module):
        def forward(self):
            streamll.status(said)
            streamll.emit_event(Status(message=said))
            with streamll.trace(said):
                pass

    streamll.instrument(Says(), sinks=[heard])()
    assert [event.message for event in heard.of("status")] == [text, text]
    traces = [*heard.of("trace.start"), *heard.of("trace.end")]
    assert [event.name for event in traces] == [text, text]
    assert [event.event_type for event in map(again, heard.events)] == heard.types
    assert [again(event).data for event in heard.of("status")] == [{"message": text}] * 2


async def stepping():
    with streamll.trace("stepping"):
        yield 1
        yield 2


async def closed_in_another_task(steps):
    await anext(steps)
    await asyncio.create_task(steps.aclose())


async def stepped_in_other_tasks(steps):
    while await asyncio.create_task(anext(steps, None)):
        pass


async def failing_in_another_task(steps):
    await anext(steps)
    with pytest.raises(LookupError, match="the user's own"):
        await asyncio.create_task(steps.athrow(LookupError("the user's own")))


async def left_to_the_loop(steps):
    await anext(steps)  # asyncio closes what is left of it, in a task of its own


@pytest.mark.parametrize(
    ("leave", "error_type"),
    [
        (closed_in_another_task, "GeneratorExit"),
        (stepped_in_other_tasks, None),
        (failing_in_another_task, "LookupError"),
        (left_to_the_loop, "GeneratorExit"),
    ],
)
def test_a_trace_around_a_yield_ends_in_its_run_wherever_it_is_left(heard, leave, error_type):
    class Stepping(dspy.Module):
        async def aforward(self):
            await leave(stepping())
            for _ in range(3):
                await asyncio.sleep(0)
            with streamll.trace("afterwards"):
                pass

    asyncio.run(streamll.instrument(Stepping(), sinks=[heard]).acall())
    OrderCheck().check_all(heard.events)
    assert contiguous(heard.events)
    started = heard.of("trace.start")
    assert [start.parent_trace_id for start in started] == [None, None]
    stepping_ended, _ = heard.of("trace.end")
    assert stepping_ended.name == "stepping"
    assert stepping_ended.error_type == error_type


def test_a_trace_that_outlives_its_run_ends_with_it(heard):
    class Leaving(dspy.Module):
        def forward(self):
            def steps():
                with streamll.trace("left open"):
                    yield

            self.steps = steps()
            next(self.steps)

    program = streamll.instrument(Leaving(), sinks=[])
    with streamll.configure(sinks=[heard]):
        program()
        program.steps.close()
    OrderCheck().check_all(heard.events)
    assert contiguous(heard.events)
    (end,) = heard.of("trace.end")
    assert (end.name, end.error_type) == ("left open", "Unfinished")


def test_traces_of_generators_that_take_turns_are_told_apart(heard):
    def steps(name):
        with streamll.trace(name):
            yield
        yield

    with streamll.configure(sinks=[heard]):
        one, two = steps("one"), steps("two")
        for each in (one, two, one, two):
            next(each)
        with streamll.trace("afterwards"):
            pass
    assert [(e.event_type, e.name) for e in heard.events] == [
        ("trace.start", "one"), ("trace.start", "two"), ("trace.end", "one"), ("trace.end", "two"),
        ("trace.start", "afterwards"), ("trace.end", "afterwards"),
    ]  # fmt: skip
    assert heard.events[-1].parent_trace_id is None


def test_a_trace_is_an_async_context_manager_and_a_decorator_too(heard):
    @streamll.trace("decorated")
    def decorated():
        pass

    async def main():
        async with streamll.trace("outer") as step:
            step.emit("inside")
            decorated()
            decorated()

    with streamll.configure(sinks=[heard]):
        asyncio.run(main())
    outer, *inner = heard.of("trace.start")
    assert [each.parent_trace_id for each in inner] == [outer.trace_id] * 2
    assert len({each.trace_id for each in (outer, *inner)}) == 3
    assert heard.of("inside")[0].data["trace_id"] == outer.trace_id
    assert heard.types[-1] == "trace.end"


def test_one_trace_may_be_entered_again_inside_itself(heard):
    step = streamll.trace("walk")

    def walk(depth):
        with step as entered:
            return [entered.trace_id, *(walk(depth - 1) if depth else ())]

    with streamll.configure(sinks=[heard]):
        ids = walk(2)
    assert [each.trace_id for each in heard.of("trace.start")] == ids
    assert [each.parent_trace_id for each in heard.of("trace.start")] == [None, *ids[:2]]
    assert [each.trace_id for each in heard.of("trace.end")] == ids[::-1]


def test_a_trace_without_a_name_is_refused():
    with pytest.raises(TypeError, match="takes a name"):

        @streamll.trace
        def retrieve():
            raise NotImplementedError


def test_one_trace_may_be_shared_by_tasks_at_once(heard):
    step = streamll.trace("step")

    async def request(own, other):
        async with step as entered:
            own.set()
            await other.wait()
            return entered.trace_id

    async def both():
        one, two = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(request(one, two), request(two, one))

    with streamll.configure(sinks=[heard]):
        ids = asyncio.run(both())
    assert [each.trace_id for each in heard.of("trace.start")] == ids
    assert sorted(each.trace_id for each in heard.of("trace.end")) == sorted(ids)


@streamll.trace("traced")
async def returning(emit):
    await asyncio.sleep(0)
    emit("inside")
    return "result"


@streamll.trace("traced")
async def raising(emit):
    emit("inside")
    raise LookupError("the user's own")


@streamll.trace("traced")
def echoing(emit):
    """Yields what was sent, or the type of what was thrown."""
    said = "first"
    while said != "end":
        try:
            said = yield said
        except ValueError as error:
            said = type(error).__name__
        emit("inside")
    return "result"


@streamll.trace("traced")
async def async_echoing(emit):
    said = "first"
    while said != "end":
        try:
            said = yield said
        except ValueError as error:
            said = type(error).__name__
        emit("inside")


def in_turn(next_, send, throw):
    """How both kinds of generators are driven."""
    return [(next_, ()), (send, ("second",)), (throw, (ValueError("no"),))], (send, ("end",))


def drive_generator():
    steps = echoing(streamll.emit)
    calls, (end, said) = in_turn(steps.__next__, steps.send, steps.throw)
    assert [call(*given) for call, given in calls] == ["first", "second", "ValueError"]
    with pytest.raises(StopIteration) as stop:
        end(*said)
    assert stop.value.value == "result"


async def drive_async_generator():
    steps = async_echoing(streamll.emit)
    calls, (end, said) = in_turn(steps.__anext__, steps.asend, steps.athrow)
    assert [await call(*given) for call, given in calls] == ["first", "second", "ValueError"]
    with pytest.raises(StopAsyncIteration):
        await end(*said)


async def close_async_generator():
    steps = async_echoing(streamll.emit)
    assert await anext(steps) == "first"
    assert await steps.asend("second") == "second"
    await steps.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(steps)


def close_generator():
    steps = echoing(streamll.emit)
    assert [next(steps), steps.send("second")] == ["first", "second"]
    steps.close()


async def drive_coroutine():
    assert await returning(streamll.emit) == "result"


async def fail_in_coroutine():
    with pytest.raises(LookupError, match="the user's own"):
        await raising(streamll.emit)


@pytest.mark.parametrize(
    ("drive", "inside", "error_type"),
    [
        (drive_coroutine, 1, None),
        (fail_in_coroutine, 1, "LookupError"),
        (drive_generator, 3, None),
        (close_generator, 1, "GeneratorExit"),
        (drive_async_generator, 3, None),
        (close_async_generator, 1, "GeneratorExit"),
    ],
)
def test_a_traced_function_is_in_its_trace_until_it_has_ended(heard, drive, inside, error_type):
    with streamll.configure(sinks=[heard]):
        if asyncio.iscoroutine(running := drive()):
            asyncio.run(running)
    assert heard.types == ["trace.start", *["inside"] * inside, "trace.end"]
    assert heard.events[-1].error_type == error_type


def test_a_traced_function_is_of_the_kind_that_it_was():
    assert inspect.iscoroutinefunction(returning)
    assert inspect.isgeneratorfunction(echoing)
    assert inspect.isasyncgenfunction(async_echoing)
    assert echoing.__doc__ == "Yields what was sent, or the type of what was thrown."


def test_traces_in_the_threads_of_parallel_are_inside_the_one_around_it(heard):
    class Item(dspy.Module):
        def forward(self, i):
            with streamll.trace("item"), streamll.trace("inner"):
                return dspy.Prediction(i=i)

    class Outer(dspy.Module):
        def forward(self):
            with streamll.trace("outer"):
                pairs = [(Item(), {"i": i}) for i in range(6)]
                dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)

    streamll.instrument(Outer(), sinks=[heard])()
    started = {event.trace_id: event for event in heard.of("trace.start")}
    around = [
        (event.name, parent.name if (parent := started.get(event.parent_trace_id)) else None)
        for event in started.values()
    ]
    assert sorted(around, key=str) == sorted(
        [("outer", None), *[("item", "outer"), ("inner", "item")] * 6], key=str
    )


def test_emit_event_takes_its_place_in_the_run(lm, heard):
    """A5, ruling 4: emit_event, emit and ctx.emit."""

    class Emitting(dspy.Module):
        def forward(self):
            streamll.emit_event(StreamllEvent(event_type="one", data={"a": 1}))
            streamll.emit("two", b=2)

    streamll.instrument(Emitting(), sinks=[heard])()
    one, two = heard.of("one")[0], heard.of("two")[0]
    assert (one.seq, two.seq) == (2, 3)
    assert one.run_id == heard.of("run.start")[0].run_id
    assert (one.data["a"], two.data["b"]) == (1, 2)


@pytest.mark.parametrize(
    "event", [StreamllEvent(event_type="run.end"), TokenEvent(field="a", token="b")]
)
def test_a_program_cannot_emit_the_runs_own_events(event):
    with pytest.raises(ConfigurationError, match="event type of streamll's own"):
        streamll.emit_event(event)


def test_emit_event_rejects_other_objects():
    with pytest.raises(TypeError, match="emit_event takes a streamll event, not dict"):
        streamll.emit_event({"event_type": "x"})
    for nothing in ("", None, 3):
        with pytest.raises(ConfigurationError, match="an event type is a string, such as"):
            streamll.emit(nothing)


def test_outside_a_run_events_go_to_the_configured_sinks_and_belong_to_no_run(heard):
    with streamll.configure(sinks=[heard, heard]):  # which hears each event once
        streamll.set_context(request_id="r1")
        streamll.emit("ping", n=1)
        with streamll.trace("outside"):
            streamll.status("waiting")
        with streamll.trace("afterwards"):
            pass
    assert heard.types == [
        "ping", "trace.start", "status", "trace.end", "trace.start", "trace.end",
    ]  # fmt: skip
    assert [start.parent_trace_id for start in heard.of("trace.start")] == [None, None]
    assert all(e.run_id is None and e.seq is None for e in heard.events)
    assert heard.events[0].data["request_id"] == "r1"
    assert heard.events[0].timestamp > 0
    streamll.emit("nobody listens")


def test_redact_also_runs_for_events_outside_a_run(heard):
    """X15."""

    def fail(event):
        raise KeyError

    for redact in (lambda event: None, fail):
        with streamll.configure(sinks=[heard], redact=redact):
            streamll.emit("secret", text="mine")
            streamll.status("mine, too")
    assert heard.events == []


def test_context_is_on_every_later_event(lm, heard):
    """D6."""
    streamll.set_context(conversation_id="conv_123", request_id="req_456")
    streamll.set_context(request_id="req_457", user="u")
    streamll.set_context(user=None)
    streamll.instrument(QA(), stream_fields="*", sinks=[heard])("Why?")
    for event in heard.events:
        assert dict(event.context) == {"conversation_id": "conv_123", "request_id": "req_457"}
        assert event.data["conversation_id"] == "conv_123"
    streamll.clear_context()
    heard.events.clear()
    streamll.instrument(QA(), sinks=[heard])("Why?")
    assert all(not event.context for event in heard.events)


def test_context_set_inside_a_module_holds_after_it(lm, heard):
    class Step(dspy.Module):
        def forward(self):
            streamll.set_context(doc="d1")

    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.step = Step()

        def forward(self):
            self.step()
            streamll.emit("after")

    streamll.instrument(Outer(), sinks=[heard])()
    assert heard.of("after")[0].data["doc"] == "d1"


def test_context_is_isolated_between_concurrent_requests(lm, heard):
    """D6: tasks and threads never see each other's; nothing leaks between events."""
    program = streamll.instrument(RAG(), stream_fields=["answer"], sinks=[heard])

    def request(i):
        streamll.set_context(request_id=i)
        program(f"question {i}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: contextvars.copy_context().run(request, i), range(40)))

    async def main():
        async def handler(i):
            streamll.set_context(request_id=i)
            await asyncio.to_thread(program, f"question {i}")

        await asyncio.gather(*(handler(i) for i in range(40, 80)))

    asyncio.run(main())
    seen = {frozenset(e.data["request_id"] for e in run) for run in heard.runs().values()}
    assert seen == {frozenset({i}) for i in range(80)}


def test_context_reaches_tasks_threads_and_parallel_and_does_not_leak_back(lm, heard):
    class Item(dspy.Module):
        def forward(self, i):
            streamll.emit("item", i=i)
            streamll.set_context(**{f"item_{i}": i})
            streamll.emit("changed", i=i)
            return dspy.Prediction(i=i)

    class Outer(dspy.Module):
        def forward(self):
            streamll.set_context(outer="yes")
            pairs = [(item, {"i": i}) for i in range(6)]
            dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
            thread = threading.Thread(
                target=contextvars.copy_context().run, args=(streamll.emit, "thread")
            )
            thread.start()
            thread.join()
            streamll.emit("after")

    item = Item()
    streamll.instrument(Outer(), sinks=[heard])()
    for event in heard.of("item"):
        assert dict(event.context) == {"outer": "yes"}  # not what an earlier item set
    for event in heard.of("changed"):
        assert dict(event.context) == {"outer": "yes", f"item_{event.data['i']}": event.data["i"]}
    assert dict(heard.of("after")[0].context) == {"outer": "yes"}
    assert dict(heard.of("thread")[0].context) == {"outer": "yes"}
    assert len(heard.runs()) == 1


@pytest.mark.parametrize(
    "name", sorted({"seq", *(name for kind in KINDS.values() for name in kind.__struct_fields__)})
)
def test_names_of_an_events_own_fields_are_refused_by_name(name):
    """``event.data`` and ``where=`` would show the event's own."""
    with pytest.raises(ConfigurationError, match=f"set_context cannot use the name '{name}'"):
        streamll.set_context(**{name: 1})
