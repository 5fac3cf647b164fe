"""Operators over streams of events or text: merge, collect, pace, split, show progress.

Each takes any stream (ours, a generator, a client's) and gives one that is read with ``for`` or
``async for``. Nothing here knows DSPy.
"""

from streamll.streams.collect import Collected, acollect_stream, collect_stream
from streamll.streams.merge import MergedStream, Tagged, aggregate_streams
from streamll.streams.operators import (
    buffer,
    filter_tokens,
    map_tokens,
    throttle,
    to_file,
)
from streamll.streams.progress import StreamProgress, with_progress
from streamll.streams.smoothing import smooth
from streamll.streams.stream_events import StreamEvent

__all__ = [
    "Collected",
    "MergedStream",
    "StreamEvent",
    "StreamProgress",
    "Tagged",
    "acollect_stream",
    "aggregate_streams",
    "buffer",
    "collect_stream",
    "filter_tokens",
    "map_tokens",
    "smooth",
    "throttle",
    "to_file",
    "with_progress",
]
