"""X0a: the compact form over SSE and WebSocket: the same events, from any place, at a fraction of the bytes."""

from __future__ import annotations

import functools

import dspy
import httpx
import pytest
import websockets.sync.client as ws
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

import streamll
from serve.runs import OTHER, Scribe
from serve.serving import frames
from streamll.core import events as ev
from streamll.core.compact import CompactReader
from streamll.core.errors import ConfigurationError
from streamll.core.positions import position
from streamll.core.wire import decode
from streamll.flow.coalesce import coalesce
from streamll.serve import create_app

BOUND = 60
connect = functools.partial(ws.connect, open_timeout=BOUND)
WORDS = [f"word{n}é " if n % 5 else f"🎉\n{n} " for n in range(60)]


def story():
    """Thinking, a tool call, two calls that write at once, and tokens that were merged by a sink."""
    scribe = Scribe(0.0123).start()
    for index in range(4):
        scribe.add(ev.Thinking, text=f"hm{index}", index=index)
    scribe.add(ev.ToolCallDelta, index=0, name="search", arguments='{"q":')
    scribe.add(ev.ToolCallDelta, index=0, arguments=' "x"').add(
        ev.ToolCallDelta, index=0, arguments="}"
    )
    offset = 0
    for index, word in enumerate(WORDS[:20]):
        for identity in (None, OTHER):
            who = [] if identity is None else [identity]
            own = {"token": word, "token_index": index, "offset": offset, "field": "answer"}
            scribe.add(ev.TokenEvent, *who, **own)
        offset += len(word)
    events = scribe.text("reasoning", *WORDS, identity=OTHER).end().events
    return events[:60] + coalesce(events[60:90]) + events[90:]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server whose log has the story, and its events."""
    from serve.serving import Server

    log = f"sqlite:///{tmp_path_factory.mktemp('compact')}/log.db"
    app = create_app(dspy.Predict("question -> answer"), log=log)
    server = Server(app)
    sink = app.service.runner.run_log.sink
    for event in story():
        sink.put(event)
    assert sink.catch_up(BOUND)
    yield server
    server.stop()


def sse(server, query):
    with server.client() as client, client.stream("GET", f"/runs/r1/events?{query}") as response:
        assert response.status_code == 200, response.read()
        return [(frame.data, frame.id) for frame in frames(response)]


def socket(server, query):
    with connect(f"ws://127.0.0.1:{server.port}/runs/r1/ws?{query}", max_queue=None) as messages:
        return [(message, None) for message in messages]


@pytest.mark.parametrize("read", [sse, socket])
def test_a_reader_has_the_same_events_from_any_place_on(served, read):
    whole = [decode(data) for data, _ in read(served, "")]
    assert whole == story()
    for place in [None, *map(position, whole[:-1:4])]:
        after = "" if place is None else f"&after={place}"
        got, reader = read(served, f"compact=1{after}"), CompactReader()
        begun = 0 if place is None else 1 + [position(each) for each in whole].index(place)
        events = [reader.read(data) for data, _ in got]
        assert events == whole[begun:], place
        if read is sse:
            marks = [
                None if data[0] == "[" else str(position(e))
                for (data, _), e in zip(got, events, strict=True)
            ]
            assert [mark for _, mark in got] == marks
    assert sum(len(data) for data, _ in read(served, "compact=1")) < 0.4 * sum(
        len(data) for data, _ in read(served, "compact=0")
    )


def test_a_place_in_the_middle_of_a_merged_token(served):
    merged = next(event for event in story() if getattr(event, "count", 1) > 2)
    place = f"r1:{merged.seq}:{merged.offset + 3}"
    full = [decode(data) for data, _ in sse(served, f"after={place}")]
    reader = CompactReader()
    assert [reader.read(data) for data, _ in sse(served, f"compact=1&after={place}")] == full


def test_only_the_native_format_has_it(served):
    address = f"{served.url}/runs/r1/events?format=vercel&compact=1"
    answer = httpx.get(address, trust_env=False, timeout=BOUND)
    assert answer.status_code == 400
    assert "without compact, or for 'native'" in answer.json()["error"]
    with pytest.raises(ConfigurationError, match="without compact"):
        streamll.sse_response(print, format="agui", compact=True)


def test_own_routes_send_it(practice, lm, serve):
    practice.script({"answer": "a word or two"}, {"answer": "a word or two"})
    program = dspy.Predict("question -> answer")

    async def talk(websocket):
        await streamll.websocket_stream(websocket, program, question="q", compact=True)

    def ask(_):
        return streamll.sse_response(program, question="q", compact=True)

    server = serve(Starlette(routes=[Route("/ask", ask), WebSocketRoute("/ws", talk)]))
    with server.client() as client, client.stream("GET", "/ask") as response:
        over_sse = [frame.data for frame in frames(response)]
    with connect(f"ws://127.0.0.1:{server.port}/ws") as messages:
        over_ws = list(messages)
    for got in (over_sse, over_ws):
        assert any(data[0] == "[" for data in got)
        reader = CompactReader()
        events = [reader.read(data) for data in got]
        tokens = [event for event in events if isinstance(event, ev.TokenEvent)]
        assert "".join(event.token for event in tokens) == "a word or two"
        assert [event.seq for event in events] == list(range(len(events)))
