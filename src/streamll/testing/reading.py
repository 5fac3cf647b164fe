"""From an HTTP request to its record: which wire it speaks, and what it says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from streamll.testing.connection import HTTPRequest
from streamll.testing.formats import Message, Tool, read_prompt
from streamll.testing.model import MODEL
from streamll.testing.plan import Step, json_body
from streamll.testing.recorded import HEADERS_KEPT, RecordedRequest
from streamll.testing.replies import CREATED
from streamll.testing.wires import WIRES, Wire
from streamll.testing.wires.base import encode


class Content(NamedTuple):
    """What a wire finds in a request's body."""

    messages: Sequence[Message] = ()
    tools: Sequence[Tool] = ()
    schema: Mapping[str, Any] = {}


def recorded(
    request: HTTPRequest, changed: threading.Condition, let_go: Callable[[], None]
) -> tuple[RecordedRequest, Wire | None]:
    """The request's record, and its wire unless no wire can read it."""
    path = urlsplit(request.target).path
    body = json_object(request.body)
    wire, content = None, Content()
    if request.method == "POST" and body is not None:
        wire, content = understood(path, body)
    record = RecordedRequest(
        method=request.method,
        path=path,
        body=body or {},
        headers={name: value for name, value in request.headers.items() if name in HEADERS_KEPT},
        messages=content.messages,
        prompt=read_prompt(content.messages),
        tools=content.tools,
        schema=content.schema,
        streaming=bool(body and body.get("stream")),
        changed=changed,
        let_go=let_go,
    )
    return record, wire


def json_object(data: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None


def understood(path: str, body: Mapping[str, Any]) -> tuple[Wire | None, Content]:
    """Any prefix will do, so ``/v1`` may be part of a client's base URL or not."""
    for wire in WIRES:
        if path.endswith(wire.path):
            try:
                return wire, Content(wire.messages(body), wire.tools(body), wire.schema(body))
            except (AttributeError, KeyError, TypeError):  # not what this wire's requests are
                break
    return None, Content()


def without_wire(record: RecordedRequest) -> list[Step]:
    """The list of models, or an error."""
    if record.method == "GET" and record.path.endswith("/models"):
        model = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "streamll"}
        return json_body(200, encode({"object": "list", "data": [model]}), [])
    if any(record.path.endswith(wire.path) for wire in WIRES):
        status, message = 400, f"cannot read this {record.method} {record.path}."
    else:
        paths = ", ".join(f"/v1{wire.path}" for wire in WIRES)
        status, message = 404, f"has no {record.path}, only {paths} (POST) and /v1/models (GET)."
    error = {"message": f"The practice server {message}", "type": "invalid_request_error"}
    return json_body(status, encode({"error": {**error, "param": None, "code": None}}), [])
