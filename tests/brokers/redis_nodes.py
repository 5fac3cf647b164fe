"""A Redis Cluster of three primaries with a replica each, and a primary with a replica under three
Sentinels: groups of ``RedisServer`` that a test may kill one by one.

Nothing is written to disk but the nodes' own configuration: what outlives a killed primary is what
its replica has.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brokers.servers import Group, RedisServer, ask, free_port, redis_binary, wait_until

if TYPE_CHECKING:
    from brokers.certificates import Certificates

START_S = 300
NODE_TIMEOUT_MS = 500
PATIENT_MS = 20_000
"""Where nobody is to take the place of a node, one that is silent for so long keeps it: the machine
is busy. More would make the nodes slow to find each other again.
"""
DOWN_AFTER_MS = 500
LATER_MS = 5_000
"""After so long a killed one is replaced where no other one must be: others are silent for less."""
SLOTS = 16_384

MEMORY_ONLY = (
    "--appendonly", "no", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
)  # fmt: skip


class ClusterNode(RedisServer):
    """With ``certificates`` the nodes speak TLS among each other as well, and are called by the name
    that stands in them.
    """

    def __init__(self, folder: Path, binary: str, certificates: Certificates | None = None) -> None:
        bus = free_port()
        super().__init__(
            folder, binary, *MEMORY_ONLY,
            "--cluster-enabled", "yes", "--cluster-port", str(bus),
            "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
            "--cluster-replica-validity-factor", "0",
            certificates=certificates,
        )  # fmt: skip
        if certificates is not None:
            self.options += (
                "--tls-cluster", "yes", "--tls-replication", "yes",
                "--cluster-announce-hostname", "localhost",
                "--cluster-preferred-endpoint-type", "hostname",
            )  # fmt: skip
        self.met_at = self.port if certificates is None else self.tls_port
        self.bus = bus

    def ask(self, *command: Any) -> Any:
        return one_command(self.port, *command)


class RedisCluster(Group):
    """``primaries`` and as many replicas, of which each follows one of them."""

    def __init__(
        self,
        folder: Path,
        binary: str | None = None,
        primaries: int = 3,
        certificates: Certificates | None = None,
        *,
        patient: bool = False,
    ) -> None:
        """``patient``: no replica is to take over, as none does because the machine is slow."""
        super().__init__(folder)
        binary = binary or redis_binary()
        self.primaries = primaries
        self._patient = patient
        self.servers = [
            ClusterNode(folder / f"n{n}", binary, certificates) for n in range(2 * primaries)
        ]
        self.port = self.servers[0].port
        self._formed = False

    @property
    def url(self) -> str:
        return f"redis+cluster://{self.hosts}/"

    def start(self, seconds: float = START_S) -> None:
        super().start(seconds)
        if not self._formed:
            self._form()
            self._formed = True
        self.wait_until_whole()
        if self._patient:
            self.give_up_after(PATIENT_MS)
            self.wait_until_whole()  # somebody may have been given up just then

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Begins whole; until the end no replica takes over because the machine is slow.

        Nor does one for a node that is killed, before ``give_up_after`` says when.
        """
        self.start()
        self.give_up_after(PATIENT_MS)
        try:
            self.wait_until_whole()
            yield
        finally:
            self.give_up_after(NODE_TIMEOUT_MS)

    def give_up_after(self, ms: int) -> None:
        """How long a node has to be silent until its replica takes over."""
        # Not when they start: a cluster waits for as long before it takes the first command.
        for node in self.servers:
            if node.process is not None:
                node.ask("CONFIG", "SET", "cluster-node-timeout", ms)

    def _form(self) -> None:
        for number, node in enumerate(self.servers):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for one, other in itertools.combinations(self.servers, 2):  # quicker than hearsay
            one.ask("CLUSTER", "MEET", "127.0.0.1", other.met_at, other.bus)
        bounds = [SLOTS * n // self.primaries for n in range(self.primaries + 1)]
        for node, begin, end in zip(self.servers, bounds, bounds[1:], strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        for number, node in enumerate(self.servers[self.primaries :]):
            primary = self.servers[number].ask("CLUSTER", "MYID")

            def knows_it(node=node, primary=primary) -> bool:
                return primary in node.ask("CLUSTER", "NODES")

            wait_until(knows_it, START_S, "the nodes have met")
            node.ask("CLUSTER", "REPLICATE", primary)

    def wait_until_whole(self) -> None:
        """Until all slots are served and every primary has its replica, as each node sees it."""
        for node in self.servers:
            wait_until(lambda node=node: self._is_whole(node), START_S, "the cluster is whole")

    def _is_whole(self, node: ClusterNode) -> bool:
        if b"cluster_state:ok" not in ask(node.port, b"CLUSTER INFO\r\n"):
            return False
        if not in_touch(node.ask("ROLE")):
            return False
        shards = node.ask("CLUSTER", "SLOTS")
        served = sum(end - begin + 1 for begin, end, *_ in shards)
        return served == SLOTS and all(len(nodes) > 1 for _, _, *nodes in shards)

    def primary_of(self, key: str) -> ClusterNode:
        """The node that has a key's slot now, as a majority of the running nodes sees it."""
        running = [node for node in self.servers if node.process is not None]
        slot = running[0].ask("CLUSTER", "KEYSLOT", key)
        seen = []
        for node in running:
            for begin, end, (_, port, *_), *_ in node.ask("CLUSTER", "SLOTS"):
                if begin <= slot <= end:
                    seen.append(port)
        port = max(set(seen), key=seen.count)
        return next(node for node in self.servers if node.port == port)

    def move_slot(self, key: str) -> ClusterNode:
        """Move the slot of a key, and the keys in it, to another primary. Returns that one."""
        with self.moving_slot(key) as (source, target, slot):
            while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
                source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 60_000, "KEYS", *keys)
        return target

    @contextlib.contextmanager
    def moving_slot(self, key: str) -> Iterator[tuple[ClusterNode, ClusterNode, int]]:
        """While the block runs the slot is on its way: source, target and its number."""
        source = self.primary_of(key)
        slot = source.ask("CLUSTER", "KEYSLOT", key)
        primaries = [
            node for node in self.servers if node.process and node.ask("ROLE")[0] == "master"
        ]
        target = primaries[(primaries.index(source) + 1) % len(primaries)]
        ids = {node: node.ask("CLUSTER", "MYID") for node in (source, target)}
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        yield source, target, slot
        for node in (target, source, *(set(primaries) - {source, target})):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


class SentinelServer(RedisServer):
    """A Sentinel that watches the primary at ``watched``."""

    def __init__(self, folder: Path, binary: str, watched: int) -> None:
        super().__init__(folder, binary)
        self._watched = watched

    def command(self) -> list[str]:
        configuration = self.folder / "sentinel.conf"
        if not configuration.exists():  # it keeps what it has learnt there
            configuration.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
                f"sentinel monitor main 127.0.0.1 {self._watched} 2\n"
                f"sentinel down-after-milliseconds main {DOWN_AFTER_MS}\n"
                "sentinel failover-timeout main 3000\n"
            )
        return [self.binary, str(configuration), "--sentinel"]


class RedisUnderSentinel(Group):
    """A primary, a replica, and three Sentinels, which promote it. The service is ``main``."""

    def __init__(self, folder: Path, binary: str | None = None) -> None:
        super().__init__(folder)
        binary = binary or redis_binary()
        one = RedisServer(folder / "one", binary, *MEMORY_ONLY)
        follows = ("--replicaof", f"127.0.0.1 {one.port}")
        other = RedisServer(folder / "other", binary, *MEMORY_ONLY, *follows)
        self.data = [one, other]
        self.sentinels = [SentinelServer(folder / f"s{n}", binary, one.port) for n in range(3)]
        self.servers = [*self.data, *self.sentinels]
        self.port = one.port

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/main"

    def start(self, seconds: float = START_S) -> None:
        super().start(seconds)
        primary = self.primary()
        for server in self.data:
            if server is not primary:  # Sentinels tell one that was away as well, some time later
                one_command(server.port, "REPLICAOF", "127.0.0.1", primary.port)
        wait_until(self._is_whole, START_S, "the Sentinels know each other and the replica")

    def _is_whole(self) -> bool:
        roles = [one_command(server.port, "ROLE") for server in self.data]
        if sorted(role[0] for role in roles) != ["master", "slave"] or not all(
            map(in_touch, roles)
        ):
            return False
        for sentinel in self.sentinels:
            told = one_command(sentinel.port, "SENTINEL", "MASTER", "main")
            told = dict(zip(told[::2], told[1::2], strict=True)) if isinstance(told, list) else told
            counts = told["num-slaves"], told["num-other-sentinels"], told["flags"]
            if counts != ("1", "2", "master"):
                return False
        return True

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Begins with both in touch; until the end nobody is promoted because the machine is slow."""
        self.give_up_after(3_600_000)
        try:
            self.start()
            yield
        finally:
            self.give_up_after(DOWN_AFTER_MS)

    def give_up_after(self, ms: int) -> None:
        """How long the primary has to be silent until the replica is promoted."""
        for each in self.sentinels:
            one_command(each.port, "SENTINEL", "SET", "main", "down-after-milliseconds", ms)

    def primary(self) -> RedisServer:
        """The one that the Sentinels name."""
        _, port = one_command(self.sentinels[0].port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        return next(server for server in self.data if server.port == int(port))


def in_touch(role: Any) -> bool:
    """Whether a server with this role has its primary, or a replica.

    A replica counts from its first word on, which comes up to a second after it has connected.
    """
    return role[3] == "connected" if role[0] == "slave" else bool(role[2])


def one_command(port: int, *command: Any) -> Any:
    """A server's reply, as it is: lists, numbers and text."""
    from redis.connection import Connection

    patience = {"socket_timeout": START_S, "socket_connect_timeout": START_S}
    connection = Connection(port=port, decode_responses=True, protocol=2, **patience)
    try:
        connection.connect()
        connection.send_command(*command)
        return connection.read_response()
    finally:
        connection.disconnect()
