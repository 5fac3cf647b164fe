"""The time limit of a read on lm15's async connections, without a task for every read.

lm15 runs each read in a task of its own, waits for that task, and is woken twice per packet: with
one token per packet that is the largest cost of a streamed call (`bench/README.md`). Python 3.11's
``asyncio.timeout`` gives the same guarantees (a cancelled caller stays cancelled, the read has ended
when the error is raised) with one timer. It is used inside a captured call; outside, and on Python
3.10, lm15's own function is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from streamll.capture.tap.interrupt import in_captured_call

T = TypeVar("T")

_time_limit = getattr(asyncio, "timeout", None)  # Python 3.11


def lm15_wait_for(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """``wait_for(awaitable, timeout, *, cancel_result=None)`` of lm15's async transport."""
    if _time_limit is None:
        return original

    def wait_for(awaitable: Awaitable[T], timeout: float | None, **more: Any) -> Awaitable[T]:
        # With ``cancel_result`` a connection is waited for: once per call, with cleanup.
        if more or timeout is None or not in_captured_call():
            return original(awaitable, timeout, **more)
        return _within(awaitable, timeout)

    return wait_for


async def _within(awaitable: Awaitable[T], seconds: float) -> T:
    assert _time_limit is not None
    async with _time_limit(seconds):
        return await awaitable
