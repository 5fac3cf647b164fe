"""``streamll serve module:Program``: runs over HTTP, in one process or several.

Each worker process makes its application in ``application`` below, from settings that this
process leaves in the environment. Tokens come only from the environment, since other users of the
machine can read a command line.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from streamll.cli.command import FAILED, BaseURL, Debug, Include, Problem
from streamll.cli.models import language_model
from streamll.cli.retention import with_retention
from streamll.cli.run import (
    configure_include,
    find_function,
    find_guards,
    find_served,
    model_for,
)
from streamll.core.errors import ConfigurationError, needs_extra

if TYPE_CHECKING:
    from streamll.serve.programs import Served

TOKENS = "STREAMLL_TOKENS"
SECRET = "STREAMLL_SECRET"  # noqa: S105 - the name of a variable
SETTINGS = "STREAMLL_SERVE"
_for_good = ExitStack()
HINTS = {
    errno.EADDRINUSE: "the port is in use; choose another with --port, or 0 for any",
    errno.EACCES: "this user may not use that port; choose one above 1023 with --port",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
}
BACKLOG_CONNECTIONS = 2048
DRAIN_TIMEOUT_S = 40
"""A little more than ``Limits.drain_seconds``; then connections are cut."""


def serve(
    programs: Annotated[
        list[str],
        Argument(
            metavar="MODULE:PROGRAM", help="A program to serve, named as for run; repeatable."
        ),
    ],
    host: Annotated[
        str, Option(help="Address to listen on. Others than this machine's own need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535)] = 8000,
    log: Annotated[
        str,
        Option(metavar="URL", help="The log that keeps the runs: sqlite:///, redis://, amqp://."),
    ] = "sqlite:///streamll.db",
    workers: Annotated[int, Option(min=1, help="Number of server processes.")] = 1,
    model: Annotated[
        str | None, Option(metavar="NAME", help="The language model, as for run.")
    ] = None,
    base_url: BaseURL = None,
    origin: Annotated[
        list[str] | None, Option(metavar="ORIGIN", help="Allow pages of this origin; repeatable.")
    ] = None,
    server_name: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="A host name this server answers to; repeatable."),
    ] = None,
    from_messages: Annotated[
        list[str] | None,
        Option(
            metavar="[PROGRAM=]MODULE:FUNCTION",
            help="The function that makes a program's inputs of a chat's messages; repeatable. "
            "Default: each input takes what its type can.",
        ),
    ] = None,
    lost_seconds: Annotated[
        float, Option(min=1, help="Silence after which a run counts as lost.")
    ] = 60.0,
    ai_version: Annotated[
        int | None,
        Option(
            min=5,
            max=7,
            metavar="N",
            help="Major version of Vercel's ai package in the pages at /ai; by default any.",
        ),
    ] = None,
    ignore_sampling: Annotated[
        bool,
        Option(
            "--ignore-sampling",
            help="Ignore temperature, max_tokens and the like in OpenAI's requests, "
            "which are refused by default.",
        ),
    ] = False,
    auth: Annotated[
        str | None,
        Option(
            metavar="MODULE:FUNCTION",
            help="The function that says who a request is from, and which runs that person may "
            "see, start and stop. Default: STREAMLL_TOKENS alone.",
        ),
    ] = None,
    guards: Annotated[
        list[str] | None,
        Option(
            metavar="MODULE:NAME",
            help="A guard, or a list of them: what no event of the runs may show; repeatable.",
        ),
    ] = None,
    include: Include = None,
    keep: Annotated[
        str | None,
        Option(
            metavar="AMOUNT",
            help="How much the log keeps: a time for SQLite (7d), a number of entries for Redis "
            "(500000), a size for RabbitMQ (2GB). Default: what its URL says.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Serve programs over HTTP, with a page to watch them. STREAMLL_TOKENS holds bearer tokens."""
    try:
        import uvicorn
    except ImportError:
        raise needs_extra("streamll serve", "serve") from None
    from streamll.core.urls import without_password
    from streamll.serve.web.access import is_loopback

    if not (tokens_given() or auth or is_loopback(host)):
        raise Problem(
            f"{host} can be reached from elsewhere, and no token is set: put one or more, "
            f"separated by blanks, into the environment variable {TOKENS}, or give --auth"
        )
    if auth and not tokens_given():  # of which it is made otherwise; the same for all workers
        os.environ.setdefault(SECRET, secrets.token_hex(32))
    log = with_retention(log, keep)
    served: dict[str, Any] = {"log": log, "origins": origin or [], "hosts": server_name or None}
    served |= {"ai_version": ai_version, "ignore_sampling": ignore_sampling}
    settings: dict[str, Any] = {"model": model, "base_url": base_url, "debug": debug}
    settings |= {
        "app": served,
        "from_messages": from_messages or [],
        "include": include,
        "auth": auth,
        "guards": guards or [],
    }
    limits = {"lost_seconds": lost_seconds}
    os.environ[SETTINGS] = json.dumps({"targets": programs, "limits": limits, **settings})
    try:
        app = application()  # its errors are reported here, once, and not by every worker
        is_new = asyncio.run(look_at(log))
    except ConfigurationError as error:
        raise Problem(str(error)) from None
    options: dict[str, Any] = {"access_log": False, "log_level": "warning"}
    options["timeout_graceful_shutdown"] = DRAIN_TIMEOUT_S
    with bound(host, port, listens=workers == 1) as server_socket:
        port = server_socket.getsockname()[1]
        # uvicorn raises the signal again when it has ended.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print(f"Serving {', '.join(programs)} on {url_of(host, port)}; Ctrl-C ends it", flush=True)
        if is_new:
            print(f"The log in {without_password(log)} is new: nothing is in it yet", flush=True)
        if workers == 1:
            server = uvicorn.Server(uvicorn.Config(app, **options))
            with suppress(KeyboardInterrupt):
                server.run(sockets=[server_socket])
            if not server.started:
                raise Problem("the server did not start", FAILED)
            return
    place = "streamll.cli.serve:application"  # uvicorn binds for its workers itself
    uvicorn.run(place, factory=True, workers=workers, host=host, port=port, **options)


@contextmanager
def bound(host: str, port: int, *, listens: bool) -> Iterator[socket.socket]:
    """A socket that has the address. If it listens, connections wait in its backlog until the server
    is ready; closing it would reset them.
    """
    try:
        kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
        [(family, *_, place), *_] = socket.getaddrinfo(host, port, type=kind, flags=flags)
        server_socket = socket.socket(family)
    except OSError as error:
        raise Problem(f"{host!r} is not an address to listen on: {error.strerror}") from None
    with server_socket:
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server_socket.bind(place)
            if listens:
                server_socket.listen(BACKLOG_CONNECTIONS)
        except OSError as error:
            hint = HINTS.get(error.errno or 0, error.strerror or str(error))
            raise Problem(f"cannot listen on {url_of(host, port)}: {hint}") from None
        yield server_socket


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def look_at(log: str) -> bool:
    """Whether a broker has no such log yet: perhaps it is another broker's, or database.

    ``Problem`` for a log that can never be used, a warning for one that is down.
    """
    from streamll.brokers.log_files import create_parent_folder
    from streamll.brokers.opening import default_target, open_source
    from streamll.brokers.source import SourceOptions

    source = open_source(log, SourceOptions(target=default_target(log)))
    create_parent_folder(log)
    try:
        is_new = not log.startswith("sqlite:") and not await source.exists()
        await source.connect()
    except Exception as error:  # noqa: BLE001 - of the broker's client
        reason, fatal = source.diagnose(error)
        if fatal:
            raise Problem(f"the log cannot be used: {source.name}: {reason}") from None
        what = f"the log {source.name} cannot be reached ({reason}); until it can, runs are refused"
        print(f"streamll: {what}", file=sys.stderr)
        return False
    else:
        return is_new
    finally:
        await source.close()


def application() -> Any:
    """The application of this process."""
    from streamll.serve.app import create_app
    from streamll.serve.web.limits import Limits

    settings = json.loads(os.environ[SETTINGS])
    if settings["debug"]:
        logging.getLogger("streamll").setLevel(logging.DEBUG)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - what ``python -m`` does
    configure_include(settings["include"], _for_good)
    programs: dict[str, Served] = {}
    for target in settings["targets"]:
        found = find_served(target)
        if found.name in programs:
            raise Problem(f"two programs are called {found.name!r}: give one another name")
        programs[found.name] = found
    for option in settings["from_messages"]:
        add_from_messages(programs, option)
    use_model([each.program for each in programs.values()], settings["model"], settings["base_url"])
    auth = find_function(settings["auth"]) if settings["auth"] else None
    secret = os.environ.get(SECRET) or None
    limits = Limits(**settings["limits"])
    return create_app(
        programs,
        tokens=tokens_given(),
        secret=secret,
        limits=limits,
        auth=auth,
        guards=find_guards(settings["guards"]),
        **settings["app"],
    )


def add_from_messages(programs: dict[str, Served], option: str) -> None:
    """What ``--from-messages`` says: the function of a program, or of the only one."""
    import msgspec

    name, equals, target = option.rpartition("=")
    if not equals and len(programs) > 1:
        known = ", ".join(programs)
        raise Problem(f"--from-messages says whose it is: PROGRAM=module:function, of {known}")
    if equals and name not in programs:
        raise Problem(f"--from-messages: there is no program {name!r}, only {', '.join(programs)}")
    name = name or next(iter(programs))
    function = find_function(target)
    programs[name] = msgspec.structs.replace(programs[name], from_messages=function)


def use_model(programs: Iterable[Any], name: str | None, base_url: str | None) -> None:
    """Use the model of this name for the rest of the process."""
    if name is None:
        for program in programs:
            with model_for(program, None, base_url):
                pass  # raises here, not in the first request, if it has no model
        return
    import dspy

    models = ExitStack()
    dspy.configure(lm=models.enter_context(language_model(name, base_url)))
    atexit.register(models.close)  # also keeps it until then


def tokens_given() -> tuple[str, ...]:
    return tuple(os.environ.get(TOKENS, "").split())
