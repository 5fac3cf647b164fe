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
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import streamll
from streamll.core.errors import StreamCancelled, StreamllError
from streamll.core.events import (
    NOBODY,
    TERMINAL,
    Event,
    Identity,
    RunError,
    RunStart,
    StreamllEvent,
)
from streamll.serve.frames import Position, items_of
from streamll.serve.journal import Feed, Journal
from streamll.serve.limits import Limits
from streamll.serve.programs import Served

logger = logging.getLogger("streamll")

ALIVE_SECONDS = 5.0
REMEMBERED = 200
"""Runs that ``recent`` lists."""


class TooManyRuns(StreamllError):
    """As many programs run here as may."""


class LogAway(StreamllError):
    """The log has not been reached yet, so nobody could follow a run."""


class Runner:
    """Starts programs, stops them, and looks after those that nobody runs any more."""

    def __init__(self, journal: Journal, limits: Limits) -> None:
        self.journal = journal
        self.limits = limits
        self.running: dict[str, asyncio.Task[None]] = {}
        self.recent: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.started = 0
        self.ended: dict[str, int] = dict.fromkeys(sorted(TERMINAL), 0)
        self._starting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._clock: asyncio.Task[None] | None = None
        self._reported: set[str] = set()

    async def open(self) -> None:
        if self._clock is None:
            self.journal.talk.append(self._hear)
            self.journal.everything.append(self._remember)
            self._clock = asyncio.create_task(self._tick(), name="streamll server clock")
        await self.journal.start()

    async def close(self, seconds: float) -> None:
        """Let runs end by themselves for so long, then cancel them, and write everything down."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        if self._clock is not None:
            self._clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._clock
            self._clock = None
        await self.journal.close()

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
        """Start a program; returns the id of its run as soon as it has one.

        Raises:
            TooManyRuns: as many run here as may.
            LogAway: the log could not be read yet.
        """
        if not self.journal.listens:
            raise LogAway("the log cannot be read")
        if len(self._tasks) >= self.limits.runs:
            raise TooManyRuns(f"{self.limits.runs} programs run here already")
        call = streamll.stream(
            served.program,
            fields=served.fields if fields is None else fields,
            sinks=[self.journal.sink],
            keep_text=False,
        )
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        run = self._perform(call(**inputs), ready, dict(context or {}), chat)
        task = asyncio.create_task(run, name=f"streamll run of {served.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await ready

    async def _perform(
        self, call: Any, ready: asyncio.Future[str], context: dict[str, Any], chat: str | None
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
                            held.enter_context(self.journal.feed(run_id))
                            self._began(run_id, chat, ready)
        except (StreamCancelled, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - the log tells it as run.error
            if not ready.done():
                ready.set_exception(error)
        finally:
            if not ready.done():
                ready.set_exception(StreamllError("the program ended before its run began"))
            self.running.pop(run_id or "", None)

    def _began(self, run_id: str, chat: str | None, ready: asyncio.Future[str]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.running[run_id] = task
        self.started += 1
        if chat is not None:
            self._say("server.chat", chat_key(chat), run_id=run_id)
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
        found = None
        async for events in self.journal.history(Position(chat_key(chat))):
            for event in events:
                if event.event_type == "server.chat":
                    found = str(event.data["run_id"])
        return found

    async def wait_until_settled(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    # --- talk ---------------------------------------------------------------------------------

    def _say(self, kind: str, about: str | None = None, **data: Any) -> None:
        identity = NOBODY if about is None else Identity(run_id=about)
        event = StreamllEvent(event_type=kind, data=data, timestamp=time.time(), identity=identity)
        self.journal.sink.put(event)

    def _hear(self, event: Event) -> None:
        if event.event_type == "server.cancel":
            self.cancel_if_running(str(event.data.get("run_id")))
        elif event.event_type == "server.alive":
            for run_id in event.data.get("runs", ()):
                feed = self.journal.feeds.get(run_id)
                if feed is not None:
                    feed.heard_at = time.monotonic()

    def _remember(self, events: list[Event]) -> None:
        """Keep the list of recent runs."""
        for event in events:
            run_id = event.run_id or ""
            if isinstance(event, RunStart):
                self.recent[run_id] = {
                    "run_id": run_id,
                    "program": event.program,
                    "status": "running",
                    "started_at": event.timestamp,
                }
                if len(self.recent) > REMEMBERED:
                    self.recent.popitem(last=False)
            elif event.event_type in TERMINAL:
                self.ended[event.event_type] += 1
                if run_id in self.recent:
                    status = STATUS[event.event_type]
                    self.recent[run_id].update(status=status, ended_at=event.timestamp)

    async def _tick(self) -> None:
        """Wake readers for their heartbeats; say what runs here; end what nobody runs."""
        now = time.monotonic()
        heartbeat_at, alive_at = now + self.limits.heartbeat_seconds, now + ALIVE_SECONDS
        while True:
            await asyncio.sleep(min(1.0, self.limits.heartbeat_seconds))
            now = time.monotonic()
            if now >= heartbeat_at:
                heartbeat_at = now + self.limits.heartbeat_seconds
                self.journal.wake()
            if now >= alive_at:
                alive_at = now + ALIVE_SECONDS
                if self.running:
                    self._say("server.alive", process=os.getpid(), runs=list(self.running))
            for feed in list(self.journal.feeds.values()):
                if self._is_lost(feed, now):
                    await self._report_lost(feed)

    def _is_lost(self, feed: Feed, now: float) -> bool:
        silent = now - feed.heard_at > self.limits.lost_seconds
        local = feed.run_id in self.running
        return silent and not (local or feed.ended or feed.run_id in self._reported)

    async def _report_lost(self, feed: Feed) -> None:
        """Close a run in the log whose process is gone, so that every reader comes to an end."""
        self._reported.add(feed.run_id)
        last = -1
        async for events in self.journal.history(Position(feed.run_id)):
            last = items_of(events, last)[-1].last
            if events[-1].event_type in TERMINAL:
                return
        if last < 0:
            return
        self.journal.sink.put(
            RunError(
                seq=last + 1,
                timestamp=time.time(),
                identity=Identity(run_id=feed.run_id),
                error_type="RunLost",
                message="the process that ran it is gone",
            )
        )


STATUS = {"run.end": "ended", "run.error": "failed", "run.cancelled": "cancelled"}


def chat_key(chat: str) -> str:
    """The name under which the log keeps a chat's runs. Chat ids are the clients' own choice."""
    return "chat-" + hashlib.sha256(chat.encode()).hexdigest()[:32]
