"""Everything of an LM call that a program, or DSPy after it, can see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import dspy
from dspy_lines import ENGINES, HAS_ENGINES, plain, without_waiting

from streamll.testing import PracticeServer
from streamll.testing.replies import CREATED

ROUTES = [
    (wire, engine, asynchronous)
    for wire in ("openai", "responses", "anthropic", "gemini")
    for engine in ENGINES
    for asynchronous in (False, True)
]
SWITCH = {"stream", "stream_options"}
VOLATILE = {"timestamp", "uuid"}
DASHES_OF_AN_ID = 2


@dataclass
class Seen:
    """One call, seen from outside."""

    returned: bool = False
    outputs: Any = None
    responses: Any = None
    history: Any = None
    cost: Any = None
    usage: Any = None
    prediction: Any = None
    error_type: Any = None
    error_message: Any = None
    error_details: Any = None
    retries: Any = field(default_factory=list)
    requests: Any = None
    bodies: Any = None
    cache_keys: Any = None
    cache_records: Any = None
    tracked_usage: Any = None


ASPECTS = [each.name for each in fields(Seen)]


def observe(server: PracticeServer, lm: Any, call: Callable[[Any], Any], monkeypatch: Any) -> Seen:
    """Make the call with an empty cache, without sleeping between retries."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    seen = Seen()
    before = len(server.requests)

    without_waiting(monkeypatch, lambda *retry: seen.retries.append(retry))
    with dspy.context(track_usage=True), dspy.track_usage() as tracker:
        try:
            given = call()
            seen.outputs = asyncio.run(given) if asyncio.iscoroutine(given) else given
            seen.returned = True
        except Exception as error:
            look_at_error(seen, error)
    seen.tracked_usage = dict(tracker.get_total_tokens())
    if HAS_ENGINES and isinstance(seen.outputs, dspy.lm15.Response):
        seen.outputs = written_out(seen.outputs)
    if isinstance(seen.outputs, dspy.Prediction):
        seen.prediction = seen.outputs.toDict()
        seen.outputs = None
    look_at_history(seen, lm)
    requests = server.requests[before:]
    seen.requests = len(requests)
    seen.bodies = [
        {key: value for key, value in request.body.items() if key not in SWITCH}
        for request in requests
    ]
    look_at_cache(seen)
    return seen


def look_at_error(seen: Seen, error: Exception) -> None:
    seen.error_type = [kind.__name__ for kind in type(error).__mro__]
    seen.error_message = str(error)
    seen.error_details = {
        name: plain(getattr(error, name, None))
        for name in ("status", "provider", "provider_code", "request_id", "retry_after", "model")
    }


def look_at_history(seen: Seen, lm: Any) -> None:
    entries = [dict(entry) for entry in lm.history]
    seen.responses = [written_out(entry.pop("response", None)) for entry in entries]
    seen.cost = [entry.get("cost") for entry in entries]
    seen.usage = [plain(entry.get("usage")) for entry in entries]
    seen.history = [
        {key: comparable(value) for key, value in entry.items() if key not in VOLATILE}
        for entry in entries
    ]


def comparable(value: Any) -> Any:
    """As plain data.

    DSPy makes a new class for each structured request: its schema is what is asked for."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if HAS_ENGINES and isinstance(value, dspy.lm15.Request):
        from dspy._vendor.lm15.serde import request_to_dict

        return request_to_dict(value)
    return value.model_json_schema() if hasattr(value, "model_json_schema") else plain(value)


def look_at_cache(seen: Seen) -> None:
    records = dict(dspy.cache.memory_cache)
    seen.cache_keys = sorted(records)
    seen.cache_records = [written_out(records[key]) for key in seen.cache_keys]


def written_out(response: Any) -> Any:
    """A response of lm15, LiteLLM or the cache as plain data, its hidden parts included."""
    if HAS_ENGINES and isinstance(response, dspy.lm15.Response):
        from dspy._vendor.lm15.serde import response_to_dict

        return own(response_to_dict(response, include_provider_data=True))
    if isinstance(response, tuple):
        return [written_out(each) for each in response]
    if hasattr(response, "model_dump") and not isinstance(response, dict):
        return [type(response).__name__, own(response.model_dump()), hidden(response)]
    return own(plain(response))


def own(value: Any) -> Any:
    """Without the ids and times that LiteLLM makes up, new with every call."""
    if isinstance(value, (list, tuple)):
        return [own(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: own(item) for key, item in value.items()}
    if str(value.get("id", "")).count("-") > DASHES_OF_AN_ID:
        value["id"] = value["created"] = "made up"
    if value.get("created", CREATED) != CREATED:  # Gemini's replies have no time
        value["created"] = "made up"
    return value


def hidden(response: Any) -> Any:
    """LiteLLM's cost and headers; its timings and call ids are of the moment."""
    found = getattr(response, "_hidden_params", None) or {}
    headers = found.get("additional_headers") or {}
    of_the_body = (
        "content-type", "content-length", "transfer-encoding", "cache-control", "date",
    )  # fmt: skip
    return {
        "response_cost": found.get("response_cost"),
        "model": found.get("litellm_model_name"),
        "provider": found.get("custom_llm_provider"),
        "headers": {
            name: value
            for name, value in dict(headers).items()
            if not any(name.endswith(end) for end in of_the_body)
        },
    }


def differences(one: Seen, other: Seen, aspect: str) -> str:
    """Where two runs differ in an aspect; empty if nowhere."""
    left, right = getattr(one, aspect), getattr(other, aspect)
    if left == right:
        return ""
    left, right = flat(left), flat(right)
    keys = [key for key in {**left, **right} if left.get(key, ...) != right.get(key, ...)]
    told = [f"{key}: {left.get(key, ...)!r:.200} ≠ {right.get(key, ...)!r:.200}" for key in keys]
    return "\n".join(told) or "types differ"


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, (list, tuple)) and value:
        items = enumerate(value)
    else:
        return {path: value}
    return {k: v for key, item in items for k, v in flat(item, f"{path}/{key}").items()}
