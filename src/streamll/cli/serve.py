"""``streamll serve module:Program``: runs over HTTP, one process or several.

Several processes make their application in ``application`` below, from what this one leaves in
the environment. Tokens come from the environment alone: a command line can be read by others.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from streamll.cli.models import language_model
from streamll.cli.problem import FAILED, Problem
from streamll.cli.run import find_program, model_for
from streamll.core.errors import ConfigurationError

TOKENS = "STREAMLL_TOKENS"
SECRET = "STREAMLL_SECRET"  # noqa: S105 - the name of a variable
SETTINGS = "STREAMLL_SERVE"
BACKLOG = 2048
DRAIN_SECONDS = 40
"""A little more than ``Limits.drain_seconds``: after that, connections are cut."""


def serve_programs(
    targets: Sequence[str],
    *,
    host: str,
    port: int,
    log: str,
    workers: int,
    model: str | None,
    base_url: str | None,
    origins: Sequence[str],
    hosts: Sequence[str],
    debug: bool = False,
) -> None:
    try:
        import uvicorn
    except ImportError:
        raise Problem("streamll serve needs an extra: pip install 'streamll[serve]'") from None
    from streamll.serve.access import is_loopback

    if not (tokens_given() or is_loopback(host)):
        raise Problem(
            f"{host} can be reached from elsewhere, and no token is set: put one or more, "
            f"separated by blanks, into the environment variable {TOKENS}"
        )
    settings = {
        "targets": list(targets),
        "log": log,
        "model": model,
        "base_url": base_url,
        "origins": list(origins),
        "hosts": list(hosts) or None,
        "debug": debug,
    }
    os.environ[SETTINGS] = json.dumps(settings)
    try:
        app = application()  # what is wrong with it is said here, once and not by every worker
        asyncio.run(look_at(log))
    except ConfigurationError as error:
        raise Problem(str(error)) from None
    options: dict[str, Any] = {
        "access_log": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": DRAIN_SECONDS,
    }
    with listening(host, port) as server_socket:
        port = server_socket.getsockname()[1]
        signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(0)
        )  # what uvicorn raises again at its end
        print(f"Serving {', '.join(targets)} on {url_of(host, port)}; Ctrl-C ends it", flush=True)
        if workers == 1:
            run_until_stopped(uvicorn.Server(uvicorn.Config(app, **options)), server_socket)
            return
    place = "streamll.cli.serve:application"  # uvicorn binds for its workers itself
    uvicorn.run(place, factory=True, workers=workers, host=host, port=port, **options)


def run_until_stopped(server: Any, server_socket: socket.socket) -> None:
    with suppress(KeyboardInterrupt):
        server.run(sockets=[server_socket])
    if not server.started:
        raise Problem("the server did not start", FAILED)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that takes connections there; they wait until the server is ready."""
    try:
        [(family, *_, place), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        server_socket = socket.socket(family)
    except OSError as error:
        raise Problem(f"{host!r} is no address to listen at: {error.strerror}") from None
    with server_socket:
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server_socket.bind(place)
            server_socket.listen(BACKLOG)
        except OSError as error:
            raise Problem(f"cannot listen on {url_of(host, port)}: {_told(error)}") from None
        yield server_socket


def _told(error: OSError) -> str:
    hints = {
        errno.EADDRINUSE: "the port is in use; choose another with --port, or 0 for any",
        errno.EACCES: "this user may not use that port; choose one above 1023 with --port",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
    }
    return hints.get(error.errno or 0, error.strerror or str(error))


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def look_at(log: str) -> None:
    """Say what is wrong with the log: at once what will not cure itself, and warn of the rest."""
    from streamll.brokers.opening import create_parent_folder, default_target, open_source
    from streamll.brokers.source import SourceOptions

    source = open_source(log, SourceOptions(target=default_target(log)))
    create_parent_folder(log)
    try:
        await source.connect()
    except Exception as error:  # noqa: BLE001 - of the broker's client
        reason = source.fatal_reason(error)
        if reason is not None:
            raise Problem(f"the log cannot be used: {reason}") from None
        print(
            f"streamll: the log {source.name} cannot be reached ({source.describe(error)}); "
            "until it can, runs are refused",
            file=sys.stderr,
        )
    finally:
        await source.close()


def application() -> Any:
    """The application of this process."""
    from streamll.serve.app import create_app

    settings = json.loads(os.environ[SETTINGS])
    if settings["debug"]:
        logging.getLogger("streamll").setLevel(logging.DEBUG)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - what ``python -m`` does
    programs: dict[str, Any] = {}
    for target in settings["targets"]:
        if name_of(target) in programs:
            raise Problem(f"two programs are called {name_of(target)!r}: give one another name")
        programs[name_of(target)] = find_program(target)
    use_model(programs, settings["model"], settings["base_url"])
    return create_app(
        programs,
        log=settings["log"],
        tokens=tokens_given(),
        secret=os.environ.get(SECRET) or None,
        origins=settings["origins"],
        hosts=settings["hosts"],
    )


def use_model(programs: dict[str, Any], name: str | None, base_url: str | None) -> None:
    """Ask the model of this name, for as long as the process lives."""
    if name is None:
        for program in programs.values():
            with model_for(program, None, base_url):
                pass  # it has one, or that is said here and not to the first who asks
        return
    import dspy

    dspy.configure(lm=_models.enter_context(language_model(name, base_url)))


_models = ExitStack()


def tokens_given() -> tuple[str, ...]:
    return tuple(os.environ.get(TOKENS, "").split())


def name_of(target: str) -> str:
    """What a program is called over HTTP: the name behind the colon."""
    return target.partition(":")[2].rpartition(".")[2]
