"""Deltas of what was not streamed by a wire: whole replies, and LiteLLM's chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from streamll.capture.deltas import (
    CitationDelta,
    Delta,
    ProviderChunk,
    RefusalDelta,
    ThinkingDelta,
    ToolCallFragment,
)


def deltas_of_response(response: Any) -> Iterator[Delta]:
    """An lm15 ``Response``: each of its parts in one piece."""
    calls = 0
    for part in response.message.parts:
        kind = part.type
        if kind == "text" and part.text:
            yield part.text
        elif kind == "thinking" and part.text:
            yield ThinkingDelta(part.text)
        elif kind == "refusal":
            yield RefusalDelta(part.text)
        elif kind == "citation":
            yield CitationDelta(part.text, part.title, part.url)
        elif kind == "tool_call":
            yield ToolCallFragment(calls, part.id, part.name, _json(part.input))
            calls += 1
        elif kind == "data":
            yield _json(part.value)


def deltas_of_outputs(outputs: Sequence[Any]) -> Iterator[Delta]:
    """The outputs of a legacy call: candidate 0, in one piece."""
    if not outputs:
        return
    output = outputs[0] if isinstance(outputs[0], dict) else {"text": outputs[0]}
    if isinstance(thought := output.get("reasoning_content"), str) and thought:
        yield ThinkingDelta(thought)
    if isinstance(text := output.get("text"), str) and text:
        yield text
    for index, call in enumerate(output.get("tool_calls") or ()):
        function = _get(call, "function")
        arguments = _get(function, "arguments")
        yield ToolCallFragment(
            index,
            _get(call, "id"),
            _get(function, "name"),
            arguments if isinstance(arguments, str) else _json(arguments),
        )
    for citation in output.get("citations") or ():
        if isinstance(citation, dict):
            yield CitationDelta(citation.get("text"), citation.get("title"), citation.get("url"))


def deltas_of_chunk(chunk: Any) -> Iterator[Delta]:
    """A chunk as LiteLLM streams them; of another candidate than 0 only that it came."""
    choices = getattr(chunk, "choices", None)
    choice: Any = choices[0] if choices else None
    delta = getattr(choice, "delta", None)
    if delta is None:
        return
    if getattr(choice, "index", None):
        yield ""
        return
    yield ProviderChunk(chunk)
    thought = getattr(delta, "reasoning_content", None)
    if isinstance(thought, str) and thought:
        yield ThinkingDelta(thought)
    text = getattr(delta, "content", None)
    if isinstance(text, str) and text:
        yield text
    for call in getattr(delta, "tool_calls", None) or ():
        function = getattr(call, "function", None)
        yield ToolCallFragment(
            getattr(call, "index", None) or 0,
            getattr(call, "id", None),
            getattr(function, "name", None),
            getattr(function, "arguments", None) or "",
        )


def _get(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, dict) else getattr(holder, key, None)


def _json(value: Any) -> str:
    """As DSPy writes it into an output, so that the listener gets what the adapter reads."""
    return json.dumps(value, ensure_ascii=False)
