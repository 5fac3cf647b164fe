"""lm15's stream events, heard while they pass, and the ``Response`` they add up to.

For engines that offer events and no wire: users' own, providers that complete by streaming, and
every engine while DSPy itself streams. Tool arguments are joined before lm15's accumulator gets
them: it parses what it has so far with every fragment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dspy._vendor.lm15.result import StreamAccumulator
from dspy.clients.engines.lifecycle import aclosing_stream, closing_stream
from dspy.clients.engines.stream_guard import achecked_stream, checked_stream
from dspy.lm15 import UnsupportedFeatureError
from dspy.utils.exceptions import LMUnsupportedFeatureError

from streamll.capture.tap.wire.base import Hearer

__all__ = [
    "CANNOT_STREAM", "Hearing", "achecked_stream", "aclosing_stream", "checked_stream",
    "closing_stream",
]  # fmt: skip

CANNOT_STREAM = (NotImplementedError, UnsupportedFeatureError, LMUnsupportedFeatureError)
"""How an engine says that it has no stream for a request."""


class Hearing:
    """One reply in events."""

    def __init__(self, listener: Hearer, request: Any) -> None:
        self.begun = False
        self.ended = False
        self._listener = listener
        self._accumulator = StreamAccumulator(request)
        self._calls: dict[int, list[Any]] = {}  # part index → the events of a tool call
        self._places: dict[int, int] = {}  # part index → the tool call's number

    def hear(self, event: Any) -> None:
        self.begun = True
        if event.type == "delta" and event.delta is not None:
            delta = event.delta
            self._show(delta)
            if delta.type == "tool_call":
                self._calls.setdefault(delta.part_index, []).append(event)
                return
        elif event.type == "end":
            self.ended = True
        self._accumulator.push(event)

    def response(self) -> Any:
        """Raises lm15's StreamAssemblyError where the events do not add up."""
        for events in self._calls.values():
            self._accumulator.push(_joined(events))
        self._calls.clear()
        response = self._accumulator.response()
        return _repaired(response)

    def _show(self, delta: Any) -> None:
        kind = delta.type
        if kind == "text":
            if delta.text:
                self._listener.text(delta.text)
        elif kind == "thinking":
            if delta.text:
                self._listener.thinking(delta.text)
        elif kind == "tool_call":
            place = self._places.setdefault(delta.part_index, len(self._places))
            self._listener.tool_call(place, delta.id, delta.name, delta.input or "")
        elif kind == "citation":
            self._listener.citation(delta.text, delta.title, delta.url)


def _joined(events: list[Any]) -> Any:
    """One event for all fragments of a tool call; the last id and name count, as in lm15."""
    deltas = [event.delta for event in events]
    named = [delta.name for delta in deltas if delta.name is not None]
    known = [delta.id for delta in deltas if delta.id is not None]
    whole = replace(
        deltas[0],
        input="".join(delta.input for delta in deltas),
        id=known[-1] if known else None,
        name=named[-1] if named else None,
    )
    return replace(events[0], delta=whole)


def _repaired(response: Any) -> Any:
    """Over an OpenAI-compatible wire the events name neither id nor served model.

    But the end event carries the wire's last frame, which does.
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
