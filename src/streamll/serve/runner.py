"""The programs that run in this process, and the messages of the server's processes.

A run belongs to no request: it goes on when its readers leave. Its events go to the log, and from
there to readers, also to those of this very process, so that all see the same.

Messages go through the log, outside any run: controls (``log/controls.py``: ``server.cancel``, upon which the
process that runs this stops it) and ``server.alive`` (these runs are under way). ``server.chat`` is kept under a chat's key and
has the id of its run and what its wire is to know of it; ``server.response`` has what a response of OpenAI's API was asked for, sealed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import streamll
from streamll.asking.messages import hear, refusal_in
from streamll.core.errors import LogAway, NoSuchRun, StreamCancelled, TooManyRuns, logger
from streamll.core.events import NOBODY, TERMINAL, Event, Identity, StreamllEvent
from streamll.core.places import own_place
from streamll.core.positions import Position
from streamll.core.run_view import (
    ALIVE,
    RUN_GONE,
    RUN_LOST,
    RunView,
    closing_events,
    silence_notice,
)
from streamll.flow.ending import end
from streamll.guards import Guard
from streamll.serve.log.buffer import RunBuffer
from streamll.serve.log.controls import Controls
from streamll.serve.log.run_log import APPEARS_S, RunLog
from streamll.serve.programs import Served, guards_for
from streamll.serve.web.limits import Limits

CHAT_APPEARS_S = 0.25
"""How long a chat's run may take to be known elsewhere. Mostly there is none: a page asks whenever
it is loaded."""

ALIVE_S = 5.0
"""The longest between two reports of a process which runs it has."""

LOGGED_S = 1.0
"""How long the start of a run waits for the log to have it."""

CANCEL_S = 5.0
"""How long cancelled programs may take to end before the process does."""


class Runner:
    """Starts and stops programs, and closes runs whose process is gone."""

    def __init__(self, run_log: RunLog, limits: Limits, guards: Iterable[Guard] = ()) -> None:
        self.run_log = run_log
        self.limits = limits
        self.guards = tuple(guards)
        self._guards: dict[str, tuple[Guard, ...]] = {}
        """Of each program; the same objects for all its runs."""
        self.running: dict[str, Any] = {}
        """The ``AsyncStream`` of each run of this process."""
        self.started = 0
        self.controls = Controls(run_log.sink.put)
        self.controls.on("cancel", lambda run_id, _: self.cancel_here(run_id))
        self.controls.on("answer", self._hear_answer)
        self.controls.on("answer_refused", self._answer_refused)
        self._refusals: dict[str, asyncio.Future[Exception]] = {}
        self._alive_s = min(ALIVE_S, limits.lost_seconds / 3)
        self._tasks: set[asyncio.Task[None]] = set()
        self._clock: asyncio.Task[None] | None = None
        self._closed_as_lost: set[str] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._late: set[str] = set()
        """Runs that were started here and that the log did not have a second later."""

    async def open(self) -> None:
        if self._clock is None:
            self.run_log.tail.on_message = self.controls.hear
            self._clock = asyncio.create_task(self._tick(), name="streamll server clock")
        await self.run_log.start()

    async def close(self, seconds: float) -> None:
        """Let runs end by themselves for so long, then cancel them, and write everything down."""
        await self.wait(seconds)
        for task in list(self._tasks):
            task.cancel()
        await self.wait(CANCEL_S)
        clock, self._clock = self._clock, None
        if clock is not None:
            await end(clock, *self._closing)
        await self.run_log.close()

    async def wait(self, seconds: float) -> None:
        """Wait for the runs of this process to end, so long at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    # --- runs ---------------------------------------------------------------------------------

    async def start(
        self,
        served: Served,
        inputs: Mapping[str, Any],
        *,
        context: Mapping[str, Any] | None = None,
        chat: str | None = None,
        about: Mapping[str, Any] | None = None,
        questions: bool = True,
        guards: Iterable[Guard] = (),
    ) -> str:
        """Start a program; returns the id of its run as soon as the log has it, since whoever
        knows the id may use it with another process.

        Args:
            chat: the name under which ``runs_of`` finds the run.
            about: what ``runs_of`` is to know of it.
            questions: ``False``: whoever reads the run has no place for questions.
            guards: of this run, besides the server's own.

        Raises:
            TooManyRuns: as many run here as may.
            LogAway: the log cannot be read, so nobody could follow the run.
        """
        self.run_log.check()
        if len(self._tasks) >= self.limits.runs:
            raise TooManyRuns(f"{self.limits.runs} programs run here already")
        call = streamll.stream(
            served.program,
            fields=served.fields,
            sinks=[self.run_log.sink],
            read=False,
            questions=questions,
            guards=(*self._guards_of(served), *guards),
        )(**inputs)
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        run = self._run(served.name, call, dict(context or {}), started)
        task = asyncio.create_task(run, name=f"streamll run of {served.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        run_id = await started
        if chat is not None:
            self._send_message("server.chat", chat_key(chat), run_id=run_id, **(about or {}))
        with self.run_log.buffer(run_id) as buffer:
            if buffer.is_empty:
                await asyncio.wait({buffer.changed()}, timeout=LOGGED_S)
            if buffer.is_empty:
                self._late.add(run_id)  # forgotten when somebody asks for it
        return run_id

    def _guards_of(self, served: Served) -> tuple[Guard, ...]:
        """The server's guards, without what is about fields of others of its programs."""
        if served.name not in self._guards:
            self._guards[served.name] = guards_for(served.program, self.guards)
        return self._guards[served.name]

    async def _run(
        self, name: str, call: Any, context: dict[str, Any], started: asyncio.Future[str]
    ) -> None:
        if context:
            streamll.set_context(**context)
        try:
            async with call as events:
                run_id = events.run_id
                with self.run_log.buffer(run_id):
                    self.running[run_id] = events
                    self.started += 1
                    started.set_result(run_id)
                    try:
                        with contextlib.suppress(StreamCancelled):
                            await events.result()
                    except Exception as error:  # noqa: BLE001 - the run's last event has it
                        log_failure(name, run_id, error, guarded=events.is_guarded)
                    finally:
                        del self.running[run_id]
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    def cancel(self, run_id: str) -> None:
        """Stop a run, wherever it runs."""
        if not self.cancel_here(run_id):
            self.controls.send("cancel", run_id)

    def cancel_here(self, run_id: str) -> bool:
        """Stop a run of this process; False if there is none, or it has ended."""
        events = self.running.get(run_id)
        if events is not None:
            events.cancel()
        return events is not None

    @contextlib.contextmanager
    def refusal_of(self, answer_id: str) -> Iterator[asyncio.Future[Exception]]:
        """Why an answer that went through the log was not taken, as soon as that is heard."""
        refused = self._refusals[answer_id] = asyncio.get_running_loop().create_future()
        try:
            yield refused
        finally:
            del self._refusals[answer_id]

    def _hear_answer(self, run_id: str, data: Mapping[str, Any]) -> None:
        if run_id in self.running:
            hear(data, self.run_log.sink.put)

    def _answer_refused(self, _: str, data: Mapping[str, Any]) -> None:
        refused = self._refusals.get(str(data.get("answer_id")))
        if refused is not None and not refused.done():
            refused.set_result(refusal_in(data))

    async def keep(self, key: str, kind: str, **data: Any) -> None:
        """Keep something in the log under a key, outside any run; returns when the log has it."""
        with self.run_log.buffer(key) as buffer:
            self._send_message(kind, key, **data)
            if buffer.is_empty:
                await asyncio.wait({buffer.changed()}, timeout=LOGGED_S)

    async def kept(self, key: str, seconds: float) -> Mapping[str, Any] | None:
        """What was kept under the key last; waits so long for something to come."""
        found: Mapping[str, Any] | None = None
        if await self.run_log.appears(key, seconds):
            async for items in self.run_log.history(Position(key)):
                found = items[-1].event.data
        return found

    async def runs_of(self, chat: str) -> list[Mapping[str, Any]]:
        """``run_id`` and what else is known of the runs of a chat, the latest last."""
        key, found = chat_key(chat), []
        if await self.run_log.appears(key, CHAT_APPEARS_S):
            async for items in self.run_log.history(Position(key)):
                found += [item.event.data for item in items]
        return found

    async def has_more(self, position: Position) -> bool:
        """Whether the run has events after ``position``, or may get some.

        Raises ``NoSuchRun`` where the log has none, ``LogAway`` where it cannot be read.
        """
        run_id = position.run_id
        if self._is_under_way(run_id):
            return True
        last = None
        async for items in self.run_log.history(Position(run_id)):
            last = items[-1]
            if last.position.seq > position.seq:
                return True
        if last is None:
            await self.expect(run_id)
        return last is None or last.event.event_type not in TERMINAL

    async def ended_at(self, run_id: str) -> float | None:
        """When a run ended, in seconds since the epoch; ``None`` as long as it is under way.

        Raises ``NoSuchRun`` and ``LogAway`` as ``has_more`` does.
        """
        if self._is_under_way(run_id):
            return None
        last: Event | None = None
        async for items in self.run_log.history(Position(run_id)):
            last = items[-1].event
        if last is None:
            await self.expect(run_id)
            return None
        return last.timestamp if last.event_type in TERMINAL else None

    def _is_under_way(self, run_id: str) -> bool:
        """Whether this process knows that the run has not ended, without reading the log; ``LogAway`` if
        nobody can know.
        """
        self.run_log.check()
        buffer = self.run_log.buffers.get(run_id)
        if buffer is not None and buffer.ended:  # which is heard before a program here has returned
            return False
        followed = buffer is not None and not buffer.is_empty
        return run_id in self.running or followed or self.run_log.index.is_under_way(run_id)

    async def expect(self, run_id: str) -> None:
        """Wait for a run that may have been started a moment ago; ``NoSuchRun`` if none comes."""
        seconds = self.limits.away_seconds if run_id in self._late else APPEARS_S
        appeared = await self.run_log.appears(run_id, seconds)
        self._late.discard(run_id)
        if not appeared:
            self.run_log.index.forget(run_id)
            raise NoSuchRun

    async def view(self, run_id: str, *, keep_ended: bool = True) -> RunView:
        """What the log has of a run; ``LogAway`` if it cannot be read."""
        view = RunView(keep_ended=keep_ended)
        async for items in self.run_log.history(Position(run_id)):
            for item in items:
                view.feed(item.event)
        return view

    async def events(self, run_id: str) -> list[Event]:
        """What the log has of a run; ``NoSuchRun`` if it has none, ``LogAway`` if it cannot be read."""
        found: list[Event] = []
        async for items in self.run_log.history(Position(run_id)):
            found += [item.event for item in items]
        if not found:
            await self.expect(run_id)
        return found

    # --- messages -------------------------------------------------------------------------------

    def _send_message(self, kind: str, about: str | None = None, **data: Any) -> None:
        identity = NOBODY if about is None else Identity(run_id=about)
        event = StreamllEvent(event_type=kind, data=data, timestamp=time.time(), identity=identity)
        self.run_log.sink.put(event)

    async def _tick(self) -> None:
        """Report which runs are under way here; close those that are lost."""
        alive_at = time.monotonic() + self._alive_s
        while True:
            await asyncio.sleep(min(1.0, self._alive_s))
            now = time.monotonic()
            if now >= alive_at:
                alive_at = now + self._alive_s
                if self.running:
                    self._send_message(ALIVE, process=os.getpid(), runs=list(self.running))
            for buffer in list(self.run_log.buffers.values()):
                if self.run_log.is_given_up:
                    buffer.wake()  # its readers end
                silent_s = self._silence(buffer, now)
                buffer.tell(self._notice(buffer.run_id, silent_s))
                if silent_s > self.limits.lost_seconds:
                    self._closed_as_lost.add(buffer.run_id)
                    # Beside this: the log may take its time, and without reports from here others
                    # would take the runs of this process for lost.
                    closing = asyncio.create_task(self.close_lost(buffer.run_id))
                    self._closing.add(closing)
                    closing.add_done_callback(self._closing.discard)

    # --- lost runs ------------------------------------------------------------------------------

    def _silence(self, buffer: RunBuffer, now: float) -> float:
        """Seconds since anything was heard of a run that runs elsewhere; 0 where nobody can know."""
        run_id = buffer.run_id
        if buffer.ended or run_id in self.running or run_id in self._closed_as_lost:
            return 0.0
        if not self.run_log.tail.reachable:
            return 0.0
        silent_s = self.run_log.index.unattended_s(run_id)
        if silent_s is None or not self._has_heard_all(now):
            silent_s = now - buffer.heard_at
        return silent_s

    def _notice(self, run_id: str, silent_s: float) -> Event | None:
        """What readers are told once a run's process has missed its reports, or half the time that a
        run without any may be silent has passed. It is in no log, so it has no ``seq``.
        """
        lost_s = self.limits.lost_seconds
        reports = self.run_log.index.unattended_s(run_id) is not None
        if silent_s <= (2.5 * self._alive_s if reports else lost_s / 2):
            return None
        return silence_notice(run_id, lost_s)

    def _has_heard_all(self, now: float) -> bool:
        """Every live process has reported by now, also one that had to wait for the log itself."""
        tail = self.run_log.tail
        wait_s = self.limits.lost_seconds if tail.interrupted else 2 * self._alive_s
        return now - tail.since > wait_s

    async def close_lost(self, run_id: str) -> None:
        """Close a run in the log whose process is gone, so that every reader comes to an end."""
        self._closed_as_lost.add(run_id)
        try:
            view = await self.view(run_id, keep_ended=False)
        except LogAway:
            self._closed_as_lost.discard(run_id)  # the next tick tries again
            return
        if view.seq >= 0 and view.end is None:
            for event in closing_events(view, run_id, time.time(), RUN_LOST, RUN_GONE):
                self.run_log.sink.put(event)


def chat_key(chat: str) -> str:
    """The key under which the log keeps a chat's runs. Chat ids are chosen by clients."""
    return "chat-" + hashlib.sha256(chat.encode()).hexdigest()[:32]


# --- what is logged of a program that raised ------------------------------------------------------


def log_failure(program: str, run_id: str, error: BaseException, *, guarded: bool = False) -> None:
    """Log an error's type and place, and not its message, which may hold what a user asked.

    At level DEBUG (``streamll serve --debug``) the whole traceback is logged, unless the run was
    ``guarded``: its error may quote what guards have kept back.
    """
    place = own_place(error)
    what = type(error).__name__ + (f" at {place}" if place else ", outside the program's own code")
    shown = error if logger.isEnabledFor(logging.DEBUG) and not guarded else None
    logger.warning("run %s of %s failed: %s", run_id, program, what, exc_info=shown)
