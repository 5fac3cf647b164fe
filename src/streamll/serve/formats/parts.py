"""What a chat message is made of: text, tool calls and typed values. Plain data."""

from __future__ import annotations

from typing import Any

import msgspec

from streamll.core import events as ev
from streamll.core.partials import PartialValue

Key = tuple[str | None, int, str]  # call_id, attempt, field


class TextPart(msgspec.Struct, eq=False):
    """A growing piece of text; ``reply`` parts are the answer, the others reasoning."""

    id: str
    key: Key
    field: str
    reply: bool
    pieces: list[str] = []
    size: int = 0
    """Characters of the field so far, lost ones included."""
    predictor: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class ToolPart(msgspec.Struct, eq=False):
    """A tool call. All of its arguments are known once it is ``ready``."""

    id: str
    name: str
    attempt: tuple[str | None, int]
    pieces: list[str] = []
    """Its arguments, as the model writes them."""
    taken: bool = False
    """The program runs the tool that the model called."""
    ready: bool = False
    done: bool = False
    failed: bool = False
    result: Any = None
    """What it returned, or the message of the error that it ``failed`` with."""
    predictor: str | None = None
    """Whose reply calls it, where the model called it natively."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Aside(msgspec.Struct, eq=False):
    """A source or a refusal, which is told whole."""

    id: str
    event: ev.Citation | ev.Refusal


Part = TextPart | ToolPart | Aside


class WrittenCall(msgspec.Struct, eq=False):
    """A tool call that the model writes into fields: a name, and arguments."""

    name: str = ""
    arguments: str = ""
    value: Any = None
    """The arguments as the program reads them."""
    tool: ToolPart | None = None
    """The call as it is shown, once its name is known."""
    sent: int = 0
    """Characters of the arguments' text that were told."""


class ValuePart(PartialValue):
    """A typed field's growing value, as plain data. Every attempt of a call has the same ``id``."""

    __slots__ = ("field", "id", "predictor", "size")

    def __init__(self, event: ev.FieldPartial) -> None:
        super().__init__()
        self.id = f"{event.call_id}:{event.field}"
        self.predictor = event.predictor
        self.field = event.field
        self.size = 0
        """Roughly the number of characters it was written in."""
