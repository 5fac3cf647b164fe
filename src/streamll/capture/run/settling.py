"""The end of what guards have let out of a run: its token hooks are told, and who waits for it goes on.

Events that checks hold back leave on whatever thread brings the verdict. Hooks are called there, in the
events' order and one at a time, but for an async program on its loop, and never on the thread of timers.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

from streamll.core.events import Event
from streamll.flow.waiting import LoopWaiter, ThreadWaiter, Waiter, running_loop

CapturedCall = Any  # a ``run.scope.Scope``


class GuardedRun(Protocol):
    """What is needed of a ``run.Run``."""

    lock: threading.RLock
    loop: asyncio.AbstractEventLoop | None
    guarding: Any

    def call_token_hooks(self, event: Event, scope: CapturedCall) -> None: ...

    def abandon_checks(self) -> None: ...


class Settling:
    """Of one guarded run: what token hooks are to be told, and who waits until checks hold nothing back."""

    def __init__(self, run: GuardedRun) -> None:
        self._run = run
        self._to_tell: deque[tuple[Event, CapturedCall]] = deque()
        self._is_telling = False
        self._waiters: list[tuple[CapturedCall, Waiter]] = []

    def will_tell(self, event: Event, scope: CapturedCall) -> None:
        """Have hooks told of this event, once the run's lock is free."""
        self._to_tell.append((event, scope))

    def tell(self) -> None:
        """Tell token hooks what has left. One thread does so at a time; others leave it to that."""
        while self._to_tell and not self._is_telling:
            with self._run.lock:
                if self._is_telling or not self._to_tell:
                    break
                self._is_telling = True
                event, scope = self._to_tell.popleft()
            try:
                self._run.call_token_hooks(event, scope)
            finally:
                with self._run.lock:  # who has just seen it set is among the waiters by now
                    self._is_telling = False
        if self._waiters:
            self.wake()

    def tell_elsewhere(self, in_timer: bool) -> None:
        """``tell``, called where verdicts come."""
        loop = self._run.loop
        if self._to_tell and loop is not None and running_loop() is not loop:
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(self.tell)
                return
        if self._to_tell and in_timer:
            threading.Thread(target=self.tell, name="streamll-hooks", daemon=True).start()
        else:
            self.tell()

    # --- waiting ------------------------------------------------------------------------------------

    def _is_settled(self, scope: CapturedCall) -> bool:
        """Whether checks hold nothing back of this scope; of a run, hooks have been told of it, too."""
        checking = self._run.guarding.checking
        if checking is None:
            return True
        is_told = scope.parent is not None or not (self._to_tell or self._is_telling)
        return is_told and not checking.waits(scope)

    def wake(self) -> None:
        """Let those go on for whom nothing is held back any more."""
        with self._run.lock:
            for place in [each for each in self._waiters if self._is_settled(each[0])]:
                self._waiters.remove(place)
                place[1].wake()

    def _must_wait(self, scope: CapturedCall, waiter: Waiter) -> bool:
        with self._run.lock:
            if self._is_settled(scope):
                return False
            self._waiters.append((scope, waiter))
            return True

    def wait(self, scope: CapturedCall) -> None:
        """Wait until checks hold nothing back of ``scope``, which has ended."""
        if self._must_wait(scope, waiter := ThreadWaiter()):
            with self._left_if_interrupted(scope):
                waiter.wait(None)

    async def wait_async(self, scope: CapturedCall) -> None:
        """The same in a task."""
        if self._must_wait(scope, waiter := LoopWaiter()):
            with self._left_if_interrupted(scope):
                await waiter.wait(lambda _: None)

    @contextlib.contextmanager
    def _left_if_interrupted(self, scope: CapturedCall) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if scope.parent is None:
                self._run.abandon_checks()
                self.tell()
            raise
