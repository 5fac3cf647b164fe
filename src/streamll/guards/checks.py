"""Asking functions whether a text may leave: each about each unit once, in a bounded number of places.

A sync function runs on one of a few daemon threads of the process. An async one runs on the run's event
loop, if that is running where the text comes from, else on one loop in the background. All of them
run in a copy of the context there, without the run: what they call is no part of it.

A verdict comes on any thread, under the run's lock, and at the latest when the check's time is up.
That time begins when the function does. Nothing in here knows events or where the text goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol

from streamll.core.errors import logger
from streamll.flow.timers import Timer, timers
from streamll.flow.waiting import is_async_function, running_loop
from streamll.flow.worker import LoopThread

THREADS = 16
"""Sync functions that run at once in a process. One that is late does not count any more."""

LATE_THREADS = 64
"""Late functions that may still be running. With more of them, no further thread is started."""

TASKS_PER_RUN = 16
"""Async functions that run at once for one run."""

IDLE_S = 5.0
"""A thread without work ends after this long."""

VERDICTS = 10_000
"""Units of a run whose verdicts are kept, for each check; the oldest are forgotten first."""

NO_CONTEXT = Context()

inside_check: ContextVar[bool] = ContextVar("streamll_inside_check", default=False)
"""Whether this is a check's function, or what it calls: nothing in it is checked in turn."""


class Asked(Protocol):
    """What is needed of a ``Check``."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[[str], Any]: ...
    @property
    def timeout(self) -> float: ...
    @property
    def when_late(self) -> str: ...
    @property
    def when_failed(self) -> str: ...


class Inquiry:
    """A unit of text that a check is asked about. ``verdict`` is None until it is known."""

    __slots__ = ("awaitable", "begun", "check", "context", "has_place", "is_withheld", "loop", "task",
                 "text", "then", "timer", "verdict", "work")  # fmt: skip

    def __init__(self, check: Asked, text: str, context: Context) -> None:
        self.check = check
        self.text = text
        self.verdict: bool | None = None
        self.is_withheld = False
        """Whether there is no verdict, since the run was left: the text may not leave."""
        self.then: list[Callable[[Inquiry], None]] = []
        self.context = context
        self.loop: asyncio.AbstractEventLoop | None = None
        self.timer: Timer | None = None
        self.work: Work | None = None  # of a thread
        self.awaitable: Awaitable[Any] | None = None  # that the function has returned in one
        self.has_place = False  # among the tasks
        self.begun = False  # its task
        self.task: asyncio.Future[Any] | None = None


class Inquiries:
    """What is asked for one run. All but the functions themselves happens under ``lock``.

    ``context`` makes the contexts in which they run. ``after`` is called when a verdict has come, without
    the lock, and told whether that is on the thread of timers, which must not wait.
    """

    def __init__(
        self,
        lock: threading.RLock,
        context: Callable[[], Context] = copy_context,
        after: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.lock = lock
        self._context = context
        self._after = after
        self._kept: dict[int, dict[str, Inquiry]] = {}  # by check, which the inquiries keep alive
        self._pending: set[Inquiry] = set()
        self._tasks = 0
        self._waiting: deque[Inquiry] = deque()  # for a place among the tasks
        self._reported: set[int] = set()
        self._closed = False
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop that awaits the run; ``None`` where a thread waits for it."""

    def ask(self, check: Asked, text: str) -> Inquiry:
        """The inquiry about this text: a new one, if the check has not been asked about it."""
        kept = self._kept.setdefault(id(check), {})
        inquiry = kept.get(text)
        if inquiry is None:
            inquiry = Inquiry(check, text, self._own_context())
            if self._closed:
                inquiry.verdict, inquiry.is_withheld = False, True
                return inquiry
            if len(kept) >= VERDICTS:
                del kept[next(iter(kept))]
            kept[text] = inquiry
            self._begin(inquiry)
        return inquiry

    def _own_context(self) -> Context:
        context = self._context()
        context.run(inside_check.set, True)  # noqa: FBT003
        return context

    def _begin(self, inquiry: Inquiry) -> None:
        here = running_loop()
        inquiry.loop = here if here is self.loop else None
        self._pending.add(inquiry)
        if is_async_function(inquiry.check.function):
            self._queue(inquiry)
        else:
            call, refused = (functools.partial(f, inquiry) for f in (self._call, self._refused))
            inquiry.work = threads.submit(call, refused)

    def keep(self, inquiries: Iterable[Inquiry]) -> None:
        """Have these found by ``ask``, even if they were forgotten meanwhile."""
        for inquiry in inquiries:
            self._kept[id(inquiry.check)].setdefault(inquiry.text, inquiry)

    def close(self) -> None:
        """The run was left: what has no verdict gets none, and nothing more is asked."""
        with self.lock:
            self._closed = True
            self._waiting.clear()
            for inquiry in list(self._pending):
                inquiry.is_withheld = True
                self._give_up(inquiry, verdict=False)

    @property
    def pending(self) -> int:
        """Inquiries without a verdict."""
        return len(self._pending)

    # --- in a thread ------------------------------------------------------------------------------

    def _call(self, inquiry: Inquiry) -> None:
        with self.lock:
            if inquiry.verdict is not None:
                return
            self._start_clock(inquiry)
            context = inquiry.context
        try:
            answer = context.run(inquiry.check.function, inquiry.text)
        except BaseException as error:  # noqa: BLE001 - whatever it raises, it has not said yes
            self._raised(inquiry, error)
            return
        if inspect.isawaitable(answer):
            with self.lock:
                self._queue(inquiry, answer)
        else:
            self._answered(inquiry, answer)

    # --- on an event loop -------------------------------------------------------------------------

    def _queue(self, inquiry: Inquiry, awaitable: Awaitable[Any] | None = None) -> None:
        inquiry.awaitable = awaitable
        _stop_clock(inquiry)
        if inquiry.verdict is not None:
            _discard(inquiry)
        elif self._tasks < TASKS_PER_RUN:
            self._place(inquiry)
        else:
            self._waiting.append(inquiry)

    def _place(self, inquiry: Inquiry) -> None:
        self._tasks += 1
        inquiry.has_place = True
        self._send(inquiry)

    def _send(self, inquiry: Inquiry) -> None:
        """Have it begun on its loop; in the background where that is closed."""
        begin = functools.partial(self._begin_task, inquiry)
        try:
            loop = inquiry.loop or background.loop
            loop.call_soon_threadsafe(begin, context=inquiry.context.copy())
        except RuntimeError:
            if inquiry.loop is None:
                self._fail(inquiry, "has no event loop to run on")
            else:
                self._move(inquiry)
        else:
            self._start_clock(inquiry)

    def _move(self, inquiry: Inquiry) -> None:
        inquiry.loop = None
        self._send(inquiry)

    def _begin_task(self, inquiry: Inquiry) -> None:
        with self.lock:
            if inquiry.begun or inquiry.verdict is not None:
                return
            inquiry.begun, inquiry.loop = True, asyncio.get_running_loop()
            self._start_clock(inquiry)
            inquiry.task = asyncio.ensure_future(self._await(inquiry))

    async def _await(self, inquiry: Inquiry) -> None:
        try:
            answer = await (inquiry.awaitable or inquiry.check.function(inquiry.text))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it has not said yes
            self._raised(inquiry, error)
        else:
            self._answered(inquiry, answer)

    # --- verdicts ---------------------------------------------------------------------------------

    def _start_clock(self, inquiry: Inquiry) -> None:
        _stop_clock(inquiry)
        late = time.monotonic() + inquiry.check.timeout
        inquiry.timer = timers.at(late, functools.partial(self._time_is_up, inquiry))

    def _time_is_up(self, inquiry: Inquiry) -> None:
        with self.lock:
            if inquiry.has_place and not inquiry.begun and inquiry.loop is not None:
                self._move(inquiry)  # its loop is blocked, perhaps by a thread that waits for this
            else:
                self._late(inquiry, f"took longer than {inquiry.check.timeout:g} s")
        self._after(True)  # noqa: FBT003

    def _refused(self, inquiry: Inquiry) -> None:
        with self.lock:
            self._late(inquiry, "has no thread to run in: too many are late")
        self._after(True)  # noqa: FBT003

    def _late(self, inquiry: Inquiry, how: str) -> None:
        if inquiry.verdict is None:
            lets_out = inquiry.check.when_late == "allow"
            self._report(inquiry, how, lets_out=lets_out)
            self._give_up(inquiry, verdict=lets_out)

    def _raised(self, inquiry: Inquiry, error: BaseException) -> None:
        with self.lock:
            self._fail(inquiry, f"raised {type(error).__name__}")
        self._after(False)  # noqa: FBT003

    def _fail(self, inquiry: Inquiry, how: str) -> None:
        if inquiry.verdict is None:
            lets_out = inquiry.check.when_failed == "allow"
            self._report(inquiry, how, lets_out=lets_out)
            self._settle(inquiry, verdict=lets_out)

    def _answered(self, inquiry: Inquiry, answer: Any) -> None:
        with self.lock:
            if answer is True or answer is False:
                self._settle(inquiry, verdict=answer)
            else:
                kind = type(answer).__name__
                self._fail(inquiry, f"returned a {kind} instead of True or False")
        self._after(False)  # noqa: FBT003

    def _give_up(self, inquiry: Inquiry, *, verdict: bool) -> None:
        """Nobody waits for the function any more, which may still be running."""
        if inquiry.work is not None:
            threads.give_up(inquiry.work)
        if inquiry.task is not None and inquiry.loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the task with it
                inquiry.loop.call_soon_threadsafe(inquiry.task.cancel)
        elif inquiry.awaitable is not None:
            _discard(inquiry)
        self._settle(inquiry, verdict=verdict)

    def _settle(self, inquiry: Inquiry, *, verdict: bool) -> None:
        if inquiry.verdict is not None:
            return
        inquiry.verdict = verdict
        inquiry.context, inquiry.task, inquiry.work = NO_CONTEXT, None, None  # a verdict is kept
        self._pending.discard(inquiry)
        _stop_clock(inquiry)
        if inquiry.has_place:
            self._tasks -= 1
            if self._waiting:
                self._place(self._waiting.popleft())
        then, inquiry.then = inquiry.then, []
        for call in then:
            call(inquiry)

    def _report(self, inquiry: Inquiry, how: str, *, lets_out: bool) -> None:
        if id(inquiry.check) not in self._reported:
            self._reported.add(id(inquiry.check))
            what = "let out" if lets_out else "withheld"
            text = "check %s %s; such text is %s (logged once per run)"
            logger.warning(text, inquiry.check.name, how, what)


def _stop_clock(inquiry: Inquiry) -> None:
    if inquiry.timer is not None:
        inquiry.timer.cancel()


def _discard(inquiry: Inquiry) -> None:
    """Close what is never awaited, of which Python would warn."""
    if inspect.iscoroutine(inquiry.awaitable):
        inquiry.awaitable.close()


# --- where functions run --------------------------------------------------------------------------


class Work:
    """A call that a thread is to make. ``refused`` is called where none ever will."""

    __slots__ = ("call", "is_given_up", "is_running", "refused")

    def __init__(self, call: Callable[[], None], refused: Callable[[], None]) -> None:
        self.call = call
        self.refused = refused
        self.is_running = self.is_given_up = False


class Threads:
    """At most ``size`` daemon threads, which end when they are idle.

    A thread whose work was given up has its place taken by another, and ends with that work. While
    there are more than ``late`` of those, all work is refused.
    """

    def __init__(self, size: int = THREADS, late: int = LATE_THREADS, idle: float = IDLE_S) -> None:
        self._size = size
        self._most_late = late
        self._idle_s = idle
        self._changed = threading.Condition()
        self._work: deque[Work] = deque()
        self._running = 0
        self._idle = 0
        self._late = 0

    def submit(self, call: Callable[[], None], refused: Callable[[], None]) -> Work:
        """Have it called as soon as a thread is free. Calls neither function itself."""
        work = Work(call, refused)
        with self._changed:
            self._work.append(work)
            self._see_to_work()
        return work

    def give_up(self, work: Work) -> None:
        """Nobody waits for this work any more; a thread that does it does not count any more."""
        with self._changed:
            if work.is_running and not work.is_given_up:
                work.is_given_up = True
                self._late += 1
                self._running -= 1
                self._see_to_work()

    def _see_to_work(self) -> None:
        if self._late > self._most_late:
            self._refuse()
        elif self._idle >= len(self._work):
            self._changed.notify()
        elif self._running < self._size:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(
            target=Context().run, args=(self._run,), name="streamll-check", daemon=True
        )
        self._running += 1
        try:
            thread.start()
        except RuntimeError:  # the process may start no more
            self._running -= 1
            if not self._running:
                self._refuse()

    def _refuse(self) -> None:
        """From a thread that holds no locks: runs have locks of their own."""
        while self._work:
            timers.at(time.monotonic(), self._work.popleft().refused)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            work.call()
            with self._changed:
                work.is_running = False
                if work.is_given_up:
                    self._late -= 1
                    return

    def _next(self) -> Work | None:
        with self._changed:
            self._idle += 1
            while not self._work:
                if not self._changed.wait(self._idle_s) and not self._work:
                    self._idle -= 1
                    self._running -= 1
                    return None
            self._idle -= 1
            work = self._work.popleft()
            work.is_running = True
            return work


class Background:
    """One event loop for async functions of runs that have none; its thread starts with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: _LoopOfChecks | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._thread is None:
                self._thread = _LoopOfChecks("streamll-check-loop")
            return self._thread.loop


class _LoopOfChecks(LoopThread):
    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop


threads = Threads()
background = Background()

if hasattr(os, "register_at_fork"):  # threads and locks stay in the parent
    os.register_at_fork(after_in_child=threads.__init__)  # type: ignore[misc]
    os.register_at_fork(after_in_child=background.__init__)  # type: ignore[misc]
