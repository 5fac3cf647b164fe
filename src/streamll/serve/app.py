"""``create_app``: programs over HTTP, as a plain ASGI application.

::

    POST   /runs                    start a program: 202 and the run's id
    GET    /runs                    the log's latest runs; ``?program=``, ``?status=``, ``?q=``, …
    GET    /runs/{id}               a run in one object, as far as it has come
    GET    /runs/{id}/events        its events (SSE); ``Last-Event-ID`` or ``?after=``, ``?format=``
    WS     /runs/{id}/ws            the same over a WebSocket
    GET    /runs/{id}/report        the viewer with this run in it, in one file
    DELETE /runs/{id}               cancel it
    GET    /programs                what can be started, and its inputs
    GET    /openapi.json            all of this as OpenAPI 3.1, with the programs' inputs
    POST   /ai/{program}            Vercel's wire; GET and DELETE /ai/{program}/{chat}/stream
    POST   /v1/chat/completions     OpenAI's wires
    POST   /v1/responses, GET /v1/responses/{id}, POST /v1/responses/{id}/cancel
    POST   /agui, /agui/connect, DELETE /agui          AG-UI: start, come back, stop
    GET    /                        the viewer         /healthz, /metrics

A process keeps no state of runs but its own: everything about a run is read from the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from streamll.core.errors import ConfigurationError, RunUnavailable
from streamll.guards import Guard
from streamll.serve.log.run_log import RunLog
from streamll.serve.programs import checked, served
from streamll.serve.routes import (
    agui,
    answers,
    metrics,
    openai,
    openai_responses,
    openapi,
    runs,
    vercel,
)
from streamll.serve.routes.openai_options import SAMPLED
from streamll.serve.routes.pages import viewer_route
from streamll.serve.routes.rendering import VERCEL_NAMES
from streamll.serve.routes.rights import FORBIDDEN
from streamll.serve.routes.service import Service
from streamll.serve.runner import Runner
from streamll.serve.web.access import Access, Auth
from streamll.serve.web.limits import Limits
from streamll.serve.web.middleware import Middleware
from streamll.serve.web.requests import HTTPRefusal, refusal
from streamll.serve.web.signals import StopSignals

Endpoint = Callable[[Service, Request], Awaitable[Response]]

LOG = "sqlite:///streamll.db"
SAME_SIGNAL_S = 0.5
"""SIGINT so soon after SIGTERM is the same wish: a terminal sends SIGINT to all processes, and their
parent sends SIGTERM."""


def create_app(
    programs: Any,
    *,
    log: str = LOG,
    tokens: str | Iterable[str] = (),
    secret: str | bytes | None = None,
    origins: Iterable[str] = (),
    hosts: Iterable[str] | None = None,
    limits: Limits | None = None,
    viewer: bool = True,
    drain_on_signals: bool = True,
    ai_version: int | None = None,
    ignore_sampling: bool = False,
    auth: Auth | None = None,
    guards: Iterable[Guard] = (),
) -> App:
    """An ASGI application that serves ``programs``: one, several by name, or ``Served`` ones.

    Args:
        log: where runs are kept: ``sqlite:///…``, ``redis://…``, ``amqp://…``.
        tokens: bearer tokens that permit everything. Without any, only clients on the server's
            own machine are answered.
        secret: signs the tokens for single runs; needed where several processes serve.
        origins: other origins whose pages may call (CORS, WebSocket).
        hosts: the host names of this server.
        limits: see ``Limits``.
        viewer: serve the page at ``/``.
        drain_on_signals: on SIGTERM and SIGINT, end the readers' streams at once and let programs
            end; the server that runs the application then stops as usual. A second SIGINT
            (Ctrl-C) cancels the programs.
        ai_version: the major version of Vercel's ``ai`` package that the pages at ``/ai`` have: 5,
            6 or 7. By default they are sent what all of them understand.
        ignore_sampling: ignore ``temperature``, ``max_tokens`` and what else of OpenAI's requests
            shapes how a model writes. The program decides that, so by default a request is refused
            that asks for another value than OpenAI's own.
        auth: says who a request is from: a function, async or not, that is given Starlette's
            ``HTTPConnection`` and returns a ``Permit``, or ``None`` for nobody who is known (401).
            It is asked where no token of ``tokens``, and none for a single run, is given. If it
            raises, or takes more than 10 seconds, the request is refused (500).
        guards: what no event of the runs that are started here may show, of ``streamll.guards``,
            besides those of ``configure``. They are at work where a run is made, so that the log
            does not get the text either. A program elsewhere that writes to the same log has to
            guard itself, by ``streamll.configure(guards=…)`` in its own process.

    Raises:
        ConfigurationError: a program, token, log address, limit or version that cannot work; what is
            no guard.
        UnknownFieldError: a guard is about a field that none of the programs has.
    """
    if ai_version not in VERCEL_NAMES:
        raise ConfigurationError(f"ai_version is 5, 6, 7 or None, not {ai_version!r}")
    limits = limits or Limits()
    run_log = RunLog(log, away_s=limits.away_seconds, lost_s=limits.lost_seconds)
    access = Access(tokens, secret=secret, origins=origins, hosts=hosts, auth=auth)
    known = served(programs)
    service = Service(
        known,
        access,
        Runner(run_log, limits, checked(guards, known)),
        ai_version=ai_version,
        ignored=SAMPLED if ignore_sampling else frozenset(),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await service.runner.open()
        with _draining_on_signals(service) if drain_on_signals else contextlib.nullcontext():
            yield
            service.drain()
            await service.runner.close(service.limits.drain_seconds)

    refusals = {HTTPRefusal: _refused, RunUnavailable: _refused}
    inner = Starlette(lifespan=lifespan, exception_handlers=refusals)
    app = App(inner, service)
    inner.router.routes += routes_of(app)
    if viewer:
        inner.router.routes.append(viewer_route())
    return app


class App(Middleware):
    """The application. Where its lifespan is not run, the first request opens the log."""

    def __init__(self, inner: ASGIApp, service: Service) -> None:
        super().__init__(inner, service.access)
        self.service = service
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._loop = asyncio.get_running_loop()
        if scope["type"] != "lifespan":
            await self.service.runner.open()
        await super().__call__(scope, receive, send)

    def drain(self) -> None:
        """Do what ``drain_on_signals`` of ``create_app`` describes. Any thread may call this."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.service.drain)


def routes_of(app: App) -> list[BaseRoute]:
    """The table of routes. All but the first know who asks: ``request.state.permit``. Those with a
    ``{run_id}`` are answered if that person may see the run, and accept a token for that run.
    """
    service = app.service

    async def healthz(_: Request) -> Response:
        reachable = service.run_log.tail.reachable
        status = "ok" if reachable else "the log cannot be read"
        status = "draining" if service.draining else status
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    async def show_metrics(_: Service, request: Request) -> Response:
        if request.state.permit.see != "all":
            raise HTTPRefusal(FORBIDDEN, "metrics are for those who may see all runs")
        return Response(metrics.render(service, app), media_type=metrics.CONTENT_TYPE)

    def route(method: str, path: str, endpoint: Endpoint) -> Route:
        async def authorized(request: Request) -> Response:
            await service.admit(request, request.path_params.get("run_id"))
            return await endpoint(service, request)

        return Route(path, authorized, methods=[method])

    def openai_route(method: str, path: str, answer: Endpoint) -> Route:
        run_of = openai_responses.run_of if "{response_id}" in path else None
        return Route(path, openai.endpoint(service, answer, run_of), methods=[method])

    return [
        Route("/healthz", healthz),
        WebSocketRoute("/runs/{run_id}/ws", partial(runs.socket, service)),
        route("GET", "/metrics", show_metrics),
        route("POST", "/runs", runs.start),
        route("GET", "/runs", runs.list_runs),
        route("GET", "/runs/{run_id}", runs.look),
        route("DELETE", "/runs/{run_id}", runs.cancel),
        route("GET", "/runs/{run_id}/events", runs.events),
        route("GET", "/runs/{run_id}/report", runs.report),
        route("POST", "/runs/{run_id}/answers", answers.answer),
        route("GET", "/programs", runs.list_programs),
        route("GET", "/openapi.json", openapi.show),
        route("POST", "/ai", vercel.start),
        route("POST", "/ai/{program}", vercel.start),
        route("GET", "/ai/{chat}/stream", vercel.resume),
        route("DELETE", "/ai/{chat}/stream", vercel.stop),
        route("GET", "/ai/{program}/{chat:path}/stream", vercel.resume),
        route("DELETE", "/ai/{program}/{chat:path}/stream", vercel.stop),
        route("POST", "/agui/connect", agui.connect),
        *(
            route(method, f"{place}{end}", endpoint)
            for place in ("/agui", "/agui/{program}")
            for method, end, endpoint in (
                ("POST", "", agui.run),
                ("POST", "/connect", agui.connect),
                ("DELETE", "", agui.stop),
            )
        ),
        openai_route("POST", "/v1/chat/completions", openai.chat_completions),
        openai_route("POST", "/v1/responses", openai_responses.create),
        openai_route("GET", "/v1/responses/{response_id}", openai_responses.retrieve),
        openai_route("POST", "/v1/responses/{response_id}/cancel", openai_responses.cancel),
        openai_route("GET", "/v1/models", openai.models),
        openai_route("GET", "/v1/models/{model:path}", openai.model),
        Route(
            "/v1/{path:path}",
            openai.endpoint(service, openai.no_such_endpoint),
            methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        ),
    ]


async def _refused(_: Request, error: Any) -> Response:
    return refusal(error)


@contextlib.contextmanager
def _draining_on_signals(service: Service) -> Iterator[None]:
    loop, first, stopping_since, hurries = asyncio.get_running_loop(), 0, math.inf, False

    def hear(number: int) -> bool:
        """Whether the server is to hear of it: not of the Ctrl-C that cancels programs, for then it
        would not wait until that is written down. Of the next one it does.
        """
        nonlocal first, stopping_since, hurries
        if not first:
            first, stopping_since = number, time.monotonic()
            loop.call_soon_threadsafe(service.drain)
            return True
        if number != signal.SIGINT or hurries:
            return True
        if number == first or time.monotonic() - stopping_since > SAME_SIGNAL_S:
            hurries = True
            loop.call_soon_threadsafe(service.hurry)
        return False

    signals = StopSignals(hear)
    signals.install()
    try:
        yield
    finally:
        signals.remove()
