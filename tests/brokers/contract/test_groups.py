"""Groups: members that die, are slow, or get entries that cannot be handled; no event is lost.

Each event is handled at least once, in order per run within a member. Events that a member held
when it died reach another later than they would have, and in order among themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
import time
from collections import Counter

import pytest
import warm
from profiles import THOROUGH

from brokers.backends import (
    BACKENDS,
    CLUSTERS,
    COMPATIBLE_BACKENDS,
    Backend,
    backend_of,
    script,
)
from brokers.raw_log import FOREIGN, put_raw, raw_dead_letters
from brokers.sample_runs import BOUND, by_run, check_order, make_run
from brokers.servers import Wire, wait_until
from streamll.brokers.opening import open_source
from streamll.brokers.source import SourceOptions
from streamll.consumer import EventConsumer
from streamll.core.events import Status
from streamll.sinks import open_sink


@pytest.fixture(params=[*BACKENDS, *COMPATIBLE_BACKENDS, *(CLUSTERS if THOROUGH else [])])
def any_backend(request, server_of, tmp_path):
    return backend_of(request.param, server_of, tmp_path)


class Member:
    """A member in a process of its own, which reports what it has begun and what it has done."""

    BODY = """
        def say(*words):  # at once and whole, from whatever thread
            os.write(1, (" ".join(map(str, words)) + "\\n").encode())
        consumer = EventConsumer(url, target, group="g", start="beginning", **{options!r})
        @consumer.on("*")
        def handle(event):
            say("begun", event.event_id)
            {handling}
            say("done", event.event_id)
        consumer.start()
        consumer.wait_connected()
        while True:
            say("received", consumer.statistics().received)
            time.sleep(0.02)
    """

    def __init__(self, backend, target: str, handling: str, **options) -> None:
        if backend.name.startswith(
            "rabbitmq"
        ):  # nothing is redelivered because the machine is slow
            backend = Backend(backend.name, f"{backend.url}?heartbeat=60", backend.server)
        body = self.BODY.format(options=options, handling=handling)
        self.process = warm.Popen(script(backend, target, body), stdout=subprocess.PIPE, text=True)
        self.told: dict[str, list[str]] = {"begun": [], "done": [], "received": []}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            word, what = line.split()
            self.told[word].append(what)

    @property
    def received(self) -> int:
        return int(self.told["received"][-1]) if self.told["received"] else -1

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def wait(self) -> None:
        self.process.wait(BOUND)
        self._listener.join(BOUND)
        self.process.stdout.close()


@pytest.fixture
def member(request):
    """``member(backend, target, handling)``: a process that does not outlive the test."""
    with contextlib.ExitStack() as stack:

        def make(*args, **options) -> Member:
            one = Member(*args, **options)
            stack.callback(lambda: one.process.poll() is None and one.kill())
            return one

        yield make


def put_all(backend, target: str, *runs) -> None:
    sink = open_sink(backend.url, target=target)
    for run in runs:
        for event in run:
            sink.put(event)
    assert sink.stop(BOUND)


def consumer_of(backend, target: str, handler, *, claim_after=1.0, **options) -> EventConsumer:
    consumer = EventConsumer(
        backend.url, target, group="g", start="beginning", claim_after=claim_after, **options
    )
    consumer.subscribe(handler)
    consumer.start()
    return consumer


BUSY = 'if event.event_type == "token" and int(event.run_id[1:]) % 2: time.sleep(600)'
"""Half of the runs get no further than their first token."""


def test_entries_of_a_killed_member_go_to_another(any_backend, member):
    """D4: kill -9 with events in its hands: what it had not done, another does, in order."""
    target = any_backend.target()
    runs = [make_run(f"r{n}", ["a", "b"]) for n in range(10)]
    everything = {event.event_id for run in runs for event in run}
    killed = member(any_backend, target, BUSY, claim_after=1.0)
    wait_until(lambda: killed.received >= 0, BOUND, "it is connected")
    put_all(any_backend, target, *runs)
    wait_until(lambda: killed.received == len(everything), BOUND, "all of it in its hands")
    wait_until(lambda: len(killed.told["begun"]) >= 10 + 5 * 4, BOUND, "it is at work")
    killed.kill()
    done = set(killed.told["done"])
    assert 0 < len(done) < len(everything)
    handled = []
    heir = consumer_of(any_backend, target, handled.append, claim_after=1.0)
    wait_until(
        lambda: {event.event_id for event in list(handled)} | done == everything,
        BOUND,
        "everything is handled",
    )
    wait_until(lambda: heir.statistics().lag == 0, BOUND, "everything is acknowledged")
    assert heir.stop(BOUND)
    for events in by_run(handled).values():
        seqs = [event.seq for event in events]
        assert seqs == sorted(set(seqs))
    statistics = heir.statistics()
    assert statistics.redelivered > 0
    assert statistics.dead_lettered == 0


def test_killing_a_member_while_others_work_loses_nothing(any_backend, member):
    """D4: events come all the time, before and after one of two members is killed."""
    target = any_backend.target()
    runs = [make_run(f"r{n}", [f"{i}" for i in range(30)]) for n in range(10)]
    everything = {event.event_id for run in runs for event in run}
    killed = member(any_backend, target, BUSY, claim_after=1.0)
    wait_until(lambda: killed.received >= 0, BOUND, "it is connected")
    sink = open_sink(any_backend.url, target=target)

    def put(part: slice) -> None:
        for events in zip(*(run[part] for run in runs), strict=True):
            for event in events:
                sink.put(event)
            assert sink.catch_up(BOUND)

    put(slice(0, 8))
    wait_until(lambda: killed.received > 0, BOUND, "it has some")
    handled = []
    other = consumer_of(any_backend, target, handled.append, claim_after=1.0)
    assert other.wait_connected(BOUND)
    put(slice(8, 20))
    killed.kill()
    put(slice(20, None))
    assert sink.stop(BOUND)
    done = set(killed.told["done"])
    wait_until(
        lambda: {event.event_id for event in list(handled)} | done == everything,
        BOUND,
        "everything is handled",
    )
    wait_until(lambda: other.statistics().lag == 0, BOUND, "everything is acknowledged")
    assert other.stop(BOUND)
    assert other.statistics().dead_lettered == 0
    for run_id, events in by_run(handled).items():
        own, inherited = -1, -1
        for event in events:  # what it was given, and between it what the killed one had had
            if event.seq > own:
                own = event.seq
            else:
                assert event.seq > inherited, run_id
                inherited = event.seq


def kept_by_one(attempt, chances: int = 3) -> bool:
    """Whether members that are busy keep what they have, once that is tried.

    They report every third of ``claim_after`` that they are busy. A machine that keeps them from it for
    the rest of that time lets another member have their work, as it should: it gets another chance.
    """
    return any(attempt() for _ in range(chances))


def test_entries_of_a_slow_but_living_member_are_not_reassigned(backend):
    """D4: handlers take longer than ``claim_after``, and what waits behind them does, too."""
    assert kept_by_one(lambda: slow_member_keeps_its_entries(backend))


def slow_member_keeps_its_entries(backend) -> bool:
    target = backend.target()
    put_all(backend, target, *([make_run(f"r{n}", ["x"])[3]] for n in range(3)))
    begun, at_work, most = [], 0, 0
    lock = threading.Lock()

    def slow(event) -> None:
        nonlocal at_work, most
        with lock:
            begun.append(event.event_id)
            at_work += 1
            most = max(most, at_work)
        time.sleep(3.7)
        with lock:
            at_work -= 1

    # Claims are extended every three seconds: a member may be kept waiting for some seconds more.
    options = {"claim_after": 10.0, "concurrency": 1, "prefetch": 1}
    first = consumer_of(backend, target, slow, **options)
    wait_until(lambda: begun, BOUND, "it has them")
    other = consumer_of(backend, target, slow, **options)
    wait_until(lambda: len(set(begun)) == 3 and not at_work, BOUND, "all of them")
    wait_until(lambda: first.statistics().lag == 0, BOUND, "all acknowledged")
    assert other.stop(BOUND)
    assert first.stop(BOUND)
    return (
        max(Counter(begun).values()) == most == 1
        and first.statistics().handled == 3
        and other.statistics().redelivered == 0
    )


def test_a_slow_async_iteration_keeps_its_claims(server_of, tmp_path):
    """D4: ``async for`` in a group: also what it has read and not come to."""
    backend = backend_of("sqlite", server_of, tmp_path)
    assert kept_by_one(lambda: slow_iteration_keeps_its_claims(backend))


def slow_iteration_keeps_its_claims(backend) -> bool:
    target = backend.target()
    put_all(backend, target, *([make_run(f"r{n}", ["x"])[3]] for n in range(4)))
    taken = []

    async def take(seconds: float) -> None:
        consumer = EventConsumer(backend.url, target, group="g", start="beginning", claim_after=8)
        async with contextlib.aclosing(aiter(consumer)) as events:
            async for event in events:
                taken.append(event.event_id)
                await asyncio.sleep(seconds)

    async def main() -> None:
        readers = [asyncio.create_task(take(3))]  # the fourth comes after its claim would be over
        await asyncio.to_thread(wait_until, lambda: taken, BOUND, "one")
        readers.append(asyncio.create_task(take(0.0)))
        await asyncio.to_thread(wait_until, lambda: len(taken) >= 4, BOUND, "all")
        for reader in readers:  # who leaves in the middle of an event gives it back
            reader.cancel()
        await asyncio.wait(readers, timeout=BOUND)

    asyncio.run(asyncio.wait_for(main(), BOUND))
    return sorted(taken[:4]) == [f"r{n}:3" for n in range(4)]


@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_a_member_whose_claims_expired_does_not_take_them_back(name, server_of, tmp_path):
    """D4: it wakes up when another has its work, and extends its expired claims."""
    backend = backend_of(name, server_of, tmp_path)
    target = backend.target()
    put_all(backend, target, [make_run("r0", ["x"])[3]])

    def member_named(name: str):
        options = SourceOptions(
            target=target, start="beginning", group="g", member=name, claim_after=0.3
        )
        return open_source(backend.url, options)

    async def read(source) -> list:
        await source.connect()
        while not (entries := await source.read()):
            pass
        return entries

    async def main() -> None:
        sleeper, other, third = map(member_named, ["sleeper", "other", "third"])
        try:
            slept_over = await read(sleeper)
            assert await read(other)
            claiming = asyncio.create_task(read(third))  # the other one dies: it does not keep
            while not claiming.done():
                await sleeper.extend_claim(slept_over)
                await asyncio.wait([claiming], timeout=0.05)
            assert claiming.result()[0].deliveries == 3
        finally:
            for source in (sleeper, other, third):
                await source.close()

    asyncio.run(asyncio.wait_for(main(), BOUND))


@pytest.mark.parametrize("name", ["redis", "rabbitmq"])
def test_redelivery_after_a_lost_connection_is_not_handled_twice(name, server_of, tmp_path):
    """D4: what it is busy with is given to it again, and acknowledged when it has done it once."""
    backend = backend_of(name, server_of, tmp_path)
    target = backend.target()
    put_all(backend, target, *([make_run(f"r{n}", ["x"])[3]] for n in range(3)))
    begun, go_on = [], threading.Event()

    def handle(event) -> None:
        begun.append(event.event_id)
        go_on.wait(BOUND)

    wire = Wire(backend.server.port)
    url = backend.url.replace(str(backend.server.port), str(wire.port))
    consumer = EventConsumer(url, target, group="g", start="beginning", concurrency=2)
    consumer.subscribe(handle)
    consumer.start()
    try:
        wait_until(lambda: len(begun) == 2, BOUND, "it is at work")
        wire.cut()
        wait_until(lambda: not consumer.wait_connected(0), BOUND, "it has noticed")
        wire.mend()
        wait_until(lambda: consumer.statistics().duplicates == 3, BOUND, "they came again")
        go_on.set()
        wait_until(lambda: consumer.statistics().handled == 3, BOUND, "all of them")
        wait_until(lambda: consumer.statistics().lag == 0, BOUND, "all acknowledged")
        assert consumer.stop(BOUND)
        assert sorted(begun) == ["r0:3", "r1:3", "r2:3"]
    finally:
        go_on.set()
        consumer.stop()
        wire.close()


def test_failed_acknowledgements_are_repeated_when_the_broker_is_back(server_of, tmp_path):
    """D4: the work is done, so it is not repeated, and nothing stays pending."""
    backend = backend_of("redis", server_of, tmp_path)
    target = backend.target()
    put_all(backend, target, [make_run("r0", ["x"])[3]])
    begun, go_on = [], threading.Event()

    def handle(event) -> None:
        begun.append(event.event_id)
        go_on.wait(BOUND)

    wire = Wire(backend.server.port)
    url = backend.url.replace(str(backend.server.port), str(wire.port))
    consumer = EventConsumer(url, target, group="g", start="beginning", claim_after=0.6)
    consumer.subscribe(handle)
    consumer.start()
    try:
        wait_until(lambda: begun, BOUND, "it is at work")
        wire.cut()
        wait_until(lambda: not consumer.wait_connected(0), BOUND, "it has noticed")
        go_on.set()
        wait_until(lambda: consumer.statistics().handled == 1, BOUND, "it is done")
        wire.mend()
        wait_until(lambda: consumer.statistics().lag == 0, BOUND, "it is acknowledged")
        assert consumer.stop(BOUND)
        assert begun == ["r0:3"]
    finally:
        go_on.set()
        consumer.stop()
        wire.close()


def test_unreadable_entries_among_good_ones_are_dead_lettered_once(backend):
    """D4: neighbours are handled, in order; a later member gets none of it again."""
    target = backend.target()
    poison = [body for body in FOREIGN if b'"events":[]' not in body]
    runs = [make_run(f"r{n}", ["a", "b"]) for n in range(3)]
    put_all(backend, target, runs[0], runs[1][:4])
    count = put_raw(backend, target, poison[:4])
    put_all(backend, target, runs[1][4:])
    count += put_raw(backend, target, poison[4:])
    handled = []
    first = consumer_of(backend, target, handled.append)
    # Both are waited for: what has been handled may not be acknowledged yet.
    wait_until(
        lambda: len(handled) >= 16 and first.statistics().malformed == count, BOUND, "all of it"
    )
    wait_until(lambda: first.statistics().lag == 0, BOUND, "all acknowledged")
    assert first.stop(BOUND)
    second = consumer_of(backend, target, handled.append)
    put_all(backend, target, runs[2])
    wait_until(lambda: len(handled) >= 24, BOUND, "the run after it")
    wait_until(lambda: second.statistics().lag == 0, BOUND, "all acknowledged")
    assert second.stop(BOUND)
    check_order(handled)
    assert len(handled) == 24
    assert first.statistics().malformed == first.statistics().dead_lettered == count
    assert second.statistics().malformed == second.statistics().redelivered == 0
    dead_letters = raw_dead_letters(backend, target, count)
    assert len(dead_letters) == count
    assert all(letter["error"]["type"] == "Unreadable" for letter in dead_letters)
    assert sum("body_base64" in letter for letter in dead_letters) == 1


def test_a_dead_letter_contains_the_error(backend):
    """D4: beside the event it was about."""
    target = backend.target()

    def fails(event) -> None:
        if event.message == "bad":
            raise LookupError("no such account")

    put_all(backend, target, [Status(message="good"), Status(message="bad")])
    consumer = consumer_of(backend, target, fails, retries=1, retry_delay=0.01)
    wait_until(lambda: consumer.statistics().dead_lettered == 1, BOUND, "the dead letter")
    wait_until(lambda: consumer.statistics().lag == 0, BOUND, "all acknowledged")
    assert consumer.stop(BOUND)
    assert consumer.statistics().retried == 1
    [letter] = raw_dead_letters(backend, target, 1)
    assert letter["events"][0]["message"] == "bad"
    error = letter["error"]
    assert (error["type"], error["message"]) == ("LookupError", "no such account")
    assert error["handler"].endswith("fails")


def test_an_event_that_cannot_be_dead_lettered_is_redelivered(server_of, tmp_path, caplog):
    """D4: the broker goes away when a handler has failed for good, and then the consumer stops."""
    backend = backend_of("redis", server_of, tmp_path)
    target = backend.target()
    put_all(backend, target, [make_run("r0", ["x"])[3]])
    wire = Wire(backend.server.port)

    def fails(event) -> None:
        wire.cut()
        raise LookupError

    url = backend.url.replace(str(backend.server.port), str(wire.port))
    consumer = EventConsumer(url, target, group="g", start="beginning", retries=0)
    consumer.subscribe(fails)
    consumer.start()
    wait_until(lambda: "cannot be written" in caplog.text, BOUND, "it is logged")
    assert consumer.stop(BOUND)
    wire.close()
    assert consumer.statistics().dead_lettered == 0
    handled = []
    heir = consumer_of(backend, target, handled.append)
    wait_until(lambda: handled, BOUND, "another gets it")
    assert heir.stop(BOUND)
    assert heir.statistics().redelivered > 0


def test_an_event_that_kills_processes_is_dead_lettered_without_its_neighbours(backend, member):
    """D4: whoever handles it dies; what was in the same hands each time is handled all the same."""
    target = backend.target()
    runs = [make_run(f"r{n}", ["a", "b", "c"]) for n in range(3)]
    bomb = runs[1][4]
    sink = open_sink(backend.url, target=target)
    for run in runs:
        for event in run:
            sink.put(event)
            assert event.run_id != bomb.run_id or sink.catch_up(BOUND)  # each an entry of its own
    assert sink.stop(BOUND)
    everything = {event.event_id for run in runs for event in run}
    handling = f"""if event.event_id == {bomb.event_id!r}:
                os.kill(os.getpid(), 9)
            time.sleep(0.01)"""
    done: list[str] = []
    deaths = 0
    while set(done) != everything - {bomb.event_id}:
        # Long, so that a slow one does not claim its own entries, which counts as well.
        one = member(backend, target, handling, claim_after=4.0, max_deliveries=1)
        before = set(done)
        wait_until(
            lambda one=one, before=before: (
                one.process.poll() is not None
                or before | set(one.told["done"]) == everything - {bomb.event_id}
            ),
            BOUND,
            "an end",
        )
        died = one.process.poll() is not None
        deaths += died
        assert deaths <= 2
        one.wait() if died else one.kill()
        done += one.told["done"]
    assert deaths  # at most once among others, and once alone
    [letter] = raw_dead_letters(backend, target, 1)
    assert bomb.token in letter["body"]
    assert "never acknowledged" in letter["error"]["message"]
