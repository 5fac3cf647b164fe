"""X10: runs that are lost while the log comes and goes."""

from __future__ import annotations

import asyncio

from brokers.sample_runs import make_run
from streamll.brokers.opening import open_source
from streamll.brokers.source import SourceOptions
from streamll.consumer.lost_runs import LostRuns
from streamll.core.errors import BrokerError
from streamll.sinks import open_sink

LOST_S = 0.2


def test_a_log_that_goes_away_delays_the_ends_of_lost_runs_and_takes_none(tmp_path):
    url, runs = f"sqlite:///{tmp_path}/log.db", ["r1", "r2", "r3"]
    sink = open_sink(url)
    begun = {run: make_run(run, ["one ", "two "])[:5] for run in runs}
    for events in begun.values():
        for event in events:
            sink.put(event)
    assert sink.stop(60)
    away = [
        False,
        False,
        True,
    ]  # the runs are found silent, then silent still, and looked up in vain

    def source(options):
        if away and away.pop(0):
            raise BrokerError("the log is away")
        return open_source(url, options)

    lost = LostRuns(LOST_S, None, SourceOptions(target="streamll:events"), source)
    for events in begun.values():
        lost.hear(events, "beginning")

    async def until_closed():
        failures, ended = 0, []
        while len(ended) < len(runs):
            await asyncio.sleep(LOST_S / 4)
            try:
                found = await lost.due()
            except BrokerError:
                failures += 1
                continue
            ended += [e.run_id for events in found for e in events if e.event_type == "run.error"]
        return failures, ended

    failures, ended = asyncio.run(asyncio.wait_for(until_closed(), 60))
    assert failures == 1
    assert sorted(ended) == runs


def test_what_the_log_has_got_meanwhile_is_read_before_the_end(tmp_path):
    """X10: the run goes on, or a server closes it, in the moment in which the reader wants to."""
    url = f"sqlite:///{tmp_path}/log.db"
    sink, events = open_sink(url), make_run("r1", ["one ", "two "])[:5]
    for event in events:
        sink.put(event)
    assert sink.stop(60)
    looks = 0

    def source(options):
        nonlocal looks
        looks += options.run_id is not None
        return open_source(url, options)

    lost = LostRuns(LOST_S, None, SourceOptions(target="streamll:events"), source)
    lost.hear(events[:4], "beginning")

    async def until(condition) -> list:
        found = []
        while not condition(found):
            await asyncio.sleep(LOST_S / 4)
            for told in await lost.due():
                found += [event for event in told if event.seq is not None]
        return found

    async def main() -> None:
        assert await until(lambda _: looks == 2) == []
        lost.hear(events[4:], "beginning")
        [first, *_] = await until(lambda found: found)
        assert first.seq == events[-1].seq + 1

    asyncio.run(asyncio.wait_for(main(), 60))
