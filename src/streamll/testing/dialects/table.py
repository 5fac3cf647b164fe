"""Who speaks a wire how. Written after recorded replies of these servers and their documentation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import reduce
from typing import Any, NamedTuple

from streamll.testing.dialects.changes import (
    Body,
    Change,
    Frames,
    as_uuid,
    at_both_ends,
    calls_in_one_piece,
    choices,
    choices_without,
    comments,
    each_chunk,
    first,
    hexadecimal,
    messages,
    messages_with,
    messages_without,
    obfuscated,
    thinking_as,
    thinking_blocks,
    top,
    usage_at_the_end,
    usage_beside_a_choice,
    usage_in_every_chunk,
    without,
    without_done,
)
from streamll.testing.prepared import PreparedReply

TIMES = {"queue_time": 0.04, "prompt_time": 0.01, "completion_time": 0.5, "total_time": 0.51}
TIMINGS = {"prompt_n": 7, "prompt_ms": 12.5, "predicted_n": 5, "predicted_ms": 50.0}
SAFE = {kind: {"filtered": False, "severity": "safe"} for kind in ("hate", "self_harm", "violence")}
SOURCES = ["https://example.com/a", "https://example.com/b"]


class Dialect(NamedTuple):
    """``about`` says what it does; ``wire`` is the only wire that it changes.

    ``blanks`` come before a plain body, to keep the connection busy.
    """

    about: str
    changes: tuple[Change, ...]
    wire: str = "openai"
    blanks: bytes = b""

    def frames(self, frames: Frames, reply: PreparedReply) -> Frames:
        return reduce(lambda given, change: change.frames(given, reply), self.changes, frames)

    def body(self, body: Body, reply: PreparedReply) -> Body:
        return reduce(lambda given, change: change.body(given, reply), self.changes, body)


ORDINARY = Dialect("", ())


def find(name: str | None, wire: str = "") -> Dialect:
    """The dialect of that name on a wire; an ordinary one where it does not change that wire.

    Raises ``ValueError`` for a name that is none, with the list.
    """
    if name is None:
        return ORDINARY
    if name not in DIALECTS:
        raise ValueError(f"there is no dialect {name!r}, only {', '.join(DIALECTS)}")
    dialect = DIALECTS[name]
    return dialect if dialect.wire == wire else ORDINARY


# --- what is used once --------------------------------------------------------------------------


def closing_groq(given: Body, reply: PreparedReply) -> Body:
    own = {"id": f"req_{reply.key}", "usage": {**given["usage"], **TIMES}}
    return {**given, "x_groq": own}


def done_object(given: Body, reply: PreparedReply) -> Body:
    ended = any(choice.get("finish_reason") for choice in given["choices"])
    name = "chat.completion.done" if ended else given["object"]
    return {**given, "object": name}


def native_reason(choice: Body, reply: PreparedReply) -> Body:
    return {**choice, "native_finish_reason": choice["finish_reason"]}


def with_details(message: Body, reply: PreparedReply) -> Body:
    if not message.get("reasoning"):
        return message
    text = {"type": "reasoning.text", "text": message["reasoning"], "format": "unknown", "index": 0}
    return {**message, "reasoning_details": [text]}


def counting(given: Frames, reply: PreparedReply) -> Frames:
    """Timings in every chunk: those of the last one are the reply's."""
    numbers = itertools.count(1)

    def timed(chunk: Body, reply: PreparedReply) -> Body:
        so_far = {**TIMINGS, "predicted_n": next(numbers)}
        return {**chunk, "timings": TIMINGS if ends(chunk) else so_far}

    return each_chunk(timed).frames(given, reply)


def ends(chunk: Mapping[str, Any]) -> bool:
    return not chunk["choices"] or bool(chunk["choices"][0].get("finish_reason"))


def vertex(given: Body, reply: PreparedReply) -> Body:
    """Counts only with the finish reason; no numbers of candidates, no ids of calls."""
    candidates = [
        {key: value for key, value in each.items() if key != "index"}
        for each in given.get("candidates", ())
    ]
    for part in (part for each in candidates for part in each["content"]["parts"]):
        if "functionCall" in part:
            called = part["functionCall"]
            part["functionCall"] = {key: called[key] for key in ("name", "args")}
    counted = given["usageMetadata"] if any("finishReason" in each for each in candidates) else {}
    return {
        **given,
        **({"candidates": candidates} if candidates else {}),
        "usageMetadata": {**counted, "trafficType": "ON_DEMAND"},
        "createTime": "2025-01-01T00:00:00.000000Z",
    }


# --- the table ----------------------------------------------------------------------------------

PLAIN_OPENAI = without("service_tier")
NO_REFUSAL = messages_without("refusal", "annotations")

DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect(
        "pads every chunk with `obfuscation`",
        (Change(each_chunk(obfuscated).frames),),
    ),
    "azure": Dialect(
        "begins with a chunk without choices, id and model; filter results in every choice; "
        "pads every chunk with `obfuscation`",
        (
            choices(lambda choice, _: {**choice, "content_filter_results": SAFE}),
            Change(each_chunk(obfuscated).frames),
            Change(
                body=lambda body, _: {
                    **body,
                    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}],
                }
            ),
            first(
                lambda _: {
                    "choices": [],
                    "created": 0,
                    "id": "",
                    "model": "",
                    "object": "",
                    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}],
                }
            ),
        ),
    ),
    "groq": Dialect(
        "usage with times in the last chunk, unasked, and in `x_groq`, which the first chunk has "
        "too; `reasoning`; tool calls in one piece; `service_tier` in plain replies only",
        (
            PLAIN_OPENAI,
            NO_REFUSAL,
            top(lambda reply: {"id": f"chatcmpl-{as_uuid(reply)}"}),
            thinking_as("reasoning"),
            calls_in_one_piece(lambda call, number: {**call, "index": number}),
            usage_at_the_end(lambda _: TIMES),
            at_both_ends(
                lambda reply: {"x_groq": {"id": f"req_{reply.key}", "seed": 7}},
                Change(body=closing_groq),
            ),
            Change(body=lambda body, _: {**body, "service_tier": "on_demand"}),
        ),
    ),
    "mistral": Dialect(
        "thinking and text as a list of blocks; usage in the last chunk, unasked; tool calls in "
        "one piece without `index` and `type`, their ids of nine letters",
        (
            without("service_tier", "system_fingerprint"),
            NO_REFUSAL,
            top(lambda reply: {"id": hexadecimal(reply)}),
            messages(thinking_blocks),
            calls_in_one_piece(
                lambda call, _: {"id": call["id"][-9:], "function": call["function"]}
            ),
            usage_at_the_end(),
        ),
    ),
    "deepseek": Dialect(
        "comments while it waits (blank lines before a plain body); usage in the last chunk, "
        "unasked, with cache hits, and `null` in the others",
        (
            PLAIN_OPENAI,
            NO_REFUSAL,
            top(lambda reply: {"id": as_uuid(reply)}),
            Change(each_chunk(lambda chunk, _: {**chunk, "usage": None}).frames),
            usage_at_the_end(
                lambda reply: {
                    "prompt_cache_hit_tokens": reply.usage.cached_tokens,
                    "prompt_cache_miss_tokens": reply.usage.input_tokens
                    - reply.usage.cached_tokens,
                }
            ),
            comments(b"keep-alive"),
        ),
        blanks=b"\n\n\n",
    ),
    "perplexity": Dialect(
        "usage that grows and `citations` in every chunk; ends with an object "
        "`chat.completion.done` and without `[DONE]`",
        (
            without("service_tier", "system_fingerprint"),
            NO_REFUSAL,
            choices_without("logprobs"),
            top(lambda reply: {"id": as_uuid(reply), "citations": SOURCES}),
            messages_with(role="assistant", content=""),
            Change(usage_in_every_chunk),
            Change(each_chunk(done_object).frames),
            Change(without_done),
        ),
    ),
    "xai": Dialect(
        "no `finish_reason` before there is one; tool calls in one piece; own counts in usage",
        (
            PLAIN_OPENAI,
            NO_REFUSAL,
            choices_without("logprobs"),
            top(lambda reply: {"id": as_uuid(reply)}),
            choices(
                lambda choice, _: {
                    k: v for k, v in choice.items() if (k, v) != ("finish_reason", None)
                }
            ),
            calls_in_one_piece(lambda call, number: {**call, "index": number}),
        ),
    ),
    "openrouter": Dialect(
        "comments `: OPENROUTER PROCESSING`; `provider` and `native_finish_reason`; `reasoning` "
        "with `reasoning_details`; a last chunk with usage, unasked, beside an empty choice",
        (
            without("service_tier"),
            messages_without("annotations"),
            top(
                lambda reply: {
                    "id": f"gen-{reply.created}-{reply.key[:20]}",
                    "provider": "Practice",
                }
            ),
            messages_with(role="assistant"),
            thinking_as("reasoning"),
            messages(with_details),
            choices(native_reason),
            Change(usage_beside_a_choice),
            comments(b"OPENROUTER PROCESSING"),
        ),
    ),
    "vllm": Dialect(
        "`reasoning`; keys of its own with `null`, some in plain replies only",
        (
            PLAIN_OPENAI,
            messages_without("annotations"),
            top(lambda reply: {"id": f"chatcmpl-{hexadecimal(reply)}"}),
            thinking_as("reasoning"),
            choices(lambda choice, _: {**choice, "stop_reason": None, "token_ids": None}),
            top(lambda _: {"prompt_token_ids": None}),
            Change(
                body=messages_with(function_call=None, audio=None, tool_calls=[]).body,
            ),
            Change(
                body=lambda body, _: {**body, "prompt_logprobs": None, "kv_transfer_params": None}
            ),
        ),
    ),
    "ollama": Dialect(
        "role and an empty text in every chunk; `reasoning`; tool calls in one piece, all of them "
        "with index 0; ids of three digits",
        (
            without("service_tier"),
            NO_REFUSAL,
            choices_without("logprobs"),
            top(
                lambda reply: {
                    "id": f"chatcmpl-{int(reply.key[:6], 16) % 1000}",
                    "system_fingerprint": "fp_ollama",
                }
            ),
            messages_with(role="assistant", content=""),
            thinking_as("reasoning"),
            calls_in_one_piece(
                lambda call, number: {**call, "id": f"call_{call['id'][-8:]}", "index": 0}
            ),
        ),
    ),
    "lmstudio": Dialect(
        "role in every chunk; the model as `system_fingerprint`; `stats` in plain replies only",
        (
            PLAIN_OPENAI,
            NO_REFUSAL,
            top(
                lambda reply: {
                    "id": f"chatcmpl-{reply.key[:20]}",
                    "system_fingerprint": reply.model,
                }
            ),
            messages_with(role="assistant"),
            Change(body=lambda body, _: {**body, "stats": {}}),
        ),
    ),
    "llamacpp": Dialect(
        "`timings` that change with every chunk",
        (
            PLAIN_OPENAI,
            NO_REFUSAL,
            top(lambda reply: {"id": f"chatcmpl-{hexadecimal(reply)}"}),
            Change(counting, lambda body, _: {**body, "timings": TIMINGS}),
        ),
    ),
    "vertex": Dialect(
        "Gemini without numbers of candidates and ids of calls, and counts in the last chunk only",
        (each_chunk(vertex),),
        wire="gemini",
    ),
}
