"""Moving a log from one broker to another: its entries as they are, ids and all.

Because ids stay, a reader of the copy tells repetitions as before, and a copy that is made twice
is read once. What is no entry of streamll's stays behind and is counted.
"""

from __future__ import annotations

import msgspec

from streamll.brokers.opening import default_target, open_sink, open_source
from streamll.brokers.send_buffer import PendingEntry, original_count
from streamll.brokers.sink import BrokerSink
from streamll.brokers.source import Entry, SourceOptions
from streamll.core.errors import WireError
from streamll.core.wire import decode_batch


class CopyResult(msgspec.Struct):
    """How much was copied, and how many entries were not streamll's."""

    entries: int = 0
    events: int = 0
    left: int = 0


async def copy_log(
    source_url: str,
    sink_url: str,
    *,
    source_target: str | None = None,
    sink_target: str | None = None,
    since: float | None = None,
) -> CopyResult:
    """Copy what a log holds now.

    ``since`` (seconds since the epoch) leaves out entries whose last event is older. The name of
    the copy is the log's own, unless brokers differ and it has the usual one.
    """
    usual = default_target(source_url)
    target = source_target or usual
    kept = default_target(sink_url) if target == usual else target
    options = SourceOptions(target=target, start="beginning")
    source = open_source(source_url, options)
    sink = open_sink(sink_url, target=sink_target or kept)
    assert isinstance(sink, BrokerSink)
    transport = sink._connect()  # noqa: SLF001 - entries go as they are, past the sink's packing
    copied = CopyResult()
    try:
        await source.connect()
        while entries := await source.read():
            pending = [made for entry in entries if (made := _pending(entry, since, copied))]
            if pending:
                transport.send(pending)
    finally:
        transport.close()
        await source.close()
    return copied


def _pending(entry: Entry, since: float | None, copied: CopyResult) -> PendingEntry | None:
    try:
        events = decode_batch(entry.body)
    except WireError:
        copied.left += 1
        return None
    if not events or (since is not None and events[-1].timestamp < since):
        return None
    copied.entries += 1
    copied.events += len(events)
    first, last = events[0], events[-1]
    return PendingEntry(
        run_id=first.run_id,
        context=first.context,
        first=first.seq,
        last=last.seq,
        events=len(events),
        original_count=original_count(events),
        traceparent=None,
        rest=entry.body,
    )
