"""Open readers of this process: counted, capped, closed when the server stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class ConnectionLimit:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._tasks: dict[asyncio.Task[object], bool] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def is_full(self) -> bool:
        return len(self._tasks) >= self.limit

    @contextlib.contextmanager
    def hold(self, *, can_return: bool) -> Iterator[None]:
        """Count this task as a reader.

        ``can_return``: its client knows how to reconnect and resume, so ``dismiss`` may end it.
        """
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = can_return
        self.total += 1
        try:
            yield
        finally:
            self._tasks.pop(task, None)

    def dismiss(self) -> None:
        """Cancel the tasks of all readers that can resume, here or at another process."""
        for task, can_return in list(self._tasks.items()):
            if can_return:
                task.cancel()
