"""Reading requests within limits, and answering those that are refused."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from streamll.core.errors import InvalidInputs, RunUnavailable, logger
from streamll.core.events import NOTHING
from streamll.core.places import own_place
from streamll.core.positions import Position, read_position
from streamll.core.problems import Problem
from streamll.serve.permits import Permit
from streamll.serve.web.access import Access, Auth
from streamll.serve.web.limits import Limits

MAX_ID_CHARACTERS = 200
"""Of a chat or thread, whose id the client chooses."""
AUTH_S = 10.0
"""How long an ``auth`` function may take."""
ON, OFF = frozenset({"1", "true", "yes", "on"}), frozenset({"", "0", "false", "no", "off"})
"""What flags of queries are, in capitals as well: ``requests`` sends ``True`` and ``False``."""
RETRY_LATER = frozenset({429, 503})


class HTTPRefusal(Exception):
    """Ends a request with this status and message.

    ``param`` is the place in the request that is wrong, and ``code`` names what is, for wires whose
    errors have room for them. ``problems`` are all places and what is wrong there, where there can
    be several.
    """

    problems: Sequence[Problem] = ()
    about: Mapping[str, Any] = NOTHING
    """More of the body, by name."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        **headers: str,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = headers


class InvalidRequest(HTTPRefusal):
    """Ends a request whose inputs or messages a program cannot take: 400, with every problem."""

    def __init__(self, error: InvalidInputs) -> None:
        super().__init__(400, str(error), param=error.problems[0].place)
        self.problems = error.problems[: error.TOLD]


def refusal(error: HTTPRefusal | RunUnavailable, body: Any = None) -> Response:
    """The response to a request that ended with this error, by default ``{"error": message}``.

    With ``problems``, a list of ``{"place", "message"}``, where the error has them.
    """
    headers = dict(error.headers) if isinstance(error, HTTPRefusal) else {}
    if error.status in RETRY_LATER:
        headers["retry-after"] = "1"
    if body is None:
        body = body_of(error)
    return JSONResponse(body, error.status, headers=headers)


def body_of(error: HTTPRefusal | RunUnavailable) -> dict[str, Any]:
    """What is told of an error."""
    body: dict[str, Any] = {"error": str(error)}
    if isinstance(error, HTTPRefusal) and error.problems:
        body["problems"] = msgspec.to_builtins(error.problems)
    return body | dict(getattr(error, "about", NOTHING))


async def read_json(request: Request, limits: Limits) -> dict[str, Any]:
    """The JSON object in the body; ``HTTPRefusal`` (400, 408, 413, 415) where there is none.

    Only ``application/json``: pages of other origins cannot send that without permission (CORS).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPRefusal(415, "send the body as application/json")
    try:
        body = await asyncio.wait_for(_body(request, limits.body_bytes), limits.body_seconds)
        value = msgspec.json.decode(body)
    except asyncio.TimeoutError:
        raise HTTPRefusal(408, "the body did not arrive in time", connection="close") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise HTTPRefusal(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise HTTPRefusal(400, "the body must be a JSON object")
    return value


async def _body(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            message = f"a body may have at most {max_bytes} bytes"
            raise HTTPRefusal(413, message, connection="close")
    return bytes(body)


def bearer_token(connection: HTTPConnection) -> str | None:
    """The token of a request, for ``auth`` functions of ``create_app``; ``None`` without one.

    Args:
        connection: the request. The token is that of ``Authorization: Bearer …``, else of
            ``?token=``, for EventSource and WebSocket, which cannot send headers in a browser.
    """
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else ""
    return given or connection.query_params.get("token")


async def authorize(
    connection: HTTPConnection, access: Access, run_id: str | None = None
) -> Permit:
    """What who asks may do. A token for one run counts where ``run_id`` is that run.

    Raises:
        HTTPRefusal: 401 if that is nobody who is known, 500 if it cannot be found out.
    """
    permit = access.permit_of(bearer_token(connection), run_id)
    if permit is None and access.auth is not None:
        permit = await _asked(access.auth, connection)
    if permit is None:
        raise HTTPRefusal(401, "a valid token is needed", **{"www-authenticate": "Bearer"})
    return permit


async def _asked(auth: Auth, connection: HTTPConnection) -> Permit | None:
    try:
        permit = await asyncio.wait_for(_answer(auth, HTTPConnection(connection.scope)), AUTH_S)
        if not isinstance(permit, (Permit, type(None))):
            what = f"auth returns a Permit or None, not {type(permit).__name__}"
            raise TypeError(what)  # noqa: TRY301
    except Exception as error:
        # Not its message: it may hold what the request said to show who it is from.
        place = own_place(error) or "outside the function's own code"
        shown = error if logger.isEnabledFor(logging.DEBUG) else None
        what = "auth failed, and the request is refused: %s at %s"
        logger.warning(what, type(error).__name__, place, exc_info=shown)
        raise HTTPRefusal(500, "who asks could not be found out") from None
    return permit


async def _answer(auth: Auth, connection: HTTPConnection) -> Any:
    """What the function returns. One that is not async may wait for a database, so it has a thread."""
    if inspect.iscoroutinefunction(auth):
        return await auth(connection)
    answer = await asyncio.to_thread(auth, connection)
    return await answer if inspect.isawaitable(answer) else answer


def flag_in(connection: HTTPConnection, name: str) -> bool:
    """Whether the query asks for it: ``?name=1``; ``HTTPRefusal`` (400) if that is unclear."""
    value = connection.query_params.get(name, "").lower()
    if value not in ON | OFF:
        raise HTTPRefusal(400, f"{name} is true or false", param=name)
    return value in ON


def position_in(connection: HTTPConnection, run_id: str) -> Position:
    """Where a request resumes the run: by ``Last-Event-ID``, ``?after=`` or ``?lastEventId=``.

    ``HTTPRefusal`` (400) if that is no position in this run.
    """
    text = _position_text(connection)
    try:
        position = Position(run_id) if not text else read_position(text, run_id)
    except ValueError as error:
        raise HTTPRefusal(400, str(error)) from None
    if position.run_id != run_id:
        raise HTTPRefusal(400, "this is a position in another run")
    return position


def has_position(connection: HTTPConnection) -> bool:
    """Whether a request says where it resumes."""
    return bool(_position_text(connection))


def _position_text(connection: HTTPConnection) -> str | None:
    query, headers = connection.query_params, connection.headers
    return headers.get("last-event-id") or query.get("after") or query.get("lastEventId")


def identifier(body: dict[str, Any], name: str) -> str | None:
    """The id that a request has under this name; ``HTTPRefusal`` (400) if it cannot be one."""
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_ID_CHARACTERS):
        raise HTTPRefusal(400, f"{name} is a text of at most {MAX_ID_CHARACTERS} characters")
    return value or None
