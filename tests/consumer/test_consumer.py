"""EventConsumer as its users meet it; every broker is in tests/brokers, one file is enough here."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from patience import Stopwatch

from brokers.sample_runs import BOUND, check_order, collect, ends, make_run
from brokers.servers import free_port, wait_until
from streamll.consumer import EventConsumer
from streamll.core.errors import BrokerError, ConfigurationError
from streamll.core.events import Status, StreamllEvent
from streamll.core.wire import decode, encode
from streamll.sinks import open_sink


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/log.db"


def write(url, *runs):
    sink = open_sink(url)
    for run in runs:
        for event in run:
            sink.put(event)
    assert sink.stop(BOUND)


def test_runs_are_handled_concurrently_and_each_in_order(url):
    """D4: a slow handler of one run does not hold up another's."""
    write(url, *(make_run(f"r{n}", ["a", "b"]) for n in range(8)))
    consumer = EventConsumer(url, start="beginning", concurrency=8)
    seen, together, most = [], 0, 0
    lock = threading.Lock()

    @consumer.subscribe
    def slow(event):
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.01)
        with lock:
            together -= 1
            seen.append(event)

    consumer.start()
    wait_until(lambda: len(seen) == 64, BOUND, "all events")
    assert consumer.stop(BOUND)
    assert 2 <= most <= 8
    check_order(seen)


class Plan(enum.Enum):
    FREE = "free"


def test_where_takes_a_value_as_the_program_set_it(url):
    """In a log it is text, or a list; a handler that asked for the value itself was never called."""
    set_by_program = {
        "user": uuid.UUID(int=7), "day": dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), "plan": Plan.FREE,
        "shape": (1, 2), "n": 1.0,
    }  # fmt: skip
    event = StreamllEvent(event_type="docs.found", context=set_by_program)
    write(url, [event])
    in_log = decode(encode(event)).context
    wanted = [{key: value} for each in (set_by_program, in_log) for key, value in each.items()]
    consumer = EventConsumer(url, start="beginning")
    called = []
    for where in wanted:
        consumer.on("docs.found", where=where)(lambda _, where=where: called.append(where))
    consumer.on("docs.found", where={"user": uuid.UUID(int=8)})(called.append)
    consumer.on("docs.found")(lambda _: called.append("all"))
    consumer.start()
    wait_until(lambda: "all" in called, BOUND, "the event")
    assert consumer.stop(BOUND)
    assert called == [*wanted, "all"]


def test_concurrency_is_bounded(url):
    write(url, *(make_run(f"r{n}", []) for n in range(10)))
    consumer = EventConsumer(url, start="beginning", concurrency=2, prefetch=20)
    running, most, done = 0, 0, 0

    @consumer.subscribe
    async def handle(event):
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        done += 1

    consumer.start()
    wait_until(lambda: done == 60, BOUND, "all events")
    assert consumer.stop(BOUND)
    assert most == 2


def test_a_failing_handler_affects_neither_the_consumer_nor_other_handlers(url):
    write(url, make_run("r1", ["a"]))
    consumer = EventConsumer(url, start="beginning", retries=0)
    heard = []

    @consumer.on("*")
    def broken(event):
        raise RuntimeError("always")

    consumer.subscribe(heard.append)
    consumer.start()
    wait_until(lambda: len(heard) == 7, BOUND, "all events")
    assert consumer.stop(BOUND)
    assert consumer.statistics().dead_lettered == 7


async def cancelled_elsewhere():
    """What the handler waits for is cancelled, as a client library does with a broken connection."""
    waiting = asyncio.ensure_future(asyncio.Event().wait())
    asyncio.get_running_loop().call_soon(waiting.cancel)
    await waiting


async def names_a_file():
    raise LookupError("no price in caf\udce9.txt")  # a name that is not UTF-8


@pytest.mark.parametrize("fails", [cancelled_elsewhere, names_a_file])
def test_a_handler_that_fails_in_any_way_ends_neither_its_run_nor_the_consumer(url, fails):
    """D4: it is called again, its event becomes a dead letter, and the run's next events are handled."""
    for run in (make_run("r1", ["a"]), make_run("r2", ["a"])):
        for event in run:
            write(url, [event])  # an entry of its own
    consumer = EventConsumer(
        url, group="g", start="beginning", retries=1, retry_delay=0.001, prefetch=3
    )
    heard = []

    @consumer.on("*")
    async def handle(event):
        heard.append(event.event_id)
        if event.event_id == "r1:0":
            await fails()

    consumer.start()
    wait_until(lambda: consumer.statistics().handled == 14, BOUND, "all events")
    wait_until(lambda: consumer.statistics().lag == 0, BOUND, "all acknowledged")
    assert consumer.stop(BOUND)
    assert heard.count("r1:0") == 2
    assert consumer.statistics().dead_lettered == 1


def test_a_consumer_that_is_cancelled_cancels_its_handlers_and_writes_no_dead_letter(url):
    write(url, make_run("r1", []))
    consumer = EventConsumer(url, group="g", start="beginning", retries=0)
    ended = []

    async def main():
        begun = asyncio.Event()

        @consumer.on("*")
        async def handle(event):
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(event.event_id)

        running = asyncio.create_task(consumer.run())
        await begun.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(main(), BOUND))
    assert ended == ["r1:0"]
    assert consumer.statistics().dead_lettered == 0


def test_handlers_may_be_methods_lambdas_and_callable_objects(url):
    write(url, [Status(message="x")])
    heard = []

    class Object:
        async def __call__(self, event):
            heard.append("object")

        def method(self, event):
            heard.append("method")

    async def coroutine(event):
        heard.append("lambda")

    consumer = EventConsumer(url, start="beginning")
    consumer.subscribe(Object())
    consumer.on("status", Object().method)
    consumer.on("stat*", lambda event: coroutine(event))
    consumer.start()
    wait_until(lambda: len(heard) == 3, BOUND, "three handlers")
    assert consumer.stop(BOUND)
    assert heard == ["object", "method", "lambda"]
    with pytest.raises(TypeError, match="a handler is a function"):
        consumer.subscribe("print")


def test_handlers_that_occupy_all_threads_of_the_loop_do_not_cost_a_member_its_claims(tmp_path):
    """D4: the member goes on extending its claims."""
    # They are extended every third of the time: a busy machine may keep a member waiting longer.
    for claim_after in (3.0, 9.0, 27.0):
        begun = handled_by_two(f"sqlite:///{tmp_path}/{claim_after}.db", claim_after)
        if begun == ["r1:0"]:
            return
    raise AssertionError(begun)


def handled_by_two(url, claim_after):
    """What two members handled while one's handler took longer than a claim without an extension."""
    write(url, make_run("r1", [])[:1])
    begun = []

    async def handle(event):
        begun.append(event.event_id)
        await asyncio.to_thread(time.sleep, claim_after * 4 / 3)

    options = {"group": "g", "start": "beginning", "claim_after": claim_after}
    consumer = EventConsumer(url, **options)
    consumer.subscribe(handle)
    other = EventConsumer(url, **options)
    other.subscribe(lambda event: begun.append(event.event_id))

    async def main():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        running = asyncio.create_task(consumer.run())
        await asyncio.to_thread(wait_until, lambda: begun, BOUND, "it is at work")
        other.start()
        await asyncio.to_thread(
            wait_until, lambda: consumer.statistics().handled, 2 * BOUND, "it has done"
        )
        consumer.stop_soon()
        await asyncio.wait_for(running, BOUND)

    asyncio.run(asyncio.wait_for(main(), 4 * BOUND))
    assert other.stop(BOUND)
    return begun


def test_iteration_can_be_resumed_after_leaving_the_loop(url):
    """D4: `async for` continues behind the last entry that was finished."""
    write(url, make_run("r1", ["a"]), make_run("r2", ["b"]))

    async def main():
        consumer = EventConsumer(url, start="beginning")
        first = await collect(consumer, ends(1))
        assert {event.run_id for event in first} == {"r1"}
        again = await collect(consumer, ends(2))
        return first, again

    first, again = asyncio.run(main())
    assert [event.event_id for event in again][-7:] == [f"r2:{n}" for n in range(7)]
    assert len(first) == 7


def test_a_reader_sees_an_event_within_milliseconds(url):
    """X10: SQLite is tailed within 10 ms; the bound here is ten times that."""
    sink = open_sink(url)
    consumer = EventConsumer(url)
    watches, took = [], []
    consumer.on("status", lambda event: took.append(watches[int(event.message)].seconds))
    consumer.start()
    assert consumer.wait_connected(BOUND)
    for n in range(20):
        watches.append(Stopwatch())
        sink.put(Status(message=str(n)))
        # One after the other: a thread that a busy machine keeps waiting delays one, not all.
        wait_until(lambda n=n: len(took) == n + 1, BOUND, "the event")
        time.sleep(0.02)
    assert consumer.stop(BOUND)
    sink.stop()
    assert sorted(took)[10] < 0.1


def test_starting_and_stopping_is_idempotent(url):
    write(url, [Status(message="x")])
    consumer = EventConsumer(url, start="beginning")
    heard = []
    consumer.subscribe(heard.append)
    assert consumer.stop(BOUND)
    for _ in range(2):
        consumer.start()
        consumer.start()
        wait_until(lambda: heard, BOUND, "the event")
        assert consumer.stop(BOUND)
        assert consumer.stop(BOUND)
    assert len(heard) == 1  # the second time it went on behind it


def test_who_waits_for_a_consumer_that_the_broker_refuses_is_let_go(tmp_path):
    """D4: as with a wrong password; here the folder is not there."""
    consumer = EventConsumer(f"sqlite:///{tmp_path}/nowhere/log.db")
    consumer.start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(consumer.wait_connected)
        try:
            assert not waiting.result(BOUND)
        finally:
            consumer._state.connected.set()  # the pool waits for its thread
    with pytest.raises(BrokerError, match="is its folder there"):
        consumer.stop(BOUND)
    assert consumer.stop(BOUND)


def test_who_waits_for_a_consumer_that_is_stopped_first_is_let_go():
    consumer = EventConsumer(f"redis://127.0.0.1:{free_port()}")
    consumer.start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(consumer.wait_connected)
        try:
            assert consumer.stop(BOUND)
            assert not waiting.result(BOUND)
        finally:
            consumer._state.connected.set()  # the pool waits for its thread


def test_ctrl_c_stops_run_sync(url):
    code = (
        "from streamll import EventConsumer\n"
        f"consumer = EventConsumer({url!r})\n"
        "import threading\n"
        "def say():\n"
        "    consumer.wait_connected()\n"
        "    print('reading', flush=True)\n"
        "threading.Thread(target=say, daemon=True).start()\n"
        "consumer.run_sync()\n"
        "import sys\n"
        "print('dspy' in sys.modules)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "reading\n"
        process.send_signal(2)
        output, _ = process.communicate(timeout=BOUND)
    assert process.returncode == 0
    assert output == "False\n"


async def until(condition):
    while not condition():  # noqa: ASYNC110 - the state of a thread or a finalizer
        await asyncio.sleep(0.01)


def test_a_read_that_is_given_up_loses_nothing(url):
    """As servers read that send heartbeats: any number of time-outs, then the rest."""
    first, second = make_run("r1", "abc"), make_run("r2", "de")
    write(url, first)

    async def main():
        events, found, given_up = aiter(EventConsumer(url, start="beginning")), [], 0
        patience, written = 0.001, False
        while len(found) < len(first) + len(second):
            try:
                found.append(await asyncio.wait_for(anext(events), patience))
            except asyncio.TimeoutError:
                given_up += 1
                patience *= 1.1  # a busy machine needs more for any read at all
            if len(found) == len(first) and given_up >= 3 and not written:
                await asyncio.to_thread(write, url, second)
                written = True
        await events.aclose()
        return found

    found = asyncio.run(asyncio.wait_for(main(), BOUND))
    assert [event.event_id for event in found] == [e.event_id for e in [*first, *second]]
    check_order(found)


def test_iteration_can_be_closed_while_a_read_is_pending(url):
    write(url, make_run("r1", "a"))

    async def main():
        before, consumer = asyncio.all_tasks(), EventConsumer(url)
        events = aiter(consumer)

        async def read_on():
            return [event async for event in events]

        reading = asyncio.create_task(read_on())
        await until(lambda: consumer.statistics().connected)
        await events.aclose()
        assert await reading == []
        assert not consumer.statistics().connected
        assert asyncio.all_tasks() == before

    asyncio.run(asyncio.wait_for(main(), BOUND))


@pytest.mark.parametrize("how", ["break", "cancel"])
def test_leaving_the_loop_disconnects(url, how):
    write(url, make_run("r1", "a"))

    async def main():
        before, consumer = asyncio.all_tasks(), EventConsumer(url, start="beginning")

        async def read():
            async for event in consumer:
                if how == "break" and event.event_type == "run.end":
                    break

        reading = asyncio.create_task(read())
        await until(lambda: consumer.statistics().received)
        if how == "cancel":
            reading.cancel()
        await asyncio.wait({reading})
        await until(lambda: not consumer.statistics().connected)
        await until(lambda: asyncio.all_tasks() == before)

    asyncio.run(asyncio.wait_for(main(), BOUND))


@pytest.mark.parametrize(
    "options",
    [
        {"claim_after": 0},
        {"claim_after": float("nan")},
        {"max_deliveries": -1},
        {"retry_delay": float("nan")},
        {"start": ("r", -5)},
        {"start": ("r", 2.7)},
        {"start": ("r", "x")},
    ],
)
def test_an_option_out_of_range_is_refused(url, options):
    with pytest.raises(ConfigurationError):
        EventConsumer(url, **options)


def test_a_handler_of_no_types_is_refused(url):
    with pytest.raises(ConfigurationError, match="name a type"):
        EventConsumer(url).on([], print)
