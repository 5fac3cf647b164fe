"""What the program itself writes to the terminal, for a live region to share it.

The ``write`` of the standard streams is replaced on the stream objects, so that whoever kept one
before (a progress bar, a log handler) is heard as well. While a region is open, finished rows go
above it, and rows that may still be written anew are shown in it. Otherwise text is passed
through unchanged, and followed: a bar that is under way when a region opens moves into it.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from streamll.terminal import text as tx
from streamll.terminal.drawing import Line
from streamll.terminal.output import Output, is_terminal
from streamll.terminal.rows import MAX_HEIGHT, Rows

_ANY_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")
_CURSOR_VISIBILITY = re.compile(r"\x1b\[\?25[hl]")


class Region(Protocol):
    """Where finished rows of the program go."""

    def above(self, text: str) -> None: ...


class Redirected:
    """The ``write`` of one stream, as long as somebody follows the program's output."""

    def __init__(self, stream: TextIO, output: ProgramOutput) -> None:
        self.stream = stream
        self.original: Callable[[str], int] = stream.write
        self._output = output
        self._process = os.getpid()
        self.rows = Rows()

    def __call__(self, text: str) -> int:
        if os.getpid() != self._process:  # a forked child: nobody draws there
            return self.original(text)
        with self._output.lock:
            region = self._output.region
            if region is None:
                return self._passed(text)
            if not isinstance(text, str):
                raise TypeError(f"write() argument must be str, not {type(text).__name__}")
            for sequence in _CURSOR_VISIBILITY.findall(text):
                Output(self.stream).write(sequence)
            if finished := self.rows.feed(text):
                region.above("".join(f"{row}\n" for row in finished))
        return len(text)

    def _passed(self, text: str) -> int:
        length = self.original(text)
        self.rows.feed(text, spare=MAX_HEIGHT)
        return length

    def unfinished(self, width: int) -> list[Line]:
        """The rows of the region that show what is not finished."""
        texts = [
            tx.tail(tx.clean(_ANY_ESCAPE.sub("", text)), width - 1) for text in self.rows.texts
        ]
        while texts and not texts[-1].strip():
            del texts[-1]
        return [[("field", text)] for text in texts]

    def let_out(self) -> None:
        """Write what is not finished as it is, and leave the cursor where the program has it."""
        rows = self.rows
        below = len(rows.texts) - 1 - rows.cursor
        if any(rows.texts):
            up = f"\x1b[{below}A\r" if below else ""
            Output(self.stream).write("\n".join(rows.texts) + up)

    def take_in(self) -> str:
        """What removes the rows from the terminal that the region will show instead."""
        rows = self.rows
        rows.settle()
        up = f"\x1b[{rows.cursor}A" if rows.cursor else ""
        return f"\r{up}\x1b[J" if any(rows.texts) else ""


@dataclass(eq=False)
class ProgramOutput:
    """The program's streams on terminals, and who follows them: an open region, or ``watch``."""

    lock: threading.RLock = field(default_factory=threading.RLock)  # for writes to the terminal
    region: Region | None = None
    streams: dict[Any, Redirected] = field(default_factory=dict)
    _followers: set[object] = field(default_factory=set)

    def follow(self, follower: object) -> None:
        """Redirect the streams of this moment, until every follower has left."""
        with self.lock:
            self._followers.add(follower)
            for stream in _on_terminals():
                if _place(stream) not in self.streams:
                    redirected = Redirected(stream, self)
                    try:
                        stream.write = redirected  # type: ignore[method-assign]
                    except AttributeError:  # a type of its own without room for it
                        continue
                    self.streams[_place(stream)] = redirected

    def leave(self, follower: object) -> None:
        with self.lock:
            self._followers.discard(follower)
            if not self._followers:
                self.end()

    def end(self) -> None:
        for redirected in self.streams.values():
            stream, original = redirected.stream, redirected.original
            if stream.write is redirected:
                del stream.write
                if stream.write != original:  # it had been replaced before
                    stream.write = original  # type: ignore[method-assign]
        self.streams.clear()

    def begin_in_child(self) -> None:
        """The child may have inherited a lock that no thread of it will release."""
        self.lock = threading.RLock()
        self.region = None
        self._followers.clear()
        self.end()


def _on_terminals() -> Iterator[TextIO]:
    """The standard streams, if they are terminals; first what stands behind a replacement."""
    for name in ("stdout", "stderr"):
        stream, first = getattr(sys, name), getattr(sys, f"__{name}__")
        if is_terminal(stream):
            if is_terminal(first) and _place(first) == _place(stream):
                yield first
            yield stream


def _place(stream: TextIO) -> Any:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return f"object {id(stream)}"


program_output = ProgramOutput()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=program_output.begin_in_child)
