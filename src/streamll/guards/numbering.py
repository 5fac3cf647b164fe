"""Counts what goes out: text that is held back or masked has other lengths than what came.

Events get their numbers as they leave: ``token_index`` and ``offset`` of tokens, ``length`` of a
field, ``index`` of thinking. What was shown of a field is kept here, to be told if its call fails.
"""

from __future__ import annotations

from msgspec.structs import replace

from streamll.core import events as ev
from streamll.core.events import Event, Identity, TokenEvent

Place = tuple[int, int, str]
"""Attempt, candidate, field."""


class FieldCount:
    """What has gone out of one field of one attempt."""

    __slots__ = ("identity", "length", "name", "parts", "tokens")

    def __init__(self, identity: Identity, name: str) -> None:
        self.identity = identity
        self.name = name
        self.tokens = 0
        self.length = 0
        self.parts: list[str] = []

    def add(self, text: str) -> tuple[str, int, int]:
        """Count a token; returns it with its index and offset."""
        place = (text, self.tokens, self.length)
        self.tokens += 1
        self.length += len(text)
        self.parts.append(text)
        return place


class Numbering:
    """The counts of one run's open calls, as far as they are guarded."""

    def __init__(self) -> None:
        self._calls: dict[str | None, dict[Place, FieldCount]] = {}
        self._thinking: dict[str | None, tuple[int, int]] = {}  # by call: attempt, next index
        self._last: FieldCount | None = None
        self.latest: dict[str, FieldCount] = {}
        """Of each field by ``predictor.field``, the last attempt of which something has gone out."""

    def begin(self, identity: Identity, field: str) -> None:
        """Count the text of a field from its start on."""
        place = (identity.attempt, identity.candidate, field)
        self._calls.setdefault(identity.call_id, {})[place] = FieldCount(identity, field)

    def number(self, event: Event) -> Event:
        """The event with its numbers; every event that leaves comes here, in order."""
        if type(event) is TokenEvent:
            return self._token(event)
        if isinstance(event, ev.FieldEnd):
            count = self.count(event.identity, event.field)
            return event if count is None else replace(event, length=count.length)
        if isinstance(event, ev.Guarded):
            return self._notice(event)
        if isinstance(event, ev.Thinking):
            return self._thought(event)
        if event.closes in ev.CALLS:
            self._calls.pop(event.call_id, None)
            self._thinking.pop(event.call_id, None)
            self._last = None
        return event

    def shown(self, identity: Identity, field: str) -> str | None:
        """What has gone out of a field; ``None`` if it is not counted."""
        count = self.count(identity, field)
        return None if count is None else "".join(count.parts)

    def has_begun(self, identity: Identity) -> bool:
        """Whether any field of this attempt was begun."""
        return any(place[0] == identity.attempt for place in self._calls.get(identity.call_id, ()))

    def count(self, identity: Identity, field: str) -> FieldCount | None:
        """The count of a field; ``None`` if it has none."""
        last = self._last
        if last is not None and last.identity is identity and last.name == field:
            return last
        fields = self._calls.get(identity.call_id)
        if fields is None:
            return None
        return fields.get((identity.attempt, identity.candidate, field))

    def _token(self, event: TokenEvent) -> Event:
        count = self._last = self.count(event.identity, event.field)
        if count is None:
            return event
        if not count.tokens:
            self.latest[qualified(event)] = count
        _, index, offset = count.add(event.token)
        if event.offset == offset and event.token_index == index:
            return event
        return replace(event, token_index=index, offset=offset)

    def _notice(self, event: ev.Guarded) -> Event:
        if event.offset is None or event.field is None:
            return event
        count = self.count(event.identity, event.field)
        return event if count is None else replace(event, offset=count.length + event.offset)

    def _thought(self, event: ev.Thinking) -> Event:
        attempt, index = self._thinking.get(event.call_id, (event.attempt, 0))
        index = index if attempt == event.attempt else 0
        self._thinking[event.call_id] = event.attempt, index + 1
        return event if event.index == index else replace(event, index=index)


def qualified(event: TokenEvent | ev.Guarded) -> str:
    """The name of the event's field, with that of its predictor if it has one."""
    return f"{event.predictor}.{event.field}" if event.predictor else str(event.field)
