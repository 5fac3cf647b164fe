"""Who reads in this process: counted, limited, and sent away when the server is to stop."""

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
    def present(self, *, can_return: bool) -> Iterator[None]:
        """This task reads. ``can_return``: it may be sent away, its reader knows how to come back."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = can_return
        self.total += 1
        try:
            yield
        finally:
            self._tasks.pop(task, None)

    def dismiss(self) -> None:
        """End the streams of all who can come back, to this process or another."""
        for task, can_return in list(self._tasks.items()):
            if can_return:
                task.cancel()
