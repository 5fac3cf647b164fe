"""A provider's chunks as DSPy's own streaming shows them, for readers that want more than text.

DSPy hands out ``EngineChunk`` for its own engines and LiteLLM's ``ModelResponseStream``. A tap
keeps no chunks, it hears what they say; here that becomes a chunk again. Chunks that came as such
(a mocked LiteLLM, a custom LM) stay what they are.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from dspy.adapters.types import Type

from streamll.capture.inside_dspy import ENGINE_CHUNK, attributes

if TYPE_CHECKING:
    from streamll.capture.reply.lm_call import LMCall

Delta = dict[str, Any]


def is_lm_chunk(value: Any) -> bool:
    """Whether this is what a language model said, in either of DSPy's forms."""
    if isinstance(value, ENGINE_CHUNK):
        return True
    kind = type(value)
    return kind.__name__ == "ModelResponseStream" and kind.__module__.startswith("litellm")


def chunk_of(call: LMCall, delta: Delta, finish_reason: str | None) -> Any:
    """What a call has just said. All chunks of a call have its ``call_id`` as their ``id``."""
    if finish_reason == "tool_call":
        finish_reason = "tool_calls"  # as DSPy says it in chunks
    choice = {"index": 0, "delta": {"content": None, **delta}, "finish_reason": finish_reason}
    return ENGINE_CHUNK(
        id=call.frame.call_id,
        model=call.frame.name,
        predict_id=predict_id(call),
        choices=[attributes(choice)],
    )


def predict_id(call: LMCall) -> int | None:
    """DSPy's name for the predictor that a chunk belongs to."""
    return None if call.predictor is None else id(call.predictor)


def delta_of(chunk: Any) -> Any:
    """What a chunk says of candidate 0; ``None`` if nothing."""
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


def tool_call_delta(index: int, id: str | None, name: str | None, arguments: str) -> Delta:  # noqa: A002
    function = {"arguments": arguments} if name is None else {"arguments": arguments, "name": name}
    call: Delta = {"index": index, "type": "function", "function": function}
    if id is not None:
        call["id"] = id
    return {"tool_calls": [call]}


def citation_delta(text: str | None, title: str | None, url: str | None) -> Delta:
    said = {"text": text, "title": title, "url": url}
    citation = {key: value for key, value in said.items() if value is not None}
    return {"provider_specific_fields": {"citation": citation}}
