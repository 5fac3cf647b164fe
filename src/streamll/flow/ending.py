"""Ending tasks for certain: one cancellation may get lost.

Before Python 3.12 ``asyncio.wait_for`` returns its result to a task that is cancelled in that very
moment, and the task goes on. redis-py sends each command in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

AGAIN_S = 5.0
"""How long a cancelled task has to end, before it is cancelled once more: it may be closing connections."""


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks until all have ended."""
    left = set(tasks)
    while left := {task for task in left if not task.done()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=AGAIN_S)


async def endable(work: Coroutine[Any, Any, None]) -> None:
    """Do work that goes on for ever; one cancellation of this ends it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task})
    finally:
        if getattr(task, "cancelling", int)():  # an event loop that ends cancels both (Python 3.11)
            await asyncio.wait({task}, timeout=AGAIN_S)
        await end(task)
    task.result()
