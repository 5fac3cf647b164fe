"""Which of the log's latest runs somebody looks for.

``RunFilter`` asks what the index says of a run. The words of a search are looked for in that as well,
and in what the run was asked and has written, which ``RunSearch`` reads from the log: of as many
runs, the newest first, as there is time for. It says of how many.

Not searched: prompts, arguments and results of tools, events of one's own, and what is not in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from streamll.core.errors import LogAway
from streamll.core.events import (
    TERMINAL,
    Event,
    FieldCorrected,
    RunError,
    RunStart,
    TokenEvent,
)
from streamll.core.positions import Position
from streamll.serve.log.run_log import RunLog
from streamll.serve.permits import SERVED_AS

SEARCH_S = 2.0
"""How long texts are read for one search."""

RUN_S = 0.5
"""How long one run is read: in a log without an index, one that never ended is looked for to the end …"""

SLOW_S, SLOW_RUNS = 60.0, 1_000
"""… and where that took longer, not again for a while, so that others have their turn."""

TEXT_CHARACTERS = 100_000
"""Of a run, the first so many are searched."""

CACHE_CHARACTERS = 8_000_000
"""Of runs that have ended; those that were read longest ago are read again."""

Run = dict[str, Any]
"""A run as ``GET /runs`` lists it."""


class RunFilter(msgspec.Struct, frozen=True):
    """What a run has to be. ``since`` and ``until`` are about its start, in seconds since the epoch.

    ``program`` is its own name or, where the context has that, the one under which it is served;
    ``context`` has values as text. All of ``words`` have to occur, in upper or lower case.
    """

    program: str | None = None
    statuses: frozenset[str] = frozenset()
    context: Mapping[str, str] = {}
    since: float = -math.inf
    until: float = math.inf
    words: tuple[str, ...] = ()

    def fits(self, run: Run) -> bool:
        """Whether the index has a run that is so, its words apart."""
        known = run.get("context", {})
        return (
            (self.program is None or self.program in (run["program"], known.get(SERVED_AS)))
            and (not self.statuses or run["status"] in self.statuses)
            and self.since <= run["started_at"] <= self.until
            and all(key in known and _told(known[key]) == v for key, v in self.context.items())
        )


class Found(msgspec.Struct):
    """``runs``, the newest first. ``more``: the limit has left out others.

    Of a search, ``looked_at`` runs were asked by what the index says, ``read`` of them by their text.
    """

    runs: list[Run]
    more: bool = False
    looked_at: int = 0
    read: int = 0


class RunSearch:
    def __init__(self, run_log: RunLog) -> None:
        self._run_log = run_log
        self._texts: dict[str, str] = {}  # of runs that have ended
        self._kept = 0
        self._slow: dict[str, float] = {}  # until when they are not tried again

    async def find(
        self, wanted: RunFilter, count: int, fits: Callable[[Run], bool] = lambda _: True
    ) -> Found:
        """The latest ``count`` runs that are ``wanted``, of those that ``fits`` admits.

        Raises ``LogAway`` where the log could not be read yet.
        """
        index = await self._run_log.indexed()
        runs = (run for run in index.summaries() if fits(run) and wanted.fits(run))
        if wanted.words:
            return await self._search(list(runs), wanted.words, count)
        some = list(itertools.islice(runs, count + 1))
        return Found(some[:count], more=len(some) > count)

    async def _search(self, runs: list[Run], words: tuple[str, ...], count: int) -> Found:
        found, until = Found([]), time.monotonic() + SEARCH_S
        for run in runs:
            text = await self._text(run, until)
            found.looked_at += 1
            found.read += text is not None
            if not all(word in f"{_listed(run)}\n{text or ''}" for word in words):
                continue
            if len(found.runs) == count:
                found.more = True
                break
            found.runs.append(run)
        return found

    async def _text(self, run: Run, until: float) -> str | None:
        """What the run was asked and has written, in lower case; ``None`` if there is no time."""
        run_id, now = run["run_id"], time.monotonic()
        if run_id in self._texts:
            return self._texts[run_id]
        if now > until or self._slow.get(run_id, now) > now:
            return None
        try:
            return await asyncio.wait_for(self._read(run_id), min(RUN_S, until - now))
        except LogAway:
            return None
        except asyncio.TimeoutError:
            if len(self._slow) >= SLOW_RUNS:
                self._slow.clear()
            self._slow[run_id] = now + SLOW_S
            return None

    async def _read(self, run_id: str) -> str:
        said, is_whole = RunText(), False
        async with contextlib.aclosing(self._run_log.history(Position(run_id))) as batches:
            async for items in batches:
                for item in items:
                    said.feed(item.event)
                is_whole = said.is_full or items[-1].event.event_type in TERMINAL
                if said.is_full:
                    break
        if is_whole:
            self._keep(run_id, said.text)
        return said.text

    def _keep(self, run_id: str, text: str) -> None:
        known = self._texts.pop(run_id, "")  # another search has read it meanwhile
        self._kept += len(text) - len(known)
        self._texts[run_id] = text
        while self._kept > CACHE_CHARACTERS:
            self._kept -= len(self._texts.pop(next(iter(self._texts))))


class RunText:
    """What a run was asked and has written, superseded attempts included."""

    def __init__(self) -> None:
        self._parts: dict[Any, list[str]] = {}  # each field's of each call: they overlap
        self._length = 0

    @property
    def is_full(self) -> bool:
        return self._length >= TEXT_CHARACTERS

    @property
    def text(self) -> str:
        return "\n".join("".join(parts) for parts in self._parts.values()).casefold()

    def feed(self, event: Event) -> None:
        if isinstance(event, TokenEvent):
            place = (event.call_id, event.attempt, event.candidate, event.field)
            self._add(place, event.token)
        elif isinstance(event, FieldCorrected):
            self._add(("corrected", event.call_id, event.field), event.text)
        elif isinstance(event, RunStart):
            for text in _texts_in(event.inputs):
                self._add("inputs", f"{text}\n")
        elif isinstance(event, RunError):
            self._add("error", f"{event.error_type}: {event.message}")

    def _add(self, place: Any, text: str) -> None:
        self._parts.setdefault(place, []).append(text)
        self._length += len(text)


def _listed(run: Run) -> str:
    """What the list shows of a run, in lower case."""
    context = map(_told, run.get("context", {}).values())
    return "\n".join([run["run_id"], run["program"], run.get("title", ""), *context]).casefold()


def _told(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(each)
