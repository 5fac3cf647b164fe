"""lm15's stream events: deltas while they pass, and in the end the ``Response`` they add up to.

For engines that offer events and no wire: users' own, providers that complete by streaming, and
every engine while DSPy itself streams. Tool arguments are joined before lm15's accumulator gets
them, since it parses all it has so far with every fragment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dspy._vendor.lm15.result import StreamAccumulator
from dspy.lm15 import UnsupportedFeatureError
from dspy.utils.exceptions import LMUnsupportedFeatureError

from streamll.capture.deltas import CitationDelta, Deltas, ThinkingDelta, ToolCallFragment

CANNOT_STREAM = (NotImplementedError, UnsupportedFeatureError, LMUnsupportedFeatureError)
"""What an engine raises that has no stream for a request."""


class EventAssembler:
    """One reply in events: ``feed`` each, then ask for the ``response``."""

    fault = None  # an event that does not fit raises, here or in ``response``
    grace = None  # the engine ends its events

    def __init__(self, request: Any) -> None:
        self.begun = False
        self.ended = False
        self._accumulator = StreamAccumulator(request)
        self._calls: dict[int, list[Any]] = {}  # part index → the events of a tool call
        self._numbers: dict[int, int] = {}  # part index → the tool call's number

    def feed(self, event: Any) -> Deltas:
        self.begun = True
        deltas: Deltas = ()
        if event.type == "delta" and event.delta is not None:
            delta = event.delta
            deltas = self._spoken(delta)
            if delta.type == "tool_call":
                self._calls.setdefault(delta.part_index, []).append(event)
                return deltas
        elif event.type == "end":
            self.ended = True
        self._accumulator.push(event)
        return deltas

    def give_up(self) -> None:
        """Never: there is no grace."""

    def response(self) -> Any:
        """Raises lm15's ``StreamAssemblyError`` where the events do not add up."""
        for events in self._calls.values():
            self._accumulator.push(_joined(events))
        self._calls.clear()
        return _repaired(self._accumulator.response())

    def _spoken(self, delta: Any) -> Deltas:
        kind = delta.type
        if kind == "text":
            return (delta.text,) if delta.text else ()
        if kind == "thinking":
            return (ThinkingDelta(delta.text),) if delta.text else ()
        if kind == "tool_call":
            number = self._numbers.setdefault(delta.part_index, len(self._numbers))
            return (ToolCallFragment(number, delta.id, delta.name, delta.input or ""),)
        if kind == "citation":
            return (CitationDelta(delta.text, delta.title, delta.url),)
        return ("",)


def _joined(events: list[Any]) -> Any:
    """One event for all fragments of a tool call; as in lm15, the last id and name count."""
    deltas = [event.delta for event in events]
    named = [None, *(delta.name for delta in deltas if delta.name is not None)]
    known = [None, *(delta.id for delta in deltas if delta.id is not None)]
    arguments = "".join(delta.input for delta in deltas)
    whole = replace(deltas[0], input=arguments, id=known[-1], name=named[-1])
    return replace(events[0], delta=whole)


def _repaired(response: Any) -> Any:
    """The response with its id and served model, which events of OpenAI's wire do not carry.

    The end event carries the wire's last frame, which names both.
    """
    frame = response.provider_data
    if not isinstance(frame, dict) or frame.get("object") != "chat.completion.chunk":
        return response
    identity, model = frame.get("id"), frame.get("model")
    return replace(
        response,
        id=response.id or (str(identity) if identity else None),
        model=str(model) if model else response.model,
    )
