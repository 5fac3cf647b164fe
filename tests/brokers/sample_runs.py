"""Sample runs, reading logs, and comparing what was read with what was put."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from streamll.consumer import EventConsumer
from streamll.core.events import (
    Event,
    FieldEnd,
    FieldStart,
    Identity,
    ModuleEnd,
    ModuleStart,
    RunEnd,
    RunStart,
    TokenEvent,
)
from streamll.core.ordering import OrderCheck

BOUND = 60


def make_run(run_id: str, tokens: Iterable[str], context=None, field="answer") -> list[Event]:
    """A whole run whose one field is streamed in these tokens."""
    run = Identity(run_id=run_id)
    call = Identity(
        run_id=run_id, path=("QA", "predict"), predictor="predict", call_id=f"{run_id}-1"
    )
    events: list[Event] = []
    shared = {"context": context or {}}

    def add(kind, identity, **own):
        events.append(
            kind(seq=len(events), timestamp=time.time(), identity=identity, **shared, **own)
        )

    add(RunStart, run, program="QA")
    add(ModuleStart, call, name="predict")
    add(FieldStart, call, field=field)
    offset = 0
    for index, token in enumerate(tokens):
        add(TokenEvent, call, field=field, token=token, token_index=index, offset=offset)
        offset += len(token)
    add(FieldEnd, call, field=field, length=offset)
    add(ModuleEnd, call, name="predict", duration=0.1)
    add(RunEnd, run)
    return events


def text_of(events: Iterable[Event]) -> str:
    return "".join(event.token for event in events if isinstance(event, TokenEvent))


def plain(event: Event) -> dict:
    return {
        "kind": event.event_type,
        "seq": event.seq,
        "identity": msgspec.structs.asdict(event.identity),
        "data": dict(event.data),
    }


def by_run(events: Iterable[Event]) -> dict[str | None, list[Event]]:
    runs = defaultdict(list)
    for event in events:
        runs[event.run_id].append(event)
    return dict(runs)


def check_order(events: Iterable[Event], *, holes: bool = False) -> None:
    """Every run whole, in a legal order, each event once."""
    OrderCheck(holes=holes).check_all(events)


async def collect(consumer: EventConsumer, enough, seconds: float = BOUND) -> list[Event]:
    """What the consumer yields until ``enough(events)``."""
    events: list[Event] = []

    async def read() -> None:
        async with contextlib.aclosing(aiter(consumer)) as found:
            async for event in found:
                events.append(event)
                if enough(events):
                    return

    try:
        await asyncio.wait_for(read(), seconds)
    except asyncio.TimeoutError:
        raise AssertionError(f"only {len(events)} events in {seconds} s") from None
    return events


def read_log(
    url: str, target: str, enough, start="beginning", seconds: float = BOUND, **options
) -> list[Event]:
    """The events of a log from ``start`` on, until there are enough."""
    consumer = EventConsumer(url, target, start=start, **options)
    return asyncio.run(collect(consumer, enough, seconds))


def ends(count: int):
    """Until so many runs have ended."""
    seen = 0

    def enough(events: list[Event]) -> bool:
        nonlocal seen
        seen += events[-1].event_type in ("run.end", "run.error", "run.cancelled")
        return seen >= count

    return enough
