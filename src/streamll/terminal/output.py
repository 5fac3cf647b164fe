"""Writing to a file that may go away.

A terminal can hang up and the reader of a pipe can exit. Then the rest is dropped silently:
nothing is raised into the program, and nothing stays in the file's buffer to fail at exit.
"""

from __future__ import annotations

import os
import select
import sys
import time
from typing import Any, ClassVar, TextIO


class Output:
    """Text to ``file``, or to whatever ``sys.stdout`` is at that moment."""

    writing_s: ClassVar[float] = 0.0
    """Seconds that this process has spent in writes: one to a terminal that is paused waits."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self.is_broken = False

    @property
    def file(self) -> TextIO | None:
        return self._file if self._file is not None else sys.stdout

    @property
    def is_behind(self) -> bool:
        """Whether it is a terminal with another job in the foreground (after Ctrl-Z or ``&``)."""
        return self.foreground not in (None, os.getpgrp())

    @property
    def foreground(self) -> int | None:
        """The process group that has the terminal; ``None`` if it is none or has no jobs."""
        try:
            return os.tcgetpgrp(self.file.fileno()) if self.file is not None else None
        except (OSError, ValueError, AttributeError):  # no terminal, or not our controlling one
            return None

    def write(self, text: str) -> None:
        file = self.file
        if self.is_broken or file is None:
            return
        began = time.monotonic()
        try:
            descriptor = _descriptor(file)
            if descriptor is None:
                getattr(file.write, "original", file.write)(text)  # not through our own redirection
                file.flush()
            else:
                file.flush()  # what the program printed before comes first
                _write_all(descriptor, text.encode(file.encoding or "utf-8", "replace"))
        except (OSError, ValueError):  # hung up, reader gone, or closed
            self.is_broken = True
        finally:
            Output.writing_s += time.monotonic() - began


def is_terminal(file: Any) -> bool:
    """Whether a stream, which may be closed or missing, is a terminal.

    What Rich puts before a terminal during its live displays says no itself in older versions.
    """
    try:
        return bool(getattr(file, "rich_proxied_file", file).isatty())
    except (AttributeError, ValueError, OSError):
        return False


def _descriptor(file: TextIO) -> int | None:
    """The file's descriptor, if writing directly to it is equivalent to writing to the file.

    Text in the buffer of a broken pipe stays there and fails again at exit.
    """
    if os.name != "posix" or not hasattr(file, "buffer"):
        return None
    try:
        return file.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # another program made the terminal non-blocking
            select.select([], [descriptor], [], 1.0)
