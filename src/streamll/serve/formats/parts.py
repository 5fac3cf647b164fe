"""What a run is told in: parts of text that open, grow and close, tool calls, values, notes.

Plain data. ``story`` makes these of events; each wire says them in its own words.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from streamll.core import events as ev
from streamll.core.jsonable import plain
from streamll.core.parsing.values.builder import Pointer
from streamll.core.partials import MISSING, PartialValue, part_of


class MessageStep(msgspec.Struct, frozen=True):
    """Something that a wire can tell."""


class TextPart:
    """A piece of the message, growing: ``size`` characters so far, in ``pieces``.

    ``reply`` parts are the answer, the others reasoning.
    """

    __slots__ = ("field", "id", "key", "pieces", "predictor", "reply", "size")

    def __init__(
        self, part_id: str, key: Key, predictor: str | None, field: str, *, reply: bool
    ) -> None:
        self.id = part_id
        self.key = key
        self.predictor = predictor
        self.field = field
        self.reply = reply
        self.pieces: list[str] = []
        self.size = 0

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class ToolPart:
    """A tool call. ``input`` is known once it is ``ready``."""

    __slots__ = ("arguments", "attempt", "done", "id", "name", "ready", "result", "taken")

    def __init__(self, tool_id: str, name: str, attempt: tuple[str | None, int]) -> None:
        self.id = tool_id
        self.name = name
        self.attempt = attempt
        self.arguments: list[str] = []
        self.taken = False
        self.ready = False
        self.done = False
        self.result: Any = None

    @property
    def input(self) -> Any:
        text = "".join(self.arguments)
        try:
            return json.loads(text) if text else {}
        except ValueError:
            return {"text": text}


class ValuePart:
    """A typed field's value, growing. Every attempt of a call has the same ``id``."""

    __slots__ = ("_partial", "field", "id", "predictor", "size")

    def __init__(self, value_id: str, predictor: str | None, field: str) -> None:
        self.id = value_id
        self.predictor = predictor
        self.field = field
        self.size = 0
        """About how many characters were written of it."""
        self._partial = PartialValue()

    @property
    def value(self) -> Any:
        """All that is certain so far, as plain data. It goes on growing."""
        return self._partial.value

    @property
    def state(self) -> str:
        return self._partial.state()

    def take(self, event: ev.FieldPartial) -> ValueChanged | None:
        """What the event changes; nothing where a change before it was lost."""
        place, value, append = tuple(event.pointer), plain(event.value), event.append
        self.size += len(value) if isinstance(value, str) else 10
        replaces = not append and part_of(self.value, place, MISSING) is not MISSING
        self._partial.apply(msgspec.structs.replace(event, value=value))
        if self._partial.is_broken:
            return None
        return ValueChanged(self, place, value, append, replaces, event.timestamp)


Key = tuple[str | None, int, str]  # call_id, attempt, field


class MessageBegan(MessageStep, frozen=True):
    run_id: str | None
    program: str


class PartOpened(MessageStep, frozen=True):
    part: TextPart


class PartGrown(MessageStep, frozen=True):
    """``missing``: characters before this text were lost."""

    part: TextPart
    text: str
    missing: bool = False


class PartClosed(MessageStep, frozen=True):
    part: TextPart


class PartsWithdrawn(MessageStep, frozen=True):
    """What counts no more: show neither these parts nor these calls."""

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
    result: Any


class ToolFailed(MessageStep, frozen=True):
    tool: ToolPart
    message: str


class ValueChanged(MessageStep, frozen=True):
    """``value`` is new at ``place``; with ``append`` it is added to what stands there."""

    typed: ValuePart
    place: Pointer
    value: Any
    append: bool
    replaces: bool
    at: float

    @property
    def is_structured(self) -> bool:
        """Whether the value has parts."""
        return bool(self.place) or isinstance(self.value, (list, dict))


class ValueSettled(MessageStep, frozen=True):
    """Nothing more comes for now: whoever held something back tells it."""

    typed: ValuePart


class ValueWithdrawn(MessageStep, frozen=True):
    """Nothing of the value counts any more; another attempt may write it again."""

    typed: ValuePart


class SourceCited(MessageStep, frozen=True):
    id: str
    text: str | None
    title: str | None
    url: str | None


class StageBegan(MessageStep, frozen=True):
    """A module or a trace, with a name that no other open one has."""

    name: str


class StageEnded(MessageStep, frozen=True):
    name: str


class DataNote(MessageStep, frozen=True):
    """A status, a custom event, or a loss."""

    name: str
    value: Any
    passing: bool = False


class MessageFinished(MessageStep, frozen=True):
    finish_reason: str | None
    totals: ev.Totals


class MessageFailed(MessageStep, frozen=True):
    message: str
    error_type: str


class MessageCancelled(MessageStep, frozen=True):
    pass
