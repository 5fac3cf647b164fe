"""SIGTERM and Ctrl-C stop a consumer cleanly, unless the program handles them itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first SIGTERM or SIGINT; a second one has its previous effect.

    Does nothing for a signal that the program handles itself, and outside the main thread, where
    Python allows no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as before:

        def stop_and_restore() -> None:
            before.close()
            stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if _is_default(handler):
                with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows
                    loop.add_signal_handler(number, stop_and_restore)
                    before.callback(signal.signal, number, handler)
                    before.callback(loop.remove_signal_handler, number)
        yield


def _is_default(handler: Any) -> bool:
    """Python's own handlers, and the one ``asyncio.run`` sets for Ctrl-C."""
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    owner = getattr(getattr(handler, "func", handler), "__self__", None)
    return type(owner).__module__ == "asyncio.runners"
