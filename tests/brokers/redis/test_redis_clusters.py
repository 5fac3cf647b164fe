"""A Redis Cluster, and a primary under Sentinels, of which servers die and slots move.

Each test counts: every event that a sink accepted is read, once after de-duplication, in order per
run. What the contract asks of any broker is asked of them in ``tests/brokers/contract``.
"""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from brokers.backends import own
from brokers.load import (
    PACE_S,
    TOKENS,
    BackgroundReader,
    check_complete,
    check_nothing_lost,
    discard_backlog,
    in_background,
    in_the_middle,
    paced_runs,
)
from brokers.raw_log import RawCluster
from brokers.redis_nodes import LATER_MS, RedisCluster, RedisUnderSentinel, in_touch, one_command
from brokers.sample_runs import BOUND, by_run, ends, make_run, plain, read_log, text_of
from brokers.servers import RedisServer, redis_binary, wait_until
from streamll.brokers.redis import transport
from streamll.consumer import EventConsumer
from streamll.sinks import open_sink

RUNS = 20
PATIENT = "socket_timeout=60&socket_connect_timeout=60"
"""In a URL: a server that a busy machine keeps waiting has not failed."""


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory):
    with own(lambda: RedisCluster(tmp_path_factory.mktemp("cluster"))) as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster):
    running_cluster.start()  # those that a test has killed are replicas from now on
    return running_cluster


@pytest.fixture(scope="module")
def running_sentinels(tmp_path_factory):
    with own(lambda: RedisUnderSentinel(tmp_path_factory.mktemp("sentinels"))) as group:
        yield group


@pytest.fixture
def sentinels(running_sentinels):
    running_sentinels.start()
    return running_sentinels


@pytest.fixture
def undisturbed(sentinels):
    with sentinels.undisturbed():
        yield sentinels


class Member:
    """A member of a group on a thread; notes every event that its handler was given."""

    def __init__(self, url: str, target: str) -> None:
        self.events = []
        self.consumer = EventConsumer(url, target, group="g", start="beginning", claim_after=2)
        self.consumer.subscribe(self.events.append)
        self.consumer.start()

    def stop(self) -> None:
        assert self.consumer.stop(BOUND)


def wait_for_replicas(monkeypatch) -> None:
    """A busy machine's replicas may take a while, also when a sink looks for them as it connects."""
    for name in ("WAIT_MS", "LOOK_MS"):
        monkeypatch.setattr(transport, name, 60_000)


def through_a_fault(url: str, name: str, fault) -> tuple:
    """20 runs, each with a stream of its own, and one more stream that two members share.

    A reader for each run's, one for all of these, and ``fault()`` in the middle.
    """
    sinks = [open_sink(url, target=f"{name}:{{run_id}}"), open_sink(url, target=name)]
    readers = [BackgroundReader(url, f"{name}:r{n}") for n in range(RUNS)]
    whole, members = BackgroundReader(url, name), [Member(url, name) for _ in range(2)]
    matching = BackgroundReader(url, f"{name}:*")
    for consumer in (each.consumer for each in (*readers, whole, matching, *members)):
        assert consumer.wait_connected(BOUND)

    def play() -> None:
        in_the_middle(*sinks)
        fault()

    with in_background(play) as over:
        runs = paced_runs(Both(sinks), tokens=TOKENS // 2, pace=2 * PACE_S, until=over)
    for sink in sinks:
        assert sink.stop(BOUND)
    for reader in (whole, matching):
        reader.wait_for_ends(RUNS)
    for reader in readers:
        reader.wait_for_ends(1)
    given = {(event.run_id, event.seq) for run in runs for event in run}

    def handled() -> set:
        return {(each.run_id, each.seq) for member in members for each in list(member.events)}

    wait_until(lambda: given <= handled(), BOUND, "the group has handled everything")
    for each in (*readers, whole, matching, *members):
        each.stop()
    check_complete(whole.events, runs)
    check_complete(matching.events, runs)
    check_complete([event for reader in readers for event in reader.events], runs)
    for sink in sinks:
        check_nothing_lost(sink)
    return sinks, [*members, matching]


class Both:
    """Gives each event to two sinks."""

    def __init__(self, sinks) -> None:
        self._sinks = sinks

    def start(self) -> None:
        for sink in self._sinks:
            sink.start()

    def put(self, event) -> None:
        for sink in self._sinks:
            sink.put(event)


def test_killing_a_primary_of_a_cluster_loses_nothing(cluster):
    """X17: kill -9 in the middle of 20 runs; its replica takes over, and nobody is told where."""
    name = "killed"
    keys = [f"{name}:r{n}" for n in range(RUNS)]

    def kill() -> None:
        cluster.give_up_after(LATER_MS)
        killed.kill()
        wait_until(lambda: cluster.primary_of(name) is not killed, BOUND, "its replica takes over")

    with cluster.undisturbed():  # else what is elsewhere moves as well, where the machine is slow
        killed = cluster.primary_of(name)
        elsewhere = [key for key in keys if cluster.primary_of(key) is not killed]
        sinks, _ = through_a_fault(f"{cluster.url}?{PATIENT}", name, kill)
    assert all(sink.statistics().failures for sink in sinks)
    # What the others had confirmed was not sent to them again.
    with contextlib.closing(RawCluster(cluster.url)._connect()) as client:
        for key in elsewhere:
            ids = [json.loads(fields[b"d"])["id"] for _, fields in client.xrange(key)]
            assert len(set(ids)) == len(ids)


def test_a_part_that_is_away_holds_nobody_up(tmp_path):
    """X17: a primary dies together with its replica; what is for the others is delivered at once."""
    with own(lambda: RedisCluster(tmp_path, patient=True)) as cluster:
        for node in cluster.servers:
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        sink = open_sink(cluster.url, target="part:{run_id}", batch_size=1)
        dead = cluster.primary_of("part:r0")
        names = [f"r{n}" for n in range(12)]
        elsewhere = [name for name in names if cluster.primary_of(f"part:{name}") is not dead]
        put_all(sink, [event for name in names for event in make_run(name, ["a"])[:2]])
        [replica] = [each for each in cluster.servers if each.ask("ROLE")[2] == dead.port]
        replica.kill()
        dead.kill()
        large = ["x" * 2**20] * 6  # more than is sent at once waits before all others
        tokens = {name: ["a"] * 6 if name in elsewhere else large for name in names}
        late = {name: make_run(name, tokens[name])[2:] for name in names}
        for position in range(len(late["r0"])):
            for name in names:
                sink.put(late[name][position])
        for name in elsewhere:
            assert len(read_log(cluster.url, f"part:{name}", ends(1))) == 12
        waiting = sum(len(late[name]) for name in names if name not in elsewhere)
        wait_until(lambda: sink.statistics().buffered == waiting, BOUND, "only these wait")
        dead.start()  # empty: what it had was in its memory and its replica's
        assert sink.stop(BOUND)
        check_nothing_lost(sink)
        for name in set(names) - set(elsewhere):
            read = read_log(cluster.url, f"part:{name}", ends(1))
            assert [plain(event) for event in read] == [plain(event) for event in late[name]]


def test_killing_the_primary_under_sentinels_loses_nothing(undisturbed):
    """X17: as above; the Sentinels name the one that takes over."""

    def kill() -> None:
        undisturbed.give_up_after(LATER_MS)
        killed = undisturbed.primary()
        killed.kill()
        wait_until(lambda: undisturbed.primary() is not killed, BOUND, "the other is promoted")

    sinks, _ = through_a_fault(undisturbed.url, "killed", kill)
    assert all(sink.statistics().failures for sink in sinks)


def test_moving_slots_loses_nothing_and_is_not_noticed(cluster):
    """X17: those of all keys, the second half with a while in which they are at both nodes."""
    keys = ["moved", *(f"moved:r{n}" for n in range(RUNS))]

    def move() -> None:
        for key in keys[: RUNS // 2]:
            cluster.move_slot(key)
        for key in keys[RUNS // 2 :]:
            with cluster.moving_slot(key) as (source, target, slot):
                while found := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
                    source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 60_000, "KEYS", *found)
                time.sleep(0.05)  # everything is asked for now

    with cluster.undisturbed():
        sinks, several = through_a_fault(f"{cluster.url}?{PATIENT}", "moved", move)
    assert not any(sink.statistics().failures for sink in sinks)
    for each in several:
        assert each.consumer.statistics().reconnects == 0


def test_a_node_of_a_cluster_is_enough(cluster, caplog, monkeypatch):
    """X17: ``redis://`` of any node, replicas too, is recognised; what dies then is not missed."""
    usual = transport.LOOK_MS
    wait_for_replicas(monkeypatch)
    name = "recognised"
    first, later = make_run("r1", ["a"]), make_run("r2", ["b"])
    with cluster.undisturbed():
        replica = next(node for node in cluster.servers if node.ask("ROLE")[0] == "slave")
        url = f"redis://127.0.0.1:{replica.port}?{PATIENT}"
        sink, reader = open_sink(url, target=name), BackgroundReader(url, name)
        put_all(sink, first)
        reader.wait_for_ends(1)
        assert not caplog.records
        monkeypatch.setattr(transport, "LOOK_MS", usual)  # one will be without a replica
        cluster.give_up_after(LATER_MS)
        cluster.primary_of(name).kill()
        replica.kill()
        for event in later:
            sink.put(event)
        replica.start()  # one primary of three is left without its replica, which has no vote
        assert sink.stop(BOUND)
        reader.wait_for_ends(2)
        reader.stop()
    assert [plain(event) for event in reader.events] == [plain(each) for each in [*first, *later]]


def test_a_cluster_speaks_tls(tmp_path, certificates):
    """X17: its nodes are called by the name in their certificates, which is checked for each."""
    with own(lambda: RedisCluster(tmp_path, certificates=certificates, patient=True)) as cluster:
        port, authority = cluster.servers[0].tls_port, certificates.authority
        url = f"rediss+cluster://localhost:{port}/?ssl_ca_certs={authority}&{PATIENT}"
        sink = open_sink(url, target="tls:{run_id}")
        runs = [make_run(f"r{n}", ["a"]) for n in range(6)]
        put_all(sink, [event for run in runs for event in run])
        assert sink.statistics().failures == 0
        assert sink.stop(BOUND)
        assert len({cluster.primary_of(f"tls:r{n}") for n in range(6)}) > 1
        for n, run in enumerate(runs):
            assert read_log(url, f"tls:r{n}", ends(1)) == run
        socket = f"unix://{cluster.servers[-1].socket}"  # where that is, nodes are reached by TCP
        assert read_log(socket, "tls:r0", ends(1)) == runs[0]


def test_runs_are_spread_and_their_dead_letters_beside_them(cluster):
    """X17: a stream per run spreads over the primaries; what belongs to a stream is in its slot."""
    with cluster.undisturbed():
        check_spread(cluster)


def check_spread(cluster):
    sink = open_sink(cluster.url, stream_key="spread:{run_id}")
    for n in range(RUNS):
        put_all(sink, make_run(f"r{n}", ["a"]))
    assert sink.stop(BOUND)
    assert len({cluster.primary_of(f"spread:r{n}") for n in range(RUNS)}) == 3
    consumer = EventConsumer(
        cluster.url, "spread:r1", group="g", start="beginning", retries=0, retry_delay=0
    )

    @consumer.on("token")
    def fail(event):
        raise ValueError("no")

    consumer.start()
    wait_until(lambda: consumer.statistics().dead_lettered, BOUND, "it is a dead letter")
    assert consumer.stop(BOUND)
    dead = "{spread:r1}:dead"
    with contextlib.closing(RawCluster(cluster.url)._connect()) as client:
        assert client.exists(dead)
        assert client.keyslot(dead) == client.keyslot("spread:r1")
        assert 0 < client.ttl("spread:r1") <= 86_400
    # By the name that it has on every broker.
    [letter] = read_log(cluster.url, "spread:r1:dead", lambda events: True)
    assert letter.token == "a"


def put_all(sink, events) -> None:
    for event in events:
        sink.put(event)
    assert sink.catch_up(BOUND)


# --- replicas -----------------------------------------------------------------------------------


def test_what_is_confirmed_is_on_a_replica_or_it_is_told(undisturbed, caplog, monkeypatch):
    """X17: by default one replica confirms; while none answers, the sink says so and goes on."""
    primary = undisturbed.primary()
    [other] = [server for server in undisturbed.data if server is not primary]
    sink = open_sink(f"{undisturbed.url}?{PATIENT}", target="waits")
    strict = open_sink(f"{undisturbed.url}?replicas=1&{PATIENT}", target="waits")
    hasty = open_sink(f"{undisturbed.url}?socket_timeout=30", target="waits")
    usual = {name: getattr(transport, name) for name in ("WAIT_MS", "LOOK_MS")}
    wait_for_replicas(monkeypatch)
    put_all(hasty, make_run("r0", ["0"]))
    put_all(sink, make_run("r1", ["a"]))
    put_all(strict, make_run("r2", ["b"]))
    assert not caplog.records
    one_command(primary.port, "CONFIG", "SET", "repl-timeout", 3600)
    other.freeze()
    try:
        put_all(hasty, make_run("r5", ["e"]))  # its connection is given up sooner than replicas are
        assert not hasty.statistics().failures
        for name, value in usual.items():
            monkeypatch.setattr(transport, name, value)
        caplog.clear()
        put_all(sink, make_run("r3", ["c"]))
        assert f"no replica of 127.0.0.1:{primary.port} answers" in caplog.text
        for event in make_run("r4", ["d"]):
            strict.put(event)
        wait_until(lambda: strict.statistics().last_error, BOUND, "it is not confirmed")
        assert strict.statistics().buffered
        assert "0 of 1 replicas have it" in strict.statistics().last_error
    finally:
        other.thaw()
    assert strict.stop(BOUND)
    assert sink.stop(BOUND)
    assert hasty.stop(BOUND)
    read = by_run(read_log(undisturbed.url, "waits", ends(6)))
    assert {run_id: text_of(events) for run_id, events in read.items()} == {
        "r0": "0", "r1": "a", "r2": "b", "r3": "c", "r4": "d", "r5": "e",
    }  # fmt: skip


# --- refusals -----------------------------------------------------------------------------------


def refusal(url: str, target: str | None = None) -> str:
    """What a sink says of its first failure, for which it gives up waiting when it is stopped."""
    sink = open_sink(url) if target is None else open_sink(url, target=target)
    for event in make_run("r1", ["a"]):
        sink.put(event)
    wait_until(sink.gives_up, BOUND, "it is refused for good")
    reason = sink.statistics().last_error
    discard_backlog(sink)
    return reason


def test_what_cannot_work_is_told_at_once_with_its_remedy(
    cluster, sentinels, tmp_path, caplog, patient_clients
):
    """X17: each is logged once, and none is retried in silence."""

    def follower_of(server: RedisServer) -> RedisServer:
        folder, primary = tmp_path / "f", f"127.0.0.1 {server.port}"
        return RedisServer(folder, redis_binary(), "--replicaof", primary)

    at_once = ("--repl-diskless-sync-delay", "0")

    with (
        own(lambda: RedisServer(tmp_path, redis_binary(), *at_once)) as plain_server,
        own(lambda: follower_of(plain_server)) as follower,
    ):
        # It refuses otherwise while it loads what the other has.
        wait_until(lambda: in_touch(one_command(follower.port, "ROLE")), BOUND, "it follows")
        refuse(cluster, sentinels, plain_server, follower, caplog)


def refuse(cluster, sentinels, plain_server, follower, caplog):
    one_command(plain_server.port, "ACL", "SETUSER", "u", "on", ">p", "~log", "+multi", "+exec")
    node, sentinel = cluster.servers[0].port, sentinels.sentinels[0].port
    cases = {
        f"redis://127.0.0.1:{node}/1": "a cluster has database 0 only",
        f"redis://127.0.0.1:{sentinel}": "it is a Sentinel: redis+sentinel://",
        f"redis://127.0.0.1:{follower.port}": "give the primary's address, or redis+sentinel://",
        f"redis+cluster://127.0.0.1:{plain_server.port}": "it is no cluster: its URL begins with redis://",
        f"redis+sentinel://127.0.0.1:{plain_server.port}/main": "it is no Sentinel",
        f"redis+sentinel://127.0.0.1:{sentinel}/other": "no Sentinel watches 'other'",
        f"redis://u:p@127.0.0.1:{plain_server.port}": "its ACL needs +xadd",
        f"redis://u:wrong@127.0.0.1:{plain_server.port}": "user or password",
    }
    for url, expected in cases.items():
        caplog.clear()
        assert expected in refusal(url)
        [warning] = [r for r in caplog.records if "cannot deliver" in r.getMessage()]
        assert expected in warning.getMessage()
