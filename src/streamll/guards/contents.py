"""Which of an event's own fields hold content: text of a program, a model or a person.

Whatever is not listed here does, so a kind that is added is guarded from the start.
"""

from __future__ import annotations

import functools

from streamll.core.events import CALLS, KINDS, Event, Guarded, StreamllEvent, own_fields

STRUCTURE = frozenset(
    {
        "answer_id",
        "error_type",
        "event_type",
        "field",
        "finish_reason",
        "kind",
        "media_type",
        "metric",
        "model",
        "next_model",
        "optimizer",
        "outcome",
        "parent_trace_id",
        "partial",  # what readers have been shown: it was guarded as it came
        "pointer",
        "program",
        "question_id",
        "reason",
        "response_id",
        "response_model",
        "state",
        "tool",
        "trace_id",
        "usage",
    }
)
"""Names and words that programs, libraries and providers choose, not people or models."""

ANY_VALUE = frozenset({"result", "value"})
"""Content whatever it is. A number in any other field counts or measures something."""


@functools.lru_cache(maxsize=256)
def content_of(kind: type[Event]) -> tuple[str, ...]:
    """The own fields of ``kind`` that hold content; of a user's own kind, all of them."""
    if kind not in KINDS.values():
        custom = {"event_type"} if issubclass(kind, StreamllEvent) else set()
        return tuple(name for name in own_fields(kind) if name not in custom)
    is_named = kind is Guarded or kind.opens in CALLS or kind.closes in CALLS
    fixed = STRUCTURE | {"name"} if is_named else STRUCTURE  # of what is called, or a guard's
    return tuple(name for name in own_fields(kind) if name not in fixed)
