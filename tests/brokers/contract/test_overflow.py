"""X9: every overflow policy, on every broker.

Each test counts: what a sink accepted was delivered, merged into its neighbour, or reported as
dropped; readers get the first two, and are told of the third wherever the policy lets them be told.
"""

from __future__ import annotations

import pytest

from brokers.backends import BACKENDS, COMPATIBLE_BACKENDS, backend_of
from brokers.blockable import blockable_route, set_timeouts, shorten_timeouts
from brokers.sample_runs import BOUND, by_run, check_order, ends, make_run, read_log, text_of
from brokers.servers import wait_until
from streamll.core.events import StreamGap
from streamll.sinks import open_sink

ROOM = 100
RUNS = [make_run(f"r{n}", [f"{n}.{i} " for i in range(150)]) for n in range(4)]
TOTAL = sum(map(len, RUNS))


@pytest.fixture(params=[*BACKENDS, *COMPATIBLE_BACKENDS])
def backend(request, server_of, tmp_path):
    return backend_of(request.param, server_of, tmp_path)


@pytest.fixture
def route(backend, monkeypatch):
    """While it is blocked the sink's thread waits for it, however long a test takes to put its
    events: one that has given up takes some of them before it tries again.
    """
    set_timeouts(monkeypatch, redis=60, rabbitmq=60, sqlite=60)
    with blockable_route(backend) as route:
        yield route


def put_while_blocked(route, sink) -> None:
    """Put everything while the sink's thread waits for the log; then let it through."""
    route.block()
    for event in make_run("first", ["a"]):
        sink.put(event)
    wait_until(lambda: sink.statistics().buffered_bytes, BOUND, "its thread is busy")
    for run in RUNS:
        for event in run:
            sink.put(event)


def assert_accounted(events) -> int:
    return sum(event.count if hasattr(event, "count") else 1 for event in events)


def gaps_in(events) -> list[StreamGap]:
    return [event for event in events if isinstance(event, StreamGap)]


def test_coalesce_merges_and_loses_nothing(backend, route):
    sink = open_sink(route.url, target=backend.target(), buffer_size=ROOM, overflow="coalesce")
    put_while_blocked(route, sink)
    route.free()
    assert sink.stop(BOUND)
    told = sink.statistics()
    assert told.merged > 0
    assert (told.dropped, told.failed, told.buffered) == (0, 0, 0)
    assert told.handled + told.merged == told.received == TOTAL + 7
    read = read_log(backend.url, name_of(sink), ends(1 + len(RUNS)))
    check_order(read)
    assert {run: text_of(events) for run, events in by_run(read).items()} == {
        "first": "a",
        **{run[0].run_id: text_of(run) for run in RUNS},
    }


def test_drop_oldest_reports_the_number_of_lost_events(backend, route):
    sink = open_sink(route.url, target=backend.target(), buffer_size=ROOM, overflow="drop_oldest")
    put_while_blocked(route, sink)
    route.free()
    assert sink.stop(BOUND)
    told = sink.statistics()
    assert told.dropped >= TOTAL - 2 * ROOM
    assert (told.failed, told.buffered) == (0, 0)
    read = read_log(backend.url, name_of(sink), ends(1 + len(RUNS)))
    check_order(read, holes=True)
    assert assert_accounted(read) == TOTAL + 7
    assert sum(gap.count for gap in gaps_in(read)) == told.dropped
    assert len(read) - len(gaps_in(read)) == told.received - told.dropped
    for events in by_run(read).values():  # what tells how a run went is never dropped
        assert events[0].event_type == "run.start"
        assert events[-1].event_type == "run.end"


@pytest.mark.parametrize("given_up", [False, True], ids=["silent", "given up"])
def test_fail_delivers_what_fits_and_reports_the_rest(
    backend, route, caplog, monkeypatch, given_up
):
    """Also where the broker is back only after the sink has given it up once."""
    if given_up:
        set_timeouts(monkeypatch, redis=3, rabbitmq=3, sqlite=3)
    for _ in range(5):
        caplog.clear()
        sink = open_sink(route.url, target=backend.target(), buffer_size=ROOM, overflow="fail")
        put_while_blocked(route, sink)
        if not sink.statistics().failures:
            break
        route.free()  # it was given up before all was put: the machine is busy, and it has room again
        assert sink.stop(BOUND)
    if given_up:
        wait_until(lambda: sink.statistics().failures, BOUND, "it is given up")
    route.free()
    assert sink.stop(BOUND)
    told = sink.statistics()
    assert told.dropped >= TOTAL - 2 * ROOM
    assert (told.failed, told.buffered, told.merged) == (0, 0, 0)
    assert told.failures > 0 or not given_up
    read = read_log(backend.url, name_of(sink), ends(1 + len(RUNS)))
    gaps = gaps_in(read)
    assert len(read) == told.handled
    assert sum(gap.count for gap in gaps) == told.dropped
    assert assert_accounted(read) == told.handled - len(gaps) + told.dropped == TOTAL + 7
    for events in by_run(read).values():  # one hole, before the end
        *begun, end = [event for event in events if event not in gaps]
        assert end.event_type == "run.end"
        assert [event.seq for event in begun] == list(range(len(begun)))
        assert events[-2] in gaps or events[0].run_id == "first"
    complaints = [r.getMessage() for r in caplog.records if "cannot take" in r.getMessage()]
    assert len(complaints) == 1
    assert "ChannelOverflow" in complaints[0]


def test_exceeding_max_buffer_bytes_is_announced(backend, route, monkeypatch):
    """The oldest is dropped, and gaps report exactly how many events of which runs are lost."""
    shorten_timeouts(monkeypatch)
    sink = open_sink(route.url, target=backend.target(), max_buffer_bytes=20_000, batch_size=50)
    route.block()
    for run in RUNS:
        for event in run:
            sink.put(event)

    def has_made_room() -> bool:
        """Not while the sink is still at it: an entry is there before the oldest one goes."""
        told = sink.statistics()
        settled = told.dropped + told.buffered == told.received == TOTAL
        return settled and told.dropped > 0 and told.buffered_bytes <= 20_000

    wait_until(has_made_room, BOUND, "something had to go")
    route.free()
    assert sink.stop(BOUND)
    told = sink.statistics()
    assert told.handled + told.dropped == told.received == TOTAL
    read = read_log(backend.url, name_of(sink), lambda events: assert_accounted(events) >= TOTAL)
    check_order(read, holes=True)
    assert assert_accounted(read) == TOTAL
    gaps = gaps_in(read)
    assert sum(gap.count for gap in gaps) == told.dropped
    assert {gap.reason for gap in gaps} == {"overflow"}
    for run_id, events in by_run(read).items():
        whole = next(run for run in RUNS if run[0].run_id == run_id)
        assert assert_accounted(events) == len(whole)


def name_of(sink) -> str:
    return getattr(sink, "target", None) or getattr(sink, "stream_key", None) or sink.exchange
