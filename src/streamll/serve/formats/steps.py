"""What a run is told in: parts of text that open, grow and close, tool calls, values, notes.

Plain data. ``story`` makes these of events; each wire says them in its own words.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from streamll.core import events as ev


class Step(msgspec.Struct, frozen=True):
    """Something that a wire can tell."""


class Part:
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


class Tool:
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


Key = tuple[str | None, int, str]  # call_id, attempt, field


class Begun(Step, frozen=True):
    run_id: str | None
    program: str


class Opened(Step, frozen=True):
    part: Part


class Grown(Step, frozen=True):
    """``missing``: characters before this text were lost."""

    part: Part
    text: str
    missing: bool = False


class Closed(Step, frozen=True):
    part: Part


class Withdrawn(Step, frozen=True):
    parts: tuple[Part, ...]
    reason: str


class Corrected(Step, frozen=True):
    part: Part
    text: str
    value: Any


class ToolOpened(Step, frozen=True):
    tool: Tool


class ToolArguments(Step, frozen=True):
    tool: Tool
    text: str


class ToolReady(Step, frozen=True):
    tool: Tool


class ToolReturned(Step, frozen=True):
    tool: Tool
    result: Any


class ToolFailed(Step, frozen=True):
    tool: Tool
    message: str


class Value(Step, frozen=True):
    """A typed field's value so far."""

    id: str
    predictor: str | None
    field: str
    value: Any
    state: str


class Source(Step, frozen=True):
    id: str
    text: str | None
    title: str | None
    url: str | None


class StageBegun(Step, frozen=True):
    """A module or a trace, with a name that no other open one has."""

    name: str


class StageEnded(Step, frozen=True):
    name: str


class Note(Step, frozen=True):
    """A status, a custom event, or a loss."""

    name: str
    value: Any
    passing: bool = False


class Finished(Step, frozen=True):
    finish_reason: str | None
    totals: ev.Totals


class Failed(Step, frozen=True):
    message: str
    error_type: str


class Cancelled(Step, frozen=True):
    pass
