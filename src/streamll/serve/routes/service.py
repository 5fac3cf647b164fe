"""What the routes of one server share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from streamll.core.errors import RunUnavailable, StreamllError, logger
from streamll.core.positions import AFTER_EVERYTHING, Position
from streamll.serve.formats import OutputFormat
from streamll.serve.log.frames import HEADERS
from streamll.serve.log.index import brief
from streamll.serve.log.search import RunSearch
from streamll.serve.log.streams import RunWriter, sse_of_log
from streamll.serve.permits import OWNER, SERVED_AS, SERVERS_OWN, Permit, RunFacts
from streamll.serve.programs import Served
from streamll.serve.routes.rights import FORBIDDEN, Rights
from streamll.serve.runner import Runner
from streamll.serve.web.access import Access
from streamll.serve.web.requests import HTTPRefusal, authorize, flag_in
from streamll.serve.web.responses import ResponseBody, StreamingBody

KEPT_CHATS = 10_000


Sent = tuple[str, str, str | None]
"""A run, a chat, and who was sent the end of that run."""


class RecentChats:
    """What was added last; older entries are forgotten."""

    def __init__(self) -> None:
        self._sent: dict[Sent, None] = {}

    def __contains__(self, sent: Sent) -> bool:
        return sent in self._sent

    def add(self, sent: Sent) -> None:
        self._sent.pop(sent, None)
        self._sent[sent] = None
        if len(self._sent) > KEPT_CHATS:
            del self._sent[next(iter(self._sent))]


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
        """Who was sent the end of a run in a chat of Vercel's wire."""
        self.access = access
        self.runner = runner
        self.run_log = runner.run_log
        self.search = RunSearch(runner.run_log)
        self.rights = Rights(runner)
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

    async def admit(self, connection: HTTPConnection, run_id: str | None = None) -> Permit:
        """Who asks, and what that person may: kept as ``state.permit`` of the request.

        Args:
            connection: a request, or a WebSocket that is not accepted yet.
            run_id: the run that it is about, if its address names one.

        Raises:
            HTTPRefusal: 401, 500; see ``authorize``.
            NoSuchRun: there is no such run, or it is hidden from this person.
        """
        permit: Permit = await authorize(connection, self.access, run_id)
        if run_id is not None:
            await self.rights.check(permit, run_id)
        connection.state.permit = permit
        return permit

    async def start(
        self,
        permit: Permit,
        program: Served,
        inputs: Mapping[str, Any],
        *,
        context: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Start a program as ``Runner.start`` does, for who has the permit.

        ``HTTPRefusal`` (400, 403, 500, 503) if it cannot be. ``inputs`` are converted before, by
        ``program.convert`` or ``program.inputs_from``.
        """
        if self.draining:
            raise HTTPRefusal(503, "this server is about to stop")
        given = dict(context or {})
        for name in given:
            if name.startswith(SERVERS_OWN):
                what = f"a context cannot have {name!r}: the server sets what begins with {SERVERS_OWN}"
                raise HTTPRefusal(400, what)
        facts = RunFacts(None, program.name, brief(given), permit.who)
        if not permit.may("start", facts):
            raise HTTPRefusal(FORBIDDEN, f"you may not start {program.name}")
        if permit.who is not None:
            given |= {OWNER: permit.who, SERVED_AS: program.name}
        try:
            run_id = await self.runner.start(program, inputs, context=given, **options)
        except RunUnavailable:
            raise
        except (ValueError, TypeError) as error:
            raise HTTPRefusal(400, str(error)) from None
        except StreamllError as error:
            logger.exception("a run could not be started")
            raise HTTPRefusal(500, type(error).__name__) from None
        self.rights.note(run_id, msgspec.structs.replace(facts, run_id=run_id))
        return run_id

    def check_readers(self) -> None:
        """Raise ``HTTPRefusal`` (503) if no more readers are admitted."""
        if len(self.readers) >= self.limits.readers or self.draining:
            raise HTTPRefusal(503, "this server has as many readers as it may")

    @contextlib.contextmanager
    def reader(
        self, *, can_return: bool, leave: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Count this task as one that sends to a reader.

        Args:
            can_return: the client knows how to resume, so ``drain`` may cancel the task.
            leave: called when the reader has left.
        """
        task = asyncio.current_task()
        assert task is not None
        self.readers[task] = can_return
        self.readers_seen += 1
        if can_return and self.draining:  # since it was let in: ``drain`` did not see it
            task.cancel()
        try:
            yield
        finally:
            del self.readers[task]
            was_sent_away = can_return and self.draining
            if leave is not None and not was_sent_away:
                leave()

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

        leave = self.leaving(position.run_id, form) if stop_on_leave else None
        return StreamingBody(
            chunks,
            {**HEADERS, **form.headers, "x-streamll-run": position.run_id},
            self.limits,
            self.reader(can_return=can_return, leave=leave),
        )

    def leaving(self, run_id: str, form: OutputFormat) -> Callable[[], None]:
        """What stops the run as a reader leaves that has asked for it."""

        def leave() -> None:
            under_way = run_id in self.runner.running or self.run_log.index.is_under_way(run_id)
            if under_way and not form.left:
                self.runner.cancel(run_id)  # whichever process runs it

        return leave

    async def stops_on_leave(self, request: HTTPConnection, run_id: str) -> bool:
        """Whether the run is to be stopped when this reader leaves; ``HTTPRefusal`` if that is
        unclear (400), or this person may not stop it (403).
        """
        if not flag_in(request, "stop_on_leave"):
            return False
        await self.rights.check(request.state.permit, run_id, "stop")
        return True

    async def stop(self, permit: Permit, run_id: str) -> Response:
        """Stop a run, or say that it is over; ``HTTPRefusal`` (403) where that is not permitted."""
        await self.rights.check(permit, run_id, "stop")
        if not await self.runner.has_more(Position(run_id, AFTER_EVERYTHING)):
            return JSONResponse({"run_id": run_id, "status": "over"})
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
