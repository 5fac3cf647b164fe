"""``sse_response``: a program as an event stream, in a route of your own.

::

    @app.get("/ask")
    async def ask(q: str):
        return streamll.sse_response(qa, question=q)

Without a log the program runs for this one reader: when the client leaves, it is stopped, and a
browser that comes back is told that there is nothing to come back to. With a log
(``log="sqlite:///runs.db"``) the run goes on, and ``Last-Event-ID`` resumes it, in any process; a
page that was loaded anew says ``?lastEventId=<run id>:-1`` and gets it from the beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import Scope

import streamll
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.log.frames import HEADERS, Position, read_position
from streamll.serve.log.run_log import AWAY_SECONDS, LogAway, RunLog
from streamll.serve.log.streams import stream_of_call, stream_of_log
from streamll.serve.programs import Served, reply_of
from streamll.serve.runner import NoSuchRun, Runner
from streamll.serve.web.limits import ServerLimits
from streamll.serve.web.middleware import problem
from streamll.serve.web.responses import ResponseBody, StreamingBody

HEARTBEAT_SECONDS = 15.0
RETRY_AFTER = {"retry-after": "1"}


def sse_response(
    program: Callable[..., Any],
    /,
    *,
    format: str = "native",  # noqa: A002 - what it is called on the wire
    fields: str | Iterable[str] = "*",
    reply: str | None = None,
    log: str | None = None,
    context: Mapping[str, Any] | None = None,
    heartbeat: float = HEARTBEAT_SECONDS,
    inputs: Mapping[str, Any] | None = None,
    **program_inputs: Any,
) -> Response:
    """A Starlette response that runs ``program`` with its inputs and streams it.

    Args:
        format: ``"native"``, ``"vercel"``, ``"agui"`` or ``"openai"``.
        fields: output fields to stream, as ``streamll.stream`` takes them.
        reply: the field that the chat formats give as text; by default the last output field.
        log: keep the run in this log (``"sqlite:///runs.db"``, ``"redis://…"``): it goes on when
            the client leaves. Whoever knows a run's id can read it here; ids cannot be guessed.
            While the log cannot be read the answer is 503, with ``Retry-After``.
        context: what every event of a run in the log carries, see ``set_context``.
        heartbeat: seconds of silence after which a comment keeps the connection alive.
        inputs: inputs whose names are among the above.

    Raises:
        UnknownFieldError: a field name that no predictor of the program has.
        ConfigurationError: an unknown format or broker.
    """
    given = {**(inputs or {}), **program_inputs}
    options = RenderOptions(text=reply or reply_of(program), model=type(program).__name__)
    form = make_format(format, options)
    wanted = fields if isinstance(fields, str) else tuple(fields)
    call = streamll.stream(program, fields=wanted, keep_text=False)  # unknown fields fail here

    async def open_stream(scope: Scope) -> ResponseBody:
        query = QueryParams(scope.get("query_string", b""))
        came_with = Headers(scope=scope).get("last-event-id") or query.get("lastEventId")
        if log is None:
            if came_with:
                return Response(status_code=204)  # which ends a browser's attempts
            return stream_of_call(call(**given), form, heartbeat)
        try:
            position = read_position(came_with) if came_with else None
        except ValueError as error:
            return problem(400, str(error))
        runner = await runner_for(log, heartbeat)
        try:
            if position is None:
                served = Served(name="program", program=program, fields=wanted)
                position = Position(await runner.start(served, given, context=context))
            elif not await runner.has_more(position):
                return Response(status_code=204)
        except (NoSuchRun, LogAway) as error:
            return refusal_of(error)
        return stream_of_log(runner.run_log, position, form)

    return StreamingBody(open_stream, {**HEADERS, **form.headers})


def refusal_of(error: NoSuchRun | LogAway) -> Response:
    if isinstance(error, NoSuchRun):
        return problem(404, str(error))
    return problem(503, str(error), **RETRY_AFTER)


_runners: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Runner]] = WeakKeyDictionary()


async def runner_for(log: str, heartbeat: float) -> Runner:
    """The runner of this event loop for a log: one for all responses."""
    here = _runners.setdefault(asyncio.get_running_loop(), {})
    if log not in here:
        limits = ServerLimits(runs=1_000_000, heartbeat_seconds=heartbeat)
        here[log] = Runner(RunLog(log, AWAY_SECONDS), limits)
    await here[log].open()
    return here[log]


async def cancel_run(log: str, run_id: str) -> None:
    """Stop a run in ``log``, whichever process runs it."""
    (await runner_for(log, HEARTBEAT_SECONDS)).cancel(run_id)
