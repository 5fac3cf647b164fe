"""How text leaves a parser: stripped like ``str.strip`` does it, and gathered into pieces.

What the parsers share, independent of the reply's format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from streamll.core.parsing.base import Closed, Opened, Piece, Text


def so_far(*steps: str) -> str:
    """A regular expression for every prefix of a sequence, the empty one included."""
    pattern = ""
    for step in reversed(steps):
        pattern = f"(?:{step}{pattern})?"
    return pattern


class Trimmer:
    """``str.strip`` as a stream: leading blanks are dropped, possibly trailing ones held back."""

    __slots__ = ("_blanks", "_started")

    def __init__(self) -> None:
        self._started = False
        self._blanks: list[str] = []

    @property
    def flowing(self) -> bool:
        """Whether text that does not end with a blank passes unchanged."""
        return self._started and not self._blanks

    def push(self, text: str) -> str:
        """The text that is certain now."""
        body = text.rstrip()
        if not body:
            if self._started:
                self._blanks.append(text)
            return ""
        blanks = text[len(body) :]
        if self._blanks:
            self._blanks.append(body)
            body = "".join(self._blanks)
        elif not self._started:
            self._started = True
            body = body.lstrip()
        self._blanks = [blanks] if blanks else []
        return body

    def keep_blanks(self) -> str:
        """The blanks held back; called once something else is certain to follow."""
        blanks = "".join(self._blanks)
        self._blanks.clear()
        return blanks

    def forget_blanks(self) -> None:
        """Drop the blanks held back: they belong to no value."""
        self._blanks.clear()


State = Callable[[Any, str, int], int]
"""A parser's method that reads a stretch of the text and returns where it stopped."""


class StateParser:
    """A parser with one method for each state; each reads a stretch of the text.

    What one ``feed`` releases is gathered, with one ``Text`` for each stretch of a field. Each
    field opens once: after a second opening, or that of a name that is not an output field,
    text is dropped.
    """

    def __init__(self, fields: Mapping[str, bool | None], state: State) -> None:
        self._fields = fields
        self._state = state
        self._flow: str | None = None  # the field whose text passes unchanged
        self._held = ""  # text that only means something with what follows
        self._field: str | None = None  # the open one
        self._seen: set[str] = set()
        self._released: list[str] = []  # text of the open field
        self._pieces: list[Piece] = []  # what precedes it

    def finish(self) -> Sequence[Piece]:
        self._flow = None
        self._close()
        return self._take()

    def _read(self, text: str) -> None:
        if self._held:
            text, self._held = self._held + text, ""
        at = 0
        while at < len(text):
            at = self._state(self, text, at)

    def _open(self, name: str) -> bool:
        """Begin the field; returns whether its text must be the final value."""
        if name not in self._fields or name in self._seen:
            return False
        self._seen.add(name)
        self._field = name
        self._pieces.append(Opened(name))
        return self._fields[name] is not False

    def _release(self, text: str) -> None:
        """More text of the open field, if there is one."""
        if text and self._field is not None:
            self._released.append(text)

    def _close(self) -> None:
        """End the open field, if there is one."""
        if self._field is not None:
            if self._released:
                self._pieces.append(self._joined(self._field))
            self._pieces.append(Closed(self._field))
            self._field = None

    def _take(self) -> Sequence[Piece]:
        """Everything since the last time."""
        if self._released and self._field is not None:
            if not self._pieces:
                return (self._joined(self._field),)
            self._pieces.append(self._joined(self._field))
        if not self._pieces:
            return ()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _joined(self, field: str) -> Text:
        parts = self._released
        text = parts[0] if len(parts) == 1 else "".join(parts)
        parts.clear()
        return Text(field, text)


class LineParser(StateParser):
    """For formats whose text is stripped, and whose line ends become line feeds."""

    line_end: ClassVar[re.Pattern[str]]

    def __init__(self, fields: Mapping[str, bool | None], first: State, in_text: State) -> None:
        """``in_text`` is the state in which text belongs to the field unchanged."""
        super().__init__(fields, first)
        self._in_text = in_text
        self._trimmer = Trimmer()
        self._after_return = False  # the last chunk ended in "\r", so "\n" is no line of its own

    def _feed(self, chunk: str) -> Sequence[Piece]:
        if not chunk:
            return ()
        text = chunk[1:] if self._after_return and chunk[0] == "\n" else chunk
        self._after_return = chunk[-1] == "\r"
        self._read(text if text.isprintable() else self.line_end.sub("\n", text))
        inside = self._state is self._in_text and self._trimmer.flowing
        self._flow = self._field if inside else None
        return self._take()

    def _text(self, text: str) -> None:
        if self._field is not None:
            self._release(self._trimmer.push(text))
