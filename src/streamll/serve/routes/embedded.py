"""A program as a response in a route of your own: ``sse_response`` and ``websocket_stream``.

::

    @app.post("/ask")
    async def ask(question: Annotated[str, Body(embed=True)]):
        return streamll.sse_response(qa, question=question)

    @app.websocket("/ask")
    async def talk(websocket: WebSocket):
        await websocket.accept()
        question = (await websocket.receive_json())["question"]
        await streamll.websocket_stream(websocket, qa, question=question)

Without a log the program runs for this one reader: when the client leaves, it is stopped, and a
browser that reconnects gets 204. With a log (``log="sqlite:///runs.db"``) the run goes on, and
``Last-Event-ID`` resumes it, in any process; a page that was reloaded asks for
``?lastEventId=<run id>:-1`` and gets it from the beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketState

import streamll
from streamll.configuration import checked_guards
from streamll.core.errors import ConfigurationError, NoSuchRun, RunUnavailable, ServerStopping
from streamll.core.positions import Position, read_position
from streamll.guards import Guard
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.log import streams
from streamll.serve.log.frames import HEADERS
from streamll.serve.programs import Served, check_field, reply_of
from streamll.serve.routes.open_streams import LIMITS, open_streams
from streamll.serve.routes.rendering import as_asked
from streamll.serve.runner import Runner
from streamll.serve.web import responses
from streamll.serve.web.limits import Limits
from streamll.serve.web.requests import HTTPRefusal, refusal
from streamll.streams.smoothing import Pieces, Unit

Fields = str | Iterable[str]
Inputs = Mapping[str, Any]
MAX_REASON = 30
"""Characters of a WebSocket's reason that fit into its 123 bytes, whatever they are."""


def sse_response(
    program: Callable[..., Any],
    /,
    *,
    format: str = "native",  # noqa: A002 - its name in queries
    fields: Fields = "*",
    reply: str | None = None,
    log: str | None = None,
    context: Inputs | None = None,
    heartbeat: float = 15.0,
    smooth: Unit | None = None,
    compact: bool = False,
    request_body: Any = None,
    guards: Iterable[Guard] = (),
    inputs: Inputs | None = None,
    **program_inputs: Any,
) -> Response:
    """A Starlette response that runs ``program`` with its inputs and streams it.

    Args:
        format: ``"native"``, ``"vercel"`` (``"vercel-5"`` to ``"vercel-7"`` for one major version of
            the ``ai`` package), ``"agui"``, ``"openai"`` or ``"responses"``.
        fields: output fields to stream, as ``streamll.stream`` takes them.
        reply: the field that the chat formats give as text; by default the last output field.
        log: keep the run in this log (``"sqlite:///runs.db"``, ``"redis://…"``): it goes on when
            the client leaves. Anybody who knows a run's id can read it here; ids cannot be
            guessed. While the log cannot be read the answer is 503, with ``Retry-After``.
        context: added to every event of the run, see ``set_context``.
        heartbeat: seconds of silence after which a comment keeps the connection alive.
        smooth: ``"word"`` or ``"grapheme"``: send coarse text in such pieces, evenly paced, as
            ``streamll.streams.smooth`` does. Not with a log, whose events are sent as they are.
        compact: send the native format in its compact form (docs/wire.md), for a client that reads it.
        request_body: what the client has posted, as an object, if it is a client of ``format``. It
            is rendered as this asks for: ``threadId``, ``runId``, ``protocolVersion``, ``messages``
            and ``state`` of AG-UI, ``ai_version`` of the AI SDK, ``model``, ``include_reasoning``
            and ``stream_options`` of OpenAI's. Inputs are not taken from it. What is wrong in it is
            answered with 400.
        guards: what the client, and the log, may not get, as ``streamll.stream`` takes them. Where
            one of them stops the run, the client is told its name, as of any run that failed.
        inputs: inputs of the program whose names are among the above.
        program_inputs: all its other inputs.

    Raises:
        UnknownFieldError: a field name, ``reply``, or a guard's field, that no predictor has.
        ConfigurationError: an unknown format, a name that a context cannot have, ``smooth`` with a
            log, ``compact`` with another format than the native one, a ``heartbeat`` that is no number
            greater than 0, or what is no guard.
    """
    given = {**(inputs or {}), **program_inputs}
    _check_smooth(smooth, log)
    limits = Limits(heartbeat_seconds=heartbeat)
    try:
        own = OwnRoute(
            program, format, fields, reply, given, context, request_body, compact, guards
        )
    except HTTPRefusal as error:
        return refusal(error)

    async def open_body(scope: Scope) -> responses.ResponseBody:
        query = QueryParams(scope.get("query_string", b""))
        resume_at = Headers(scope=scope).get("last-event-id") or query.get("lastEventId")
        writer = streams.RunWriter(own.form, frames=True, smoothed=smooth)
        if log is None:
            if resume_at:
                return Response(status_code=204)  # which ends a browser's attempts
            return streams.sse_of_call(own.opened, writer)
        try:
            runner, position = await own.locate(log, resume_at)
        except (HTTPRefusal, RunUnavailable) as error:
            return refusal(error)
        if position is None:
            return Response(status_code=204)
        return streams.sse_of_log(runner.run_log, position, writer)

    headers = {**HEADERS, **own.form.headers}
    return responses.StreamingBody(open_body, headers, limits, stop=own.stop)


async def websocket_stream(
    websocket: WebSocket,
    program: Callable[..., Any],
    /,
    *,
    format: str = "native",  # noqa: A002
    fields: Fields = "*",
    reply: str | None = None,
    log: str | None = None,
    context: Inputs | None = None,
    smooth: Unit | None = None,
    compact: bool = False,
    request_body: Any = None,
    guards: Iterable[Guard] = (),
    inputs: Inputs | None = None,
    **program_inputs: Any,
) -> None:
    """Run ``program`` with its inputs, stream it, and close ``websocket``.

    ``format``, ``fields``, ``reply``, ``log``, ``context``, ``smooth``, ``compact``, ``request_body``,
    ``guards``, ``inputs`` and ``program_inputs`` are those of ``sse_response``, and so are the errors; a ``request_body`` that
    is wrong closes it with code 1008.

    A WebSocket that is not accepted yet is accepted. One message per payload. A message
    ``{"type": "cancel"}`` from the client stops the program; so does leaving, unless there is a
    log. With a log a client resumes by ``?after=`` and its last position, which is ``run_id:seq``.

    Browsers let any page open a WebSocket to you: check ``Origin`` before, or use ``create_app``.
    """
    given = {**(inputs or {}), **program_inputs}
    _check_smooth(smooth, log)
    try:
        own = OwnRoute(
            program, format, fields, reply, given, context, request_body, compact, guards
        )
    except HTTPRefusal as error:
        await _accept(websocket)
        await websocket.close(responses.POLICY_VIOLATION, str(error)[:MAX_REASON])
        return
    writer = streams.RunWriter(own.form, frames=False, smoothed=smooth)
    if log is None:
        await _accept(websocket)
        async with own.opened() as events:
            messages = streams.stream_of_events(events, writer)
            cancel = events.cancel
            await responses.send_messages(websocket, messages, cancel, LIMITS, stop=cancel)
        return
    try:
        after = websocket.query_params.get("after")
        runner, position = await own.locate(log, after)
    except HTTPRefusal:
        await websocket.close(responses.POLICY_VIOLATION)
        return
    except RunUnavailable as error:
        never = isinstance(error, NoSuchRun)
        code = responses.POLICY_VIOLATION if never else responses.TRY_AGAIN_LATER
        await _accept(websocket)  # before that no close code reaches a browser
        await websocket.close(code, str(error))
        return
    await _accept(websocket)
    if position is None:
        await websocket.close()
        return
    run_id, messages = position.run_id, streams.stream_of_log(runner.run_log, position, writer)
    cancel = functools.partial(runner.cancel, run_id)
    await responses.send_messages(websocket, messages, cancel, LIMITS, stop=own.stop)


def _check_smooth(unit: Unit | None, log: str | None) -> None:
    if unit is not None:
        Pieces(unit)
        if log is not None:
            raise ConfigurationError("smooth= changes what is in the log; leave out one of them")


async def _accept(websocket: WebSocket) -> None:
    """Unless the route has done so, to read the question from it."""
    if websocket.application_state is WebSocketState.CONNECTING:
        await websocket.accept()


class OwnRoute:
    """A call of a program in a route of your own, for one reader in one format.

    It has the settings and context of the place where this was made: a response is sent later.
    """

    def __init__(
        self,
        program: Callable[..., Any],
        form: str,
        fields: Fields,
        reply: str | None,
        inputs: Inputs,
        context: Inputs | None,
        request_body: Any = None,
        compact: bool = False,
        guards: Iterable[Guard] = (),
    ) -> None:
        names = fields if isinstance(fields, str) else tuple(fields)
        if reply is not None:
            check_field(program, reply)
        self._guards = checked_guards(guards)
        self._call = streamll.stream(program, fields=names, keep_text=False, guards=self._guards)(
            **inputs
        )
        self._inputs = inputs
        options = RenderOptions(
            text=reply or reply_of(program), model=type(program).__name__, compact=compact
        )
        if request_body is not None:
            form, options = as_asked(form, options, request_body)
        self.form = make_format(form, options)
        self._served = Served(name="program", program=program, fields=names)
        self._stop: Callable[[], None] = lambda: None
        self._context = contextvars.copy_context()
        self._context.run(lambda: streamll.set_context(**(context or {})))

    def stop(self) -> None:
        """End the stream soon, in its format."""
        self._stop()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        """The events of the program, which starts: for this reader alone."""
        async with self._context.run(self._call.opened, on_loop=True) as events:
            self._stop = events.cancel
            with open_streams().holding(events):
                yield events

    async def locate(self, log: str, resume_at: str | None) -> tuple[Runner, Position | None]:
        """Where to read: at ``resume_at``, or a run that is started. ``None``: nothing more comes.

        Raises:
            HTTPRefusal: 400, that is not a position.
            RunUnavailable: the run can be neither read nor started.
        """
        try:
            position = read_position(resume_at) if resume_at else None
        except ValueError as error:
            raise HTTPRefusal(400, str(error)) from None
        streams = open_streams()
        if streams.is_stopping:
            raise ServerStopping
        runner = await streams.runner(log)
        if position is None:
            starting = runner.start(self._served, self._inputs, guards=self._guards)
            run_id = await self._context.run(asyncio.ensure_future, starting)
            position = Position(run_id)
        elif not await runner.has_more(position):
            return runner, None
        self._stop = functools.partial(runner.run_log.dismiss, only=position.run_id)
        return runner, position


async def cancel_run(log: str, run_id: str) -> None:
    """Stop the run ``run_id`` of ``log``, whichever process runs it."""
    (await open_streams().runner(log)).cancel(run_id)
