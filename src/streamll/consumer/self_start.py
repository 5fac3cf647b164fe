"""A consumer that got handlers by ``subscribe`` and that nobody runs begins by itself.

Where an event loop runs it begins on that loop, so that handlers may use what belongs to it, such as
a WebSocket; elsewhere on a background thread. Whoever runs the consumer afterwards takes over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from streamll.core.errors import logger

SELF_START_S = 0.25
"""How long ``subscribe`` leaves for ``run``, ``run_sync``, ``start`` or a loop to come."""


class SelfStart:
    """Begins once, unless ``has_begun()``.

    Args:
        place: what the consumer reads, for people.
        lock: held by whoever begins, so that no other does meanwhile.
        start: begins on a thread of its own.
        run: begins; what it returns reads and calls handlers, and logs its own failures.
    """

    def __init__(
        self,
        place: str,
        lock: threading.RLock,
        has_begun: Callable[[], bool],
        start: Callable[[], None],
        run: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self.on_thread = False
        """Whether it has begun on a thread."""
        self.task: asyncio.Task[None] | None = None
        """That of a consumer which has begun on an event loop."""
        self._place = place
        self._lock = lock
        self._has_begun = has_begun
        self._start = start
        self._run = run
        self._planned = False

    def plan(self) -> None:
        """Begin soon. Idempotent."""
        if self._planned or self._has_begun():
            return
        self._planned = True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            timer = threading.Timer(SELF_START_S, self._begin_on_thread)
            timer.daemon = True
            timer.start()
        else:
            loop.call_later(SELF_START_S, self._begin_on_loop)

    def _begin_on_thread(self) -> None:
        with self._lock:
            if self._has_begun() or not threading.main_thread().is_alive():
                return
            self.on_thread = True
            self._start()
        self._tell("on a background thread")

    def _begin_on_loop(self) -> None:
        with self._lock:
            if self._has_begun():
                return
            self.task = asyncio.get_running_loop().create_task(self._run())
        self._tell("on this event loop")

    def _tell(self, where: str) -> None:
        text = "the consumer of %s has handlers and nobody runs it: it begins %s"
        logger.info(text, self._place, where)
