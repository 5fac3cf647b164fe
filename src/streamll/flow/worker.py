"""A thread that handles what is put, in order and in batches.

The thread starts with the first ``put`` and ends after a while without work, so that a forgotten
worker costs nothing; the next ``put`` starts another. It is a daemon: it never keeps a process
alive. What exceeds the capacity is subject to the channel's policy.

``LoopThread`` is the same for coroutines: one event loop on a thread of its own, so that the
connections and background tasks of a client library live as long as the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from streamll.core.errors import ChannelOverflow
from streamll.flow.bridge import Background
from streamll.flow.buffer import Marker, Policy
from streamll.flow.channel import Channel
from streamll.flow.waiting import ThreadWaiter

T = TypeVar("T")

GATHER_S = 0.04
"""How long the thread lets items gather after a batch. Waking a thread for every token costs the
program more than the token does: at one per millisecond 50 µs instead of 3 (bench/README.md)."""

IDLE_TIMEOUT_S = 3.0
"""A thread without work ends after this long: before a broker sink's next report of a silent run, so
that a sink which its program has forgotten is collected (``brokers.open_runs.CHECK_S``)."""

GIVE_UP_CHECK_S = 0.1
"""How often one that waits checks whether there is a chance left."""

BATCH_ITEMS = 256
"""At most so many items are handled at once."""

CANCEL_ROUNDS = 20
"""How often a loop that ends cancels what is left: a cancelled task may start others."""


class Barrier(Marker):
    """Travels behind the items put so far; ``event`` is set when they have been handled."""

    def __init__(self, *, last: bool = False) -> None:
        self.event = threading.Event()
        self.last = last


class Admitted(Marker):
    """Items that are handled although the channel has failed."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items


class Worker(Generic[T]):
    """Calls ``handle(batch)`` for what is ``put``, on a thread of its own.

    ``handle`` must not raise. If it keeps something for later, ``pending`` returns in how many
    seconds it is to be called again, perhaps with nothing new; while that is not ``None``, not
    everything has been handled. Once ``gives_up`` says so, nobody waits for that.
    """

    def __init__(
        self,
        handle: Callable[[list[T]], None],
        *,
        name: str,
        capacity: int,
        policy: Policy,
        batch: int = BATCH_ITEMS,
        gather: float = GATHER_S,
        pending: Callable[[], float | None] = lambda: None,
        gives_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self._handle = handle
        self._gather = gather
        self._pending = pending
        self._gives_up = gives_up
        self._batch = batch
        self.channel: Channel[Any] = Channel(capacity, policy, name=name)
        self._lock = threading.RLock()  # a finalizer may put while this thread starts one
        self._gathering = ThreadWaiter()  # woken early when somebody waits for what was put
        self._thread: threading.Thread | None = None
        self._barriers: list[Barrier] = []

    def put(self, item: T) -> None:
        self.channel.put(item)
        if self._thread is None:
            self.start()

    def admit(self, items: list[T]) -> None:
        """Have these handled behind what was put, also after ``ChannelOverflow``."""
        self._mark(Admitted(items))

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread = thread
                try:
                    thread.start()
                except BaseException:
                    self._thread = None
                    raise

    def catch_up(self, timeout: float) -> bool:
        """Wait until everything put before now has been handled; False after ``timeout`` seconds."""
        if self.idle or timeout <= 0 or self._thread is threading.current_thread():
            return self.idle
        return self._barrier(timeout, last=False)

    def stop(self, timeout: float) -> bool:
        """Handle everything put before now, then end the thread; False after ``timeout`` seconds."""
        thread = self._thread
        if thread is None and self.channel.empty:
            return True
        if thread is threading.current_thread():
            return False
        done = self._barrier(timeout, last=True)
        if done and thread is not None:
            thread.join(timeout)
        return done

    @property
    def idle(self) -> bool:
        if self._pending() is not None:
            return False
        return self.channel.idle or (self._thread is None and self.channel.empty)

    def _barrier(self, timeout: float, *, last: bool) -> bool:
        barrier = Barrier(last=last)
        self._mark(barrier)
        with contextlib.suppress(RuntimeError):  # it is woken already
            self._gathering.wake()
        deadline = time.monotonic() + timeout
        while not barrier.event.wait(min(timeout, GIVE_UP_CHECK_S)):
            timeout = deadline - time.monotonic()
            if timeout <= 0 or self._gives_up():
                return False
        return True

    def _mark(self, marker: Marker) -> None:
        with contextlib.suppress(ChannelOverflow):  # policy "fail": a marker is admitted even so
            self.channel.put(marker)
        self.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:  # an item that nothing here expects: the next one starts a thread
            self._thread = None
            raise

    def _work(self) -> None:
        channel = self.channel
        while True:
            again = self._pending()
            batch: list[Any] = []
            try:
                self._gathering = ThreadWaiter()
                batch = channel.get_batch(self._batch, IDLE_TIMEOUT_S if again is None else again)
            except TimeoutError:
                pass
            except ChannelOverflow:  # nothing new will come, only what was kept for later is left
                time.sleep(again or 0)
            if not batch and again is None and self._retire():
                return
            if self._take(batch, again=again is not None) and self._retire():
                return
            if 0 < len(batch) < self._batch:
                self._gathering.wait(self._gather)

    def _take(self, batch: list[Any], *, again: bool) -> bool:
        """Handle a batch; True if the end was asked for and everything is handled."""
        items = batch
        if not {Admitted, Barrier}.isdisjoint(map(type, batch)):
            items = []
            for item in batch:
                if isinstance(item, Barrier):
                    self._barriers.append(item)
                else:
                    items += item.items if isinstance(item, Admitted) else [item]
        if items or again:
            self._handle(items)
        if not self._barriers or self._pending() is not None:
            return False
        passed, self._barriers = self._barriers, []
        for barrier in passed:
            barrier.event.set()
        return any(barrier.last for barrier in passed)

    def _retire(self) -> bool:
        """End this thread, unless something has been put in the meantime."""
        with self._lock:
            thread, self._thread = self._thread, None
            if self.channel.empty:
                return True
            self._thread = thread
            return False


class LoopThread(Background):
    """An event loop on a daemon thread, for running awaitables from another thread.

    Raises:
        Exception: the loop cannot begin: it needs file descriptors, and there may be no more.
    """

    _loop: asyncio.AbstractEventLoop

    def __init__(self, name: str) -> None:
        super().__init__(name, contextvars.Context())
        self._begun = threading.Event()
        self._failure: BaseException | None = None
        self._has_ended = False
        self._calls: set[Future[Any]] = set()  # adding and copying are atomic
        self.start_loop(self._run)
        self._begun.wait()
        if self._failure is not None:
            raise self._failure

    def start_thread(self, function: Callable[[], object]) -> None:
        super().start_thread(lambda: self._to_its_end(function))

    def _to_its_end(self, function: Callable[[], object]) -> None:
        """Whatever ends the thread, nobody waits for it any more."""
        try:
            function()
        except BaseException as error:
            if self._begun.is_set():
                raise
            self._failure = error
        finally:
            self._has_ended = True
            self._begun.set()
            for call in list(self._calls):  # they came too late to be cancelled in the loop
                call.cancel()

    def call(self, awaitable: Awaitable[Any]) -> Any:
        """Run the awaitable on the loop; block until it has a result."""
        return self._submit(awaitable).result()

    async def run(self, awaitable: Awaitable[Any]) -> Any:
        """``call`` from another event loop.

        Raises:
            ConnectionError: the awaitable was cancelled, and not by the caller: this loop was stopped,
                or a library cancels what waits for a connection that has broken. A ``CancelledError``
                would end the caller, whom nobody has cancelled.
        """
        result = asyncio.wrap_future(self._submit(awaitable))
        try:
            await asyncio.wait({result})
        except asyncio.CancelledError:
            result.cancel()
            raise
        if result.cancelled():
            raise ConnectionError("disconnected meanwhile")
        return result.result()

    def _submit(self, awaitable: Awaitable[Any]) -> Future[Any]:
        async def wait() -> Any:
            task = asyncio.current_task()
            assert task is not None
            # Its error is retrieved, so that a call which its caller has left logs nothing.
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
            return await awaitable

        call = asyncio.run_coroutine_threadsafe(wait(), self._loop)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        if self._has_ended:
            call.cancel()
        return call

    def stop(self, timeout: float | None) -> None:
        """Cancel what still runs and close the loop."""
        self.cancel()
        self.join(timeout)

    async def _run(self) -> None:
        self._begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(CANCEL_ROUNDS):
                if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                    for task in tasks:
                        task.cancel()
                    await asyncio.wait(tasks, timeout=0.5)
