"""Hearing that another process writes into the file, instead of looking all the time (Linux).

The kernel tells of every write to the write-ahead log (inotify(7)), whoever writes, and nobody has to
be registered. A write is told before its commit can be read, so the reader then looks for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys

IN_MODIFY = 0x00000002
READ_BYTES = 4096


class Writes:
    """The writes to the log of an open connection. For one event loop.

    Raises ``OSError`` where they cannot be heard: on other systems, or if this user watches as many
    files as it may.
    """

    def __init__(self, path: str) -> None:
        if sys.platform != "linux":
            raise OSError("there is no inotify")
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if libc.inotify_add_watch(self._fd, os.fsencode(f"{path}-wal"), IN_MODIFY) < 0:
            self.close()
            raise OSError(ctypes.get_errno(), "the file cannot be watched")

    async def wait(self, seconds: float) -> bool:
        """Whether something is written, or was since the last call; waits for it so long at most."""
        if self._were_some():
            return True
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._fd, readable.set)
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(readable.wait(), seconds)
        finally:
            loop.remove_reader(self._fd)
        return self._were_some()

    def _were_some(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self._fd, READ_BYTES))  # equal ones are told as one
        return False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
