"""A fleet: ``streamll serve`` in several processes behind nginx, with one log."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from pathlib import Path

import httpx
import pytest
import warm

from brokers.backends import available
from brokers.servers import RedisServer, free_port, listens, redis_binary
from serve.nginx import Nginx
from serve.serving import wait_until

DOCS = Path(__file__).parents[3] / "docs" / "proxy.md"
PROGRAM = 'import dspy\nqa = dspy.Predict("question -> answer")\n'
BOUND = 60
PATIENT = f"""
from streamll.serve import runner
from streamll.serve.routes import answers
runner.LOGGED_S = answers.HEARD_S = {BOUND}.0
"""
"""A run that has been started is in the log, so that the other servers have it, and what comes of
an answer is told: on a busy machine both may take longer than a server waits by default.
"""


def documented(heading):
    """The nginx settings below a heading of docs/proxy.md: those of an upstream's servers, and of
    its location.
    """
    block = re.search(
        rf"^#+ {heading}\n.*?```nginx\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    upstream = re.findall(r"server 127\.0\.0\.1:\d+ (.*?);", block[1])
    location = re.search(r"location / \{(.*?)\n    \}", block[1], re.DOTALL)[1]
    return set(upstream), re.sub(r"proxy_pass [^;]*;", "", location)


class Member:
    """One server process of a fleet; its port stays the same when it is started again."""

    def __init__(self, folder, log, model_url):
        self.port = free_port()
        self._place = folder
        options = ["--log", log, "--model", "openai/practice", "--base-url", model_url]
        arguments = ["serve", "qa.py:qa", "--port", str(self.port), *options]
        self._command = [sys.executable, "-m", "streamll", *arguments]
        self._process = None
        self.start()

    @property
    def name(self):
        """As nginx calls it."""
        return f"127.0.0.1:{self.port}"

    def start(self):
        self._process = warm.Popen(self._command, cwd=self._place)

    def wait_ready(self):
        def ready():
            assert self._process.poll() is None, "a server ended"
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"http://{self.name}/healthz", trust_env=False).status_code == 200

        wait_until(ready, what="a server's start")

    def send(self, number):
        self._process.send_signal(number)

    def wait_closed(self):
        """Until it takes no new connections."""
        wait_until(lambda: not listens(self.port), what="a server's drain")

    def wait(self):
        """Its exit code."""
        return self._process.wait(BOUND)

    def stop(self):
        self._process.kill()
        self._process.wait(BOUND)


class Fleet:
    """``members`` server processes and the nginx before them, as docs/proxy.md has it."""

    def __init__(self, folder, log, model_url, members=3, program=PROGRAM):
        (folder / "qa.py").write_text(PATIENT + program)
        self.log = log
        self.members = [Member(folder, log, model_url) for _ in range(members)]
        for member in self.members:
            member.wait_ready()
        [passed], location = documented("Several servers")
        served_by = "add_header x-served-by $upstream_addr always;"
        ports = [member.port for member in self.members]
        # What it logs of a server that is restarted is what the test does.
        self.nginx = Nginx(
            folder, *ports, location=location + served_by, passed=[passed], level="emerg"
        )
        self.url = self.nginx.url

    def client(self):
        """One that has no connection open: nginx chooses a server for each request."""
        return httpx.Client(base_url=self.url, timeout=BOUND, trust_env=False)

    def member(self, response):
        """Whom nginx gave this request to, at last."""
        name = response.headers["x-served-by"].rpartition(", ")[2]
        return next(member for member in self.members if member.name == name)

    def stop(self):
        self.nginx.stop()
        for member in self.members:
            member.stop()


@pytest.fixture
def fleet(practice, tmp_path):
    """``fleet("redis")``: a fleet on a log of this kind; ``program``: what its ``qa`` is."""
    stops = []

    def start(kind, **options):
        log = f"sqlite:///{tmp_path}/log.db"
        if kind == "redis":
            server = available(lambda: RedisServer(tmp_path / "redis", redis_binary()))
            stops.append(server.stop)
            log = server.url
        started = Fleet(tmp_path, log, practice.openai_url, **options)
        stops.append(started.stop)
        return started

    yield start
    practice.release()
    for stop in reversed(stops):
        stop()


class Meanwhile:
    """Asks through nginx again and again, in a thread, and keeps what was not answered well."""

    def __init__(self, fleet, path="/healthz"):
        import threading

        self._fleet, self._path = fleet, path
        self._done = threading.Event()
        self.answers = 0
        self.refusals = []
        self._thread = threading.Thread(target=self._ask, name="asking meanwhile", daemon=True)

    def _ask(self):
        while not self._done.is_set():
            with self._fleet.client() as client:
                answer = client.get(self._path)
            self.answers += 1
            if answer.status_code != 200:
                self.refusals.append((time.time(), answer.status_code, answer.text))
            self._done.wait(0.02)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join(BOUND)
