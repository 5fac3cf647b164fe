"""Fixtures of every test: no network, no shared DSPy state, no leftover threads, a practice server.

Nothing here imports dspy or streamll's capture by itself, so tests of the core stay quick.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import gc
import ipaddress
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import certifi
import hypothesis
import pytest
from profiles import EXAMPLES, IN_CI

# Before anything imports LiteLLM or DSPy: prices come from the installed package, caches are in a
# folder of this test run, and no key or address from the developer's environment is used.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"
os.environ["DSPY_CACHEDIR"] = CACHE = tempfile.mkdtemp(prefix="streamll-tests-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
for name in [n for n in os.environ if n.endswith(("_API_KEY", "_API_BASE", "_BASE_URL"))]:
    del os.environ[name]

# An HTTP client reads the certificates that it trusts when it is made. All of them take 30 ms; here
# nobody is asked over TLS but servers whose certificates a test names itself. Who does not look at
# the environment asks certifi.
AUTHORITIES = Path(certifi.where()).read_text("ascii", "ignore")
END = "-----END CERTIFICATE-----\n"
os.environ["SSL_CERT_FILE"] = f"{CACHE}/authority.pem"
Path(os.environ["SSL_CERT_FILE"]).write_text(AUTHORITIES.partition(END)[0] + END, "ascii")
certifi.where = os.environ["SSL_CERT_FILE"].__str__

# A process started in the background of a shell ignores Ctrl-C, and so would the programs that
# tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "streamll",
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=IN_CI,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("streamll")


# --- DSPy without engines --------------------------------------------------------------------------

# DSPy 3.4 selects an engine for each LM call; older ones ask LiteLLM. A test marked ``since_3_4`` is
# about what only the newer ones have, and is skipped without engines. A file marked as a whole
# (the first mark of its ``pytestmark``) is not even imported, as it may import what is not there.
HAS_ENGINES = Path(find_spec("dspy").origin).with_name("clients").joinpath("execution.py").exists()
SINCE_3_4 = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.since_3_4\b", re.MULTILINE)


def pytest_ignore_collect(collection_path, config):
    if HAS_ENGINES or collection_path.suffix != ".py":
        return None
    return SINCE_3_4.search(collection_path.read_text(encoding="utf-8")) is not None or None


def pytest_runtest_setup(item):
    if item.get_closest_marker("since_3_4") is not None and not HAS_ENGINES:
        pytest.skip("about what only DSPy 3.4 and later has")


# --- what stays is not looked through ---------------------------------------------------------------

# With DSPy and LiteLLM there are a million objects that live as long as the process. To look for
# garbage among them, as they come and whenever a test does, takes seconds of every worker.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop():
    gc.freeze()
    gc.enable()


# --- in parallel ---------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: three workers for a core, since many tests wait for what they have begun."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return 3 * (cores or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a cluster come first, in one worker: workers give each other what is last.

    Spread over several workers each of them would start the cluster's nodes, for a minute of both cores.
    """
    items.sort(key=lambda item: item.get_closest_marker("shares_a_cluster") is None)


# --- no test is skipped in CI --------------------------------------------------------------------


def _left_out(config: pytest.Config) -> list[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker of pytest-xdist: the controller counts
        return []
    kinds = ("skipped", "xfailed", "xpassed", "deselected")
    return [f"{len(reporter.stats[kind])} {kind}" for kind in kinds if reporter.stats.get(kind)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if IN_CI and _left_out(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if IN_CI and (left_out := _left_out(config)):
        terminalreporter.write_line(f"in CI every test runs, but {', '.join(left_out)}", red=True)


# --- no network beyond this machine -------------------------------------------------------------


class _NetworkGuard:
    """Refuses connections beyond loopback, and records them, since programs swallow errors."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def check(self, host: object) -> None:
        if isinstance(host, (bytes, bytearray)):
            host = host.decode()
        if host in (None, "", "localhost"):
            return
        try:
            if ipaddress.ip_address(str(host)).is_loopback:
                return
        except ValueError:
            pass  # a name, which would have to be resolved
        self.refused.append(str(host))
        raise PermissionError(f"tests may not reach {host!r}, only this machine")


@pytest.fixture(scope="session")
def _network_guard():
    guard = _NetworkGuard()
    connect, connect_ex, getaddrinfo = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.getaddrinfo,
    )

    def guarded(original):
        def method(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                guard.check(address[0])
            return original(self, address)

        return method

    def guarded_getaddrinfo(host, *args, **kwargs):
        guard.check(host)
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield guard


@pytest.fixture(autouse=True)
def no_network(_network_guard):
    _network_guard.refused.clear()
    yield
    assert not _network_guard.refused, f"tried to reach {_network_guard.refused}"


# --- isolated DSPy, streamll and threads --------------------------------------------------------


def _forget_dspy_state() -> None:
    """Reset DSPy's settings and the owner of ``configure``; use an empty cache in memory."""
    settings = sys.modules.get("dspy.dsp.utils.settings")
    if settings is None:
        return
    import dspy

    settings.main_thread_config.clear()
    settings.main_thread_config.update(copy.deepcopy(settings.DEFAULT_CONFIG))
    settings.config_owner_thread_id = settings.config_owner_async_task = None
    dspy.configure_cache(enable_disk_cache=False)


@pytest.fixture(autouse=True)
def own_dspy():
    _forget_dspy_state()
    yield
    _forget_dspy_state()


@pytest.fixture(autouse=True)
def own_streamll():
    """Without configuration, context, ``watch()``, open breakers and hooks in DSPy; nothing has been logged once."""
    import msgspec

    from streamll import context
    from streamll.configuration import configuration
    from streamll.core.errors import warn_once

    before = msgspec.structs.asdict(configuration)
    context.clear_context()
    warn_once.cache_clear()
    yield
    for name, value in before.items():
        setattr(configuration, name, value)
    context.clear_context()
    if watching := sys.modules.get("streamll.watching"):
        watching.unwatch()
    if breaker := sys.modules.get("streamll.flow.breaker"):
        breaker._breakers.clear()  # the next practice server may get the port of a failing one
    if patch := sys.modules.get("streamll.capture.hooks.places"):
        patch.uninstall()


@pytest.fixture
def patient_sinks(monkeypatch):
    """A call gives its sinks more than a second, for who looks at what they did when it returns."""
    from streamll.capture.run import enter

    monkeypatch.setattr(enter.catch_up, "__defaults__", (60.0,))


@pytest.fixture(autouse=True)
def no_leftover_threads():
    """Fails where a test leaves a thread that would keep the interpreter alive."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 60  # DSPy's own threads may still retry a stopped server
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon and not thread.name.startswith(
            "litellm-"
        ):  # LiteLLM's process-wide pool
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} is still running after the test"


@pytest.fixture
def new_threads():
    """``new_threads("streamll")``: the threads so named that this test has started.

    Those of other tests are no matter of its own: a forgotten sink's ends after some seconds.
    """
    before = set(threading.enumerate())

    def started(name: str = "") -> list[threading.Thread]:
        return [
            thread
            for thread in threading.enumerate()
            if thread.name.startswith(name) and thread not in before
        ]

    return started


# --- the practice server ------------------------------------------------------------------------


@pytest.fixture
def practice():
    """A running practice server for this test."""
    from streamll.testing import PracticeServer

    with PracticeServer() as server:
        yield server


@pytest.fixture
def point_lms_at(monkeypatch):
    """``point_lms_at(server)``: every ``dspy.LM`` made without an address asks this practice server.

    The address goes into the LM's options. DSPy also reads ``OPENAI_API_BASE``, but passes such
    calls to LiteLLM, unlike those of a user without that variable.
    """
    import dspy

    original = dspy.LM.__init__

    def redirect(server):
        defaults = {"api_base": server.openai_url, "api_key": "practice", "cache": False}

        def init(self, *args, **options):
            original(self, *args, **{**defaults, **options})

        monkeypatch.setattr(dspy.LM, "__init__", init)

    return redirect


@pytest.fixture
def anyio_backend():
    return "asyncio"


# --- brokers ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory) -> Path:
    """A folder of the whole test run, whichever worker asks."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def certificates(run_folder):
    from brokers.shared import certificates_of_run

    return certificates_of_run(run_folder)


@pytest.fixture(scope="session")
def server_of(run_folder):
    """``server_of("redis")``: started when first asked for, shared by all tests and workers."""
    from brokers.servers import Unavailable
    from brokers.shared import shared_server

    servers = {}
    with contextlib.ExitStack() as until_the_end:

        def get(name: str):
            if name not in servers:
                try:
                    servers[name] = until_the_end.enter_context(shared_server(run_folder, name))
                except Unavailable as problem:
                    pytest.skip(str(problem))
            return servers[name]

        yield get
