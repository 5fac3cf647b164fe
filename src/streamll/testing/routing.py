"""From an HTTP request to the wire that answers it, and to its record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from streamll.testing.connection import HTTPRequest
from streamll.testing.model import MODEL
from streamll.testing.plan import Step, json_body
from streamll.testing.prompts import read_prompt
from streamll.testing.recorded import HEADERS_KEPT, RecordedRequest
from streamll.testing.replies import CREATED
from streamll.testing.wires import WIRES, PracticeWire
from streamll.testing.wires.base import encode


def route(
    request: HTTPRequest, changed: threading.Condition, resume: Callable[[], None]
) -> tuple[RecordedRequest, PracticeWire | None]:
    """The request's record, and its wire; ``None`` where no wire can read the request."""
    path = urlsplit(request.target).path
    body = json_object(request.body)
    wire, content = None, NO_CONTENT
    if request.method == "POST" and body is not None:
        wire, content = read_content(path, body)
    record = RecordedRequest(
        method=request.method,
        path=path,
        body=body or {},
        headers={name: value for name, value in request.headers.items() if name in HEADERS_KEPT},
        prompt=read_prompt(content["messages"]),
        streaming=bool(body and body.get("stream")),
        changed=changed,
        resume=resume,
        **content,
    )
    return record, wire


NO_CONTENT: dict[str, Any] = {"messages": (), "tools": (), "schema": {}}


def read_content(path: str, body: Mapping[str, Any]) -> tuple[PracticeWire | None, dict[str, Any]]:
    """The wire of this path and what it reads. A client's base URL may end in ``/v1`` or not."""
    for wire in WIRES:
        if path.endswith(wire.path):
            try:
                return wire, {
                    "messages": wire.messages(body),
                    "tools": wire.tools(body),
                    "schema": wire.schema(body),
                }
            except (AttributeError, KeyError, TypeError):  # the body is not one of this wire
                break
    return None, NO_CONTENT


def json_object(data: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None


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
