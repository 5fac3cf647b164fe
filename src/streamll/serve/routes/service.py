"""What the routes of one server share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from streamll.core.errors import RunUnavailable, StreamllError, logger
from streamll.core.positions import Position
from streamll.serve.formats import OutputFormat
from streamll.serve.log.frames import HEADERS
from streamll.serve.log.search import RunSearch
from streamll.serve.log.streams import RunWriter, sse_of_log
from streamll.serve.programs import Served
from streamll.serve.runner import Runner
from streamll.serve.web.access import Access
from streamll.serve.web.requests import HTTPRefusal
from streamll.serve.web.responses import ResponseBody, StreamingBody

KEPT_CHATS = 10_000


class RecentChats:
    """The pairs of run and chat that were added last; older ones are forgotten."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], None] = {}

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return pair in self._pairs

    def add(self, pair: tuple[str, str]) -> None:
        self._pairs.pop(pair, None)
        self._pairs[pair] = None
        if len(self._pairs) > KEPT_CHATS:
            del self._pairs[next(iter(self._pairs))]


class Service:
    """The programs of a server, and what it takes to serve them."""

    def __init__(
        self,
        programs: dict[str, Served],
        access: Access,
        runner: Runner,
        *,
        ai_version: int | None = None,
        ignored: AbstractSet[str] = frozenset(),
    ) -> None:
        self.programs = programs
        self.ai_version = ai_version
        """The major version of Vercel's ``ai`` package that pages have, if it is known."""
        self.ignored = ignored
        """Options of OpenAI's requests that are ignored rather than refused."""
        self.sent = RecentChats()
        """Chats of Vercel's wire that were sent the end of a run: pairs of run and chat."""
        self.access = access
        self.runner = runner
        self.run_log = runner.run_log
        self.search = RunSearch(runner.run_log)
        self.limits = runner.limits
        self.readers: dict[asyncio.Task[object], bool] = {}
        """The tasks that send to readers, and whether these know how to come back and resume."""
        self.readers_seen = 0
        self.draining = False
        self._ending: asyncio.Task[None] | None = None

    @property
    def only(self) -> Served | None:
        """The program, if there is exactly one."""
        return next(iter(self.programs.values())) if len(self.programs) == 1 else None

    def program(self, name: Any) -> Served:
        """The program of this name, or the ``only`` one for ``None``; else ``HTTPRefusal`` (404)."""
        found = self.programs.get(name) if isinstance(name, str) else None
        found = self.only if name is None else found
        if found is None:
            known = ", ".join(sorted(self.programs))
            raise HTTPRefusal(404, f"no such program; there are {known}")
        return found

    async def start(self, program: Served, inputs: Mapping[str, Any], **options: Any) -> str:
        """Start a program as ``Runner.start`` does; ``HTTPRefusal`` (400, 500, 503) if it cannot be.

        ``inputs`` are converted before, by ``program.convert`` or ``program.inputs_from``.
        """
        if self.draining:
            raise HTTPRefusal(503, "this server is about to stop")
        try:
            return await self.runner.start(program, inputs, **options)
        except RunUnavailable:
            raise
        except (ValueError, TypeError) as error:
            raise HTTPRefusal(400, str(error)) from None
        except StreamllError as error:
            logger.exception("a run could not be started")
            raise HTTPRefusal(500, type(error).__name__) from None

    def check_readers(self) -> None:
        """Raise ``HTTPRefusal`` (503) if no more readers are admitted."""
        if len(self.readers) >= self.limits.readers or self.draining:
            raise HTTPRefusal(503, "this server has as many readers as it may")

    @contextlib.contextmanager
    def reader(self, *, can_return: bool, stops: str | None = None) -> Iterator[None]:
        """Count this task as one that sends to a reader.

        Args:
            can_return: the client knows how to resume, so ``drain`` may cancel the task.
            stops: the run that is stopped when the reader leaves.
        """
        task = asyncio.current_task()
        assert task is not None
        self.readers[task] = can_return
        self.readers_seen += 1
        try:
            yield
        finally:
            del self.readers[task]
            if stops is not None:
                self.runner.cancel_here(stops)

    def respond(
        self,
        position: Position,
        form: OutputFormat,
        *,
        stop_on_leave: bool = False,
        can_return: bool = True,
        sent: Callable[[], None] | None = None,
    ) -> Response:
        """The run as an event stream. ``sent`` is called when all of it has been sent."""

        async def chunks(_: Scope) -> ResponseBody:
            body = sse_of_log(self.run_log, position, RunWriter(form, frames=True))
            return body if sent is None else _then(body, sent)

        return StreamingBody(
            chunks,
            {**HEADERS, **form.headers, "x-streamll-run": position.run_id},
            self.limits,
            self.reader(can_return=can_return, stops=position.run_id if stop_on_leave else None),
        )

    def cancel(self, run_id: str) -> Response:
        """Stop a run, and say so."""
        self.runner.cancel(run_id)
        return JSONResponse({"run_id": run_id, "status": "cancelling"}, 202)

    # --- the end --------------------------------------------------------------------------------

    def drain(self) -> None:
        """Accept no new work, dismiss readers that can resume, and bound what is still running."""
        if self.draining:
            return
        self.draining = True
        for reader in [task for task, can_return in self.readers.items() if can_return]:
            reader.cancel()
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


async def _then(
    chunks: AsyncGenerator[bytes, None], done: Callable[[], None]
) -> AsyncGenerator[bytes, None]:
    """The chunks; calls ``done`` when all of them were taken."""
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            yield chunk
        done()
