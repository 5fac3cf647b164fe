"""X10: cut anywhere, come back anywhere: the text is the run's, with no gap and no double."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from pathlib import Path

import dspy
import httpx
import msgspec
import pytest
import websockets.asyncio.client as async_ws
from profiles import THOROUGH

from serve.process import ServerProcess
from serve.runs import Scribe
from serve.serving import Frame, events_of, text_of, wait_until
from streamll.brokers.opening import open_sink
from streamll.core import events as ev
from streamll.serve import create_app

BOUND = 60
CUTS = 500 if THOROUGH else 60
TOKENS = [f"t{n}é " if n % 7 else f"\n🎉{n} " for n in range(120)]
TEXT = "".join(TOKENS)


def long_run(merged):
    """The same run as two sinks may write it: token by token, or merged here and there."""
    events = (
        Scribe().start().text("reasoning", "because ", "so").text("answer", *TOKENS).end().events
    )
    if not merged:
        return events
    out, source = [], random.Random(merged)
    for event in events:
        last = out[-1] if out else None
        joins = isinstance(event, ev.TokenEvent) and isinstance(last, ev.TokenEvent)
        if joins and last.field == event.field and source.random() < 0.6:
            out[-1] = ev.TokenEvent(
                seq=last.seq, timestamp=last.timestamp, identity=last.identity, field=last.field,
                token=last.token + event.token, token_index=last.token_index, offset=last.offset,
                count=last.count + event.count,
            )  # fmt: skip
        else:
            out.append(event)
    return out


def put(log, events):
    sink = open_sink(log)
    for event in events:
        sink.put(event)
    assert sink.stop(60)


async def read_sse(client, path, place, stop_after):
    """Events from ``place`` on, at most so many; and the id of the last."""
    headers = {} if place is None else {"last-event-id": place}
    events, rest = [], ""
    async with client.stream("GET", path, headers=headers) as response:
        if response.status_code == 204:
            return events, None
        async for text in response.aiter_text():
            rest += text
            while "\n\n" in rest:
                head, _, rest = rest.partition("\n\n")
                frame = Frame(head)
                if frame.data is None:
                    continue
                events.append(frame.event)
                place = frame.id
                if len(events) == stop_after:
                    return events, place
    return events, None


async def read_ws(url, path, place, stop_after):
    events = []
    query = "" if place is None else f"?after={place}"
    address = f"{url.replace('http', 'ws')}{path}{query}"
    waits = {"open_timeout": BOUND, "ping_timeout": BOUND}
    # A full queue delays its close.
    async with async_ws.connect(address, max_queue=None, **waits) as socket:
        with contextlib.suppress(Exception):
            async for message in socket:
                event = json.loads(message)
                events.append(event)
                seq = event["seq"] + event.get("count", 1) - 1
                place = f"{event['run_id']}:{seq}"
                if event["event_type"] == "token":
                    place += f":{event.get('offset', 0) + len(event['token'])}"
                if len(events) == stop_after:
                    return events, place
    return events, None


def check(events):
    """No gap, no double: every token's place follows the one before."""
    accounted, texts = 0, {}
    for event in events:
        assert event["seq"] == accounted, f"{event['seq']} where {accounted} was due"
        accounted += event.get("count", 1) if event["event_type"] == "token" else 1
        if event["event_type"] == "token":
            text = texts.setdefault(event["field"], "")
            assert event.get("offset", 0) == len(text)
            texts[event["field"]] = text + event["token"]
    assert texts == {"reasoning": "because so", "answer": TEXT}


async def read_with_cuts(servers, run_id, source, kind):
    """Read a run to its end, cutting the connection at random and coming back elsewhere."""
    events, place, cuts = [], None, 0
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
            )
            for url in servers
        ]
        while True:
            number = source.randrange(len(servers))
            stop_after = source.randrange(1, 30)
            if kind == "sse":
                got = await read_sse(clients[number], f"/runs/{run_id}/events", place, stop_after)
            else:
                got = await read_ws(servers[number], f"/runs/{run_id}/ws", place, stop_after)
            more, place = got
            events += more
            if place is None or (events and events[-1]["event_type"] == "run.end"):
                return events, cuts
            cuts += 1


@pytest.fixture(scope="module")
def common_log(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('resume')}/log.db"


@pytest.fixture(scope="module")
def processes(common_log):
    """Two servers of one log, in processes of their own."""
    running = [ServerProcess(common_log, "http://127.0.0.1:9/v1") for _ in range(2)]
    yield [process.url for process in running]
    for process in running:
        process.stop()


@pytest.mark.parametrize("kind", ["sse", "ws"])
@pytest.mark.parametrize("merged", [0, 1])
def test_a_finished_run_cut_anywhere(processes, common_log, kind, merged):
    run_id = f"finished-{kind}-{merged}"
    put(common_log, [_as(event, run_id) for event in long_run(merged)])

    async def cut():
        source, cuts = random.Random(kind), 0
        while cuts < CUTS / 4:
            events, more = await read_with_cuts(processes, run_id, source, kind)
            check(events)
            cuts += more

    asyncio.run(cut())


@pytest.mark.parametrize("kind", ["sse", "ws"])
def test_a_live_run_cut_anywhere(processes, common_log, kind):
    """Written while it is read, by a third process's sink."""
    names = [f"live-{kind}-{number}" for number in range(6)]
    events = [long_run(number % 2) for number in range(6)]

    def write():
        sink = open_sink(common_log)
        for parts in zip(*(_padded(run) for run in events), strict=True):
            for name, event in zip(names, parts, strict=True):
                if event is not None:
                    sink.put(_as(event, name))
            time.sleep(0.005)
        sink.stop(60)

    writer = threading.Thread(target=write)

    async def cut():
        source = random.Random(kind)
        reads = [
            read_with_cuts(processes, name, random.Random(source.random()), kind) for name in names
        ]
        for got, _ in await asyncio.gather(*reads):
            check(got)

    writer.start()
    try:
        with httpx.Client(base_url=processes[0], trust_env=False, timeout=BOUND) as client:
            for name in names:
                wait_until(lambda n=name: client.get(f"/runs/{n}").status_code == 200)
        asyncio.run(cut())
    finally:
        writer.join(60)


def _padded(run):
    return [*run, *[None] * (len(long_run(0)) - len(run))]


def _as(event, run_id):
    """The event as one of another run."""
    keys = {name: getattr(event.identity, name) for name in event.identity.__struct_fields__}
    return msgspec.structs.replace(event, identity=ev.Identity(**{**keys, "run_id": run_id}))


@pytest.mark.parametrize("written", [0, 1, 2])
def test_every_place_of_a_run_even_inside_a_merged_token(serve, lm, log, written):
    """A reader who read another copy of the run, with other cuts, goes on where it was.

    Each place with each copy where the run is thorough, otherwise with one of them, in turn.
    """
    put(log, long_run(written))
    server = serve(create_app(dspy.Predict("question -> answer"), log=log))
    whole = long_run(0)
    told = [json.loads(json.dumps(_told(event))) for event in whole]
    with server.client() as client:
        for event in whole:
            place = f"r1:{event.seq}"
            if isinstance(event, ev.TokenEvent):
                place += f":{event.offset + len(event.token)}"
            if event is whole[-1] or not (THOROUGH or event.seq % 3 == written):
                continue
            rest = events_of(client, "/runs/r1/events", params={"after": place.removeprefix("r1:")})
            check([*told[: event.seq + 1], *rest])


def _told(event):
    from streamll.core.wire import to_dict

    return to_dict(event)


def test_a_reader_far_behind_what_is_kept_goes_on_from_the_log(serve, lm, log, monkeypatch):
    from streamll.serve.log import buffer

    monkeypatch.setattr(buffer, "KEPT_EVENTS", 10)
    server = serve(create_app(dspy.Predict("question -> answer"), log=log))
    events = long_run(0)
    put(log, events[:30])
    with server.client() as client, client.stream("GET", "/runs/r1/events") as response:
        coming = response.iter_text()
        body = next(coming)
        for start in range(30, len(events), 25):
            put(log, events[start : start + 25])
        body += "".join(coming)
    check([Frame(part).event for part in body.split("\n\n") if "data: " in part])


def test_texts_are_the_same_for_the_helper_of_these_tests():
    events = [_told(e) for e in long_run(1)]
    assert text_of(events) == TEXT
    assert Path(__file__).name == "test_resume.py"
