"""Many streams at once: a cap per key, a rate, results in the order of the streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

from streamll.flow.bridge import checked
from streamll.flow.limits import Rate, slots_for
from streamll.flow.waiting import on_event_loop
from streamll.streams.collect import Collected, acollect
from streamll.streams.later import Later

MAX_CONCURRENT = 8
"""Streams under way at once per key."""

CANCEL_TIMEOUT_S = 2.0
"""How long cancelled readers may take to close their streams."""

KeyOf = Callable[[Any], Hashable]


class Gathered(Later, Sequence[Collected]):
    """The results of many streams, in their order. See ``gather_streams``."""

    __slots__ = ("results",)
    results: list[Collected]

    def _set(self, value: list[Collected]) -> None:
        self.results = value

    @overload
    def __getitem__(self, index: int) -> Collected: ...
    @overload
    def __getitem__(self, index: slice) -> list[Collected]: ...
    def __getitem__(self, index: int | slice) -> Collected | list[Collected]:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        return self.results == (other.results if isinstance(other, Gathered) else other)

    __hash__ = Later.__hash__

    def __repr__(self) -> str:
        return repr(self.results)


def gather(
    streams: Iterable[Any],
    *,
    max_concurrent: int,
    rate: float | None,
    on_event: Callable[[int, Any], None] | None,
    key_of: KeyOf,
) -> Gathered:
    """See ``streamll.gather_streams``."""
    sources = [checked(stream) for stream in streams]
    pace = Rate(rate) if rate is not None else None

    def suspending() -> Coroutine[Any, Any, list[Collected]]:
        return _gather(sources, max_concurrent, pace, on_event, key_of)

    def blocking() -> list[Collected]:
        if not on_event_loop():
            return asyncio.run(suspending())
        with ThreadPoolExecutor(1) as executor:  # a loop runs here already
            return executor.submit(asyncio.run, suspending()).result()

    return Gathered.later(blocking, suspending)


async def _gather(
    sources: list[Any],
    max_concurrent: int,
    pace: Rate | None,
    on_event: Callable[[int, Any], None] | None,
    key_of: KeyOf,
) -> list[Collected]:

    async def read(index: int, source: Any) -> Collected:
        slots = slots_for(key_of(source))
        await slots.take_async(max_concurrent)
        try:
            if pace is not None:
                await pace.wait_async()
            on_item = None if on_event is None else lambda item: on_event(index, item)
            return await acollect(source, on_item)
        finally:
            slots.give()

    tasks = [asyncio.create_task(read(index, source)) for index, source in enumerate(sources)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        if pending := [task for task in tasks if not task.done()]:
            await asyncio.wait(pending, timeout=CANCEL_TIMEOUT_S)
