"""X17: a cluster of three RabbitMQ nodes. The one that leads is killed (-9) in the middle of 20 runs:
every event is read once and in order, by readers and by members of a group.

A part of the contract is here, for this cluster is started anyway; the whole runs on another one if the
test run is thorough (``backends.CLUSTERS``).
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import pytest
from profiles import THOROUGH

from brokers.backends import Backend, own, unique_name
from brokers.contract.test_contract import (  # noqa: F401 - run here, with this module's fixture
    BrokerLog,
    test_a_failing_handler_is_retried_then_its_event_becomes_a_dead_letter,
    test_a_group_resumes_where_it_stopped,
    test_a_reader_resumes_at_an_earlier_ones_cursor,
    test_members_of_a_group_share_the_runs,
)
from brokers.load import (
    BackgroundReader,
    check_complete,
    check_nothing_lost,
    in_background,
    in_the_middle,
    paced_runs,
)
from brokers.rabbitmq_nodes import RabbitMQCluster, url_of
from brokers.sample_runs import BOUND, ends, make_run, plain, read_log
from brokers.servers import NEWER_RABBITMQ, wait_until
from streamll.sinks import RabbitMQSink

pytestmark = pytest.mark.shares_a_cluster

RUNS = 20
ROUNDS = 6 if THOROUGH else 1


ROOTS = [Path("/"), *([NEWER_RABBITMQ] if THOROUGH and NEWER_RABBITMQ.exists() else [])]


@pytest.fixture(scope="module", params=ROOTS, ids=lambda root: root.name or "installed")
def started(request, tmp_path_factory):
    with own(lambda: RabbitMQCluster(tmp_path_factory.mktemp("cluster"), request.param)) as cluster:
        yield cluster


@pytest.fixture
def cluster(started):
    """With all of its nodes."""
    started.start()
    return started


@pytest.fixture
def log(cluster):
    log = BrokerLog(Backend("rabbitmq-cluster", cluster.url, cluster))
    yield log
    assert log.sink.stop(BOUND)


@pytest.fixture
def in_order(monkeypatch):
    """Connect to the first host of a URL first, instead of a random one."""
    monkeypatch.setattr("streamll.brokers.rabbitmq.address.random.randrange", lambda n: n - 1)


def put_all(url: str, target: str, *runs, **options) -> None:
    sink = RabbitMQSink(url, target=target, **options)
    for run in runs:
        for event in run:
            sink.put(event)
    assert sink.stop(BOUND)


class Log:
    """A log with a reader and a group of one member, which all connect to the first host of a URL."""

    def __init__(self, cluster: RabbitMQCluster, name: str, leading, url: str) -> None:
        self.cluster = cluster
        for attempt in range(5):  # others may lead it where the machine is slow
            self.name = name = f"{name}-{attempt}"
            self.before = make_run("before", ["a"])
            put_all(leading.url, name, self.before)
            first = BackgroundReader(leading.url, name, group="g")
            first.wait_for_ends(1)
            first.stop()
            self.queues = [f"{name}.log", f"{name}.group.g"]
            leaders = [cluster.nodes_of(queue, "leader") for queue in self.queues]
            if leaders == [[leading], [leading]]:
                break
        assert leaders == [[leading], [leading]]
        assert [cluster.replicas(queue) for queue in self.queues] == [3, 3]
        self.sink = RabbitMQSink(url, target=name)
        with pytest.MonkeyPatch.context() as patch:  # a busy host is not passed over
            for limit in ("CONNECT_TIMEOUT_S", "CONFIRM_TIMEOUT_S"):
                patch.setattr(f"streamll.brokers.rabbitmq.client.{limit}", float(BOUND))
            self.reader = BackgroundReader(url, name)
            self.member = BackgroundReader(url, name, group="g")
            for each in (self.reader, self.member):
                assert each.consumer.wait_connected(BOUND)

    def is_led_by(self, node) -> bool:
        """Also if it is not known who leads."""
        led = [self.cluster.nodes_of(queue, "leader") for queue in self.queues]
        return any(leaders in ([], [node]) for leaders in led)

    def play(self, until) -> None:
        self.runs = paced_runs(self.sink, RUNS, until=until)
        assert self.sink.stop(BOUND)

    def wait_for_ends(self, count: int) -> None:
        self.reader.wait_for_ends(count + 1)
        self.member.wait_for_ends(count)

    def check(self, after) -> None:
        self.reader.stop()
        self.member.stop()
        check_complete(self.reader.events, [self.before, *self.runs, after])
        check_complete(self.member.events, [*self.runs, after])
        check_nothing_lost(self.sink)

    def was_connected_to(self, victim) -> bool:
        """Sink and consumers were, and are somewhere else now."""
        consumers = (self.reader.consumer, self.member.consumer)
        elsewhere = str(victim.port) not in self.sink._address.last.name
        return elsewhere and all(each.statistics().reconnects for each in consumers)


@pytest.mark.parametrize("time_number", range(ROUNDS))
def test_the_leading_node_is_killed_in_the_middle_of_20_runs(cluster, in_order, time_number):
    """It leads the stream and the group's queue of two logs. The one's sink, reader and member are
    connected to it, the other's to another node. Then it comes back.
    """
    nodes = deque(cluster.servers)
    nodes.rotate(time_number)
    victim, *others = nodes
    near = Log(cluster, f"near{time_number}", victim, url_of([victim, *others]))
    far = Log(cluster, f"far{time_number}", victim, url_of([*others, victim]))

    def crash():
        in_the_middle(near.sink, far.sink)
        victim.kill()

    with in_background(crash) as crashed, in_background(lambda: far.play(crashed)):
        near.play(crashed)
    for log in (near, far):
        log.wait_for_ends(RUNS)
        wait_until(lambda log=log: not log.is_led_by(victim), BOUND, "others lead, and it is known")
    assert near.was_connected_to(victim)
    victim.start()
    after = make_run("after", ["b"])
    for log in (near, far):
        put_all(victim.url, log.name, after)
        log.wait_for_ends(RUNS + 1)
        log.check(after)


def test_replicas_are_as_many_as_asked_for_and_stay_as_they_are(cluster, in_order, caplog):
    """Of the log's stream and of a group's queue. A reader finds a node that has one."""
    target = unique_name()
    run = make_run("r1", ["a", "b"])
    put_all(f"{cluster.url}?replicas=2", target, run)
    put_all(cluster.url, target, replicas=3)
    group = BackgroundReader(f"{cluster.url}?replicas=1", target, group="g")
    group.wait_for_ends(1)
    group.stop()
    again = BackgroundReader(f"{cluster.url}?replicas=3", target, group="g")
    put_all(cluster.url, target, make_run("r2", ["c"]))
    again.wait_for_ends(1)
    again.stop()
    assert cluster.replicas(f"{target}.log") == 2
    assert cluster.replicas(f"{target}.group.g") == 1
    [elsewhere] = set(cluster.servers) - set(cluster.nodes_of(f"{target}.log", "members"))
    others = [node for node in cluster.servers if node is not elsewhere]
    read = read_log(url_of([elsewhere, *others]), target, ends(1))
    assert [plain(event) for event in read] == [plain(event) for event in run]
    lost = BackgroundReader(elsewhere.url, target)
    wait_until(lambda: "no replica of the log" in caplog.text, BOUND, "it is told")
    lost.stop()


if THOROUGH:

    def test_without_a_majority_events_wait(cluster, in_order):
        """Two of three nodes are killed. Nothing is confirmed until one is back; then all arrives."""
        target = unique_name()
        left, *killed = cluster.servers
        sink = RabbitMQSink(url_of([left, *killed]), target=target, heartbeat=2)
        before, after = make_run("r1", ["a"]), make_run("r2", ["b"])
        for event in before:
            sink.put(event)
        assert sink.catch_up(BOUND)
        time.sleep(7)  # what is killed right after a cluster's first stream does not find it again
        for node in killed:
            node.kill()
        for event in after:
            sink.put(event)
        wait_until(lambda: sink.statistics().failures >= 2, BOUND, "nobody confirms")
        assert sink.statistics().buffered == len(after)
        killed[0].start()
        assert sink.stop(BOUND)
        check_nothing_lost(sink)
        check_complete(read_log(cluster.url, target, ends(2)), [before, after])
