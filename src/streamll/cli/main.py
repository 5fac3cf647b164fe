"""The ``streamll`` command.

Exit codes: 0 the program (or server) ended well, 1 the program failed or nobody reads the output
any more, 2 the command line is wrong, 130 Ctrl-C. Errors are one line on standard error; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from typing import Annotated

import typer

from streamll.cli.chat import chat
from streamll.cli.command import FAILED, INTERRUPTED, USAGE, command, in_one_line
from streamll.cli.demo import demo
from streamll.cli.doctor import doctor
from streamll.cli.pipe import interrupted_without_reader
from streamll.cli.practice import practice
from streamll.cli.probe import probe
from streamll.cli.replay import replay, report
from streamll.cli.run import run
from streamll.cli.serve import serve
from streamll.cli.tail import copy, tail
from streamll.cli.types import types

app = typer.Typer(
    name="streamll",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"streamll {version('streamll')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """See a DSPy program think: every token, field, step and error, live."""


for function in (
    demo,
    run,
    chat,
    probe,
    doctor,
    serve,
    replay,
    report,
    practice,
    tail,
    copy,
    types,
):
    app.command()(command(function))


SERVERS = {"serve", "practice"}
"""They are not there to be read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (by default the process's own); returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    watches = not set(given[:1]) & SERVERS
    gone = threading.Event()
    try:
        with interrupted_without_reader() if watches else nullcontext(gone) as gone:
            code = _run(given)
    except BrokenPipeError:
        gone.set()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if gone.is_set():
        # Else Python reports the closed pipe again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _run(given: list[str]) -> int:
    try:
        code = app(args=given or ["--help"], prog_name="streamll", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort, BrokenPipeError):
        raise
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        message = in_one_line(error.format_message())  # usage errors have no public base class
        print(f"streamll: {message} (see streamll --help)", file=sys.stderr)
        return USAGE
    if not given:
        return USAGE
    return code if isinstance(code, int) else 0
