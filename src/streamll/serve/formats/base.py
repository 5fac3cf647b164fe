"""What an output format is, what it may know of the request, and the simplest of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from streamll.core.events import NOTHING, Event
from streamll.core.jsonable import plain, render
from streamll.core.wire import encode

_encoder = msgspec.json.Encoder(enc_hook=render)


class RenderOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is rendered.

    ``text`` is the field (``"answer"`` or ``"predictor.answer"``) that is the reply; other fields
    are reasoning. ``None``: every field but ``reasoning`` is the reply. The other options come
    from the request, as its wire has them: ``echo`` is what a response repeats of it, and events
    up to the number ``starting_after`` are those that the reader has had.
    """

    text: str | None = None
    thread_id: str | None = None
    run_id: str | None = None
    messages: Sequence[Mapping[str, Any]] = ()
    state: Any = None
    predates_versions: bool = False
    """The client declares no version of its protocol, or one from before 1.0."""
    notices: Sequence[Mapping[str, str]] = ()
    """Parts of the request that the program cannot take, with ``place`` and ``reason``."""
    model: str = "streamll"
    include_usage: bool = False
    include_reasoning: bool = False
    include_obfuscation: bool = False
    echo: Mapping[str, Any] = NOTHING
    starting_after: int = -1
    compact: bool = False
    """The native format's compact form (``core.compact``)."""
    message_id: str | None = None
    interrupts: bool = False
    """The client answers questions by its next request, until which its stream ends."""
    answered: Collection[str] = ()
    """Ids of questions that have been answered, also where the log does not have that yet."""
    continues: bool = False
    """The client has the run up to a question, which its request answers."""

    def is_reply(self, predictor: str | None, field: str) -> bool:
        if self.text is None:
            return field != "reasoning"
        return self.text in (field, f"{predictor}.{field}")


class OutputFormat(ABC):
    """Renders one run for one reader: ``feed`` it the run's events in order.

    A payload is what one SSE frame or WebSocket message carries. After a run's last event there
    are no more. To resume, feed what the reader has had, drop those payloads, and send what
    ``resume`` returns first.
    """

    name: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = NOTHING
    ids: ClassVar[bool] = True
    """Whether its readers accept ``id:`` and ``retry:`` lines."""
    named_frames: ClassVar[bool] = False
    """Whether frames have an ``event:`` line: the type with which the payload begins."""

    def __init__(self, options: RenderOptions) -> None:
        self.options = options
        self.left = False
        """The stream has ended, and the run goes on: ``leave`` said so."""

    @abstractmethod
    def feed(self, event: Event) -> list[bytes]:
        """The payloads for this event; often none."""

    def resume(self) -> list[bytes]:
        """What a reader needs first that resumes in the middle of a run."""
        return []

    def leave(self) -> list[bytes]:
        """What ends the stream here, though the run goes on: mostly nothing does."""
        return []


class NativeFormat(OutputFormat):
    """Every event as it is: the JSON of ``core.wire``, schema version 1, one object per payload.

    A reader puts a token at its ``offset``: ``text = text.slice(0, offset) + token``. Then a token
    that arrives twice, or merged with its neighbours, does no harm. ``lm.superseded`` voids the
    text of its ``call_id`` and ``attempt``; ``field.corrected`` replaces a field's text.
    """

    name: ClassVar[str] = "native"

    def feed(self, event: Event) -> list[bytes]:
        return [encode(event)]


def to_json(value: Mapping[str, Any]) -> bytes:
    """A payload. Values that JSON cannot hold are rendered as text."""
    try:
        return _encoder.encode(value)
    except Exception:  # noqa: BLE001 - whatever a program's value does, the stream goes on
        return _encoder.encode(plain(value))


def given(**keys: Any) -> dict[str, Any]:
    """The keys that are not ``None``: formats omit what is not set."""
    return {name: value for name, value in keys.items() if value is not None}
