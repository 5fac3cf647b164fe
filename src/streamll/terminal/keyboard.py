r"""Standard input while a question is open: keys, among them Ctrl-C, until something else wakes it.

Ctrl-C comes as a character, instead of interrupting the program; Ctrl-Z and Ctrl-\ do what they
always do. While another job has the terminal nothing is read and nothing is set (termios(3)).
"""

from __future__ import annotations

import codecs
import os
import re
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

CTRL_C, CTRL_D = "\x03", "\x04"
POLL_S = 0.5
"""How soon it is noticed that the program has its terminal back, after ``fg``."""

in_use = threading.Lock()
"""Held by who reads standard input: a prompt, or the program's own ``input``."""

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.)?")


def is_there() -> bool:
    """Whether somebody can type: standard input is a terminal that can be set."""
    from streamll.terminal.output import is_terminal

    return termios is not None and sys.stdin is not None and is_terminal(sys.stdin)


class Keyboard:
    """Standard input's terminal. ``read`` waits, ``wake`` ends its wait from any thread."""

    def __init__(self) -> None:
        self._input = sys.stdin.fileno()
        self._woken, self._wakes = os.pipe()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._before: list[Any] | None = None
        self._is_taken = self._by_key = self._takes_ctrl_c = False

    def take(self, *, by_key: bool, takes_ctrl_c: bool) -> bool:
        """Begin to read, without what was typed before anybody knew for what.

        False if ``input`` of the program still reads after a moment.
        ``by_key``: each key at once and unseen. Otherwise the terminal has lines edited and seen.
        """
        if not in_use.acquire(timeout=POLL_S):
            return False
        self._is_taken, self._by_key, self._takes_ctrl_c = True, by_key, takes_ctrl_c
        if self._is_ours():
            self._set()
            with _as_os_errors():
                termios.tcflush(self._input, termios.TCIFLUSH)
        return True

    def read(self) -> str:
        """What was typed; empty if it was woken, or nothing can be read now."""
        is_ours = self._is_ours()
        if is_ours:
            self._set()  # what the shell may have set meanwhile, after Ctrl-Z and fg
        waited_for = [self._woken, *([self._input] if is_ours else ())]
        ready = select.select(waited_for, [], [], POLL_S)[0]
        if self._woken in ready:
            os.read(self._woken, 1024)
            return ""
        if self._input not in ready or not self._is_ours():
            return ""
        data = os.read(self._input, 1024)
        if not data:
            with _as_os_errors():
                termios.tcgetattr(self._input)  # or it has hung up
            return CTRL_D
        return _ESCAPES.sub("", self._decode(data))

    def wake(self) -> None:
        os.write(self._wakes, b"\n")

    def give_back(self) -> None:
        """Have the terminal as it was."""
        before, self._before = self._before, None
        if before is not None and self._is_ours():
            with suppress(OSError), _as_os_errors():
                termios.tcsetattr(self._input, termios.TCSADRAIN, before)
        if self._is_taken:
            self._is_taken = False
            in_use.release()

    def close(self) -> None:
        os.close(self._woken)
        os.close(self._wakes)

    def _is_ours(self) -> bool:
        """Whether this job is in the foreground; another would be stopped for what it does here."""
        try:
            return os.tcgetpgrp(self._input) == os.getpgrp()
        except OSError:  # a terminal that controls nobody has no jobs
            return True

    def _set(self) -> None:
        with _as_os_errors():
            now = termios.tcgetattr(self._input)
            if self._before is None:
                self._before = now
            wanted = self._wanted(self._before)
            if now != wanted:
                termios.tcsetattr(self._input, termios.TCSADRAIN, wanted)

    def _wanted(self, before: list[Any]) -> list[Any]:
        wanted = [*before[:6], list(before[6])]
        characters = wanted[6]
        if self._by_key:
            wanted[3] &= ~(termios.ICANON | termios.ECHO)
            characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        if self._takes_ctrl_c:
            characters[termios.VINTR] = os.fpathconf(self._input, "PC_VDISABLE").to_bytes(1, "big")
            if not self._by_key:
                characters[termios.VEOL] = CTRL_C.encode()  # it ends the line, to be seen at once
        return wanted


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """``termios.error`` is none: the terminal has hung up."""
    try:
        yield
    except termios.error as error:
        raise OSError(*error.args) from None
