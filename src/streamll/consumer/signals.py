"""SIGTERM and Ctrl-C stop a consumer cleanly, unless the program handles them itself."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first SIGTERM or SIGINT; a second one has its previous effect.

    Does nothing for a signal that the program handles itself, and outside the main thread, where
    Python allows no handlers. ``stop`` must be safe in a signal handler.
    """
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            if signal.getsignal(number) is stop_and_restore:
                signal.signal(number, handler)

    def stop_and_restore(*_: object) -> None:
        restore()
        stop()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.getsignal(number)
            if _is_default(before[number]):
                signal.signal(number, stop_and_restore)
    try:
        yield
    finally:
        restore()


def _is_default(handler: Any) -> bool:
    """Python's own handlers, and the one ``asyncio.run`` sets for Ctrl-C."""
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    owner = getattr(getattr(handler, "func", handler), "__self__", None)
    return type(owner).__module__ == "asyncio.runners"
