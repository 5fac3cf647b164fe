"""What a chat message is made of: text, tool calls, typed values, and the steps in which they grow.

Plain data. ``message.MessageBuilder`` makes the steps from events; each format renders them.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from streamll.core import events as ev
from streamll.core.jsonable import plain
from streamll.core.parsing.values.builder import Pointer
from streamll.core.partials import MISSING, PartialValue, part_of

Key = tuple[str | None, int, str]  # call_id, attempt, field


class TextPart(msgspec.Struct, eq=False):
    """A growing piece of text; ``reply`` parts are the answer, the others reasoning."""

    id: str
    key: Key
    predictor: str | None
    field: str
    reply: bool
    pieces: list[str] = []
    size: int = 0
    """Characters of the field so far, lost ones included."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class ToolPart(msgspec.Struct, eq=False):
    """A tool call. ``input`` is known once it is ``ready``."""

    id: str
    name: str
    attempt: tuple[str | None, int]
    arguments: list[str] = []
    taken: bool = False
    """The program runs the tool that the model called."""
    ready: bool = False
    done: bool = False
    result: Any = None

    @property
    def input(self) -> Any:
        text = "".join(self.arguments)
        try:
            return json.loads(text) if text else {}
        except ValueError:
            return {"text": text}


class ValuePart:
    """A typed field's growing value. Every attempt of a call has the same ``id``."""

    __slots__ = ("_partial", "field", "id", "predictor", "size")

    def __init__(self, value_id: str, predictor: str | None, field: str) -> None:
        self.id = value_id
        self.predictor = predictor
        self.field = field
        self.size = 0
        """Roughly the number of characters it was written in."""
        self._partial = PartialValue()

    @property
    def value(self) -> Any:
        """What is certain so far, as plain data. The same object goes on growing."""
        return self._partial.value

    @property
    def state(self) -> str:
        return self._partial.state()

    def take(self, event: ev.FieldPartial) -> ValueChanged | None:
        """What the event changes; ``None`` where an earlier change was lost."""
        pointer, value, append = tuple(event.pointer), plain(event.value), event.append
        self.size += len(value) if isinstance(value, str) else 10
        replaces = not append and part_of(self.value, pointer, MISSING) is not MISSING
        self._partial.apply(msgspec.structs.replace(event, value=value))
        if self._partial.is_broken:
            return None
        return ValueChanged(self, pointer, value, append, replaces, event.timestamp)


# --- steps ----------------------------------------------------------------------------------------


class MessageStep(msgspec.Struct, frozen=True):
    """One step in which a message grows."""


class MessageBegan(MessageStep, frozen=True):
    run_id: str | None


class PartOpened(MessageStep, frozen=True):
    part: TextPart


class PartGrown(MessageStep, frozen=True):
    part: TextPart
    text: str
    missing: bool = False
    """Characters before ``text`` were lost."""


class PartClosed(MessageStep, frozen=True):
    part: TextPart


class PartsWithdrawn(MessageStep, frozen=True):
    """These parts and tool calls no longer belong to the message."""

    parts: tuple[TextPart, ...]
    reason: str
    tools: tuple[ToolPart, ...] = ()


class PartCorrected(MessageStep, frozen=True):
    part: TextPart
    text: str
    value: Any


class ToolOpened(MessageStep, frozen=True):
    tool: ToolPart


class ToolInputGrown(MessageStep, frozen=True):
    tool: ToolPart
    text: str


class ToolReady(MessageStep, frozen=True):
    tool: ToolPart


class ToolReturned(MessageStep, frozen=True):
    tool: ToolPart


class ToolFailed(MessageStep, frozen=True):
    """``tool.result`` is the error's message."""

    tool: ToolPart


class ValueChanged(MessageStep, frozen=True):
    """``value`` is new at ``pointer``, or with ``append`` added to what is there."""

    part: ValuePart
    pointer: Pointer
    value: Any
    append: bool
    replaces: bool
    at: float

    @property
    def is_structured(self) -> bool:
        """Whether the field's value is a list or an object."""
        return bool(self.pointer) or isinstance(self.value, (list, dict))


class ValueSettled(MessageStep, frozen=True):
    """No change comes for now: a format that held some back sends them."""

    part: ValuePart


class ValueWithdrawn(MessageStep, frozen=True):
    """The value is void; another attempt may write it again."""

    part: ValuePart


class SourceCited(MessageStep, frozen=True):
    id: str
    text: str | None
    title: str | None
    url: str | None


class StageBegan(MessageStep, frozen=True):
    """A module or a trace, by a name that no other open one has."""

    name: str


class StageEnded(MessageStep, frozen=True):
    name: str


class DataNote(MessageStep, frozen=True):
    """A status, a custom event, or a loss. ``transient`` ones are not kept in the message."""

    name: str
    value: Any
    transient: bool = False


class MessageFinished(MessageStep, frozen=True):
    finish_reason: str | None
    totals: ev.Totals


class MessageFailed(MessageStep, frozen=True):
    message: str
    error_type: str


class MessageCancelled(MessageStep, frozen=True):
    pass
