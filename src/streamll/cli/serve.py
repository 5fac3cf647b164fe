"""``streamll serve module:Program``: runs over HTTP, one process or several.

Several processes make their application in ``application`` below, from what this one leaves in
the environment. Tokens come from the environment alone: a command line can be read by others.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from streamll.cli.models import language_model
from streamll.cli.problem import Problem
from streamll.cli.run import find_program, model_for

TOKENS = "STREAMLL_TOKENS"
SECRET = "STREAMLL_SECRET"  # noqa: S105 - the name of a variable
SETTINGS = "STREAMLL_SERVE"
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
    }
    os.environ[SETTINGS] = json.dumps(settings)
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "access_log": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": DRAIN_SECONDS,
    }
    print(f"Serving {', '.join(targets)} on http://{host}:{port}; Ctrl-C ends it", flush=True)
    if workers == 1:
        uvicorn.run(application(), **options)
    else:
        place = "streamll.cli.serve:application"
        uvicorn.run(place, factory=True, workers=workers, **options)


def application() -> Any:
    """The application of this process."""
    from streamll.serve.app import create_app

    settings = json.loads(os.environ[SETTINGS])
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - what ``python -m`` does
    programs = {name_of(target): find_program(target) for target in settings["targets"]}
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
