"""The ``streamll`` command.

Exit codes: 0 the program (or server) ended well, 1 the program failed, 2 the command line makes
no sense, 130 Ctrl-C. What went wrong is one line on standard error; ``--debug`` adds the
traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from streamll.cli.problem import FAILED, INTERRUPTED, USAGE, Problem, in_one_line

app = typer.Typer(
    name="streamll",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class View(str, Enum):
    """How a run is shown."""

    auto = "auto"
    live = "live"
    plain = "plain"


ViewOption = Annotated[
    View,
    typer.Option(
        help="live draws fields as they grow, plain writes one line per event; auto takes live "
        "where standard output is a terminal."
    ),
]
BaseURL = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where the model is served, if not at its provider's own."),
]
Pace = Annotated[
    float,
    typer.Option(
        min=0, metavar="SECONDS", help="Time from one chunk of the practice model to the next."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


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


@app.command()
def demo(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Ask a real model, e.g. openai/gpt-4o-mini; auto takes the provider whose key is "
            "in the environment. Default: a practice model on this machine, no key needed.",
        ),
    ] = None,
    base_url: BaseURL = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="simple, concurrent, aggregate or recovery. Default: a ChainOfThought program in "
            "the terminal view, then all four.",
        ),
    ] = None,
    question: Annotated[str | None, typer.Option(help="What to ask.", show_default=False)] = None,
    pace: Pace = 0.03,
    view: ViewOption = View.auto,
    debug: Debug = False,
) -> None:
    """Watch programs answer questions. One, several at once, merged, and through bad luck."""
    from streamll.cli.demo import run_demo

    _perform(debug, lambda: run_demo(mode, question, model, base_url, pace, view.value))


@app.command()
def run(
    program: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:PROGRAM",
            help="A dspy.Module (class, instance, or a function that makes one) in a module or "
            "a .py file, e.g. app.pipelines:QA or qa.py:QA.",
        ),
    ],
    question: Annotated[
        str | None, typer.Argument(help="The program's first input.", show_default=False)
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Output field to stream; repeat it. Default: all."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="KEY=VALUE", help="Another input; repeat it."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The language model, e.g. openai/gpt-4o-mini; auto takes the provider whose key "
            "is in the environment, practice a practice model on this machine. Default: what the "
            "program's module has configured.",
        ),
    ] = None,
    base_url: BaseURL = None,
    view: ViewOption = View.auto,
    debug: Debug = False,
) -> None:
    """Run a program of yours and watch it."""
    from streamll.cli.run import run_program

    _perform(
        debug,
        lambda: run_program(
            program, question, inputs or [], field or ["*"], model, base_url, view.value
        ),
    )


@app.command()
def chat(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="provider/model, e.g. openai/gpt-4o-mini, or practice. Default: the provider "
            "whose key is in the environment, else a practice model on this machine.",
        ),
    ] = None,
    base_url: BaseURL = None,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How the model is to behave.")
    ] = None,
    session: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, help="Go on where this file ends, and keep it so."
        ),
    ] = None,
    pace: Pace = 0.03,
    debug: Debug = False,
) -> None:
    """Talk with a model."""
    from streamll.cli.chat import run_chat

    _perform(debug, lambda: run_chat(model, base_url, system, session, pace))


@app.command()
def probe(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="provider/model, e.g. openai/gpt-4o-mini; or practice."
        ),
    ],
    base_url: BaseURL = None,
    question: Annotated[str | None, typer.Option(help="What to ask instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Find out whether models really stream. Exit code 0 if all of them do, 1 if not."""
    from streamll.cli.probe import run_probe

    streams: list[bool] = []
    _perform(debug, lambda: streams.append(run_probe(models, base_url, question, as_json=as_json)))
    if not all(streams):
        raise typer.Exit(FAILED)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show versions, what is patched, and what is lost on this DSPy. Exit code 1 if anything is."""
    from streamll.cli.doctor import run_doctor

    complete: list[bool] = []
    _perform(debug, lambda: complete.append(run_doctor(as_json=as_json)))
    if not all(complete):
        raise typer.Exit(FAILED)


@app.command()
def serve(
    programs: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE:PROGRAM", help="A program to serve, named as for run; several go, too."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Where to listen. Elsewhere than on this machine needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    log: Annotated[
        str, typer.Option(metavar="URL", help="Where runs are kept: sqlite:///, redis://, amqp://.")
    ] = "sqlite:///streamll.db",
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve.")] = 1,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The language model, as for run.")
    ] = None,
    base_url: BaseURL = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Pages of this origin may call; repeat it."),
    ] = None,
    server_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A host name this server answers to; repeat it."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Serve programs over HTTP, with a page to watch them. STREAMLL_TOKENS holds bearer tokens."""
    from streamll.cli.serve import serve_programs

    _perform(
        debug,
        lambda: serve_programs(
            programs,
            host=host,
            port=port,
            log=log,
            workers=workers,
            model=model,
            base_url=base_url,
            origins=origin or [],
            hosts=server_name or [],
            debug=debug,
        ),
    )


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="A recording, or a file of a JSONL sink.")],
    speed: Annotated[
        float, typer.Option(min=0, help="2 plays twice as fast as it was, 0 at once.")
    ] = 1.0,
    to: Annotated[
        str | None, typer.Option(metavar="URL", help="Play into a log: sqlite:///, redis://, …")
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Play in the viewer.")] = False,
    view: ViewOption = View.auto,
    debug: Debug = False,
) -> None:
    """Play recorded events again. In the terminal, in the viewer, or into a log."""
    from streamll.cli.replay import replay_file

    _perform(debug, lambda: replay_file(file, speed=speed, to=to, web=web, view=view.value))


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="A recording, or a file of a JSONL sink.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: beside it, as .html.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Show recorded runs in one HTML file, with their timeline."""
    from streamll.cli.report import write_report

    _perform(debug, lambda: write_report(file, output))


@app.command()
def practice(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8123,
    pace: Pace = 0.03,
    chunk: Annotated[
        str, typer.Option(help="How replies are cut: token, whole, or a number of characters.")
    ] = "token",
    packets: Annotated[
        bool, typer.Option("--packets", help="Send every frame in a write of its own.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Serve a practice model over HTTP; Ctrl-C ends it."""
    from streamll.cli.practice import serve

    _perform(debug, lambda: serve(port, pace, chunk, packets=packets))


@app.command()
def tail(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="sqlite:///, redis://, rediss://, amqp://.")
    ],
    target: Annotated[
        str | None, typer.Option(help="Stream, exchange or log. Default: where sinks write.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="This run only, from its beginning.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Value in an event's data; repeat it."),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="GLOB", help='Event types, e.g. "tool.*"; repeat it.'),
    ] = None,
    start: Annotated[
        str, typer.Option("--from", metavar="PLACE", help="new, beginning, or a cursor.")
    ] = "new",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    debug: Debug = False,
) -> None:
    """Print what comes through a log, live."""
    from streamll.cli.tail import tail as follow

    _perform(
        debug,
        lambda: follow(
            url,
            target,
            run_id=run_id,
            where=where or [],
            types=types or [],
            start=start,
            as_json=as_json,
        ),
    )


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="URL of a log.")],
    sink: Annotated[str, typer.Argument(metavar="DESTINATION", help="URL to copy it to.")],
    target: Annotated[str | None, typer.Option(help="The log's name.")] = None,
    to_target: Annotated[str | None, typer.Option(help="The copy's name.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="30m, 2h, 1d, or a date and time.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Copy a log to another broker."""
    from streamll.cli.copy import copy as copy_log

    _perform(debug, lambda: copy_log(source, sink, target, to_target, since))


def _perform(debug: bool, work: Callable[[], None]) -> None:
    """Do the work of a command; what goes wrong becomes one line and an exit code."""
    try:
        work()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - of the program; it is told and ends the command
        if debug:
            traceback.print_exc()
        else:
            print(f"streamll: {in_one_line(error)}", file=sys.stderr)
        raise typer.Exit(error.exit_code if isinstance(error, Problem) else 1) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (by default the process's own); returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(args=given or ["--help"], prog_name="streamll", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return _usage(error.format_message())  # typer's usage errors; it exports no base class
    if not given:
        return USAGE
    return code if isinstance(code, int) else 0


def _usage(message: str) -> int:
    print(f"streamll: {in_one_line(message)} (streamll --help tells more)", file=sys.stderr)
    return USAGE
