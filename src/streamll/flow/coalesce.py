"""Merging adjacent tokens of one field call into one, without loss.

A merged token keeps its first part's ``seq``, ``timestamp``, ``token_index`` and ``offset``; its
``count`` is the sum and its ``finish_reason`` the last part's. Two tokens merge if there is no
other event of their run between them, so that the order of a run never changes. With
``across_calls``, if there is none *of their call*: text of one call may then overtake events of
concurrent calls, which keeps memory bounded when many of them interleave.

The cost is linear in the number of tokens: parts are collected and joined once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streamll.core.events import Event, TokenEvent


class Merging:
    """A token that others have been merged into, not joined yet."""

    __slots__ = ("count", "end", "finish_reason", "first", "key", "parts")

    def __init__(self, first: TokenEvent, key: object) -> None:
        self.first = first
        self.key = key
        self.parts = [first.token]
        self.count = first.count
        self.end = first.offset + len(first.token)
        self.finish_reason = first.finish_reason

    def takes(self, event: TokenEvent, merged: Merging | None = None) -> bool:
        """Merge ``event``, or the ``merged`` it begins, if it continues this one; else False."""
        first = self.first
        if (
            self.finish_reason is not None
            or event.offset != self.end
            or event.field != first.field
            or event.token_index != first.token_index + self.count
            or event.cached != first.cached
            or (event.identity is not first.identity and event.identity != first.identity)
            or (event.context is not first.context and event.context != first.context)
            or (event.extra is not first.extra and event.extra != first.extra)
        ):
            return False
        if merged is None:
            self.parts.append(event.token)
            self.count += event.count
            self.end += len(event.token)
            self.finish_reason = event.finish_reason
        else:
            self.parts.extend(merged.parts)
            self.count += merged.count
            self.end = merged.end
            self.finish_reason = merged.finish_reason
        return True

    def joined(self) -> TokenEvent:
        if len(self.parts) == 1:
            return self.first
        return msgspec.structs.replace(
            self.first,
            token="".join(self.parts),
            count=self.count,
            finish_reason=self.finish_reason,
        )


class Coalescer:
    """Decides for each item whether it merges into an earlier one.

    ``add`` returns what the caller should keep: the item itself, a ``Merging`` in its place, or
    ``None`` if an earlier ``Merging`` has taken it. A caller that delivers a ``Merging`` must
    ``forget`` it first, or later tokens would be merged into what is already delivered.
    """

    def __init__(self, *, across_calls: bool = False) -> None:
        self.across_calls = across_calls
        self._last: dict[object, Merging] = {}

    def add(self, item: Any) -> Any:
        merged = item if isinstance(item, Merging) else None
        event = merged.first if merged else item
        if not isinstance(event, Event):
            return item
        key = self._key(event)
        if not isinstance(event, TokenEvent):
            self._last.pop(key, None)
            return item
        last = self._last.get(key)
        if last is not None and last.takes(event, merged):
            return None
        merged = merged or Merging(event, key)
        merged.key = key
        self._last[key] = merged
        return merged

    def forget(self, merging: Merging) -> None:
        if self._last.get(merging.key) is merging:
            del self._last[merging.key]

    def _key(self, event: Event) -> object:
        identity = event.identity
        if not self.across_calls:
            return identity.run_id
        return (identity.run_id, identity.call_id, identity.candidate)


def coalesce(events: Iterable[Event], *, across_calls: bool = False) -> list[Event]:
    """The events with adjacent tokens of one field call merged."""
    coalescer = Coalescer(across_calls=across_calls)
    kept = [item for item in map(coalescer.add, events) if item is not None]
    return [item.joined() if isinstance(item, Merging) else item for item in kept]
