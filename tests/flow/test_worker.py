"""A worker hands over what was put, in order, on a thread that comes and goes by itself."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest

from streamll.core.errors import ChannelOverflow
from streamll.flow import worker as worker_module
from streamll.flow.worker import LoopThread, Worker

BOUND = 60


class Handled:
    def __init__(self, **options):
        self.items: list = []
        self.threads: set = set()
        self.worker = Worker(
            self.handle, **{"name": "test", "capacity": 100, "policy": "coalesce", **options}
        )

    def handle(self, batch):
        self.threads.add(threading.current_thread())
        self.items += batch


def test_items_are_handled_in_order_on_one_daemon_thread():
    handled = Handled()
    for number in range(1_000):
        handled.worker.put(number)
    assert handled.worker.catch_up(BOUND)
    assert handled.items == list(range(1_000))
    (thread,) = handled.threads
    assert thread.daemon
    assert thread is not threading.current_thread()
    assert handled.worker.stop(BOUND)
    assert not thread.is_alive()


def test_no_thread_is_started_before_there_is_work():
    worker = Handled().worker
    assert worker.catch_up(BOUND)
    assert worker.stop(BOUND)
    assert worker._thread is None


def test_catching_up_waits_for_what_is_being_handled():
    entered, go_on = threading.Event(), threading.Event()

    class Slow(Handled):
        def handle(self, batch):
            entered.set()
            assert go_on.wait(BOUND)
            super().handle(batch)

    handled = Slow()
    handled.worker.put(1)
    assert entered.wait(BOUND)
    assert not handled.worker.catch_up(0.01)
    assert not handled.worker.catch_up(0)
    go_on.set()
    assert handled.worker.catch_up(BOUND)
    assert handled.items == [1]


def test_a_worker_asked_from_its_own_thread_does_not_wait_for_itself():
    answers = []

    class Curious(Handled):
        def handle(self, batch):
            answers.extend([self.worker.catch_up(BOUND), self.worker.stop(BOUND)])

    handled = Curious()
    handled.worker.put(1)
    assert handled.worker.catch_up(BOUND)
    assert answers == [False, False]


def test_an_idle_thread_retires_and_the_next_item_starts_another(monkeypatch):
    monkeypatch.setattr(worker_module, "IDLE_TIMEOUT_S", 0.01)
    handled = Handled()
    for number in range(3):
        handled.worker.put(number)
        deadline = time.monotonic() + BOUND
        while handled.worker._thread is not None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    assert handled.items == [0, 1, 2]
    assert len(handled.threads) == 3


def test_no_item_is_lost_when_a_thread_retires_while_others_put(monkeypatch):
    monkeypatch.setattr(worker_module, "IDLE_TIMEOUT_S", 0.0)
    handled = Handled(capacity=10_000)
    for number in range(2_000):
        handled.worker.put(number)
        if number % 10 == 0:
            assert handled.worker.catch_up(BOUND)
    assert handled.worker.catch_up(BOUND)
    assert handled.items == list(range(2_000))


def test_a_forgotten_worker_is_collected_once_it_is_idle(monkeypatch):
    monkeypatch.setattr(worker_module, "IDLE_TIMEOUT_S", 0.01)
    handled = Handled(name="forgotten")
    handled.worker.put(1)
    assert handled.worker.catch_up(BOUND)
    for thread in threading.enumerate():
        if thread.name == "forgotten":  # there may be a second one, for the catching up alone
            thread.join(BOUND)
    handled.threads.clear()
    gone = weakref.ref(handled)
    del handled
    gc.collect()
    assert gone() is None


def test_what_is_put_after_stop_is_handled_too():
    handled = Handled()
    handled.worker.put(1)
    assert handled.worker.stop(BOUND)
    handled.worker.put(2)
    assert handled.worker.stop(BOUND)
    assert handled.items == [1, 2]


def test_a_failed_channel_ends_the_thread_and_makes_nobody_wait():
    entered, go_on = threading.Event(), threading.Event()

    class Slow(Handled):
        def handle(self, batch):
            entered.set()
            assert go_on.wait(BOUND)
            super().handle(batch)

    handled = Slow(policy="fail", capacity=2)
    handled.worker.put(0)
    assert entered.wait(BOUND)
    handled.worker.put(1)
    handled.worker.put(2)
    with pytest.raises(ChannelOverflow):
        handled.worker.put(3)
    assert not handled.worker.catch_up(0.01)
    go_on.set()
    assert handled.worker.stop(BOUND)
    assert handled.items == [0, 1, 2]


def test_a_loop_thread_runs_awaitables_one_after_the_other_on_one_loop():
    runner = LoopThread("test-loop")

    async def double(number):
        await asyncio.sleep(0)
        return number * 2, asyncio.get_running_loop()

    results = [runner.call(double(number)) for number in range(3)]
    assert [number for number, _ in results] == [0, 2, 4]
    assert len({loop for _, loop in results}) == 1
    with pytest.raises(ZeroDivisionError):
        runner.call(fails())
    runner.stop(BOUND)
    runner.stop(BOUND)
    assert results[0][1].is_closed()


async def fails():
    raise ZeroDivisionError


def test_a_loop_thread_cancels_what_still_runs_when_it_stops():
    runner = LoopThread("test-loop")
    cancelled = threading.Event()

    async def background():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def start():
        asyncio.current_task().background = asyncio.create_task(background())
        runner.kept = asyncio.current_task().background
        await asyncio.sleep(0)

    runner.call(start())
    runner.stop(BOUND)
    assert cancelled.is_set()


@pytest.mark.anyio
async def test_what_is_cancelled_inside_does_not_cancel_the_caller():
    """Libraries cancel what waits for a connection that breaks; a server would read its log no more."""
    runner = LoopThread("test-loop")

    async def cancelled_by_a_library():
        answer = asyncio.get_running_loop().create_future()
        answer.cancel()
        await answer

    with pytest.raises(ConnectionError, match="disconnected meanwhile"):
        await runner.run(cancelled_by_a_library())

    begun = threading.Event()

    async def waits():
        begun.set()
        await asyncio.Event().wait()

    waiting = asyncio.ensure_future(runner.run(waits()))
    await asyncio.to_thread(begun.wait, BOUND)
    await asyncio.to_thread(runner.stop, BOUND)
    with pytest.raises(ConnectionError, match="disconnected meanwhile"):
        await waiting


def test_the_error_of_a_call_that_its_caller_has_left_is_not_logged(caplog):
    """As of a read that is cancelled, and fails because its connection is closed meanwhile."""
    runner = LoopThread("test-loop")
    begun, failed = threading.Event(), threading.Event()

    async def fails_when_cancelled():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            failed.set()
            raise ConnectionError("closed under a read that was left") from None

    async def leave():
        call = asyncio.ensure_future(runner.run(fails_when_cancelled()))
        await asyncio.to_thread(begun.wait, BOUND)
        call.cancel()
        await asyncio.wait({call})

    asyncio.run(leave())
    assert failed.wait(BOUND)
    runner.stop(BOUND)
    gc.collect()  # which may make tasks of other tests log something, too
    assert "closed under a read that was left" not in caplog.text


def test_a_loop_that_cannot_begin_is_an_error_and_not_waited_for(monkeypatch):
    def too_many():
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(asyncio.events, "new_event_loop", too_many)
    outcome = []

    def begin():
        try:
            outcome.append(LoopThread("test-loop"))
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=begin, daemon=True)
    thread.start()
    thread.join(BOUND)
    assert [type(each) for each in outcome] == [OSError]


def test_a_call_that_comes_when_the_loop_has_run_for_the_last_time_ends():
    runner, calls = LoopThread("test-loop"), []
    close = runner._loop.close

    def call_and_close():
        calls.append(runner._submit(asyncio.sleep(0)))
        close()

    runner._loop.close = call_and_close
    runner.stop(BOUND)
    with pytest.raises(CancelledError):
        calls[0].result(BOUND)
