"""E10: what works on streams of programs works on streams of models: operators, sinks, limits."""

from __future__ import annotations

import asyncio
import threading

import pytest

import streamll
from brokers.servers import wait_until
from streamll import StreamConfig, streams
from streamll.core.errors import ChannelOverflow, StreamTimeout
from streamll.services import iModel
from streamll.testing import Fault, RecordingSink, Reply, Usage

pytestmark = pytest.mark.since_3_4

TEXT = "one two three four five six"


async def read(source):
    return [item async for item in source]


def test_operators_take_model_streams(make_model, practice, run, tmp_path):
    practice.respond(lambda _: TEXT)
    model = make_model()
    loud = streams.map_tokens(model.invoke_stream("x"), str.upper)
    assert "".join(run(read(loud))) == TEXT.upper()
    file = tmp_path / "reply.txt"
    assert "".join(streams.to_file(model.invoke_stream("x"), file)) == TEXT
    assert file.read_text("utf-8") == TEXT
    smooth = streams.smooth(model.invoke_stream("x"), interval=0)
    assert "".join(run(read(smooth))) == TEXT


def test_models_are_merged_and_collected(make_model, practice, run):
    practice.respond(lambda request: f"{request.body['model']} {TEXT}")
    streams = {name: make_model(model=name).invoke_stream("x") for name in ("a", "b")}

    async def merged():
        texts = dict.fromkeys(streams, "")
        async for source, item in streamll.aggregate_streams(streams):
            texts[source] += item if isinstance(item, str) else ""
        return texts

    assert run(merged()) == {"a": f"a {TEXT}", "b": f"b {TEXT}"}
    collected = streamll.collect_stream(make_model().events("x"))
    assert collected.text == f"practice-model {TEXT}"


def test_watch_sees_questions(make_model, practice, run):
    """X0a."""
    practice.script(TEXT)
    sink = RecordingSink()
    with streamll.configure(sinks=[sink]):
        streamll.watch()
        try:
            run(read(make_model().invoke_stream("x")))
        finally:
            streamll.unwatch()
    assert sink.catch_up(60)
    assert sink.events[-1].event_type == "run.end"


def test_the_context_of_the_caller_is_on_every_event(make_model, practice, run):
    """D6."""
    practice.respond(lambda _: TEXT)
    model = make_model()

    async def one(number):
        streamll.set_context(request=number)
        sink = RecordingSink()
        await read(model.invoke_stream("x", sinks=[sink]))
        await asyncio.to_thread(sink.catch_up, 5)
        return {event.data["request"] for event in sink.events}

    async def many():
        return await asyncio.gather(*(one(number) for number in range(10)))

    assert run(many()) == [{number} for number in range(10)]


def test_costs_are_dspy_s_estimates(make_model, practice, run):
    practice.respond(lambda _: Reply(TEXT, usage=Usage(1_000_000, 1_000_000)))
    sink = RecordingSink()
    model = make_model(model="gpt-4o-mini", sinks=[sink])
    run(read(model.invoke_stream("x")))
    model.invoke_sync("x")
    own = iModel("ours", "gpt-4o-mini", base_url=practice.openai_url, sinks=[sink])
    own.invoke_sync("x")  # a server of one's own has prices of its own, or none
    assert sink.catch_up(60)
    costs = [event.cost for event in sink.of("lm.end")]
    assert costs[0] == costs[1] > 0
    assert costs[2] is None


def test_nothing_is_kept_in_dspy_s_history(make_model, practice, run):
    import dspy

    practice.respond(lambda _: TEXT)
    model = make_model(api_key="sk-very-secret")
    before = len(dspy.clients.base_lm.GLOBAL_HISTORY)
    run(read(model.invoke_stream("x")))
    model.invoke_sync("x")
    assert len(dspy.clients.base_lm.GLOBAL_HISTORY) == before
    assert model._lms.lms[0].history == []


def test_a_question_inside_streamify_sends_nothing_into_its_output(make_model, practice):
    import dspy

    practice.respond(lambda _: TEXT)
    model = make_model()

    class Program(dspy.Module):
        def forward(self, question):
            return dspy.Prediction(answer=model.invoke_sync(question).text)

    program = dspy.streamify(Program(), async_streaming=False)
    with dspy.context(lm=practice.lm()):
        (prediction,) = program(question="x")
    assert prediction.answer == TEXT


def test_more_streams_than_one_lm_has_connections(make_model, practice, run, monkeypatch):
    monkeypatch.setattr("streamll.chat.question.CONNECTIONS_PER_LM", 2)
    practice.respond(lambda _: Reply(TEXT, hold_after=1))
    model = make_model()

    async def many():
        streams = [model.invoke_stream("x") for _ in range(5)]
        for stream in streams:
            assert await stream.__anext__() == "one"
        for stream in streams:
            await stream.aclose()

    run(many())
    assert len(model._lms.lms) == 3
    assert model._lms._in_use == [0, 0, 0]


def test_buffer_and_overflow_policy_come_from_the_config(make_model, practice, run):
    """X9."""
    practice.respond(lambda _: "word " * 20_000)  # what comes in one read is one piece
    lossy = StreamConfig(buffer_size=5, overflow="fail", max_retries=0)
    seen = RecordingSink()
    stream = make_model(config=lossy, sinks=[seen]).invoke_stream("x")

    async def all_has_been_read(runs):
        def is_over():
            return len([event for event in seen.events if event.closes == "run"]) == runs

        await asyncio.to_thread(wait_until, is_over, 60, "the run's end")

    async def slow():
        await stream.__anext__()
        await all_has_been_read(1)
        await read(stream)

    with pytest.raises((ChannelOverflow, streamll.StreamCancelled)):
        run(slow())
    practice.respond(lambda _: "word " * 500)
    merged = StreamConfig(buffer_size=5, overflow="coalesce", max_retries=0)
    whole = make_model(config=merged, sinks=[seen]).invoke_stream("x")

    async def late():
        first = await whole.__anext__()
        await all_has_been_read(2)
        return [first, *await read(whole)]

    chunks = run(late())
    assert "".join(chunks) == ("word " * 500)
    assert len(chunks) < 100


def test_many_streams_in_many_threads(make_model, practice):
    practice.respond(lambda request: f"re {request.body['messages'][0]['content']}")
    model = make_model()
    texts = {}

    def ask(number):
        texts[number] = "".join(model.invoke_stream(f"{number}"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert texts == {number: f"re {number}" for number in range(40)}


def test_a_total_timeout_bounds_retries_and_waiting_too(make_model, practice, run):
    practice.respond(lambda _: Fault(status=503))
    config = StreamConfig(timeout=0.3, max_retries=50, retry_delay=3600, breaker=None)
    for ask in (lambda m: run(read(m.invoke_stream("x"))), lambda m: list(m.invoke_stream("x"))):
        with pytest.raises(StreamTimeout):
            ask(make_model(config=config))


def test_an_uninstalled_package_still_answers(make_model, practice, run):
    practice.respond(lambda _: TEXT)
    model = make_model()
    assert "".join(run(read(model.invoke_stream("x")))) == TEXT
    streamll.uninstall()
    assert "".join(run(read(model.invoke_stream("x")))) == TEXT


def test_a_copied_model_answers(make_model, practice):
    import copy

    practice.respond(lambda _: TEXT)
    model = make_model()
    assert copy.copy(model).invoke_sync("x").text == TEXT
