"""E10: retries, limits, circuit breaker and hooks, for streams as for whole answers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from dspy import lm15

from brokers.servers import wait_until
from streamll.core.errors import (
    CircuitOpen,
    ConfigurationError,
    GuardStopped,
    IdleTimeout,
    StreamCancelled,
    TotalTimeout,
)
from streamll.guards import Words
from streamll.services import CircuitBreaker, Hooks, Limits, ReplySuperseded, StreamConfig, iModel
from streamll.testing import Fault, OrderCheck, RecordingSink, Reply

pytestmark = pytest.mark.since_3_4

TEXT = "one two three four"
RETRIES = StreamConfig(max_retries=3, retry_delay=0.0, breaker=None)


async def text_of(stream):
    text = ""
    async for chunk in stream:  # no comprehension: a cancelled task would keep its iterator
        text += chunk
    return text


async def whole(model, *args, **kwargs):
    return (await model.invoke(*args, **kwargs)).text


ASK = {
    "invoke_stream": lambda model, **o: text_of(model.invoke_stream("x", **o)),
    "invoke": lambda model, **o: whole(model, "x", **o),
    "stream in a thread": lambda model, **o: asyncio.to_thread(
        lambda: "".join(model.invoke_stream("x", **o))
    ),
    "invoke_sync": lambda model, **o: asyncio.to_thread(lambda: model.invoke_sync("x", **o).text),
}


@pytest.fixture(params=ASK)
def ask(request):
    return ASK[request.param]


# --- retries --------------------------------------------------------------------------------------


def test_transient_errors_before_the_first_token_are_retried(make_model, practice, run, ask):
    faults = [Fault(status=429, retry_after=0), Fault(status=503), Fault(disconnect_after=0)]
    practice.script(*faults, TEXT)
    sink = RecordingSink()
    assert run(ask(make_model(config=RETRIES, sinks=[sink]))) == TEXT
    assert [request.status for request in practice.requests] == [429, 503, 200, 200]
    assert sink.catch_up(60)
    OrderCheck().check_all(sink.events)
    kinds = [event.event_type for event in sink.events]
    assert kinds.count("lm.superseded") == 3
    assert [e.reason for e in sink.events if e.event_type == "lm.waiting"] == ["retry"] * 3


def test_retry_after_is_honoured(make_model, practice, run, ask):
    practice.script(Fault(status=429, retry_after=0.3), TEXT)
    assert run(ask(make_model(config=RETRIES))) == TEXT
    first, second = practice.requests
    assert second.started_at - first.started_at >= 0.3


def test_permanent_errors_are_not_retried(make_model, practice, run, ask):
    practice.script(Fault(status=401), TEXT)
    with pytest.raises(lm15.AuthError):
        run(ask(make_model(config=RETRIES)))
    assert len(practice.requests) == 1


def test_retries_are_bounded(make_model, practice, run, ask):
    practice.script(*[Fault(status=500)] * 9)
    with pytest.raises(lm15.ServerError):
        run(ask(make_model(config=RETRIES)))
    assert len(practice.requests) == 4


def test_a_stream_is_not_retried_after_its_first_chunk(make_model, practice, run):
    """A text stream cannot take anything back: it fails, and keeps what had come."""
    practice.script(Reply(TEXT, fault=Fault(disconnect_after=2)), TEXT)
    stream = make_model(config=RETRIES).invoke_stream("x")
    with pytest.raises(lm15.TransportError):
        run(text_of(stream))
    assert stream.text == "one two"
    assert len(practice.requests) == 1


def test_invoke_and_events_restart_in_the_middle(make_model, practice, run):
    cut = Reply(TEXT, fault=Fault(disconnect_after=2))
    practice.script(cut, TEXT, cut, TEXT)
    model = make_model(config=RETRIES, sinks=[RecordingSink()])
    assert run(whole(model, "x")) == TEXT
    with model.events("x") as events:
        seen = list(events)
        assert events.result().text == TEXT
    OrderCheck().check_all(seen)
    assert "lm.superseded" in {event.event_type for event in seen}


def test_a_restarted_reply_is_never_appended_to_the_one_before(make_model, practice, run):
    """``continue`` goes on in the middle. Where that is refused and the new reply begins with the
    same text, reading goes on behind it; else the stream says so."""
    config = StreamConfig(max_retries=2, retry_delay=0, on_partial="continue", breaker=None)
    practice.script(
        Reply(TEXT, fault=Fault(disconnect_after=2)), Reply(" three four"),
        Reply(TEXT, fault=Fault(disconnect_after=2)), Fault(status=400), Reply(TEXT, chunk=5),
        Reply(TEXT, fault=Fault(disconnect_after=2)), Fault(status=400), "one too many",
        Reply(TEXT, fault=Fault(disconnect_after=2)), Fault(status=400), "one",
    )  # fmt: skip
    model = make_model(config=config)
    for _ in range(2):
        stream = model.invoke_stream("x")
        assert run(text_of(stream)) == stream.text == TEXT
    for _ in range(2):
        stream = model.invoke_stream("x")
        with pytest.raises(ReplySuperseded, match="after 7 characters"):
            run(text_of(stream))
        assert stream.text == "one two"


# --- fallbacks ------------------------------------------------------------------------------------


def test_another_model_answers_where_this_one_cannot(make_model, practice, run, ask):
    spare = make_model("anthropic", model="spare")
    model = make_model(config=StreamConfig(max_retries=0, fallbacks=[spare]))
    practice.script(Fault(status=401), TEXT)
    assert run(ask(model)) == TEXT
    assert [request.model for request in practice.requests] == ["practice-model", "spare"]


def test_the_reply_s_facts_are_those_of_the_model_that_answered(make_model, practice):
    spare = make_model("anthropic", model="spare")
    practice.respond(lambda request: TEXT)
    plain = spare.invoke_sync("x").reply
    practice.script(Fault(status=500))
    config = StreamConfig(max_retries=0, breaker=None, fallbacks=[spare])
    call = make_model(config=config).invoke_sync("x")
    assert call.reply.model == "spare"
    assert call.reply.usage == plain.usage
    assert call.reply.finish_reason == plain.finish_reason


def test_text_that_was_read_is_continued_by_another_model_or_not_at_all(make_model, practice):
    config = StreamConfig(max_retries=0, fallbacks=[make_model("anthropic", model="spare")])
    practice.script(Reply(TEXT, fault=Fault(disconnect_after=2)))
    stream = make_model(config=config).invoke_stream("x")
    with pytest.raises(lm15.TransportError):
        list(stream)
    assert stream.text == "one two"
    practice.script(Reply(TEXT, fault=Fault(disconnect_after=2)), " three four")
    config = StreamConfig(max_retries=0, on_partial="continue", fallbacks=config.fallbacks)
    stream = make_model(config=config).invoke_stream("x")
    assert "".join(stream) == TEXT
    assert stream.response.text == TEXT
    assert len(practice.requests) == 3


def test_the_last_model_s_error_names_the_others(make_model, practice):
    config = StreamConfig(max_retries=0, fallbacks=[make_model("anthropic", model="spare")])
    practice.script(Fault(status=401), Fault(status=403))
    error = make_model(config=config).invoke_sync("x").execution.error
    assert isinstance(error, lm15.AuthError)
    assert "(asked before: openai/practice-model: LMAuthError: " in str(error)


def test_a_continued_reply_is_not_corrected(make_model, practice):
    practice.script(Reply(TEXT, fault=Fault(disconnect_after=2)), " three four")
    config = StreamConfig(retry_delay=0.0, on_partial="continue")
    with make_model(config=config).events("x") as events:
        types = [event.event_type for event in events]
        assert events.result().text == TEXT
    assert "field.corrected" not in types


# --- limits ---------------------------------------------------------------------------------------


async def until_started(sink, count):
    """So many questions have come as far as their turn; the limit of ``run`` bounds the wait."""
    while len(sink.of("lm.start")) < count:  # noqa: ASYNC110 - threads ask as well
        await asyncio.sleep(0.001)


def question_of(request):
    """What was asked, on either wire."""
    content = request.body["messages"][0]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def most_at_once(requests):
    """The most requests that were under way at the server at one moment."""
    moments = sorted(
        [(request.started_at, 1) for request in requests]
        + [(request.finished_at or request.client_closed_at, -1) for request in requests]
    )
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


def test_two_hundred_streams_of_two_models_stay_within_their_limits(practice, run):
    """Counted at the server; nothing lost."""
    practice.pace = 0.001
    practice.respond(lambda request: f"answer to {question_of(request)}")
    caps = {"gpt": 7, "claude": 3}
    gpt = iModel(
        "openai", "gpt", base_url=practice.openai_url, limits=Limits(max_concurrent=caps["gpt"])
    )
    claude = iModel(
        "anthropic", "claude", base_url=practice.anthropic_url,
        limits=Limits(max_concurrent=caps["claude"]),
    )  # fmt: skip

    async def one(model, number):
        return await text_of(model.invoke_stream(f"question {number}"))

    async def many():
        asked = [(model, number) for number in range(100) for model in (gpt, claude)]
        return await asyncio.gather(*(one(model, number) for model, number in asked))

    texts = run(many())
    assert texts == [f"answer to question {n}" for n in range(100) for _ in caps]
    assert len(practice.requests) == 200
    practice.wait_for(lambda: all(r.finished_at for r in practice.requests))
    for name, cap in caps.items():
        mine = [request for request in practice.requests if request.body["model"] == name]
        assert len(mine) == 100
        assert 1 < most_at_once(mine) <= cap


def test_threads_and_tasks_share_a_limit(make_model, practice, run):
    practice.pace = 0.002
    practice.respond(lambda _: TEXT)
    model = make_model(limits=Limits(max_concurrent=2))

    async def many():
        tasks = [ask(model) for ask in ASK.values() for _ in range(5)]
        return await asyncio.gather(*tasks)

    assert run(many()) == [TEXT] * 20
    practice.wait_for(lambda: all(r.finished_at for r in practice.requests))
    assert most_at_once(practice.requests) <= 2


def test_a_full_thread_pool_that_waits_for_slots_does_not_block_the_loop(make_model, practice, run):
    """Threads of ``asyncio.to_thread`` wait for slots that only the event loop can free."""
    practice.script(Reply(TEXT, hold_after=1))
    practice.respond(lambda _: TEXT)
    sink = RecordingSink()
    model = make_model(limits=Limits(max_concurrent=1), sinks=[sink])

    async def many():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4))
        first = model.invoke_stream("first")
        await first.__anext__()
        second = asyncio.create_task(text_of(model.invoke_stream("second")))
        third = asyncio.create_task(whole(model, "third"))
        threads = [asyncio.to_thread(model.invoke_sync, "x") for _ in range(40)]
        others = asyncio.gather(*threads)
        await until_started(sink, 3 + 4)  # all of the loop's threads wait
        practice.release()
        await text_of(first)
        assert await second == await third == TEXT
        return [calling.text for calling in await others]

    assert run(many()) == [TEXT] * 40


def test_a_loop_s_first_question_needs_no_thread_of_a_full_pool(make_model, practice, run):
    """It has its slot while the loop's shared threads all wait for one."""
    practice.script(Reply(TEXT, hold_after=1))
    practice.respond(lambda _: TEXT)
    sink = RecordingSink()
    model = make_model(limits=Limits(max_concurrent=1), sinks=[sink])
    holder = model.invoke_stream("holder")
    assert next(holder) == "one"

    async def many():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        first = asyncio.create_task(whole(model, "first"))
        await until_started(sink, 2)
        await asyncio.sleep(0.05)  # it is in line now
        threads = [asyncio.to_thread(model.invoke_sync, "x") for _ in range(6)]
        others = asyncio.gather(*threads)
        await until_started(sink, 2 + 2)  # all of the loop's threads wait
        holder.close()
        return [await first, *(calling.text for calling in await others)]

    assert run(many()) == [TEXT] * 7


def test_a_request_rate_is_kept(practice, run):
    limits = Limits(requests_per_minute=60 * 10, burst=5)  # 10 a second
    practice.respond(lambda _: TEXT)
    one = iModel("openai", "one", base_url=practice.openai_url, limits=limits)
    two = iModel("openai", "two", base_url=practice.openai_url, limits=limits)
    sink = RecordingSink()

    async def many():
        for model in (one, two):  # so that the first of the counted requests takes no longer
            assert await whole(model, "x", config=StreamConfig(limits=Limits())) == TEXT
        began = time.monotonic()
        streams = [m.invoke_stream("x", sinks=[sink]) for _ in range(10) for m in (one, two)]
        return began, await asyncio.gather(*map(text_of, streams))

    began, texts = run(many())
    assert texts == [TEXT] * 20
    starts = sorted(request.started_at - began for request in practice.requests[2:])
    assert all(start >= (place - 4) / 10 for place, start in enumerate(starts))
    assert sink.catch_up(60)
    waited = [event for event in sink.events if event.event_type == "lm.waiting"]
    assert {event.reason for event in waited} == {"limit"}
    assert 1 <= len(waited) <= 20 - 5  # the burst need not wait, nor who comes late by himself


def test_a_cancelled_wait_for_a_slot_admits_the_next(make_model, practice, run):
    practice.script(Reply(TEXT, hold_after=1), TEXT)
    sink = RecordingSink()
    model = make_model(limits=Limits(max_concurrent=1), sinks=[sink])

    async def three():
        first = model.invoke_stream("first")
        await first.__anext__()
        second = asyncio.create_task(text_of(model.invoke_stream("second")))
        third = asyncio.create_task(text_of(model.invoke_stream("third")))
        await until_started(sink, 3)  # all are in line
        second.cancel()
        await asyncio.wait([second])
        assert len(practice.requests) == 1
        await first.aclose()
        return await third

    assert run(three()) == TEXT
    assert [r.body["messages"][0]["content"] for r in practice.requests] == ["first", "third"]


def test_closing_a_stream_ends_its_thread_s_wait_for_the_rate(make_model, practice):
    practice.script(Reply(TEXT, hold_after=1), TEXT)
    sink = RecordingSink()
    model = make_model(limits=Limits(requests_per_minute=1), sinks=[sink])
    assert next(model.invoke_stream("first")) == "one"
    stream = model.invoke_stream("second")
    outcome = []

    def read():
        try:
            list(stream)
        except StreamCancelled as error:
            outcome.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not any(event.event_type == "lm.waiting" for event in sink.events):
        assert time.monotonic() < deadline
        thread.join(0.01)
    stream.close()
    thread.join(60)
    assert not thread.is_alive()
    assert len(outcome) == 1
    deadline = time.monotonic() + 60  # and what waited for its turn has stopped waiting
    while sink.events[-1].event_type != "run.cancelled":
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


# --- circuit breaker ------------------------------------------------------------------------------


def test_the_breaker_opens_after_repeated_failures(make_model, practice, run, ask):
    practice.script(*[Fault(status=500)] * 3, TEXT)
    now = [100.0]
    breaker = CircuitBreaker(
        failures=3, open_seconds=30, name="the practice server", clock=lambda: now[0]
    )
    config = StreamConfig(max_retries=0, breaker=breaker)
    model = make_model(config=config)
    for _ in range(3):
        with pytest.raises(lm15.ServerError):
            run(ask(model))
    with pytest.raises(CircuitOpen, match="the practice server failed 3 times") as caught:
        run(ask(model))
    assert caught.value.retry_after == 30
    assert len(practice.requests) == 3
    now[0] += 31
    assert run(ask(model)) == TEXT
    assert breaker.state == "closed"


def test_models_of_one_provider_and_key_share_their_breaker(practice):
    def model(name, key):
        return iModel("openai", name, base_url=practice.openai_url, api_key=key, sinks=[])

    practice.respond(lambda _: Fault(status=500))
    failing = StreamConfig(max_retries=0)
    one, two, other = model("one", "a"), model("two", "a"), model("one", "b")
    for _ in range(10):
        assert isinstance(one.invoke_sync("x", config=failing).execution.error, lm15.ServerError)
    assert isinstance(two.invoke_sync("x", config=failing).execution.error, CircuitOpen)
    assert isinstance(other.invoke_sync("x", config=failing).execution.error, lm15.ServerError)
    elsewhere = iModel("ours", "one", base_url=practice.openai_url, api_key="a")
    assert isinstance(elsewhere.invoke_sync("x", config=failing).execution.error, lm15.ServerError)


# --- hooks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("way", ["invoke_stream", "invoke"])
def test_hooks_around_a_question(make_model, practice, run, kind, way):
    practice.script(TEXT, Fault(status=401))
    calls = []

    def before(question):
        question.messages.insert(0, {"role": "system", "content": "Be brief."})
        question.options["temperature"] = 0.25
        question.state["began"] = True
        calls.append("before")

    def after(question, reply):
        assert question.state["began"]
        calls.append(("after", reply.text, reply.finish_reason))

    def on_error(question, error):
        calls.append(("error", type(error).__name__))

    def as_async(function):
        async def hook(*arguments):
            await asyncio.sleep(0)
            function(*arguments)

        return hook

    made = as_async if kind == "async" else (lambda function: function)
    hooks = Hooks(before=made(before), after=made(after), on_error=made(on_error))
    model = make_model(hooks=hooks, config=StreamConfig(max_retries=0))
    assert run(ASK[way](model)) == TEXT
    with pytest.raises(lm15.AuthError):
        run(ASK[way](model))
    assert calls == ["before", ("after", TEXT, "stop"), "before", ("error", "AuthError")]
    assert practice.requests[0].body["messages"][0]["role"] == "system"
    assert practice.requests[0].body["temperature"] == 0.25


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"guards": [Words(["two"], action="stop")]}, GuardStopped),
        ({"config": StreamConfig(max_retries=0, timeout=0.3)}, TotalTimeout),
        ({"config": StreamConfig(max_retries=0, idle_timeout=0.3)}, IdleTimeout),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_error_hook_gets_what_ends_a_stream(make_model, practice, run, kind, options, error):
    began, told = [], []  # nothing begins where all of the time has passed before

    async def on_error(question, error):
        await asyncio.sleep(0)
        told.append(error)

    hook = on_error if kind == "async" else (lambda _, error: told.append(error))
    practice.script(Reply("one two three four", hold_after=3))
    hooks = Hooks(before=began.append, on_error=hook)
    stream = make_model(hooks=hooks).invoke_stream("x", **options)

    def all_told():  # its reader may have the error before
        wait_until(lambda: len(told) == len(began), 60, "what the hook was told")

    async def read():
        try:
            async for _ in stream:
                pass
        finally:
            await asyncio.to_thread(all_told)

    with pytest.raises(error) as raised:
        run(read()) if kind == "async" else list(stream)
    all_told()
    assert [str(each) for each in told] == [str(raised.value)] * len(began)
    assert all(type(each) is error for each in told)


def test_a_before_hook_can_refuse(make_model, practice, run, ask):
    def refuse(question):
        raise PermissionError("not this one")

    with pytest.raises(PermissionError, match="not this one"):
        run(ask(make_model(hooks=Hooks(before=refuse))))
    assert practice.requests == []


def test_a_failing_after_hook_does_not_fail_the_question(make_model, practice, run, ask, caplog):
    def fail(*_):
        raise KeyError("mine")

    practice.script(TEXT)
    with caplog.at_level(logging.ERROR):
        assert run(ask(make_model(hooks=Hooks(after=fail)))) == TEXT
    assert "the hook fail raised" in caplog.text


def test_an_async_hook_in_a_sync_call_is_a_clear_error(make_model, practice):
    async def before(question):
        pass

    with pytest.raises(ConfigurationError, match="async hook"):
        list(make_model(hooks=Hooks(before=before)).invoke_stream("x"))
