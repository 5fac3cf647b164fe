"""lm15's connections while the tap reads a body from them: as lm15 itself would have read it.

Every reply is read in both ways, by the connection (``taken``) and by lm15's own iterator, which is
what happens where the transport is not lm15's. What they give must be the same.
"""

from __future__ import annotations

import asyncio
import contextvars
import ssl
import threading
from collections.abc import Coroutine

import dspy
import pytest
import trustme
import uvloop
from dspy import lm15
from dspy._vendor.lm15.transports import StdlibAsyncTransport, StdlibTransport
from dspy.clients import execution
from dspy.clients.engines.lm15_engine import AsyncLM15Engine, LM15Engine
from profiles import in_turn
from raw_replies import (
    CHUNKED,
    CLOSE,
    FRAMINGS,
    KEEP,
    PLAIN,
    RESET,
    TEXT,
    WORDS,
    Proxy,
    RawProvider,
    cut,
    frames,
    in_chunks,
    reply_of,
)
from tapping import Notes, tapped

from streamll.capture.tap.wire import reply as wire_reply
from streamll.testing import Reply

pytestmark = pytest.mark.usefixtures("ends_may_be_late")

GRACE_AFTER_END_S = wire_reply.GRACE_AFTER_END_S
LOOPS = {"asyncio": asyncio.run, "uvloop": uvloop.run}
MODES = ["sync", *LOOPS]
every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(autouse=True)
def no_retry_waits(monkeypatch):
    monkeypatch.setattr(execution, "_delay", lambda *_: 0)


class Iterated(StdlibTransport):
    """A transport that is not lm15's own: its replies hand on what lm15's iterator yields."""

    def stream(self, request):
        reply = super().stream(request)
        reply._chunks = (chunk for chunk in reply._chunks)
        return reply


class IteratedAsync(StdlibAsyncTransport):
    async def _do_stream(self, request):
        reply = await super()._do_stream(request)
        chunks = reply._chunks

        async def handed_on():
            async for chunk in chunks:
                yield chunk

        reply._chunks = handed_on()
        return reply


WAYS = {
    "taken": (StdlibTransport, StdlibAsyncTransport),
    "iterated": (Iterated, IteratedAsync),
}


def language_model(url: str, way: str = "taken", **transport) -> dspy.LM:
    def config(kind):
        return lm15.RouterConfig(
            api_keys={"openai-chat": "none"}, base_urls={"openai-chat": f"{url}/v1"},
            transport=kind(**transport),
        )  # fmt: skip

    sync, asynchronous = WAYS[way]
    engines = LM15Engine(config(sync)), AsyncLM15Engine(config(asynchronous))
    return dspy.LM(
        "openai/x", engine=engines[0], async_engine=engines[1], cache=False, num_retries=0
    )


def call(lm: dspy.LM, mode: str, times: int = 1) -> list[object]:
    """What so many calls, one after the other, gave: outputs or errors."""

    def outcome(error: BaseException) -> tuple[str, str]:
        return type(error).__name__, str(error).partition("Errno")[0]

    async def several():
        outcomes = []
        for _ in range(times):
            try:
                outcomes.append(await lm.acall("Hi"))
            except dspy.LMError as error:
                outcomes.append(outcome(error))
        return outcomes

    if mode in LOOPS:
        return LOOPS[mode](several())
    outcomes = []
    for _ in range(times):
        try:
            outcomes.append(lm("Hi"))
        except dspy.LMError as error:
            outcomes.append(outcome(error))
    return outcomes


def read(answers, mode: str, way: str, listener=Notes, **options):
    """All that can be told: outcomes, texts heard, requests by connection."""
    with RawProvider(*answers) as provider, tapped(listener) as listeners:
        url = f"http://127.0.0.1:{provider.port}"
        outcomes = call(language_model(url, way, **options), mode, len(answers))
    return outcomes, [notes.text_so_far for notes in listeners], provider.served


# --- which way is taken ---------------------------------------------------------------------------


class Steps(Coroutine):
    """A coroutine that counts how often its task is resumed."""

    def __init__(self, coroutine) -> None:
        self.coroutine = coroutine
        self.count = 0

    def send(self, value):
        self.count += 1
        return self.coroutine.send(value)

    def throw(self, *error):
        return self.coroutine.throw(*error)

    def close(self):
        self.coroutine.close()

    def __await__(self):
        return self


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_not_woken_by_its_tokens(practice, way, loop):
    """It is where the transport is not lm15's."""
    practice.script(Reply(TEXT * 5, packets=True, hold_after=range(1, 60)))
    lm = language_model(practice.url, way)
    steps = []

    class GoingOn(Notes):
        """With each text that is heard the next is sent: none is there before it is awaited."""

        def hear(self, delta):
            super().hear(delta)
            practice.requests[0].release()

    async def main():
        steps.append(Steps(lm.acall("Hi")))
        return await asyncio.get_running_loop().create_task(steps[0])

    with tapped(GoingOn) as listeners:
        (outcome,) = LOOPS[loop](main())
    assert outcome == TEXT * 5
    assert len(listeners[0].of("text")) > 100
    assert (steps[0].count < 20) == (way == "taken")


@pytest.mark.parametrize("way", WAYS)
def test_a_thread_receives_each_packet_once(practice, way, monkeypatch):
    """And lm15's iterator over the body is asked for nothing, where it is lm15's."""
    asked = []
    original = StdlibTransport._iter_body

    def iterated(*args, **kwargs):
        for chunk in original(*args, **kwargs):
            asked.append(chunk)
            yield chunk

    monkeypatch.setattr(StdlibTransport, "_iter_body", iterated if way == "iterated" else original)
    practice.script(Reply(TEXT, packets=True))
    with tapped() as listeners:
        assert language_model(practice.url, way)("Hi") == [TEXT]
    assert len(listeners[0].of("text")) > 10
    assert bool(asked) == (way == "iterated")


# --- what is read, and what becomes of the connection ---------------------------------------------


@pytest.mark.parametrize(("framing", "mode"), in_turn(FRAMINGS, MODES))
def test_every_framing_gives_the_reply_and_keeps_its_connection(framing, mode):
    """Twice, and each in one piece, in small ones, and byte by byte around the end of the head."""
    reply, end = FRAMINGS[framing]
    head = reply.index(b"\r\n\r\n")
    near_head = [reply[: head - 2], *cut(reply[head - 2 : head + 60], 1), reply[head + 60 :]]
    for pieces in ([reply], cut(reply, 97), near_head):
        told = read([[*pieces, end]] * 2, mode, "taken")
        assert told == read([[*pieces, end]] * 2, mode, "iterated")
        outcomes, texts, served = told
        assert outcomes == [[TEXT]] * 2
        assert texts == [TEXT] * 2
        assert served == ([2] if end is KEEP else [1, 1])


CUT = ["chunks across frames", "a length", "gzip in chunks"]


def cuts(framing: str) -> tuple[list[bytes], list[bytes]]:
    """The beginnings of a reply that lack some of its text, and those that lack its end alone."""
    reply, _ = FRAMINGS[framing]
    begin = reply.index(b"\r\n\r\n") + 4
    places = (begin, begin + 1, (begin + len(reply)) // 2)
    return [reply[:at] for at in places], [reply[:-5], reply[:-1]]


@every_mode
@pytest.mark.parametrize("framing", CUT)
def test_a_body_cut_anywhere_fails_as_lm15_has_it(framing, mode):
    early, late = cuts(framing)
    for cut_off in (*early, *late):
        answers = [[cut_off, CLOSE], [FRAMINGS[framing][0], KEEP]]
        outcomes, _, served = read(answers, mode, "taken")
        expected, _, their_served = read(answers, mode, "iterated")
        assert outcomes == expected
        assert served == their_served == [1, 1]


@every_mode
@pytest.mark.parametrize("framing", CUT)
def test_a_reset_is_an_error_of_the_transport(framing, mode):
    """Unless all that counts has been read before, which is a matter of time."""
    early, late = cuts(framing)
    for cut_off in (*early, *late):
        answers = [[cut_off, RESET], [FRAMINGS[framing][0], KEEP]]
        (first, second), _, served = read(answers, mode, "taken")
        assert (cut_off in late and first == [TEXT]) or first[0] == "LMTransportError", first
        assert second == [TEXT]
        assert served == [1, 1]


MALFORMED = {
    "a size that is none": in_chunks(frames()[:3])[:-5] + b"zz\r\nabc\r\n",
    "no size": in_chunks(frames()[:3])[:-5] + b"\r\nabc\r\n",
    "no line end after a chunk": in_chunks(frames()[:3])[:-5] + b"3\r\nabcdef",
}


@every_mode
@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_body_fails_as_lm15_has_it(what, mode):
    answers = [[reply_of(MALFORMED[what], CHUNKED), KEEP], [PLAIN, KEEP]]
    told = read(answers, mode, "taken")
    assert told == read(answers, mode, "iterated")
    (kind, _), second = told[0]
    assert kind.startswith("LM")
    assert second == [TEXT]
    assert told[2] == [1, 1]


@every_mode
@pytest.mark.parametrize("length", [0, 3])
def test_a_body_of_hardly_anything_ends(length, mode):
    answers = [[reply_of(b"abc"[:length], f"Content-Length: {length}"), KEEP], [PLAIN, KEEP]]
    told = read(answers, mode, "taken")
    assert told == read(answers, mode, "iterated")
    assert told[2] == [2]


@every_mode
def test_an_end_that_comes_late_keeps_the_connection(mode):
    """The reply is whole, and the body's end is waited for: it comes after a while."""
    late = [PLAIN[:-5], lambda _: pause.wait(0.03), PLAIN[-5:], KEEP]
    pause = threading.Event()
    for way in WAYS:
        outcomes, texts, served = read([late, [PLAIN, KEEP]], mode, way)
        assert outcomes == [[TEXT]] * 2
        assert texts == [TEXT] * 2
        assert served == [2]


@every_mode
def test_an_end_that_does_not_come_ends_the_reply_and_the_connection(mode, monkeypatch):
    monkeypatch.setattr(wire_reply, "GRACE_AFTER_END_S", GRACE_AFTER_END_S)
    stays_open = [PLAIN[:-5], lambda connection: connection.recv(1), CLOSE]
    outcomes, texts, served = read([stays_open, [PLAIN, KEEP]], mode, "taken")
    assert outcomes == [[TEXT]] * 2
    assert texts == [TEXT] * 2
    assert served == [1, 1]


@every_mode
def test_an_error_in_the_stream_costs_the_connection(mode):
    error = b'data: {"error": {"message": "overloaded", "code": 503}}\n\n'
    broken = reply_of(in_chunks([*frames()[:5], error])[:-5], CHUNKED)
    answers = [[broken, KEEP], [PLAIN, KEEP]]
    told = read(answers, mode, "taken")
    assert told == read(answers, mode, "iterated")
    assert told[2] == [1, 1]


@pytest.fixture
def heads_may_be_late(monkeypatch):
    """The limit of a read is that of the body alone: a busy server may take longer to begin."""
    read_head, aread_head = StdlibTransport._read_head, StdlibAsyncTransport._read_head

    def patiently(transport, connection, *, read_timeout):
        return read_head(transport, connection, read_timeout=60)

    async def apatiently(transport, connection, *, read_timeout):
        return await aread_head(transport, connection, read_timeout=60)

    monkeypatch.setattr(StdlibTransport, "_read_head", patiently)
    monkeypatch.setattr(StdlibAsyncTransport, "_read_head", apatiently)


@every_mode
def test_nothing_comes_in_time(mode, heads_may_be_late):
    def until_closed(connection):
        connection.recv(1)

    answers = [[PLAIN[:600], until_closed, CLOSE], [PLAIN, KEEP]]
    told = read(answers, mode, "taken", read_timeout=0.2)
    theirs = read(answers, mode, "iterated", read_timeout=0.2)
    assert told == theirs
    _, words = told[0][0]
    assert "timed out mid-body" in words
    assert told[0][1] == [TEXT]
    assert told[2] == [1, 1]


# --- the listener has no room ---------------------------------------------------------------------


@every_mode
def test_pauses_lose_nothing_and_move_nothing(mode):
    """A pause after every third text, while several chunks have come in one packet."""

    class Slow(Notes):
        def must_pause(self):
            return bool(self.texts) and len(self.texts) % 3 == 0

        async def pause_async(self):
            self.pauses += 1
            await asyncio.sleep(0)

    for framing, (reply, end) in FRAMINGS.items():
        told = read([[*cut(reply, 1500), end]] * 2, mode, "taken", Slow)
        assert told[0] == [[TEXT]] * 2, framing
        assert told[1] == [TEXT] * 2, framing
        assert told[2] == ([2] if end is KEEP else [1, 1]), framing


@every_mode
def test_nothing_is_read_while_the_listener_has_no_room(mode):
    """However much of the reply has come in one packet."""
    heard_in_pause = []

    class Full(Notes):
        def must_pause(self):
            return bool(self.texts)

        def pause(self):
            heard_in_pause.append(len(self.texts))
            super().pause()

        async def pause_async(self):
            before = len(self.texts)
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(self.texts) == before
            self.pause()

    read([[PLAIN, KEEP]], mode, "taken", Full)
    assert len(heard_in_pause) > 20
    assert heard_in_pause[:3] == [1, 2, 3]


# --- TLS and proxies ------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    return context, str(bundle)


@every_mode
@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "through a proxy"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
def test_tls_and_proxies(certificate, encrypted, proxied, mode):
    context, bundle = certificate
    with RawProvider(*[[*cut(PLAIN, 200), KEEP]] * 3, tls=context if encrypted else None) as server:
        proxy = Proxy() if proxied else None
        options = {"ca_bundle": bundle, "trust_env": False, "connect_timeout": 60}
        if proxy:
            options["proxy"] = f"http://127.0.0.1:{proxy.port}"
        url = f"https://localhost:{server.port}" if encrypted else f"http://127.0.0.1:{server.port}"
        with tapped() as listeners:
            outcomes = call(language_model(url, **options), mode, 3)
        if proxy:
            proxy.close()
            assert len(proxy.asked) == 1
            assert proxy.asked[0].startswith("CONNECT" if encrypted else "POST http://")
    assert outcomes == [[TEXT]] * 3
    assert [notes.text_so_far for notes in listeners] == [TEXT] * 3
    assert server.served == [3]


# --- the call's own context -----------------------------------------------------------------------

asked_for = contextvars.ContextVar("asked_for", default="")
answered = contextvars.ContextVar("answered", default="")


@pytest.mark.parametrize("loop", LOOPS)
def test_deltas_are_heard_in_their_calls_context(loop):
    """Though callbacks run in the context in which the connection was opened, by another call."""
    heard = []

    class Telling(Notes):
        def hear(self, delta):
            super().hear(delta)
            heard.append(asked_for.get())
            answered.set(asked_for.get())

    async def one(name):
        asked_for.set(name)
        await lm.acall("Hi")
        return answered.get()

    async def main():
        return [await asyncio.create_task(one(name)) for name in ("first", "second")]

    with RawProvider(*[[*cut(PLAIN, 200), KEEP]] * 2) as provider, tapped(Telling):
        lm = language_model(f"http://127.0.0.1:{provider.port}")
        assert LOOPS[loop](main()) == ["first", "second"]
    assert heard == ["first"] * len(WORDS) + ["second"] * len(WORDS)
    assert provider.served == [2]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_call_leaves_nothing_of_itself_on_its_connection(loop):
    """The provider sees the end at once, and the next call has a connection of its own."""
    closed = []

    def until_closed(connection):
        closed.append(connection.recv(1))

    answers = [[PLAIN[:900], until_closed, CLOSE], [PLAIN, KEEP]]

    class Telling(Notes):
        def hear(self, delta):
            super().hear(delta)
            came.set()

    async def main():
        nonlocal came
        came = asyncio.Event()
        lm = language_model(f"http://127.0.0.1:{provider.port}")
        first = asyncio.create_task(lm.acall("Hi"))
        await asyncio.wait_for(came.wait(), 60)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await lm.acall("Hi")

    came: asyncio.Event
    with RawProvider(*answers) as provider, tapped(Telling):
        assert LOOPS[loop](main()) == [TEXT]
    assert closed == [b""]
    assert provider.served == [1, 1]
