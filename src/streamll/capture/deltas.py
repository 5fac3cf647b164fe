"""A model's reply in pieces: the one vocabulary between a provider's wire and a run's events.

Every source of a reply (a wire's frames, lm15's stream events, LiteLLM's chunks, a whole response)
is translated into these deltas in one place, and ``reply.lm_call.LMCall.hear`` is the one place that
reads them. Visible text is a plain ``str``, since there is one per token; the rest are tuples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class ThinkingDelta(NamedTuple):
    """More of the model's reasoning."""

    text: str


class RefusalDelta(NamedTuple):
    """More of a refusal, where the provider keeps it apart from the text."""

    text: str


class ToolCallFragment(NamedTuple):
    """More of a tool call; ``id`` and ``name`` come with its first fragment."""

    number: int
    """Which of the reply's tool calls, from 0."""
    id: str | None
    name: str | None
    arguments: str
    """A fragment of the JSON text."""


class CitationDelta(NamedTuple):
    """A source that the reply points to."""

    text: str | None
    title: str | None
    url: str | None


class ProviderChunk(NamedTuple):
    """The chunk behind the deltas that follow, as DSPy's own streaming shows it.

    ``None``: DSPy shows no chunks for what follows. Without a ``ProviderChunk`` chunks are made
    from the deltas (``reply.chunks``).
    """

    chunk: Any


Delta = str | ThinkingDelta | RefusalDelta | ToolCallFragment | CitationDelta | ProviderChunk
Deltas = Sequence[Delta]
"""In the order of the reply. Empty text is a sign of life: the reply goes on with what is not shown."""
