"""Reading requests within limits, and who they come from."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from streamll.serve.web.access import Access, bearer
from streamll.serve.web.limits import ServerLimits
from streamll.serve.web.middleware import problem


class HTTPRefusal(Exception):
    """The request is answered with ``response`` and goes no further."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def refuse(status: int, message: str, **headers: str) -> HTTPRefusal:
    return HTTPRefusal(problem(status, message, **headers))


async def read_json(request: Request, limits: ServerLimits) -> dict[str, Any]:
    """The JSON object in the body.

    Only ``application/json``: a page of another origin cannot send that without being allowed to.

    Raises:
        Refused: 400, 408, 413 or 415.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise refuse(415, "send the body as application/json")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.body_bytes:
        raise refuse(413, f"the body may have {limits.body_bytes} bytes", connection="close")
    try:
        body = await asyncio.wait_for(_body(request, limits.body_bytes), limits.body_seconds)
    except (asyncio.TimeoutError, TimeoutError):
        raise refuse(408, "the body did not come in time", connection="close") from None
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise refuse(400, f"the body is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise refuse(400, "the body must be a JSON object")
    return value


async def _body(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise refuse(413, f"the body may have {most} bytes", connection="close")
        parts.append(chunk)
    return b"".join(parts)


def token_of(connection: HTTPConnection) -> str | None:
    """The token in the header, or in ``?token=``: EventSource and WebSocket send no headers."""
    return bearer(connection.headers.get("authorization")) or connection.query_params.get("token")


def authorize(connection: HTTPConnection, access: Access, run_id: str | None = None) -> None:
    """Raise ``Refused`` (401) unless the request may do everything, or use this run."""
    token = token_of(connection)
    allowed = access.may_do_everything(token) if run_id is None else access.may_use(token, run_id)
    if not allowed:
        raise HTTPRefusal(problem(401, "a valid token is needed", **{"www-authenticate": "Bearer"}))


def text_of(message: Any) -> dict[str, Any]:
    """A chat message as role and text, from any of the wires' ways to write it.

    Raises:
        ValueError: it is no message.
    """
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise ValueError("a message is an object with a role")  # noqa: TRY004 - of the client's value
    content = message.get("parts", message.get("content"))
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, dict) and p.get("type") == "text"]
        content = "".join(part for part in parts if isinstance(part, str))
    return {"role": message["role"], "content": content if isinstance(content, str) else ""}
