"""Several streams as one: items as they come, each with its source.

Every source has a small queue of its own and waits when that is full; sources with items take
turns, so a fast one cannot crowd out a slow one. Leaving the merged stream closes all sources.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from streamll.core.errors import ChannelClosed
from streamll.flow.bridge import STOP_TIMEOUT_S, Producer, checked_each
from streamll.flow.channel import Channel
from streamll.flow.dual import DualIterator
from streamll.streams.stream_events import Error

BUFFER_SIZE = 16
"""Items of one source that may wait."""

READY_BATCH = 256
"""Announcements of items taken from the channel at once."""

JOIN_TIMEOUT_S = 0.2
"""How long ``close`` waits for each source's thread."""


class Tagged(NamedTuple):
    """An item (``event``) and the ``source`` it comes from: its index in the list, or its key."""

    source: Hashable
    event: Any


class MergedStream(DualIterator[Tagged]):
    """What ``aggregate_streams`` returns: iterate over it with ``for`` or ``async for``, once.

    ``close``, or leaving a ``with`` block or the loop, closes all sources.
    """

    read_once = "merge the sources once more"

    def __init__(
        self,
        sources: Iterable[Any] | Mapping[Hashable, Any],
        *,
        buffer_size: int = BUFFER_SIZE,
        stop_on_error: bool = False,
    ) -> None:
        self._producers: dict[Producer, Hashable] = {}
        named = list(sources.items() if isinstance(sources, Mapping) else enumerate(sources))
        checked_each(source for _, source in named)
        # One entry for every item, and one for every end.
        self._ready: Channel[Producer] = Channel(
            max(1, len(named) * (buffer_size + 1)), name="merged"
        )
        for name, source in named:
            producer = Producer(
                source,
                capacity=buffer_size,
                name=f"source {name}",
                notify=self._ready.put,
            )
            self._producers[producer] = name
        self._stop_on_error = stop_on_error
        self._turns: Counter[Producer] = Counter()  # what each has ready, in order of their turns
        self._open = len(named)
        self._started = False

    # --- reading ----------------------------------------------------------------------------

    def _read(self) -> None:
        self._start(on_loop=False)
        if self._must_wait():
            self._turns.update(self._ready.get_batch(READY_BATCH))

    async def _aread(self) -> None:
        self._start(on_loop=True)
        if self._must_wait():
            self._turns.update(await self._ready.get_batch_async(READY_BATCH))

    def _must_wait(self) -> bool:
        if not self._open:
            raise ChannelClosed("all sources have ended")
        return not self._turns or not self._ready.empty

    def _feed(self, _: None) -> Iterator[Tagged]:
        """One item of the source whose turn it is; then it is the next one's."""
        producer = next(iter(self._turns))
        if (left := self._turns.pop(producer) - 1) > 0:
            self._turns[producer] = left
        try:
            item = producer.channel.get(timeout=0)
        except ChannelClosed:
            self._open -= 1
            if producer.error is None:
                return
            item = Error(producer.error)
        if self._stop_on_error and isinstance(item, Error):
            raise item.error
        yield Tagged(self._producers[producer], item)

    def _start(self, *, on_loop: bool) -> None:
        if not self._started:
            self._started = True
            for producer in self._producers:
                producer.start(on_loop=on_loop)

    # --- leaving ----------------------------------------------------------------------------

    def leave(self) -> None:
        super().leave()
        for producer in self._producers:
            producer.leave()

    def close(self) -> None:
        """Close every source; their threads end as soon as they notice."""
        self.leave()
        for producer in self._producers:
            producer.join(JOIN_TIMEOUT_S)

    async def aclose(self) -> None:
        self.leave()
        await asyncio.gather(*(producer.wait(STOP_TIMEOUT_S) for producer in self._producers))

    def __del__(self) -> None:
        self.leave()


def aggregate_streams(
    streams: Iterable[Any] | Mapping[Hashable, Any],
    *,
    buffer_size: int = BUFFER_SIZE,
    stop_on_error: bool = False,
) -> MergedStream:
    """Merge streams fairly; each item is ``(source, event)``.

    Args:
        streams: anything to iterate over, with ``for`` or ``async for``; a mapping gives names.
        buffer_size: items of one source that may wait for the reader.
        stop_on_error: a failing source ends the merged stream with its error. Otherwise its
            error is an item (``StreamEvent.Error``) and the others go on.
    """
    return MergedStream(streams, buffer_size=buffer_size, stop_on_error=stop_on_error)
