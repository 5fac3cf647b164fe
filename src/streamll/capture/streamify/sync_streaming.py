"""Reading an async stream without an event loop."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Any

from streamll.configuration import logger
from streamll.flow.bridge import Bridge
from streamll.flow.waiting import on_event_loop


def apply_sync_streaming(async_generator: AsyncGenerator[Any, None]) -> Generator[Any, None, None]:
    """An ordinary generator of what an async one yields; leaving it closes the async one.

    The async generator runs on an event loop in a thread of its own, in the context of this call.
    """
    warn_on_event_loop()
    return _read(Bridge(async_generator, name="sync streaming"))


def _read(bridge: Bridge) -> Generator[Any, None, None]:
    yield from bridge


_warned = threading.Event()


def warn_on_event_loop() -> None:
    """Warn once that a synchronous stream blocks the event loop it is read on; not in IPython."""
    if not on_event_loop() or _warned.is_set() or _in_ipython():
        return
    _warned.set()
    logger.warning(
        "a synchronous stream is read on an event loop, which it blocks while it waits; "
        "the async form is streamify(program, async_streaming=True) with `async for` (logged once)"
    )


def _in_ipython() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
