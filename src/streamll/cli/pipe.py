"""``streamll … | head``: a command ends when nobody reads its output any more.

Python would notice at the next line, where it is the command that writes it and not a sink; until
then a model is paid for what nobody sees.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CHECK_S = 0.5
"""How soon the thread ends after the command."""

NOTICE_S = 0.3
"""How long a command may take to notice by itself."""

END_S = 3.0
"""How long it may take to end."""


@contextmanager
def interrupted_without_reader() -> Iterator[threading.Event]:
    """Interrupt the main thread, as Ctrl-C does, when standard output is a pipe that was closed.

    Yields an event that is set then. The interruption may come while the block is being left, but
    not later. Needs POSIX; elsewhere nothing is interrupted.
    """
    gone, over = threading.Event(), threading.Event()
    watching: threading.Thread | None = None
    if _is_pipe() and threading.current_thread() is threading.main_thread():
        # Of its own: a command may let its output go elsewhere meanwhile.
        number = os.dup(sys.stdout.fileno())
        watching = threading.Thread(
            target=_watch, args=(number, gone, over), name="streamll-pipe", daemon=True
        )
        watching.start()
    try:
        try:
            yield gone
        finally:
            over.set()
    finally:
        over.set()  # again: the interruption may have come just before
        if watching is not None and gone.is_set():
            watching.join()  # a signal that it has sent arrives here


def _is_pipe() -> bool:
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # no file, closed, or none at all
        return False
    return hasattr(select, "poll") and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


def _watch(number: int, gone: threading.Event, over: threading.Event) -> None:
    poll = select.poll()
    poll.register(number, 0)  # errors and hang-ups are always reported
    try:
        while not poll.poll(CHECK_S * 1000):
            if over.is_set():
                return
    finally:
        os.close(number)
    gone.set()
    if over.wait(NOTICE_S):
        return
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    if not over.wait(END_S):
        os._exit(1)
