"""Resuming at every position of a run whose tokens were merged, on every broker."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from brokers.backends import BACKENDS, CLUSTERS, COMPATIBLE_BACKENDS, backend_of
from brokers.raw_log import RAW_LOGS
from brokers.sample_runs import collect, make_run, plain, text_of
from streamll.consumer import EventConsumer, position
from streamll.core.events import TokenEvent
from streamll.flow.coalesce import coalesce
from streamll.sinks import open_sink


@pytest.fixture(params=[*BACKENDS, *COMPATIBLE_BACKENDS, *CLUSTERS])
def backend(request, server_of, tmp_path):
    return backend_of(request.param, server_of, tmp_path)


def write(backend, *batches) -> str:
    target = backend.target()
    sink = open_sink(backend.url, target=target)
    for events in batches:
        for event in events:
            sink.put(event)
        assert sink.catch_up(60)
    assert sink.stop(60)
    return target


def read_from(backend, target: str, *starts) -> list[list]:
    """What readers get that go on from these places, each to the run's end."""

    async def main() -> list[list]:
        consumers = [EventConsumer(backend.url, target, start=start) for start in starts]
        return await asyncio.gather(*(collect(each, lambda _: False) for each in consumers))

    return asyncio.run(main())


def test_resuming_at_every_position_of_a_merged_run(backend):
    """X10: behind each event of the log, and behind each token as it was before it was merged."""
    fine = make_run("r1", ["ab", "cde", "f", "ghij", "", "k"])
    merged = coalesce(fine)
    [token] = [event for event in merged if isinstance(event, TokenEvent)]
    target = write(backend, make_run("r0", ["x"]), fine[:1], merged[1:4], merged[4:])
    for k, rest in enumerate(read_from(backend, target, *map(position, merged))):
        assert [plain(event) for event in rest] == [plain(event) for event in merged[k + 1 :]]
    for k, rest in enumerate(read_from(backend, target, *map(position, fine))):
        assert text_of(fine[: k + 1]) + text_of(rest) == text_of(fine)
        covered = sum(event.count if isinstance(event, TokenEvent) else 1 for event in rest)
        assert k + 1 + covered == len(fine)
    inside = range(token.seq, token.seq + token.count - 1)
    for rest in read_from(backend, target, *(("r1", seq) for seq in inside)):
        assert rest == merged[3:]  # whole: its offset says what of it the reader has had
    [rest] = read_from(backend, target, ("r1", token.seq + token.count - 1))
    assert rest == merged[4:]


def test_resuming_at_every_position_of_a_run_merged_across_calls(backend):
    """X10: two calls at once, whose tokens reach past each other."""
    calls = [make_run("r1", tokens) for tokens in (["a", "bb", "ccc"], ["1", "22", "333", "4444"])]
    events = []
    first, second = calls[0][1:-1], calls[1][1:-1]
    for pair in zip(first[:5], second[:5], strict=True):
        events += pair
    events += [*second[5:], *first[5:]]
    run = [calls[0][0]]
    for event in [*events, calls[0][-1]]:
        identity = event.identity
        if event in second:
            identity = msgspec.structs.replace(identity, call_id="r1-2")
        run.append(msgspec.structs.replace(event, seq=len(run), identity=identity))
    merged = coalesce(run, across_calls=True)
    assert len(merged) < len(coalesce(run))
    target = write(backend, merged)
    for k, rest in enumerate(read_from(backend, target, *map(position, merged))):
        assert [plain(event) for event in rest] == [plain(event) for event in merged[k + 1 :]]


@pytest.fixture(params=["sqlite", "redis"])
def trimmable(request, server_of, tmp_path):
    return backend_of(request.param, server_of, tmp_path)


def test_resuming_where_the_log_was_trimmed_says_how_much_is_missing(trimmable):
    """X10. RabbitMQ trims by the gibibyte."""
    run = make_run("r1", ["ab", "cde", "f", "ghij", "", "k"])
    target = write(trimmable, *([event] for event in run))
    RAW_LOGS[trimmable.name](trimmable.url).trim(target, 6)
    missed, one_less, nothing, later, whole = read_from(
        trimmable, target, ("r1", 2), ("r1", 4), ("r1", 5), position(run[7]), ("r1", -1)
    )
    for rest, count in ((missed, 3), (one_less, 1), (whole, 6)):
        gap, *others = rest
        assert (gap.event_type, gap.run_id, gap.count, gap.reason) == (
            "stream.gap", "r1", count, "trimmed",
        )  # fmt: skip
        assert others == run[6:]
    assert nothing == run[6:]
    assert later == run[8:]
