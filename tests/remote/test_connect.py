"""X0a: ``connect`` yields what ``stream`` yields, once and in order, wherever it is cut."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
import threading
import time

import dspy
import msgspec
import pytest
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse

import streamll
from remote.cutting_proxy import CuttingProxy
from serve.process import ServerProcess
from serve.runs import OTHER, Scribe
from serve.serving import Server, wait_until
from streamll.brokers.opening import open_sink
from streamll.core import errors
from streamll.core import events as ev
from streamll.core.positions import Position, position
from streamll.core.run_view import RUN_GONE, RUN_LOST, RunView, closing_events
from streamll.flow import bridge
from streamll.flow.coalesce import coalesce
from streamll.remote import reading
from streamll.remote import stream as streams
from streamll.remote.inputs import inputs_as_json
from streamll.remote.reading import Frames, Reading
from streamll.serve import create_app, run_token
from streamll.serve.inputs.checking import convert
from streamll.serve.inputs.declared import Input
from streamll.streams import map_tokens
from streamll.testing import Reply

BOUND = 60
WORDS = " ".join(f"word{n}" for n in range(40))
QA = "question -> answer"
TOKEN, SECRET = "right" * 4, "s" * 32


def story(run_id):
    """Thinking, a tool call, a typed field, an attempt that failed, two calls at once; merged in part."""
    scribe = Scribe(0.0123).start()
    for index in range(12):
        scribe.add(ev.Thinking, text=f"hm{index}", index=index)
    scribe.add(ev.ToolCallDelta, index=0, name="search", arguments='{"q":')
    scribe.text("answer", "wro", "ng").add(ev.LMSuperseded, reason="AdapterParseError")
    second = msgspec.structs.replace(OTHER, attempt=1)
    scribe.text("answer", *(f"é{n}🎉 " for n in range(90)), identity=second)
    scribe.value("plan", '[{"title": "Résumé ✓", "line": 3}, {"title": "b"}]', identity=OTHER)
    events = scribe.text("reasoning", *(f"w{n} " for n in range(60)), identity=OTHER).end().events
    events = events[:40] + coalesce(events[40:60]) + events[60:]
    return [
        msgspec.structs.replace(
            event, identity=msgspec.structs.replace(event.identity, run_id=run_id)
        )
        for event in events
    ]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('connect')}/log.db"


@pytest.fixture(scope="module")
def writer(log):
    """Writes runs as another process would."""
    sink = open_sink(log)
    yield sink
    assert sink.stop(BOUND)


@pytest.fixture(scope="module")
def server(log):
    """A server in this process, of two programs."""
    programs = {"qa": dspy.Predict(QA), "typed": dspy.Predict("question -> words: list[str]")}
    app = create_app(programs, log=log)
    server = Server(app)
    server.app = app
    yield server
    server.stop()


@pytest.fixture(scope="module")
def processes(log):
    """``processes()``: one more server of the log, in a process of its own."""
    running = []

    def start():
        running.append(ServerProcess(log, "http://127.0.0.1:9/v1"))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture
def proxied():
    """``proxied(*ports)``: a ``CuttingProxy``."""
    running = []

    def start(*ports, **options):
        running.append(CuttingProxy(*ports, **options))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture
def lm(practice):
    practice.clear() if hasattr(practice, "clear") else None
    model = practice.lm()
    dspy.configure(lm=model, adapter=dspy.ChatAdapter())
    return model


def here(connection):
    with connection as events:
        return list(events), events


def on_a_loop(connection):
    async def read():
        async with connection as events:
            return [event async for event in events], events

    return asyncio.run(asyncio.wait_for(read(), BOUND))


BOTH = pytest.mark.parametrize("read", [here, on_a_loop])


# --- the same events ------------------------------------------------------------------------------


@BOTH
def test_it_yields_what_stream_yields(practice, lm, writer, server, read):
    """The very run: read where it ran, and from the log by a server."""
    practice.script({"reasoning": "because", "answer": WORDS})
    with streamll.stream(dspy.ChainOfThought(QA), sinks=[writer])(question="q") as events:
        whole, run_id = list(events), events.run_id
    assert writer.catch_up(BOUND)
    got, remote = read(streamll.connect(server.url, run_id))
    assert coalesce(got) == coalesce(whole)
    assert remote.text("answer") == events.text("answer") == WORDS
    assert remote.value == {"reasoning": "because", "answer": WORDS}


@BOTH
@pytest.mark.parametrize("live", [False, True])
def test_cut_at_every_tenth_event_between_two_processes(
    log, writer, server, processes, proxied, read, live
):
    """Inside frames and merged tokens, over and over, here and there."""
    run_id = f"cut-{read.__name__}-{live}"
    whole = story(run_id)
    for event in whole[: 20 if live else None]:
        writer.put(event)
    assert writer.catch_up(BOUND)
    proxy = proxied(server.port, processes().port)
    with streamll.connect(f"{proxy.url}/runs/{run_id}").opened(on_loop=False) as begun:
        had = [next(begun) for _ in range(15)]  # by one reader, who then leaves
        place = begun.position
    for event in whole[20:] if live else ():
        writer.put(event)
    got, remote = read(streamll.connect(f"{proxy.url}/runs/{run_id}", after=str(place)))
    assert [*had, *got] == whole
    assert remote.position == position(whole[-1])
    assert proxy.cuts >= len(whole) // proxy.every - 2


def test_a_server_that_is_replaced(writer, processes, proxied):
    """Killed while somebody reads; the next one goes on where it was."""
    whole = story("replaced")
    for event in whole[:100]:
        writer.put(event)
    assert writer.catch_up(BOUND)
    first = processes()
    proxy = proxied(first.port, every=1000)
    with streamll.connect(proxy.url, "replaced") as events:
        got = [next(events) for _ in range(len(whole[:100]))]
        first.kill()
        for event in whole[100:]:
            writer.put(event)
        proxy.ports[:] = [processes().port]
        got += events
    assert got == whole


def test_a_place_inside_a_merged_token(writer, server):
    """The reader has had a part of it, from another copy of the log."""
    whole = story("inside")
    for event in whole:
        writer.put(event)
    assert writer.catch_up(BOUND)
    merged = next(event for event in whole if getattr(event, "count", 1) > 2)
    place = Position("inside", merged.seq, merged.offset + 3)
    first, *rest = streamll.connect(server.url, after=place)
    assert (first.token, first.offset) == (merged.token[3:], merged.offset + 3)
    assert rest == whole[whole.index(merged) + 1 :]
    assert list(streamll.connect(server.url, after=position(whole[-1]))) == []


@BOTH
def test_the_result_is_whole_wherever_reading_began(practice, lm, server, read):
    practice.script({"words": ["one", "two"]})
    with streamll.connect(server.url).start("typed", question="q") as events:
        places = [events.position for _ in events]
    for place in places[::5] + places[-1:]:
        rest = streamll.connect(server.url, after=place)
        _, remote = read(rest)
        assert remote.value is None
        if read is here:
            with rest as events:
                result = events.result()
        else:
            result = asyncio.run(result_of(rest))
        assert result == {"words": ["one", "two"]}


async def result_of(connection):
    async with connection as events:
        return await events.result()


def test_operators_take_it(writer, server):
    whole = story("operators")
    for event in whole:
        writer.put(event)
    assert writer.catch_up(BOUND)
    connection = streamll.connect(server.url, "operators")
    collected = streamll.collect_stream(connection)
    assert collected.ok
    assert collected.retries == 1
    assert collected.fields["answer"] == "".join(f"é{n}🎉 " for n in range(90))
    assert collected.prediction["plan"] == [{"title": "Résumé ✓", "line": 3}, {"title": "b"}]
    upper = map_tokens(connection, str.upper)
    assert "W59 " in [event.token for event in upper if isinstance(event, ev.TokenEvent)]
    with connection as events:
        assert "".join(events.tokens("reasoning")) == "".join(f"w{n} " for n in range(60))
    with connection as events, connection as again:
        assert "".join(events.tokens("*")) == "".join(again.tokens())
    for event in connection:  # leaving the loop lets go of the connection
        assert event == whole[0]
        break
    wait_until(lambda: not server.app.service.readers, what="the readers' leaving")


# --- starting and stopping --------------------------------------------------------------------------


def test_start(practice, lm, server):
    practice.script({"answer": WORDS}, {"words": '["a", "b"]'})
    with streamll.connect(server.url).start("qa", question="q", context={"user": 7}) as events:
        assert events.result() == {"answer": WORDS}
        assert events.run_id
        assert events.fields == {"answer": WORDS}
    again = list(streamll.connect(server.url, events.run_id))
    assert again[0].context == {"user": 7}

    async def typed():
        async with streamll.connect(server.url).start("typed", inputs={"question": "q"}) as events:
            return await events.result()

    assert asyncio.run(asyncio.wait_for(typed(), BOUND)) == {"words": ["a", "b"]}


class Priced(BaseModel):
    amount: float = Field(0, alias="Amount")


class Album(BaseModel):
    cover: dspy.Image
    prices: list[Priced] = []


PNG = dspy.Image("data:image/png;base64,eA==")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        *((Priced, Priced(Amount=3)), (dict[str, Priced], {"a": Priced(Amount=3)})),
        *((dspy.Image, PNG), (list[dspy.Image], [PNG, PNG])),
        (dspy.History, dspy.History(messages=[{"question": "q", "answer": "a"}])),
        (dspy.File, dspy.File(file_data="data:text/plain;base64,eA==", filename="a.txt")),
        *((dt.date, dt.date(2026, 1, 2)), (set[int], {1, 2}), (int, 2**80)),
    ],
)
def test_a_program_is_started_with_the_very_inputs(annotation, value):
    declared = Input(name="given", annotation=annotation)
    sent = json.loads(inputs_as_json({"given": value}))
    assert convert("p", (declared,), sent) == {"given": value}


def test_media_inside_a_model_are_sent_as_data():
    value = Album(cover=PNG, prices=[Priced(Amount=3)])
    sent = json.loads(inputs_as_json({"given": value}))
    assert sent == {"given": {"cover": {"url": PNG.url}, "prices": [{"Amount": 3}]}}


def test_what_json_cannot_say_is_no_input(practice, lm, server):
    cycle: list = []
    cycle.append(cycle)
    wrong = {
        "nan": math.nan,
        "inf": [math.inf],
        "bytes": b"ab",
        "half": "\ud800",
        "tuple": {1: "a", (1, 2): "b"},
        "cycle": cycle,
    }
    connection = streamll.connect(server.url).start("qa", question="q", **wrong)
    with connection as events, pytest.raises(errors.InvalidInputs) as caught:
        events.result()
    assert [each.place for each in caught.value.problems] == [f"inputs.{name}" for name in wrong]
    assert practice.requests == []


@BOTH
def test_cancel_stops_the_run_and_its_end_is_read(practice, lm, server, read):
    practice.script(Reply({"answer": WORDS}, hold_after=12))
    connection = streamll.connect(server.url).start("qa", question="q")
    kinds = []

    def take(events, event):
        kinds.append(event.event_type)
        if event.event_type == "token" and kinds.count("token") == 1:
            events.cancel()

    async def on_loop():
        async with connection as events:
            async for event in events:
                take(events, event)

    with pytest.raises(errors.StreamCancelled, match="cancelled"):
        if read is here:
            with connection as events:
                for event in events:
                    take(events, event)
        else:
            asyncio.run(asyncio.wait_for(on_loop(), BOUND))
    assert kinds[-1] == "run.cancelled"
    practice.wait_for(lambda: practice.requests[-1].client_closed_at is not None)


def test_leaving_does_not_stop_the_run_unless_it_is_cancelled(practice, lm, server, left):
    practice.script(Reply({"answer": WORDS}, hold_after=12))
    with streamll.connect(server.url).start("qa", question="q") as events:
        next(event for event in events if event.event_type == "token")
    runner = server.app.service.runner
    assert events.run_id in runner.running
    with pytest.raises(errors.StreamCancelled, match="not read"):
        events.result()
    with streamll.connect(server.url, events.run_id) as again:
        next(again)
        again.cancel()
    wait_until(lambda: events.run_id not in runner.running, what="the run's end")
    practice.script(Reply({"answer": WORDS}, hold_after=12))
    with streamll.connect(server.url).start("qa", question="q") as early:
        early.cancel()  # before the server has started it
        with pytest.raises(errors.StreamCancelled, match="the run was cancelled"):
            list(early)


@pytest.fixture
def left(monkeypatch):
    """Set when a reader stops reading; its requests may take as long as they need."""
    left, leave = threading.Event(), streams._RemoteStream.leave
    monkeypatch.setattr(streams._RemoteStream, "leave", lambda stream: left.set() or leave(stream))
    for module in (reading, streams):
        monkeypatch.setattr(module, "CANCEL_S", BOUND)
    monkeypatch.setattr(bridge, "STOP_TIMEOUT_S", BOUND)
    return left


def test_who_cancels_and_leaves_before_reading_has_begun_has_the_run_stopped(
    practice, lm, server, left, monkeypatch
):
    practice.script(Reply({"answer": WORDS}, hold_after=12))
    with streamll.connect(server.url).start("qa", question="q") as events:
        next(event for event in events if event.event_type == "token")
    left.clear()
    begins = bridge.on_event_loop  # the first step of a thread that reads

    def begins_late():
        left.wait(0.2)
        return begins()

    monkeypatch.setattr(bridge, "on_event_loop", begins_late)
    with streamll.connect(server.url, events.run_id) as again:
        again.cancel()
    runner = server.app.service.runner
    wait_until(lambda: events.run_id not in runner.running, what="the run's end")


@pytest.mark.parametrize("on_loop", [False, True])
def test_who_cancels_and_leaves_before_the_server_has_said_which_run_has_it_stopped(
    practice, lm, server, left, monkeypatch, on_loop
):
    practice.script(Reply({"answer": WORDS}, hold_after=12))
    runner, start = server.app.service.runner, Reading._start
    started, run_ids = threading.Event(), []

    async def answered_late(self):
        run_ids.append(await start(self))
        assert run_ids[0] in runner.running
        started.set()
        await asyncio.to_thread(left.wait, 0.2)
        return run_ids[0]

    monkeypatch.setattr(Reading, "_start", answered_late)
    connection = streamll.connect(server.url).start("qa", question="q")

    async def leave():
        async with connection as events:
            await asyncio.to_thread(started.wait, BOUND)
            events.cancel()

    if on_loop:
        asyncio.run(asyncio.wait_for(leave(), 2 * BOUND))
    else:
        with connection as events:
            started.wait(BOUND)
            events.cancel()
    wait_until(lambda: run_ids[0] not in runner.running, what="the run's end")


# --- errors -----------------------------------------------------------------------------------------


def test_what_a_server_refuses(practice, lm, server, secured):
    connect = streamll.connect
    with pytest.raises(errors.NoSuchRun, match="/runs/nowhere/events"):
        list(connect(server.url, "nowhere"))
    with pytest.raises(errors.InvalidInputs, match="question") as invalid:
        list(connect(server.url).start("qa", qestion="q"))
    assert {problem.place for problem in invalid.value.problems} >= {"inputs.question"}
    with pytest.raises(errors.ConfigurationError, match="there are qa, typed"):
        list(connect(server.url).start("other", question="q"))
    with pytest.raises(errors.ConfigurationError, match="at most 1000000 bytes"):
        list(connect(server.url).start("qa", question="q" * 1_000_000))
    with pytest.raises(errors.TokenRefused, match="pass a valid token="):
        list(connect(secured.url, token="wrong").start(question="q"))
    practice.script({"answer": WORDS})
    with connect(secured.url, token=TOKEN).start(question="q") as events:
        whole = list(events)
    of_run = run_token(SECRET, events.run_id, seconds=60)
    assert list(connect(f"{secured.url}/runs/{events.run_id}?token={of_run}")) == whole
    with pytest.raises(errors.TokenRefused):
        list(connect(f"{secured.url}/runs/other/events?token={of_run}"))


@pytest.fixture
def secured(log):
    secured = Server(create_app(dspy.Predict(QA), log=log, tokens=[TOKEN], secret=SECRET))
    yield secured
    secured.stop()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ftp://host/runs/a",), "not the address of a server"),
        (("http://host", ), "which run of http://host"),
        (("http://u:secret@host", ), "which run of http://host[?]"),
        (("host:8000/runs/a?token=secret", ), "'host:8000/runs/a' is not the address"),
        (("http://host/runs/a", "b"), "names the run a"),
        (("http://host/runs/a", None, "b:1"), "a position in the run b"),
        (("http://host", "a", "what?"), "after= is no position"),
    ],
)  # fmt: skip
def test_addresses_that_cannot_be_right(arguments, says):
    url, run_id, after = [*arguments, None, None][:3]
    with pytest.raises(errors.ConfigurationError, match=says):
        list(streamll.connect(url, run_id, after=after))


def test_no_error_has_the_password_of_an_address(server):
    address = server.url.replace("://", "://user:secret@")
    with pytest.raises(errors.NoSuchRun, match=f"{server.url}/runs/none"):
        list(streamll.connect(address, "none"))
    nobody = "http://user:secret@127.0.0.1:1"
    reading = streamll.connect(nobody, "a", patience=0)
    for connection in (reading, streamll.connect(nobody, patience=0).start("QA")):
        with pytest.raises(errors.RunUnavailable, match="http://127.0.0.1:1") as told:
            list(connection)
        assert "secret" not in str(told.value)


def test_a_program_that_fails_and_a_process_that_is_gone(writer, server):
    for run_id, error_type in (("failed", "ValueError"), ("lost", RUN_LOST)):
        scribe = Scribe().start().text("answer", "so ", "far", end=False)
        view = RunView(keep_ended=False)
        events = [
            view.feed(msgspec.structs.replace(e, identity=msgspec.structs.replace(e.identity, run_id=run_id)))
            for e in scribe.events
        ]  # fmt: skip
        for event in events + closing_events(view, run_id, time.time(), error_type, RUN_GONE):
            writer.put(event)
    assert writer.catch_up(BOUND)
    with streamll.connect(server.url, "failed") as events:
        with pytest.raises(errors.RunFailed, match="ValueError: ") as failed:
            events.result()
        assert not isinstance(failed.value, errors.RunLost)
        assert failed.value.partial == {"predict.answer": "so far"}
        assert events.text("answer") == "so far"
    lost = streamll.collect_stream(streamll.connect(server.url, "lost"))
    assert type(lost.error) is errors.RunLost
    assert lost.fields == {"answer": "so far"}


def test_a_server_that_does_not_come_back(writer, processes, proxied, monkeypatch):
    monkeypatch.setattr(reading, "FIRST_PATIENCE_S", 0.1)
    with pytest.raises(errors.RunUnavailable, match=r"could not be read for 0\.1 s .*Connect"):
        list(streamll.connect("http://127.0.0.1:9", "run"))
    with pytest.raises(errors.RunUnavailable, match="Connect"):
        list(streamll.connect("http://127.0.0.1:9").start(question="q"))
    for event in story("away")[:50]:
        writer.put(event)
    assert writer.catch_up(BOUND)
    process = processes()
    with streamll.connect(process.url, "away", patience=0.3) as events:
        had = [next(events) for _ in story("away")[:50]]
        process.kill()
        with pytest.raises(errors.RunUnavailable, match="pass after='away:") as away:
            list(events)
    assert str(position(had[-1])) in str(away.value)


def test_an_address_where_something_else_answers(practice, server):
    with pytest.raises(errors.NoSuchRun, match="/v1/runs/a/events"):
        list(streamll.connect(practice.openai_url, "a"))
    site = Server(HTMLResponse("<h1>A site</h1>"), lifespan="off")
    try:
        with pytest.raises(
            errors.RunUnavailable, match="is no streamll server's: it sends 'text/html"
        ):
            list(streamll.connect(site.url, "a"))
    finally:
        site.stop()


def test_frames_are_cut_anywhere():
    whole = b"retry: 1000\n\n: \n\nid: r:1\ndata: one\n\ndata:two\r\n\r\nid: x\n\ndata: a\ndata: b\n\nda"
    for place in range(len(whole)):
        frames = Frames()
        got = [*frames.feed(whole[:place]), *frames.feed(whole[place:])]
        assert got == [b"one", b"two", b"a\nb"]
