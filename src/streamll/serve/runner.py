"""The programs that run in this process, and what its processes tell each other through the log.

A run belongs to no request: it goes on when its readers leave. Its events go to the log, and from
there to readers, also to those of this very process, so that all see the same.

Said outside any run, for the other processes: ``server.cancel`` (whoever has this run, stop it) and
``server.alive`` (these runs are still on). Under the name of a chat: ``server.chat`` (its run).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import streamll
from streamll.core.closing import closing_events
from streamll.core.errors import StreamCancelled, StreamllError
from streamll.core.events import (
    NOBODY,
    TERMINAL,
    Event,
    Identity,
    StreamllEvent,
)
from streamll.core.run_view import RunView
from streamll.serve.log.buffer import RunBuffer
from streamll.serve.log.failures import log_failure
from streamll.serve.log.frames import Position
from streamll.serve.log.index import LISTED, RUN_LOST, RunIndex
from streamll.serve.log.run_log import LogAway, RunLog
from streamll.serve.log.tail import RETRY_SECONDS
from streamll.serve.programs import Served
from streamll.serve.web.limits import ServerLimits

logger = logging.getLogger("streamll")

CHAT_APPEARS_SECONDS = 0.25
"""What a chat's run may take to be known elsewhere. Mostly there is none: a page asks whenever it is loaded."""

ALIVE_SECONDS = 5.0
"""How often a process says which runs it has, at least."""

WRITTEN_SECONDS = 1.0
"""How long who started a run waits for the log to have it."""


class TooManyRuns(StreamllError):
    """As many programs run here as may."""


class NoSuchRun(StreamllError):
    """The log holds no run of this id."""


class Runner:
    """Starts programs, stops them, and looks after those that nobody runs any more."""

    def __init__(self, run_log: RunLog, limits: ServerLimits) -> None:
        self.run_log = run_log
        self.limits = limits
        self.running: dict[str, asyncio.Task[None]] = {}
        self.index = RunIndex(limits.lost_seconds)
        self.started = 0
        self._alive_seconds = min(ALIVE_SECONDS, limits.lost_seconds / 3)
        self._filling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._clock: asyncio.Task[None] | None = None
        self._reported: set[str] = set()

    async def open(self) -> None:
        if self._clock is None:
            self.run_log.talk.append(self._hear)
            self.run_log.everything.append(self.index.hear)
            self.run_log.glimpses.append(self.index.glimpse)
            self._clock = asyncio.create_task(self._tick(), name="streamll server clock")
            self._filling = asyncio.create_task(self._fill(), name="streamll runs of the log")
        await self.run_log.start()

    async def close(self, seconds: float) -> None:
        """Let runs end by themselves for so long, then cancel them, and write everything down."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        for helper in (self._clock, self._filling):
            if helper is not None:
                helper.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await helper
        self._clock = self._filling = None
        await self.run_log.close()

    # --- runs ---------------------------------------------------------------------------------

    async def start(
        self,
        served: Served,
        inputs: Mapping[str, Any],
        *,
        context: Mapping[str, Any] | None = None,
        chat: str | None = None,
        fields: Any = None,
    ) -> str:
        """Start a program; returns the id of its run as soon as the log has it.

        Raises:
            TooManyRuns: as many run here as may.
            LogAway: the log cannot be read, so nobody could follow the run.
        """
        if not self.run_log.reachable:
            raise LogAway
        if len(self._tasks) >= self.limits.runs:
            raise TooManyRuns(f"{self.limits.runs} programs run here already")
        call = streamll.stream(
            served.program,
            fields=served.fields if fields is None else fields,
            sinks=[self.run_log.sink],
            keep_text=False,
        )
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        run = self._perform(served.name, call(**inputs), ready, dict(context or {}), chat)
        task = asyncio.create_task(run, name=f"streamll run of {served.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await ready

    async def _perform(
        self,
        name: str,
        call: Any,
        ready: asyncio.Future[str],
        context: dict[str, Any],
        chat: str | None,
    ) -> None:
        run_id = None
        try:
            if context:
                streamll.set_context(**context)
            with contextlib.ExitStack() as held:
                async with call as events:
                    async for event in events:
                        if run_id is None:
                            run_id = event.run_id
                            held.enter_context(self.run_log.buffer(run_id))
                            self._began(run_id, chat, ready)
        except (StreamCancelled, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - the log tells it as run.error
            if run_id is not None:
                log_failure(name, run_id, error)
            elif not ready.done():
                ready.set_exception(error)
        finally:
            if run_id is None and not ready.done():
                ready.set_exception(StreamllError("the program ended before its run began"))
            self.running.pop(run_id or "", None)

    def _began(self, run_id: str, chat: str | None, ready: asyncio.Future[str]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.running[run_id] = task
        self.started += 1
        if chat is not None:
            self._say("server.chat", chat_key(chat), run_id=run_id)
        held = contextlib.ExitStack()
        buffer = held.enter_context(self.run_log.buffer(run_id))
        telling = asyncio.ensure_future(self._tell(run_id, buffer, held, ready))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _tell(
        self, run_id: str, buffer: RunBuffer, held: contextlib.ExitStack, ready: asyncio.Future[str]
    ) -> None:
        """Tell the run's id when the log has it: whoever knows it may ask another process."""
        with held:
            if buffer.last < 0:
                await asyncio.wait({buffer.news()}, timeout=WRITTEN_SECONDS)
        if not ready.done():
            ready.set_result(run_id)

    def cancel(self, run_id: str) -> None:
        """Stop a run, wherever it is."""
        if run_id in self.running:
            self.cancel_if_running(run_id)
        else:
            self._say("server.cancel", run_id=run_id)

    def cancel_if_running(self, run_id: str) -> None:
        """Stop a run of this process, if it has not ended."""
        task = self.running.get(run_id)
        if task is not None:
            task.cancel()

    async def run_of(self, chat: str) -> str | None:
        """The latest run of a chat."""
        key = chat_key(chat)
        found = await self._latest_of(key)
        if found is None and await self.run_log.appears(key, CHAT_APPEARS_SECONDS):
            found = await self._latest_of(key)
        return found

    async def _latest_of(self, key: str) -> str | None:
        found = None
        async for events in self.run_log.history(Position(key)):
            for event in events:
                if event.event_type == "server.chat":
                    found = str(event.data["run_id"])
        return found

    async def wait_until_settled(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def has_more(self, position: Position) -> bool:
        """Whether anything comes, or will come, behind ``position``.

        Raises:
            NoSuchRun: the log holds none.
            LogAway: it cannot be read.
        """
        if not self.run_log.reachable:
            raise LogAway
        run_id = position.run_id
        buffer = self.run_log.buffers.get(run_id)
        followed = buffer is not None and buffer.start < buffer.end and not buffer.ended
        if run_id in self.running or followed:
            return True
        async for _ in self.run_log.history(position):
            return True
        known = False
        async for events in self.run_log.history(Position(run_id)):
            if events[-1].event_type in TERMINAL:
                return False
            known = True
        if not known and not await self.run_log.appears(run_id):
            self.index.forget(run_id)
            raise NoSuchRun("there is no such run")
        return True

    # --- talk ---------------------------------------------------------------------------------

    def _say(self, kind: str, about: str | None = None, **data: Any) -> None:
        identity = NOBODY if about is None else Identity(run_id=about)
        event = StreamllEvent(event_type=kind, data=data, timestamp=time.time(), identity=identity)
        self.run_log.sink.put(event)

    def _hear(self, event: Event) -> None:
        if event.event_type == "server.cancel":
            self.cancel_if_running(str(event.data.get("run_id")))
        elif event.event_type == "server.alive":
            self.index.alive(event.data.get("runs", ()))
            for run_id in event.data.get("runs", ()):
                buffer = self.run_log.buffers.get(run_id)
                if buffer is not None:
                    buffer.heard_at = time.monotonic()

    async def _fill(self) -> None:
        """Learn from the log which runs there were before anybody listened here."""
        told = False
        while True:
            await self.run_log.listening()
            try:
                self.index.fill(await self.run_log.overview(LISTED))
            except Exception as error:  # noqa: BLE001 - the log may be away for a while
                if not told:
                    logger.warning("cannot list the runs of the log (%s)", type(error).__name__)
                told = True
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.run_log.follows_all = False
                return

    async def latest(self, count: int, patience: float = 5.0) -> list[dict[str, Any]]:
        """The log's latest runs, the newest first.

        Raises:
            LogAway: the log could not be read yet.
        """
        if not self.run_log.listens:
            raise LogAway
        if self._filling is not None:
            await asyncio.wait({self._filling}, timeout=patience)
        return self.index.latest(count)

    async def _tick(self) -> None:
        """Wake readers for their heartbeats; say what runs here; end what nobody runs."""
        now = time.monotonic()
        heartbeat_at, alive_at = now + self.limits.heartbeat_seconds, now + self._alive_seconds
        while True:
            await asyncio.sleep(min(1.0, self.limits.heartbeat_seconds, self._alive_seconds))
            now = time.monotonic()
            if self.run_log.is_given_up:
                self.run_log.wake()
            if now >= heartbeat_at:
                heartbeat_at = now + self.limits.heartbeat_seconds
                self.run_log.wake()
            if now >= alive_at:
                alive_at = now + self._alive_seconds
                if self.running:
                    self._say("server.alive", process=os.getpid(), runs=list(self.running))
            for buffer in list(self.run_log.buffers.values()):
                if self._is_lost(buffer, now):
                    await self._report_lost(buffer)

    def _is_lost(self, buffer: RunBuffer, now: float) -> bool:
        if buffer.ended or buffer.run_id in self.running or buffer.run_id in self._reported:
            return False
        if not self.run_log.reachable:
            return False
        silent = self.index.unattended(buffer.run_id)
        if silent is None or not self._has_heard_all(now):
            silent = now - buffer.heard_at
        return silent > self.limits.lost_seconds

    def _has_heard_all(self, now: float) -> bool:
        """Who lives has been heard by now: also those that had to wait for the log themselves."""
        run_log = self.run_log
        wait = self.limits.lost_seconds if run_log.interrupted else 2 * self._alive_seconds
        return now - run_log.since > wait

    async def _report_lost(self, buffer: RunBuffer) -> None:
        """Close a run in the log whose process is gone, so that every reader comes to an end."""
        self._reported.add(buffer.run_id)
        view = RunView(keep_ended=False)
        try:
            async for events in self.run_log.history(Position(buffer.run_id)):
                if events[-1].event_type in TERMINAL:
                    return
                for event in events:
                    view.feed(event)
        except LogAway:
            self._reported.discard(buffer.run_id)  # the next look tries again
            return
        if view.seq < 0:
            return
        message = "the process that ran it is gone"
        for event in closing_events(view, buffer.run_id, time.time(), RUN_LOST, message):
            self.run_log.sink.put(event)


def chat_key(chat: str) -> str:
    """The name under which the log keeps a chat's runs. Chat ids are the clients' own choice."""
    return "chat-" + hashlib.sha256(chat.encode()).hexdigest()[:32]
