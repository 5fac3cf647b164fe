"""From an HTTP request to the wire that answers it, and to its record."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from streamll.testing.connection import HTTPRequest
from streamll.testing.model.answering import MODEL
from streamll.testing.plan import Step, json_body
from streamll.testing.prompts import read_prompt
from streamll.testing.recorded import HEADERS_KEPT, NOTHING_ASKED, RecordedRequest
from streamll.testing.replies import CREATED
from streamll.testing.wires import WIRES, PracticeWire
from streamll.testing.wires.base import encode

BODY = msgspec.json.Decoder(dict[str, Any])


def route(
    request: HTTPRequest, changed: threading.Condition, release: Callable[[], None]
) -> tuple[RecordedRequest, PracticeWire | None]:
    """The request's record, and its wire; ``None`` where no wire can read the request.

    A client's base URL may end in ``/v1`` or not.
    """
    url = urlsplit(request.target)
    path = url.path
    wire = wire_at(path) if request.method == "POST" else None
    body: dict[str, Any] = {}
    content: dict[str, Any] = {"messages": (), "tools": (), "schema": {}}
    asked = NOTHING_ASKED
    try:
        body = BODY.decode(request.body)
        if wire is not None:
            content = {name: getattr(wire, name)(body) for name in content}
            asked = wire.asked(url, body)
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError):  # not a body of this wire
        wire = None
    record = RecordedRequest(
        method=request.method,
        path=path,
        body=body,
        headers={name: value for name, value in request.headers.items() if name in HEADERS_KEPT},
        prompt=read_prompt(content["messages"]),
        asked=asked,
        changed=changed,
        release=release,
        **content,
    )
    return record, wire


def wire_at(path: str) -> PracticeWire | None:
    return next((wire for wire in WIRES if wire.answers(path)), None)


def without_wire(record: RecordedRequest) -> list[Step]:
    """The list of models, or an error."""
    if record.method == "GET" and record.path.endswith("/models"):
        model = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "streamll"}
        return json_body(200, encode({"object": "list", "data": [model]}), [])
    if wire_at(record.path) is not None:
        what = f"The practice server cannot read this {record.method} {record.path}."
        return refused(400, what)
    paths = ", ".join(wire.address for wire in WIRES)
    what = f"The practice server has no {record.path}, only {paths} (POST) and /v1/models (GET)."
    return refused(404, what)


def refused(status: int, message: str) -> list[Step]:
    """An error of the server itself, of no wire."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return json_body(status, encode({"error": error}), [])
