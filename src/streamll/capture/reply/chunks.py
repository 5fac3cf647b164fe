"""A provider's chunks as DSPy's own streaming shows them, for readers that want more than text.

DSPy hands out ``EngineChunk`` for its own engines and LiteLLM's ``ModelResponseStream``. Here a delta
becomes a chunk again; chunks that came as such (a mocked LiteLLM, a custom LM) are passed on.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from dspy.adapters.types import Type

from streamll.capture import deltas
from streamll.capture.deltas import Delta
from streamll.capture.inside_dspy import ENGINE_CHUNK, attributes
from streamll.capture.run.scope import ReaderRequest
from streamll.core.events import Identity


class ChunkFeed:
    """The chunks of one LM call, for ``readers``."""

    def __init__(
        self, readers: Sequence[ReaderRequest], predictor: Any, call_id: str, model: str
    ) -> None:
        self.from_provider = False
        """The engine gives chunks of its own (or none at all): none are made of its deltas."""
        self._readers = readers
        self._predictor = predictor
        self._call_id = call_id
        self._model = model

    def provided(self, identity: Identity, chunk: deltas.ProviderChunk) -> None:
        self.from_provider = True
        if chunk.chunk is not None:
            self._send(identity, chunk.chunk)

    def hear(self, identity: Identity, delta: Delta) -> None:
        if (content := _content_of(delta)) is not None:
            self._make(identity, content, None)

    def finish(self, identity: Identity, finish_reason: str | None) -> None:
        self._make(identity, {}, finish_reason)

    def _make(self, identity: Identity, content: dict[str, Any], finish_reason: str | None) -> None:
        """Make and send a chunk. All chunks of a call have the LM call's id as their ``id``."""
        if self.from_provider:
            return
        if finish_reason == "tool_call":
            finish_reason = "tool_calls"  # as DSPy writes it in chunks
        choice = {"index": 0, "delta": {"content": None, **content}, "finish_reason": finish_reason}
        chunk = ENGINE_CHUNK(
            id=self._call_id,
            model=self._model,
            predict_id=None if self._predictor is None else id(self._predictor),
            choices=[attributes(choice)],
        )
        self._send(identity, chunk)

    def _send(self, identity: Identity, chunk: Any) -> None:
        for reader in self._readers:
            reader.chunk(self._predictor, identity, chunk)


def _content_of(delta: Delta) -> dict[str, Any] | None:
    """A delta as a chunk holds it; ``None`` where chunks have no place for it."""
    if isinstance(delta, str):
        return {"content": delta}
    if isinstance(delta, deltas.ThinkingDelta):
        return {"reasoning_content": delta.text}
    if isinstance(delta, deltas.ToolCallFragment):
        function = {"arguments": delta.arguments}
        if delta.name is not None:
            function["name"] = delta.name
        call: dict[str, Any] = {"index": delta.number, "type": "function", "function": function}
        if delta.id is not None:
            call["id"] = delta.id
        return {"tool_calls": [call]}
    if isinstance(delta, deltas.CitationDelta):
        citation = {key: value for key, value in delta._asdict().items() if value is not None}
        return {"provider_specific_fields": {"citation": citation}}
    return None


def is_lm_chunk(value: Any) -> bool:
    """Whether this is a language model's chunk, in either of DSPy's forms."""
    if isinstance(value, ENGINE_CHUNK):
        return True
    kind = type(value)
    return kind.__name__ == "ModelResponseStream" and kind.__module__.startswith("litellm")


def delta_of(chunk: Any) -> Any:
    """What a chunk holds of candidate 0; ``None`` if nothing."""
    choices = chunk.choices
    if not choices or choices[0].index:
        return None
    return choices[0].delta


def finish_reason_in(chunk: Any) -> Any:
    return chunk.choices[0].finish_reason if chunk.choices else None


def reads_chunks(annotation: Any) -> bool:
    """Whether values of this type are read from chunks, not from text (``dspy.Reasoning``)."""
    is_type: bool = inspect.isclass(annotation) and issubclass(annotation, Type)
    return is_type and bool(annotation.is_streamable())
