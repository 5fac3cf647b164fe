"""X10: nothing is missed between the log and the buffer, however far a reader falls behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time

import msgspec
import pytest
from patience import Stopwatch

from serve.runs import Scribe
from streamll.brokers.opening import open_sink
from streamll.core import events as ev
from streamll.core.positions import Position
from streamll.core.wire import decode, decode_batch, encode
from streamll.serve.log import buffer as buffers
from streamll.serve.log import tail
from streamll.serve.log.frames import HEADING, EntryJSON
from streamll.serve.log.index import RunIndex
from streamll.serve.log.run_log import RunLog

BOUND = 60
KEPT = 10
TOKENS = [f"t{number} " for number in range(300)]


@pytest.fixture(autouse=True)
def little_is_kept(monkeypatch):
    monkeypatch.setattr(buffers, "KEPT_EVENTS", KEPT)


async def until(condition):
    while not condition():  # noqa: ASYNC110 - there is nothing that could tell
        await asyncio.sleep(0.002)


class Writer:
    """Writes a run bit by bit, and waits until the log has it."""

    def __init__(self, run_log, sink, events):
        self.run_log = run_log
        self.sink = sink
        self.left = list(events)
        self.written = 0

    async def write(self, count):
        for event in self.left[:count]:
            self.sink.put(event)
        self.written += len(self.left[:count])
        del self.left[:count]
        assert await asyncio.to_thread(self.sink.catch_up, BOUND)
        buffer = self.run_log.buffers.get("r1")
        await until(lambda: buffer is None or buffer.position.seq >= self.written - 1)


@contextlib.asynccontextmanager
async def opened(log):
    run_log = RunLog(log)
    await run_log.start()
    assert run_log.tail.begun.is_set()
    try:
        yield run_log
    finally:
        await run_log.close()


def sink_of(run_log, log, whose):
    """The run log's own sink, or one as another process has it; an entry for each event."""
    sink = run_log.sink if whose == "own" else open_sink(log)
    sink.batch_size = 1
    return sink


def seqs(batches):
    return [item.event.seq for items in batches for item in items]


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, BOUND * 2))


@pytest.mark.parametrize("whose", ["own", "another's"])
def test_a_reader_that_falls_behind_while_it_reads_the_log_reads_it_again(log, whose):
    """With every batch it gets, the buffer drops more than the log had when it was asked."""
    events = Scribe().start().text("answer", *TOKENS).end().events

    async def read():
        async with opened(log) as run_log:
            writer = Writer(run_log, sink_of(run_log, log, whose), events)
            await writer.write(5)  # nobody reads yet: only the log has these
            got = []
            async for items in run_log.read(Position("r1")):
                got.append(items)
                if items:
                    await writer.write(3 * KEPT)
            writer.sink.stop()
            return got

    assert seqs(run(read())) == list(range(len(events)))


@pytest.mark.parametrize("whose", ["own", "another's"])
def test_a_reader_that_falls_behind_while_it_sends_continues_from_the_log(log, whose):
    """It keeps up, then takes nothing for a while, several times."""
    events = Scribe().start().text("answer", *TOKENS).end().events

    async def read():
        async with opened(log) as run_log:
            writer = Writer(run_log, sink_of(run_log, log, whose), events)
            with run_log.buffer("r1"):
                await writer.write(5)
                reader, got = run_log.read(Position("r1")), []
                for number in range(10_000):
                    items = await anext(reader, None)
                    if items is None:
                        break
                    got.append(items)
                    await writer.write(1 if number % 5 else 4 * KEPT)
            writer.sink.stop()
            return got

    assert seqs(run(read())) == list(range(len(events)))


@pytest.mark.parametrize("whose", ["own", "another's"])
def test_a_reader_who_has_the_end_already_is_not_kept_waiting(log, whose):
    """It asked whether there is more before this process heard of the end, and reads after that."""
    events = Scribe().start().text("answer", *TOKENS).end().events
    after_all = Position("r1", len(events) - 1)

    async def read():
        async with opened(log) as run_log:
            writer = Writer(run_log, sink_of(run_log, log, whose), events)
            await writer.write(len(events))
            await until(lambda: not run_log.index.is_under_way("r1") and run_log.index.latest())
            got = [items async for items in run_log.read(after_all)]
            writer.sink.stop()
            return got

    assert run(read()) == []


def test_what_this_process_wrote_is_not_decoded_again(log, monkeypatch):
    events = Scribe().start().text("answer", *TOKENS).end().events
    decoded = []
    decode_entry = tail.decode_entry
    monkeypatch.setattr(
        tail, "decode_entry", lambda body: decoded.append(body) or decode_entry(body)
    )

    async def read():
        async with opened(log) as run_log:
            heard = []
            run_log.tail.on_message = heard.append
            other = open_sink(log)
            with run_log.buffer("r1") as buffer:
                for event in events:
                    run_log.sink.put(event)
                await until(lambda: buffer.ended)
                other.put(ev.StreamllEvent(event_type="server.hello", data={}, timestamp=1.0))
                await until(lambda: heard)  # behind all of these in the log
                other.stop()
                return buffer.position.seq

    assert run(read()) == len(events) - 1
    assert len(decoded) == 1
    assert b"server.hello" in decoded[0]


def test_own_events_are_passed_on_as_the_log_has_them(log):
    """Also where an event holds something that JSON does not, and where the program changes it."""
    seen = {"query": ["a"], "what": object(), "half": float("nan")}
    scribe = Scribe().start()
    scribe.add(ev.ToolStart, name="search", arguments=seen)
    scribe.text("answer", "one", "two", "\ud83d", "🎉")
    scribe.add(ev.StreamllEvent, event_type="mine", data={"set": {1}, "n": float("inf")})
    events = scribe.end().events

    async def read():
        async with opened(log) as run_log:
            with run_log.buffer("r1") as buffer:
                for event in events:
                    run_log.sink.put(event)
                assert await asyncio.to_thread(run_log.sink.catch_up, BOUND)
                seen["query"].append("changed")
                await until(lambda: buffer.ended)
                at_once = [encode(item.event) for item in buffer.since(buffer.start)]
            logged = [
                encode(item.event)
                async for page in run_log.history(Position("r1"))
                for item in page
            ]
            return at_once, logged

    at_once, logged = run(read())
    assert at_once == logged
    assert b"changed" not in b"".join(at_once)
    assert len(at_once) == len(events)


@pytest.mark.parametrize("whose", ["own", "another's"])
def test_readers_get_the_json_that_the_sink_wrote(log, monkeypatch, whose):
    """An event is encoded once: into its entry of the log, from which frames cut it out."""
    scribe = Scribe().start()
    scribe.add(ev.ToolStart, name="search", arguments={"events": [1], "half": float("nan")})
    events = scribe.text("answer", "one", '"events":[', "🎉").end().events
    for number, event in enumerate(events):
        events[number] = msgspec.structs.replace(event, context={"events": [{"id": "c"}]})
    monkeypatch.setattr("streamll.serve.log.frames.encode", encoded_again)

    async def read():
        async with opened(log) as run_log:
            with run_log.buffer("r1") as buffer:
                sink = sink_of(run_log, log, whose)
                for event in events:
                    sink.put(event)
                await until(lambda: buffer.ended)
                sink.stop()
                followed = [item.payload for item in buffer.since(buffer.start)]
            pages = run_log.history(Position("r1"))
            return followed, [item.payload async for page in pages for item in page]

    followed, logged = run(read())
    assert followed == logged
    assert [json.loads(each) for each in logged] == [json.loads(encode(each)) for each in events]


def test_what_cannot_be_read_is_sent_to_nobody_else():
    """Readers of a server get the gap that stands for it, not the JSON as it is."""
    body = (
        b'{"id":"ab:1","v":1,"run_id":"r1","events":[{"event_type":"token","seq":1},'
        b'{"event_type":"run.end","seq":2,"timestamp":0.0}]}'
    )
    assert HEADING.match(body)
    gap, end = events = decode_batch(body)
    entry = EntryJSON(body, events)
    assert [decode(entry.of(event)) for event in (gap, end)] == events
    assert gap.event_type == "stream.gap"


def encoded_again(event):
    raise AssertionError(f"{event} was encoded a second time")


def test_a_message_that_makes_no_sense_is_passed_over(log, caplog):
    """What comes behind it in the same batch is read, and the log does not count as away."""
    nonsense = ev.StreamllEvent(event_type="server.alive", data={"runs": [[1]]}, timestamp=1.0)

    async def read():
        async with opened(log) as run_log:
            other = open_sink(log)
            with run_log.buffer("r1") as buffer:
                for event in [nonsense, *Scribe().start().text("answer", "a").end().events]:
                    other.put(event)
                await until(lambda: buffer.ended)
            other.stop()
            return run_log.tail.reachable, run_log.tail.interrupted

    assert run(read()) == (True, False)
    assert "cannot use entry" in caplog.text


def test_only_the_first_and_last_entry_of_a_run_nobody_follows_are_decoded(log, monkeypatch):
    decoded, heard = [], []
    monkeypatch.setattr(
        RunIndex, "add", lambda _, events: decoded.extend(each.event_type for each in events)
    )
    monkeypatch.setattr(RunIndex, "hear", lambda _, run_id: heard.append(run_id))

    async def listen():
        async with opened(log) as run_log:
            run_log.tail.follows_all = False
            sink = sink_of(run_log, log, "another's")
            writer = Writer(run_log, sink, Scribe().start().text("answer", *TOKENS).end().events)
            await writer.write(1_000)
            await until(lambda: "run.end" in decoded)
            sink.stop()

    run(listen())
    assert decoded == ["run.start", "run.end"]
    assert set(heard) == {"r1"}
    assert len(heard) > len(TOKENS)


def test_a_late_reader_of_a_run_nobody_followed_gets_all_of_it(log):
    events = Scribe().start().text("answer", *TOKENS).end().events

    async def read():
        async with opened(log) as run_log:
            run_log.tail.follows_all = False
            writer = Writer(run_log, sink_of(run_log, log, "another's"), events)
            await writer.write(100)
            got, begun = [], False
            async for items in run_log.read(Position("r1")):
                got.append(items)
                if not begun:
                    begun = True
                    await writer.write(1_000)
            writer.sink.stop()
            return got

    assert seqs(run(read())) == list(range(len(events)))


def test_idle_readers_of_the_log_hold_no_connection_and_no_thread(log, new_threads):
    """They had a page of it and take no more for now."""
    writer = open_sink(log)
    writer.batch_size = 1
    for event in Scribe().start().text("answer", *TOKENS).end().events:
        writer.put(event)
    assert writer.stop(BOUND)

    async def read():
        async with opened(log) as run_log:
            readers = [run_log.history(Position("r1")) for _ in range(30)]
            pages = await asyncio.gather(*(anext(reader) for reader in readers))
            # An executor's thread ends a moment after it was told to.
            await until(lambda: len(new_threads("streamll-sqlite")) <= 1)
            for reader, had in zip(readers, pages, strict=True):
                async for page in reader:
                    had += page
            return [[item.event.seq for item in page] for page in pages]

    assert run(read()) == [list(range(len(TOKENS) + 6))] * 30


def test_a_thousand_readers_with_nothing_left_to_read_return_quickly(log):
    """They look into the log a few at a time, so none may wait there for what may come."""
    events = Scribe().start().text("answer", *TOKENS).events

    async def come_back():
        async with opened(log) as run_log:
            for event in events:
                run_log.sink.put(event)
            assert await asyncio.to_thread(run_log.sink.catch_up, BOUND)
            watch = Stopwatch()
            reads = [_all(run_log.history(Position("r1", events[-1].seq))) for _ in range(1_000)]
            assert not any(await asyncio.gather(*reads))
            return watch.seconds

    assert run(come_back()) < 15  # a second or two; waiting a quarter each it was 31


def test_a_run_that_began_elsewhere_this_moment_appears(log):
    async def ask():
        async with opened(log) as run_log:
            other = open_sink(log)
            asked = asyncio.create_task(run_log.appears("r1", BOUND))
            await until(lambda: run_log.buffers)  # it listens
            other.put(Scribe().start().events[0])
            assert await asked
            assert not await run_log.appears("nobody", 0.01)
            assert await run_log.appears("r1", 0.0)
            other.stop()
            return run_log.buffers

    assert run(ask()) == {}


async def _all(pages):
    return [event async for page in pages for event in page]


def stand_still(condition):
    """What no event loop should do."""
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_blocked_event_loop_holds_the_sink_back(log, monkeypatch):
    """What the log has confirmed does not pile up behind it; afterwards all of it is heard."""
    monkeypatch.setattr(tail, "CONFIRMED_BATCHES", 2)
    monkeypatch.setattr(tail, "SINK_WAIT_S", BOUND)
    events = Scribe().start().text("answer", *TOKENS[:7]).end().events

    async def read():
        async with opened(log) as run_log:
            sink = sink_of(run_log, log, "own")
            with run_log.buffer("r1") as buffer:
                written = []

                def write():
                    for event in events:
                        sink.put(event)
                        written.append(sink.catch_up(BOUND if len(written) < 2 else 0.3))

                writing = threading.Thread(target=write)
                writing.start()
                stand_still(lambda: len(written) >= 4)
                assert written[:4] == [True, True, False, False]  # there may be more by now
                await until(lambda: buffer.position.seq == len(events) - 1)
                writing.join(BOUND)

    run(read())
