"""What all routes of one server share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response

from streamll.core.errors import StreamllError
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.log.frames import HEADERS, Position, read_position
from streamll.serve.log.run_log import LogAway
from streamll.serve.log.streams import stream_of_log
from streamll.serve.programs import Served
from streamll.serve.runner import NoSuchRun, Runner, TooManyRuns
from streamll.serve.web.access import Access
from streamll.serve.web.connections import ConnectionLimit
from streamll.serve.web.limits import ServerLimits
from streamll.serve.web.requests import HTTPRefusal, refuse
from streamll.serve.web.responses import StreamingBody

logger = logging.getLogger("streamll")


class Service:
    """Programs, and what it takes to serve them."""

    def __init__(
        self,
        *,
        programs: dict[str, Served],
        access: Access,
        limits: ServerLimits,
        runner: Runner,
        connections: ConnectionLimit,
    ) -> None:
        self.programs = programs
        self.access = access
        self.limits = limits
        self.runner = runner
        self.connections = connections
        self.draining = False
        self._ending: asyncio.Task[None] | None = None

    @property
    def only(self) -> Served | None:
        """The program, if there is but one."""
        return next(iter(self.programs.values())) if len(self.programs) == 1 else None

    def program(self, name: Any) -> Served:
        """The program of this name; no name is enough where there is but one.

        Raises:
            Refused: 404.
        """
        found = (
            self.only
            if name is None
            else self.programs.get(name)
            if isinstance(name, str)
            else None
        )
        if found is None:
            raise refuse(404, f"no such program; there are {', '.join(sorted(self.programs))}")
        return found

    async def start(
        self,
        program: Served,
        inputs: Mapping[str, Any],
        *,
        context: Mapping[str, Any] | None = None,
        chat: str | None = None,
    ) -> str:
        """Start a program and return its run's id.

        Raises:
            Refused: 400, 429, 500 or 503.
        """
        if self.draining:
            raise refuse(503, "this server is about to stop", **{"retry-after": "1"})
        try:
            program.check(inputs)
            return await self.runner.start(program, inputs, context=context, chat=chat)
        except TooManyRuns as error:
            raise refuse(429, str(error), **{"retry-after": "1"}) from None
        except LogAway as error:
            raise log_away(error) from None
        except (ValueError, TypeError) as error:
            raise refuse(400, str(error)) from None
        except StreamllError as error:
            logger.exception("a run could not start")
            raise refuse(500, type(error).__name__) from None

    def check_readers(self) -> None:
        """Raise ``Refused`` (503) when no more may read."""
        if self.connections.is_full or self.draining:
            raise refuse(503, "as many readers as may are here", **{"retry-after": "1"})

    def position(self, connection: HTTPConnection, run_id: str) -> Position:
        """Where a request wants to go on.

        Raises:
            Refused: 400.
        """
        query, headers = connection.query_params, connection.headers
        text = headers.get("last-event-id") or query.get("after") or query.get("lastEventId")
        try:
            position = Position(run_id) if not text else read_position(text, run_id)
        except ValueError as error:
            raise refuse(400, str(error)) from None
        if position.run_id != run_id:
            raise refuse(400, "this position is one of another run")
        return position

    async def has_more(self, position: Position) -> bool:
        """Whether anything comes, or will come, behind ``position``.

        Raises:
            Refused: 404, the log holds no such run; 503, it cannot be read.
        """
        try:
            return await self.runner.has_more(position)
        except NoSuchRun:
            raise self.no_such_run(position.run_id) from None
        except LogAway as error:
            raise log_away(error) from None

    def no_such_run(self, run_id: str) -> HTTPRefusal:
        self.runner.index.forget(run_id)
        return refuse(404, "there is no such run")

    async def latest(self, count: int) -> list[dict[str, Any]]:
        """The log's latest runs, the newest first.

        Raises:
            Refused: 503.
        """
        try:
            return await self.runner.latest(count)
        except LogAway as error:
            raise log_away(error) from None

    def respond(
        self,
        position: Position,
        format_name: str,
        options: RenderOptions,
        *,
        stop_on_leave: bool = False,
        can_return: bool = True,
    ) -> Response:
        """The run as an event stream."""
        runner = self.runner
        form = make_format(format_name, options)

        def left() -> None:
            if stop_on_leave:
                runner.cancel_if_running(position.run_id)

        chunks = stream_of_log(runner.run_log, position, form, left=left)
        return StreamingBody(
            lambda _: chunks,
            {**HEADERS, **form.headers, "x-streamll-run": position.run_id},
            stall_seconds=self.limits.stall_seconds,
            present=lambda: self.connections.present(can_return=can_return),
        )

    # --- the end --------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take no new work, send away who can come back, and bound what is still running."""
        if self.draining:
            return
        self.draining = True
        self.connections.dismiss()
        if running := len(self.runner.running):
            what = "1 program is" if running == 1 else f"{running} programs are"
            told = "stopping: %s still running, with %g s to end; Ctrl-C once more cancels"
            logger.warning(told, what, self.limits.drain_seconds)
        self._ending = asyncio.ensure_future(self._end_runs())

    async def _end_runs(self) -> None:
        await self.runner.wait_until_settled(self.limits.drain_seconds)
        self.hurry()

    def hurry(self) -> None:
        """Cancel what is still running here."""
        for run_id in list(self.runner.running):
            self.runner.cancel_if_running(run_id)

    def health(self) -> Response:
        reachable = self.runner.run_log.reachable
        status = "draining" if self.draining else "ok" if reachable else "the log cannot be read"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)


def log_away(error: LogAway) -> HTTPRefusal:
    return refuse(503, str(error), **{"retry-after": "1"})
