"""A cluster of RabbitMQ nodes on this machine, which a test may kill one by one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from brokers.servers import Group, RabbitMQServer, free_port

NODES = 3

ABOUT_QUEUE = """
    {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)),
    rabbit_amqqueue:info(Queue, [{item}])
"""


class RabbitMQNode(RabbitMQServer):
    """One node. All are the same user's, and find each other through one ``epmd``."""

    def __init__(self, folder: Path, cookie: str, epmd_port: int, root: Path) -> None:
        super().__init__(folder, root=root)
        self.name = f"t{self.port}@localhost"
        self.epmd_port = epmd_port
        self.peers: list[str] = []
        self._cookie = cookie

    @property
    def cookie(self) -> str:
        return self._cookie

    def start(self, seconds: float = 300) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        peers = ", ".join(f"'{name}'" for name in self.peers)
        (self.folder / "advanced.config").write_text(
            f"[{{rabbit, [{{cluster_nodes, {{[{peers}], disc}}}}]}}].\n"
        )
        super().start(seconds)

    def stop(self) -> None:
        self.kill()  # the epmd is the cluster's


class RabbitMQCluster(Group):
    """Several nodes. The first is started alone; the others find it and join."""

    def __init__(self, folder: Path, root: Path = Path("/")) -> None:
        super().__init__(folder)
        cookie, epmd_port = f"cookie{os.urandom(4).hex()}", free_port()
        self.servers = [
            RabbitMQNode(folder / f"n{n}", cookie, epmd_port, root) for n in range(NODES)
        ]
        self.port = self.servers[0].port
        for node in self.servers:  # RabbitMQ 4 waits for all that it is told of
            node.peers = list(dict.fromkeys([self.servers[0].name, node.name]))

    @property
    def url(self) -> str:
        return url_of(self.servers)

    def start(self, seconds: float = 300) -> None:
        first, *others = self.servers
        if first.epmd is None:
            first.start(seconds)
            for node in others:
                node.epmd = first.epmd
        with ThreadPoolExecutor() as pool:
            down = [node for node in self.servers if node.process is None]
            list(pool.map(lambda node: node.start(seconds), down))

    def replicas(self, queue: str) -> int:
        """On how many nodes it is."""
        return len(self.nodes_of(queue, "members"))

    def nodes_of(self, queue: str, item: str) -> list[RabbitMQNode]:
        """Those that RabbitMQ says are its ``leader``, or its ``members``."""
        asked = next(node for node in self.servers if node.process)
        found = asked.evaluate(ABOUT_QUEUE.format(queue=queue, item=item))
        return [node for node in self.servers if node.name in found]

    def stop(self) -> None:
        super().stop()
        epmd = self.servers[0].epmd
        if epmd is not None:
            epmd.kill()
            epmd.wait(60)


def url_of(nodes: Iterable[RabbitMQNode]) -> str:
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    return f"amqp://guest:guest@{hosts}/"
