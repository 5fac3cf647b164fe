"""A7, X9: a sink gets all events in order on its own thread and never delays the program."""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import math
import pickle
import threading
import time

import pytest

from brokers.sample_runs import make_run
from streamll.core.errors import ConfigurationError
from streamll.core.events import Status, TokenEvent
from streamll.flow.worker import LoopThread
from streamll.sinks import BaseSink, CallbackSink
from streamll.sinks.jsonl import JSONLSink, read_jsonl

BOUND = 60


def tokens(count, field="answer", run=None):
    return [
        TokenEvent(seq=n, field=field, token=f"{n} ", token_index=n, offset=offset)
        for n, offset in zip(range(count), offsets(count), strict=True)
    ]


def offsets(count):
    offset = 0
    for n in range(count):
        yield offset
        offset += len(f"{n} ")


class Collector(BaseSink):
    """Forgets ``super().__init__()``, as people do."""

    def __init__(self):
        self.events = []
        self.threads = set()

    def handle_event(self, event):
        self.events.append(event)
        self.threads.add(threading.current_thread())


class Held(Collector):
    """Its handler waits until the test lets it go on."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def handle_event(self, event):
        self.entered.set()
        assert self.go_on.wait(BOUND)
        super().handle_event(event)


def test_the_guides_token_collector_runs_as_written():
    """A7, as in the guide, printing and all."""
    namespace: dict = {}
    exec(  # the text of seed 000, "In Custom Sinks"
        """
from streamll.sinks.base import BaseSink
from streamll.core.events import TokenEvent

class TokenCollector(BaseSink):
    def __init__(self):
        super().__init__()
        self.tokens = []

    def handle_event(self, event):
        if isinstance(event, TokenEvent):
            self.tokens.append(event)
            print(f"Token #{event.token_index}: {event.token}")

    def get_text(self, field=None):
        \"\"\"Reconstruct text from tokens.\"\"\"
        if field:
            tokens = [e.token for e in self.tokens if e.data.get('field') == field]
        else:
            tokens = [e.token for e in self.tokens]
        return ''.join(tokens)
""",
        namespace,
    )
    sink = namespace["TokenCollector"]()
    sink.start()
    for event in [*tokens(3), *tokens(2, field="reasoning")]:
        sink.put(event)
    sink.stop()
    assert sink.get_text("answer") == "0 1 2 "
    assert sink.get_text() == "0 1 2 0 1 "


def test_events_are_handled_in_order_on_one_other_thread():
    sink = Collector()
    events = tokens(2_000)
    for event in events:
        sink.put(event)
    assert sink.catch_up(BOUND)
    assert sink.events == events
    assert len(sink.threads) == 1
    assert threading.current_thread() not in sink.threads
    statistics = sink.statistics()
    assert (statistics.received, statistics.handled, statistics.failed) == (2_000, 2_000, 0)


def test_starting_and_stopping_may_be_repeated_or_left_out():
    sink = Collector()
    assert sink.stop()
    sink.start()
    sink.start()
    for event in tokens(3):
        sink.put(event)
    assert sink.stop(BOUND)
    assert sink.stop(BOUND)
    sink.put(Status(message="later"))
    assert sink.stop(BOUND)
    assert len(sink.events) == 4


def test_a_raising_handler_is_logged_once_and_gets_the_later_events(caplog):
    class Raising(Collector):
        def handle_event(self, event):
            super().handle_event(event)
            if len(self.events) <= 3:
                raise ValueError("the prompt was: secret")

    sink = Raising()
    with caplog.at_level(logging.WARNING, "streamll"):
        for event in tokens(10):
            sink.put(event)
        assert sink.stop(BOUND)
        assert len(sink.events) == 10
        statistics = sink.statistics()
        assert (statistics.handled, statistics.failed) == (7, 3)
    first, last = (record.getMessage() for record in caplog.records)
    assert "Raising failed on a token event: ValueError at" in first
    assert "test_base_sink.py" in first
    assert "could not handle 3 events" in last
    assert "secret" not in caplog.text


def test_system_exit_in_a_handler_stays_in_the_sink():
    class Exiting(Collector):
        def handle_event(self, event):
            super().handle_event(event)
            raise SystemExit

    sink = Exiting()
    for event in tokens(3):
        sink.put(event)
    assert sink.stop(BOUND)
    assert sink.statistics().failed == 3


def test_a_failing_batch_counts_all_its_events():
    class Shipping(BaseSink):
        shipped = 0

        def handle_batch(self, events):
            if events[0].token_index == 0:
                raise ConnectionError
            self.shipped += len(events)

    sink = Shipping()
    sink.put(tokens(2)[0])
    assert sink.catch_up(BOUND)
    sink.put(tokens(2)[1])
    assert sink.stop(BOUND)
    assert (sink.shipped, sink.statistics().failed) == (1, 1)


def test_a_slow_handler_never_slows_the_program_and_loses_nothing():
    sink = Held()
    sink.buffer_size = 50
    events = tokens(5_000)
    for event in events:
        sink.put(event)  # to wait for the handler would be to wait for ever
    assert sink.entered.wait(BOUND)
    assert not sink.catch_up(0.01)
    statistics = sink.statistics()
    assert statistics.buffered <= 50
    sink.go_on.set()
    assert sink.stop(BOUND)
    assert "".join(event.token for event in sink.events) == "".join(e.token for e in events)
    statistics = sink.statistics()
    assert statistics.handled + statistics.merged == statistics.received == 5_000


def test_drop_oldest_reports_its_losses():
    class Brief(Held):
        def __init__(self):
            super().__init__()
            self.buffer_size, self.overflow = 3, "drop_oldest"

    sink = Brief()
    events = tokens(20)
    sink.put(events[0])
    assert sink.entered.wait(BOUND)
    for event in events[1:]:
        sink.put(event)
    sink.go_on.set()
    assert sink.stop(BOUND)
    assert [event.event_type for event in sink.events] == ["token", "stream.gap", *["token"] * 3]
    assert sink.events[1].count == 16
    assert sink.statistics().dropped == 16


def test_fail_ends_the_sink_and_not_the_program(caplog):
    class Strict(Held):
        def __init__(self):
            super().__init__()
            self.buffer_size, self.overflow = 2, "fail"

    sink = Strict()
    events = tokens(10)
    sink.put(events[0])
    assert sink.entered.wait(BOUND)
    for event in events[1:]:
        sink.put(event)
    sink.go_on.set()
    assert sink.stop(BOUND)
    assert sink.events == events[:3]
    assert "cannot take a token event: ChannelOverflow" in caplog.text
    assert "Strict dropped 7 because its buffer was full" in caplog.text


def test_fail_tells_of_each_run_what_was_lost_and_how_it_ended():
    class Strict(Held):
        def __init__(self):
            super().__init__()
            self.buffer_size, self.overflow = 2, "fail"

    sink = Strict()
    first, *others = make_run("one", "abcdefgh")
    sink.put(first)
    assert sink.entered.wait(BOUND)
    later = make_run("two", "xyz")
    for event in [*others, *later]:
        sink.put(event)
    sink.go_on.set()
    assert sink.stop(BOUND)
    told = [(e.run_id, e.event_type, getattr(e, "count", 1)) for e in sink.events[-4:]]
    lost = len(others) - len(sink.events) + 4
    assert told == [
        ("one", "stream.gap", lost),
        ("one", "run.end", 1),
        ("two", "stream.gap", len(later) - 1),
        ("two", "run.end", 1),
    ]
    assert sink.statistics().dropped == lost + len(later) - 1


class Opening(Collector):
    """Has what it needs between ``start`` and ``stop`` only, and calls no ``super()`` in start."""

    opened = None

    def start(self):
        self.opened = []
        self.starts = [*getattr(self, "starts", ()), threading.current_thread()]

    def handle_event(self, event):
        self.opened.append(event)
        super().handle_event(event)

    def stop(self, timeout=BOUND):
        done = super().stop(timeout)
        self.opened = None
        return done


class OpeningOnALoop(Opening):
    async def start(self):
        Opening.start(self)


@pytest.mark.parametrize("kind", [Opening, OpeningOnALoop])
def test_a_sinks_own_start_is_called_before_its_first_event_and_after_stop(kind):
    sink = kind()
    for _ in range(2):
        for event in tokens(3):
            sink.put(event)
        assert sink.stop(BOUND)
    assert len(sink.events) == 6
    assert len(sink.starts) == 2
    assert threading.main_thread() not in sink.starts
    assert sink.statistics().failed == 0


def test_a_start_that_calls_its_base_is_not_called_again():
    class Careful(Collector):
        starts = 0

        def start(self):
            self.starts += 1
            super().start()

    sink = Careful()
    sink.start()
    sink.put(tokens(1)[0])
    assert sink.stop(BOUND)
    assert sink.starts == 1


def test_a_start_that_fails_is_logged_and_costs_no_event(caplog):
    class Failing(Collector):
        def start(self):
            raise OSError(13, "Permission denied")

    sink = Failing()
    for event in tokens(3):
        sink.put(event)
    assert sink.stop(BOUND)
    assert len(sink.events) == 3
    assert "Failing cannot start before a token event: PermissionError" in caplog.text


@pytest.mark.parametrize("what", ["a text", True, None, 3])
def test_a_sinks_worker_survives_what_is_no_event(what, tmp_path, caplog):
    sink = JSONLSink(tmp_path / "log.jsonl")
    sink.put(what)
    assert sink.stop(BOUND)
    sink.put(Status(message="later"))
    assert sink.stop(BOUND)
    assert [event.message for event in read_jsonl(tmp_path / "log.jsonl")] == ["later"]
    assert f"JSONLSink failed on a {type(what).__name__} event" in caplog.text


def test_a_sinks_worker_survives_an_error_in_due_in(monkeypatch):
    class Due(Collector):
        def due_in(self):
            return 1 / (len(self.events) != 1) and None

    died = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    sink = Due()
    sink.put(tokens(1)[0])
    for _ in range(int(BOUND / 0.01)):
        if died:
            break
        time.sleep(0.01)
    assert [hooked.exc_type for hooked in died] == [ZeroDivisionError]
    sink.events.append("one more")
    sink.put(Status(message="later"))
    assert sink.stop(BOUND)
    assert sink.events[-1].message == "later"


def test_a_sink_may_not_block_the_program():
    with pytest.raises(ConfigurationError, match="coalesce"):
        BaseSink(overflow="block")


@pytest.mark.parametrize("sink", [BaseSink, functools.partial(CallbackSink, print)])
def test_impossible_options_are_refused_at_once(sink):
    with pytest.raises(ConfigurationError, match="coalesce, drop_oldest, fail, not 'drop'"):
        sink(overflow="drop")
    for none in (0, -3, math.nan):
        with pytest.raises(ConfigurationError, match="at least 1"):
            sink(buffer_size=none)


def test_stopping_a_hanging_handler_is_bounded_and_logged(caplog):
    sink = Held()
    sink.put(tokens(1)[0])
    assert sink.entered.wait(BOUND)
    sink.put(Status(message="left"))
    assert sink.stop(timeout=0.05) is False
    assert "did not finish in time; 2 events are left" in caplog.text
    assert sink.stop(timeout=3600) is False, "who hung once is not waited for again"
    sink.go_on.set()


def test_an_async_handler_runs_on_one_loop_of_the_sinks_own():
    class Async(BaseSink):
        def __init__(self):
            self.events = []
            self.loops = set()

        async def handle_event(self, event):
            await asyncio.sleep(0)
            self.loops.add(asyncio.get_running_loop())
            self.events.append(event)
            if event.token_index == 1:
                raise ValueError

    sink = Async()
    events = tokens(100)
    for event in events[:50]:
        sink.put(event)
    assert sink.catch_up(BOUND)
    for event in events[50:]:
        sink.put(event)
    assert sink.stop(BOUND)
    assert sink.events == events
    assert sink.statistics().failed == 1
    (loop,) = sink.loops
    assert loop.is_closed()


def test_an_event_that_is_put_while_the_loop_of_a_sink_ends_is_handled(monkeypatch):
    """It starts the worker again, as it does a moment later."""
    handled = []

    async def handle(event):
        handled.append(event.message)

    sink = CallbackSink(handle)
    stop = LoopThread.stop

    def put_meanwhile(loop, timeout):
        monkeypatch.setattr(LoopThread, "stop", stop)
        stop(loop, timeout)
        sink.put(Status(message="meanwhile"))
        assert sink.catch_up(BOUND)

    sink.put(Status(message="before"))
    monkeypatch.setattr(LoopThread, "stop", put_meanwhile)
    assert sink.stop(BOUND)
    assert handled == ["before", "meanwhile"]
    assert sink.statistics().failed == 0
    assert sink.stop(BOUND)


def test_an_async_batch_handler_works_too():
    class Async(BaseSink):
        seen = 0

        async def handle_batch(self, events):
            await asyncio.sleep(0)
            self.seen += len(events)

    sink = Async()
    for event in tokens(100):
        sink.put(event)
    assert sink.stop(BOUND)
    assert sink.seen == 100


def test_many_threads_may_put_at_once():
    sink = Collector()

    def put_some(number):
        for n in range(200):
            sink.put(Status(seq=n, message=str(number)))

    threads = [threading.Thread(target=put_some, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    assert sink.stop(BOUND)
    for number in range(8):
        assert [e.seq for e in sink.events if e.message == str(number)] == list(range(200))


def test_a_copied_program_reports_to_the_same_sink():
    sink = Collector()
    sink.put(tokens(1)[0])
    assert copy.deepcopy({"sink": sink})["sink"] is sink
    sink.stop()


class Picklable(BaseSink):
    def __init__(self):
        super().__init__(buffer_size=7)
        self.seen = 0

    def handle_event(self, event):
        self.seen += 1


def test_a_pickled_sink_leaves_its_worker_behind():
    sink = Picklable()
    sink.put(tokens(1)[0])
    assert sink.catch_up(BOUND)
    again = pickle.loads(pickle.dumps(sink))
    again.put(tokens(1)[0])
    assert again.stop(BOUND)
    assert (again.seen, again.buffer_size, sink.seen) == (2, 7, 1)
    sink.stop()


def test_a_callback_sink_calls_a_function_of_either_kind():
    seen, seen_async = [], []

    async def later(event):
        seen_async.append(event)

    events = tokens(5)
    for sink in (CallbackSink(seen.append), CallbackSink(later)):
        for event in events:
            sink.put(event)
        assert sink.stop(BOUND)
    assert seen == seen_async == events
