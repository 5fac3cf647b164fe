"""What a format is, and what it may be told about the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from streamll.core.events import NOTHING, Event
from streamll.core.jsonable import plain, render

_encoder = msgspec.json.Encoder(enc_hook=render)


class RenderOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is to be told.

    ``text`` is the field (``"answer"`` or ``"predictor.answer"``) that is the reply; other fields
    are told as reasoning. ``None``: every field but ``reasoning`` is the reply. The rest is what
    the request of the wire in question said.
    """

    text: str | None = None
    thread_id: str | None = None
    run_id: str | None = None
    messages: Sequence[Mapping[str, Any]] = ()
    state: Any = None
    model: str = "streamll"
    include_usage: bool = False
    message_id: str | None = None

    def is_reply(self, predictor: str | None, field: str) -> bool:
        if self.text is None:
            return field != "reasoning"
        return self.text in (field, f"{predictor}.{field}")


class OutputFormat:
    """One reader's rendering of one run. ``feed`` it the run's events in order.

    A payload is what one SSE frame or WebSocket message carries. After a run's last event nothing
    more comes. To go on in the middle, feed what the reader has already had, throw those
    payloads away, and send what ``resume`` returns first.
    """

    name: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = NOTHING
    ids: ClassVar[bool] = True
    """Whether its readers bear ``id:`` and ``retry:`` lines."""

    def __init__(self, options: RenderOptions) -> None:
        self.options = options

    def feed(self, event: Event) -> list[bytes]:
        """The payloads that tell this event; often none."""
        raise TypeError(f"{type(self).__name__} does not say how to tell an event")

    def resume(self) -> list[bytes]:
        """What a reader needs that comes back to a run in the middle."""
        return []


def to_json(value: Mapping[str, Any]) -> bytes:
    """A payload; what JSON cannot hold is rendered."""
    try:
        return _encoder.encode(value)
    except Exception:  # noqa: BLE001 - whatever a program's value does, the stream goes on
        return _encoder.encode(plain(value))
