"""X10: cut behind every event of a run, come back to the same or another process, live or finished.

Three ways of reading (SSE, WebSocket, Vercel's wire), two servers of one log: "here" is the process
that writes the run, "there" is one that reads it from the log. A live run waits at each event until
everybody who is to be cut there has come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import dspy
import msgspec
import pytest
import websockets.asyncio.client as async_ws
from profiles import THOROUGH

from serve.formats.test_wire_formats import READ_VERCEL
from serve.npm import run_node
from serve.process import ServerProcess
from serve.runs import CALL, SECOND, TOOL, Scribe
from serve.serving import Frame, Server
from streamll.core import events as ev
from streamll.core.wire import to_dict
from streamll.serve import create_app
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.runner import chat_key

BOUND = 300
AT_ONCE = 12
TOKENS = [f"t{n}é " if n % 5 else f"\n🎉{n} " for n in range(24)]
KINDS = ("sse", "ws", "vercel")


def story(run_id):
    """A run with something of everything: a tool, thinking, two fields, an attempt that failed."""
    scribe = Scribe().start()
    scribe.add(ev.ToolStart, TOOL, name="search").add(ev.ToolEnd, TOOL, name="search", duration=0.1)
    scribe.add(ev.Thinking, text="hm", index=0).add(ev.Thinking, text=" so", index=1)
    scribe.text("reasoning", "because ", "of it").text("answer", "wro", "ng")
    scribe.add(ev.LMSuperseded, CALL, reason="AdapterParseError")
    events = scribe.text("answer", *TOKENS, identity=SECOND).end().events
    return [_moved(event, run_id) for event in events]


def _moved(event, run_id):
    keys = {name: getattr(event.identity, name) for name in event.identity.__struct_fields__}
    return msgspec.structs.replace(event, identity=ev.Identity(**{**keys, "run_id": run_id}))


WHOLE = story("r")
PLACES = range(len(WHOLE) - 1)
"""The number of the last event before the cut; behind the last one there is nothing."""


def tells(kind):
    """The events that have a frame."""
    if kind != "vercel":
        return list(PLACES)
    form = make_format("vercel", RenderOptions(text="answer"))
    return [number for number, event in enumerate(WHOLE) if form.feed(event)][:-1]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('every_place')}/log.db"


@pytest.fixture(scope="module")
def here(log):
    app = create_app(dspy.Predict("question -> answer"), log=log)
    server = Server(app)
    server.sink = app.service.runner.run_log.sink
    yield server
    server.stop()


@pytest.fixture(scope="module")
def there(log):
    server = ServerProcess(log, "http://127.0.0.1:9/v1")
    yield server
    server.stop()


# --- readers --------------------------------------------------------------------------------------


async def sse(port, path, place=None):
    """Frames of an event stream, as a browser reads it. Ends with the stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        back = f"last-event-id: {place}\r\n" if place else ""
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n{back}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        text = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            text += (await reader.readexactly(size + 2))[:-2]
            *frames, text = text.split(b"\n\n")
            for each in frames:
                if (frame := Frame(each.decode())).data is not None:
                    yield frame
    finally:
        writer.close()


async def ws(port, path, place=None):
    """The same over a WebSocket: the reader knows its place by the events."""
    address = f"ws://127.0.0.1:{port}{path}" + (f"?after={place}" if place else "")
    waits = {"open_timeout": BOUND, "ping_timeout": BOUND}
    async with async_ws.connect(address, max_queue=None, **waits) as socket:
        async for message in socket:
            event = json.loads(message)
            place = f"{event['run_id']}:{event['seq'] + event.get('count', 1) - 1}"
            if event["event_type"] == "token":
                place += f":{event.get('offset', 0) + len(event['token'])}"
            yield Frame(f"id: {place}\ndata: {message}")


def opened(kind, port, run_id, place=None):
    if kind == "ws":
        return ws(port, f"/runs/{run_id}/ws", place)
    wanted = "?format=vercel&reply=answer" if kind == "vercel" else ""
    return sse(port, f"/runs/{run_id}/events{wanted}", place)


def last_place(frames):
    return next((frame.id for frame in reversed(frames) if frame.id), None)


def seq_of(place):
    return -1 if place is None else int(place.split(":")[1])


async def read_until(frames, number):
    """Frames up to the event of this number; then the connection is cut."""
    had = []
    async with contextlib.aclosing(frames):
        async for frame in frames:
            had.append(frame)
            if seq_of(last_place(had)) >= number:
                break
    return had


async def read_all(frames, began):
    had = []
    async with contextlib.aclosing(frames):
        async for frame in frames:
            began.set()
            had.append(frame)
    return had


class Reader:
    """One who is cut behind an event and comes back somewhere."""

    def __init__(self, kind, number, first, second):
        self.kind = kind
        self.number = number
        self.ports = first.port, second.port
        self.connected = asyncio.Event()
        self.back = asyncio.Event()

    async def read(self, run_id):
        first, second = self.ports
        frames = opened(self.kind, first, run_id)
        self.before = await read_until(_telling(frames, self.connected), self.number)
        place = last_place(self.before)
        assert seq_of(place) == self.number
        again = opened(self.kind, second, run_id, place)
        self.after = await read_all(_telling(again, self.back), self.back)
        return self


async def _telling(frames, connected):
    """``frames``; tells when the connection is there, which the first frame shows."""
    async with contextlib.aclosing(frames):
        async for frame in frames:
            connected.set()
            yield frame


def check(readers, run_id):
    """What was had before and after a cut is the run."""
    whole = [json.loads(json.dumps(to_dict(event))) for event in story(run_id)]
    given = {}
    for index, reader in enumerate(readers):
        if reader.kind == "vercel":
            for half in ("before", "after"):
                given[f"{index}{half}"] = {"sse": _text(getattr(reader, half))}
        else:
            events = [frame.event for frame in [*reader.before, *reader.after]]
            assert events == whole, f"{reader.kind}, cut behind {reader.number}"
    if not given:
        return
    given["whole"] = {"sse": _text_of_run(run_id)}
    read = run_node(READ_VERCEL, given)
    right = _texts(read["whole"])
    assert right["text"].endswith("".join(TOKENS))
    for index, reader in enumerate(readers):
        if reader.kind == "vercel":
            halves = [read[f"{index}{half}"] for half in ("before", "after")]
            assert [half["errors"] for half in halves] == [[], []]
            texts = {kind: "".join(_texts(half)[kind] for half in halves) for kind in right}
            assert texts == right, f"Vercel, cut behind {reader.number}"


def _text(frames):
    return "".join(f"data: {frame.data}\n\n" for frame in frames)


def _text_of_run(run_id):
    form = make_format("vercel", RenderOptions(text="answer"))
    payloads = [payload for event in story(run_id) for payload in form.feed(event)]
    return "".join(f"data: {payload.decode()}\n\n" for payload in payloads)


def _texts(read):
    parts = read["message"]["parts"] if read["message"] else []
    return {
        kind: "".join(part["text"] for part in parts if part["type"] == kind)
        for kind in ("text", "reasoning")
    }


def some(servers, number):
    """All pairs of servers; where the run is not thorough one, in turn, so that each event has its cut."""
    return servers if THOROUGH else [servers[number % len(servers)]]


# --- tests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_cut_behind_every_event(here, there, kind):
    run_id = f"finished-{kind}"
    for event in story(run_id):
        here.sink.put(event)
    assert here.sink.catch_up(BOUND)

    async def read():
        free = asyncio.Semaphore(AT_ONCE)

        async def one(reader):
            async with free:
                return await reader.read(run_id)

        readers = [
            Reader(kind, number, first, second)
            for number in tells(kind)
            for first, second in some([(here, here), (here, there), (there, here)], number)
        ]
        return await asyncio.wait_for(asyncio.gather(*map(one, readers)), BOUND)

    check(asyncio.run(read()), run_id)


@pytest.mark.parametrize("kind", KINDS)
def test_a_live_run_cut_behind_every_event(here, there, kind):
    run_id = f"live-{kind}"
    events = story(run_id)

    async def read():
        here.sink.put(events[0])
        assert await asyncio.to_thread(here.sink.catch_up, BOUND)
        readers = [
            Reader(kind, number, first, second)
            for number in tells(kind)
            for first, second in some([(here, here), (here, there), (there, there)], number)
        ]
        tasks = [asyncio.create_task(reader.read(run_id)) for reader in readers]
        for number, event in enumerate(events[1:], 1):
            here.sink.put(event)
            if number in tells(kind)[1:]:
                # Who is cut behind the event before this gets this one as the first of the rest.
                await asyncio.gather(*(r.back.wait() for r in readers if r.number < number - 1))
        return await asyncio.gather(*tasks)

    check(asyncio.run(asyncio.wait_for(read(), BOUND)), run_id)


def test_a_page_that_is_loaded_anew_gets_its_chats_run_from_any_process(here, there):
    """Vercel's resume: the whole message, while the run is on; nothing when it is over."""
    run_id, chat = "chatted", "c 1"
    events = story(run_id)
    known = ev.StreamllEvent(
        event_type="server.chat", data={"run_id": run_id}, timestamp=1.0,
        identity=ev.Identity(run_id=chat_key(chat)),
    )  # fmt: skip
    path = "/ai/c%201/stream"

    async def read():
        here.sink.put(known)
        tasks = []
        for event in events[:-1]:
            here.sink.put(event)
            assert await asyncio.to_thread(here.sink.catch_up, BOUND)
            for server in (here, there):
                began = asyncio.Event()
                tasks.append(asyncio.create_task(read_all(sse(server.port, path), began)))
                await began.wait()
        here.sink.put(events[-1])
        return await asyncio.gather(*tasks)

    got = asyncio.run(asyncio.wait_for(read(), BOUND))
    assert len(got) == 2 * len(PLACES)
    assert {_text(frames) for frames in got} == {_text_of_run(run_id)}
    for server in (here, there):
        with server.client() as client:
            assert client.get(path).status_code == 204
