"""The options of OpenAI's requests: what is honoured, what asks for nothing, what is refused by name.

A program decides itself how it asks its models, so most options cannot be honoured. One that would
be ignored is refused, unless its value asks for what happens anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from streamll.serve.web.requests import HTTPRefusal

MAX_PAIRS, MAX_NAME, MAX_VALUE = 16, 64, 512
"""OpenAI's limits of metadata."""
SUMMARIES = (None, "auto", "concise", "detailed")
MAX_INSTRUCTIONS = 1_000_000
REPEATED = ("previous_response_id", "prompt_cache_key", "safety_identifier", "user")
MAX_SHOWN = 100
"""Characters of a wrong value that an error repeats."""

HINTS = frozenset({
    "metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "safety_identifier", "user",
})  # fmt: skip
"""They change no reply, on OpenAI's servers either."""

SAMPLED = frozenset({
    "frequency_penalty", "logit_bias", "max_completion_tokens", "max_output_tokens", "max_tokens",
    "presence_penalty", "reasoning_effort", "seed", "temperature", "top_p", "verbosity",
})  # fmt: skip
"""They shape how a model writes. A server may be told to ignore them: many clients send them always."""

SAMPLING = {
    "temperature": (1,),
    "top_p": (1,),
    "top_logprobs": (0,),
    "service_tier": ("auto", "default"),
}
TOOLS: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("auto", "none"),
    "parallel_tool_calls": (True, False),
}

CHAT = frozenset({
    "model", "messages", "inputs", "stream", "stream_options", "include_reasoning",
})  # fmt: skip
CHAT_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    **SAMPLING, **TOOLS,
    "frequency_penalty": (0,), "function_call": ("auto", "none"), "functions": ([],), "logit_bias": ({},),
    "logprobs": (False,), "modalities": (["text"],), "n": (1,), "presence_penalty": (0,),
    "response_format": ({"type": "text"},), "stop": ([],), "store": (False,),
}  # fmt: skip

RESPONSES = frozenset({
    "model", "input", "inputs", "instructions", "stream", "stream_options", "background", "store",
    "previous_response_id", "reasoning",
})  # fmt: skip
RESPONSES_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    **SAMPLING, **TOOLS,
    "include": ([],), "context_management": ([],),
    "text": ({}, {"format": {"type": "text"}}), "truncation": ("disabled",),
}  # fmt: skip


def check(
    options: Mapping[str, Any],
    honoured: AbstractSet[str],
    defaults: Mapping[str, tuple[Any, ...]] | None = None,
    *,
    inside: str = "",
) -> None:
    """Raise ``HTTPRefusal`` (400) for the first option that would be ignored.

    Args:
        defaults: values that ask for what happens anyway.
        inside: the option that these are part of.
    """
    for name, value in options.items():
        hint = not inside and name in HINTS
        if value is None or hint or name in honoured or value in (defaults or {}).get(name, ()):
            continue
        place = f"{inside}.{name}" if inside else name
        shown = place[:MAX_SHOWN]
        raise HTTPRefusal(
            400,
            f"{shown!r} is not supported: the program decides how it asks its models; leave it out",
            param=shown,
            code="unsupported_parameter",
        )


def flag(options: Mapping[str, Any], name: str, *, inside: str = "", default: bool = False) -> bool:
    """A switch; ``HTTPRefusal`` (400) where it is something else."""
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        what = f"{name} is true or false, not {value!r}"[:MAX_SHOWN]
        raise HTTPRefusal(400, what, param=f"{inside}.{name}" if inside else name)
    return value


def stream_options(
    body: Mapping[str, Any], honoured: AbstractSet[str], *, streams: bool
) -> Mapping[str, Any]:
    """The options of a stream, which only a request for a stream has."""
    options = body.get("stream_options")
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise HTTPRefusal(400, "stream_options is an object", param="stream_options")
    check(options, honoured, inside="stream_options")
    for name in options:
        flag(options, name, inside="stream_options")
    if not streams:
        raise HTTPRefusal(400, "stream_options needs stream: true", param="stream_options")
    return options


def text(body: Mapping[str, Any], name: str, most: int) -> str | None:
    """A text of at most so many characters; ``HTTPRefusal`` (400) where it is something else."""
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > most):
        raise HTTPRefusal(400, f"{name} is a text of at most {most} characters", param=name)
    return value


def echoed(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a response repeats of its request; ``HTTPRefusal`` (400) where it is something else."""
    metadata = {} if body.get("metadata") is None else body["metadata"]
    fits = isinstance(metadata, dict) and len(metadata) <= MAX_PAIRS
    if not fits or not all(_is_pair(*pair) for pair in metadata.items()):
        what = f"metadata has at most {MAX_PAIRS} texts of at most {MAX_VALUE} characters"
        raise HTTPRefusal(400, what, param="metadata")
    repeated = {name: text(body, name, MAX_VALUE) for name in REPEATED}
    instructions = text(body, "instructions", MAX_INSTRUCTIONS)
    reasoning = _reasoning(body.get("reasoning"))
    return {"metadata": metadata, "instructions": instructions, "reasoning": reasoning, **repeated}


def _reasoning(asked: Any) -> dict[str, Any]:
    """In which form reasoning is told; how much there is of it is for the program to decide."""
    if not isinstance(asked, (dict, type(None))):
        raise HTTPRefusal(400, "reasoning is an object", param="reasoning")
    check(asked or {}, {"summary"}, inside="reasoning")
    summary = (asked or {}).get("summary")
    if summary not in SUMMARIES:
        what = f"reasoning.summary is one of {', '.join(filter(None, SUMMARIES))}"
        raise HTTPRefusal(400, what, param="reasoning.summary")
    return {"effort": None, "summary": summary}


def _is_pair(name: str, value: Any) -> bool:
    return len(name) <= MAX_NAME and isinstance(value, str) and len(value) <= MAX_VALUE
