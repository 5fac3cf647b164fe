"""What the routes of one server share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from streamll.core.errors import RunUnavailable, StreamllError
from streamll.core.positions import Position
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.log.frames import HEADERS
from streamll.serve.log.streams import RunWriter, sse_of_log
from streamll.serve.programs import Served
from streamll.serve.runner import Runner
from streamll.serve.web.access import Access
from streamll.serve.web.connections import ConnectionLimit
from streamll.serve.web.limits import Limits
from streamll.serve.web.requests import HTTPRefusal
from streamll.serve.web.responses import StreamingBody

logger = logging.getLogger("streamll")


class Service:
    """The programs of a server, and what it takes to serve them."""

    def __init__(
        self, programs: dict[str, Served], access: Access, limits: Limits, runner: Runner
    ) -> None:
        self.programs = programs
        self.access = access
        self.limits = limits
        self.runner = runner
        self.run_log = runner.run_log
        self.connections = ConnectionLimit(limits.readers)
        self.draining = False
        self._ending: asyncio.Task[None] | None = None

    @property
    def only(self) -> Served | None:
        """The program, if there is exactly one."""
        return next(iter(self.programs.values())) if len(self.programs) == 1 else None

    def program(self, name: Any) -> Served:
        """The program of this name; where there is exactly one, the name may be omitted.

        Raises:
            HTTPRefusal: 404.
        """
        found = self.programs.get(name) if isinstance(name, str) else None
        found = self.only if name is None else found
        if found is None:
            known = ", ".join(sorted(self.programs))
            raise HTTPRefusal(404, f"no such program; there are {known}")
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
            HTTPRefusal: 400, 500 or 503.
            TooManyRuns, LogAway: it cannot be started now.
        """
        if self.draining:
            raise HTTPRefusal(503, "this server is about to stop")
        try:
            program.check(inputs)
            return await self.runner.start(program, inputs, context=context, chat=chat)
        except RunUnavailable:
            raise
        except (ValueError, TypeError) as error:
            raise HTTPRefusal(400, str(error)) from None
        except StreamllError as error:
            logger.exception("a run could not be started")
            raise HTTPRefusal(500, type(error).__name__) from None

    def check_readers(self) -> None:
        """Raise ``HTTPRefusal`` (503) if no more readers are admitted."""
        if self.connections.is_full or self.draining:
            raise HTTPRefusal(503, "this server has as many readers as it may")

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
        form = make_format(format_name, options)

        def on_end() -> None:
            if stop_on_leave:
                self.runner.cancel_here(position.run_id)

        chunks = sse_of_log(self.run_log, position, RunWriter(form, frames=True), on_end)
        return StreamingBody(
            lambda _: chunks,
            {**HEADERS, **form.headers, "x-streamll-run": position.run_id},
            stall_s=self.limits.stall_seconds,
            heartbeat_s=self.limits.heartbeat_seconds,
            hold=lambda: self.connections.hold(can_return=can_return),
        )

    # --- the end --------------------------------------------------------------------------------

    def drain(self) -> None:
        """Accept no new work, dismiss readers that can resume, and bound what is still running."""
        if self.draining:
            return
        self.draining = True
        self.connections.dismiss()
        if running := len(self.runner.running):
            what = "1 program is" if running == 1 else f"{running} programs are"
            text = "stopping: %s still running, with %g s to end; Ctrl-C once more cancels"
            logger.warning(text, what, self.limits.drain_seconds)
        self._ending = asyncio.ensure_future(self._end_runs())

    async def _end_runs(self) -> None:
        await self.runner.wait(self.limits.drain_seconds)
        self.hurry()

    def hurry(self) -> None:
        """Cancel what is still running here."""
        for run_id in list(self.runner.running):
            self.runner.cancel_here(run_id)

    def health(self) -> Response:
        reachable = self.run_log.tail.reachable
        status = "draining" if self.draining else "ok" if reachable else "the log cannot be read"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)
