"""Where a new group starts: it gets what was emitted before it existed, once and in order."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import warm
from profiles import THOROUGH

from brokers.backends import backend_of, script
from brokers.sample_runs import BOUND, by_run, check_order, make_run
from brokers.servers import wait_until
from streamll.consumer import EventConsumer
from streamll.core.errors import ConfigurationError
from streamll.core.events import Status
from streamll.sinks import open_sink


@pytest.fixture
def rabbit(server_of, tmp_path):
    return backend_of("rabbitmq", server_of, tmp_path)


def members(backend, target: str, count: int, **options) -> list[tuple[EventConsumer, list]]:
    found = []
    for _ in range(count):
        handled: list = []
        consumer = EventConsumer(backend.url, target, group="g", **options)
        consumer.subscribe(handled.append)
        consumer.start()
        found.append((consumer, handled))
    return found


def put_all(backend, target: str, *runs) -> None:
    sink = open_sink(backend.url, target=target)
    for run in runs:
        for event in run:
            sink.put(event)
    assert sink.stop(BOUND)


def test_members_that_start_together_share_history_and_new_events(backend):
    """D4: three first members at once, while runs are written that began before them."""
    target = backend.target()
    runs = [make_run(f"r{n}", [f"{i}" for i in range(60)]) for n in range(10)]
    sink = open_sink(backend.url, target=target)

    def put(part: slice) -> None:
        for events in zip(*(run[part] for run in runs), strict=True):
            for event in events:
                sink.put(event)
            time.sleep(0.005)  # so that many entries are made of it

    put(slice(0, 25))
    assert sink.catch_up(BOUND)
    writing = threading.Thread(target=put, args=(slice(25, None),))
    writing.start()
    found = members(backend, target, 3, start="beginning")
    writing.join(BOUND)
    assert sink.stop(BOUND)
    count = sum(map(len, runs))
    wait_until(lambda: sum(len(each) for _, each in found) >= count, BOUND, "everything")
    wait_until(lambda: all(c.statistics().lag == 0 for c, _ in found), BOUND, "acknowledged")
    assert all(consumer.stop(BOUND) for consumer, _ in found)
    everything = [event.event_id for _, handled in found for event in handled]
    assert len(everything) == len(set(everything)) == count
    for _, handled in found:
        for events in by_run(handled).values():
            seqs = [event.seq for event in events]
            assert seqs == sorted(seqs)


def test_a_new_group_starts_at_a_cursor(backend):
    """D4: it gets what a reader that stopped there had not had."""
    target = backend.target()
    put_all(backend, target, make_run("r1", ["a"]))
    reader = EventConsumer(backend.url, target, start="beginning")
    seen: list = []
    reader.subscribe(seen.append)
    reader.start()
    wait_until(lambda: len(seen) == 7, BOUND, "the first run")
    assert reader.stop(BOUND)
    put_all(backend, target, make_run("r2", ["b"]))
    [(member, handled)] = members(backend, target, 1, start=reader.cursor)
    put_all(backend, target, make_run("r3", ["c"]))
    wait_until(lambda: len(handled) == 14, BOUND, "the others")
    assert member.stop(BOUND)
    assert set(by_run(handled)) == {"r2", "r3"}


def test_start_is_ignored_by_a_group_that_exists(backend):
    """D4: whoever joins later gets no more than the group has yet to do."""
    target = backend.target()
    put_all(backend, target, make_run("r1", ["a"]))
    [(first, handled)] = members(backend, target, 1)  # from now on
    assert first.wait_connected(BOUND)
    put_all(backend, target, make_run("r2", ["b"]))
    wait_until(lambda: len(handled) == 7, BOUND, "the second run")
    assert first.stop(BOUND)
    put_all(backend, target, make_run("r3", ["c"]))
    [(second, rest)] = members(backend, target, 1, start="beginning")
    wait_until(lambda: len(rest) == 7, BOUND, "the third run")
    assert second.stop(BOUND)
    assert set(by_run(handled)) == {"r2"}
    assert set(by_run(rest)) == {"r3"}


def queues(url: str, *names: str) -> list[int | None]:
    """How many messages wait in each; ``None``: there is no such queue."""
    from streamll.brokers.rabbitmq import client as rabbitmq_client
    from streamll.brokers.rabbitmq.address import Address
    from streamll.brokers.rabbitmq.groups import queue_counts

    async def look() -> list[int | None]:
        connection = await rabbitmq_client.connect(Address(url).nodes[0], heartbeat=0)
        try:
            found = [await queue_counts(connection, name) for name in names]
        finally:
            await rabbitmq_client.close(connection)
        return [each and each[0] for each in found]

    return asyncio.run(look())


def test_rabbitmq_deletes_the_history_queue_when_it_is_empty(rabbit):
    target = rabbit.target()
    put_all(rabbit, target, make_run("r1", ["a"]), make_run("r2", ["b"]))
    [(member, handled)] = members(rabbit, target, 1, start="beginning")
    wait_until(lambda: len(handled) == 14, BOUND, "the past")
    group = f"{target}.group.g"
    beside = [f"{group}.history", f"{group}.filling", f"{group}.lock"]
    wait_until(lambda: queues(rabbit.url, *beside) == [None] * 3, BOUND, "only the group is left")
    put_all(rabbit, target, make_run("r3", ["c"]))
    wait_until(lambda: len(handled) == 21, BOUND, "the present")
    assert member.stop(BOUND)
    wait_until(lambda: queues(rabbit.url, group) == [0], BOUND, "nothing is left for anybody")
    check_order(handled)


def test_rabbitmq_restarts_the_history_copy_when_the_copying_member_dies(rabbit):
    """D4: kill -9 in the middle of it; nothing is missing, and nothing twice."""
    rabbit.url += "?heartbeat=60"  # nobody is given anything again because the machine is slow
    target = rabbit.target()
    entries = 4_000 if THOROUGH else 1_600
    put_all(rabbit, target, [Status(message=str(n)) for n in range(10)])
    put_all(rabbit, target, *([make_run(f"r{n}", ["x"])[3]] for n in range(entries)))
    body = f"""
        from itertools import count
        from streamll.brokers.rabbitmq import groups
        groups.READ_BATCH_ENTRIES = 100  # so that some have been sent by then
        made, persistent = count(), groups._persistent
        def slow(*arguments):  # it gets no further than a quarter before it is killed
            if next(made) == {entries // 4}:
                time.sleep(3600)
            return persistent(*arguments)
        groups._persistent = slow
        consumer = EventConsumer(url, target, group="g", start="beginning")
        consumer.run_sync()
    """
    copying = warm.Popen(script(rabbit, target, body))
    group = f"{target}.group.g"
    history, filling = f"{group}.history", f"{group}.filling"
    wait_until(lambda: queues(rabbit.url, history)[0], BOUND, "it copies")
    copying.kill()
    copying.wait(BOUND)
    copied, unfinished = queues(rabbit.url, history, filling)
    assert copied < entries
    assert unfinished is not None
    [(heir, handled)] = members(rabbit, target, 1)  # it asks for nothing: the group does
    wait_until(lambda: len(handled) >= entries + 10, 3 * BOUND, "everything")  # so many entries
    wait_until(lambda: heir.statistics().lag == 0, BOUND, "everything is acknowledged")
    assert heir.stop(BOUND)
    assert len(handled) == entries + 10
    assert len({event.event_id for event in handled}) == entries + 1
    assert heir.statistics().redelivered == 0


@pytest.mark.parametrize(
    ("url", "start", "log"),
    [
        ("sqlite:///log.db", "1-0", "an SQLite log"),
        ("redis://localhost", "yesterday", "a Redis stream"),
        ("amqp://localhost", "1.17", "a RabbitMQ log"),  # a member's, who has no place of its own
    ],
)
def test_an_invalid_cursor_raises_at_once(url, start, log):
    with pytest.raises(ConfigurationError, match=f"no cursor of {log}"):
        EventConsumer(url, start=start)
