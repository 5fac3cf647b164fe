"""What the commands share: exit codes, errors in one line, and options."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from typer import Exit, Option

from streamll.core.errors import ConfigurationError, UnknownFieldError
from streamll.core.places import own_place
from streamll.terminal.text import one_line

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class Problem(Exception):
    """A command cannot do what it was asked to; the message is all that its user needs."""

    def __init__(self, message: str, exit_code: int = USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


FOR_THE_USER = (Problem, ConfigurationError, UnknownFieldError)
"""Errors whose messages name what was wrong in the command line, and the remedy."""


def in_one_line(error: object) -> str:
    """An error for people: a problem's message, or an exception's type and message."""
    message = one_line(error, 1000)
    if isinstance(error, FOR_THE_USER) or not isinstance(error, BaseException):
        return message
    name = type(error).__name__
    return f"{name}: {message}" if message else name


def _whereabouts(error: Exception) -> str:
    """Where a program failed, and how to see more of it."""
    if isinstance(error, FOR_THE_USER):
        return ""
    return f" ({'; '.join(filter(None, [own_place(error), '--debug shows the traceback']))})"


def command(function: Callable[..., None]) -> Callable[..., None]:
    """``function`` as a command: an error becomes one line on standard error and an exit code.

    Adds the option ``--debug``, which prints the traceback instead, unless ``function`` takes
    it itself.
    """
    signature = inspect.signature(function, eval_str=True)
    takes_debug = "debug" in signature.parameters

    @functools.wraps(function)
    def run(**options: Any) -> None:
        debug = options["debug"] if takes_debug else options.pop("debug")
        try:
            function(**options)
        except KeyboardInterrupt:
            raise Exit(INTERRUPTED) from None
        except (BrokenPipeError, Exit):
            raise
        except Exception as error:  # noqa: BLE001 - the program's: reported, and ends the command
            if debug:
                traceback.print_exc()
            else:
                print(f"streamll: {in_one_line(error)}{_whereabouts(error)}", file=sys.stderr)
            usage = isinstance(error, FOR_THE_USER)
            raise Exit(getattr(error, "exit_code", USAGE if usage else FAILED)) from None

    if not takes_debug:
        added = inspect.Parameter(
            "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug
        )
        parameters = [*signature.parameters.values(), added]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def key_value(text: str, option: str) -> tuple[str, str]:
    """The parts of ``key=value``, as ``option`` takes it."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise Problem(f"{option} takes key=value, not {text!r}")
    return key, value


def existing(path: Path) -> Path:
    if not path.is_file():
        raise Problem(f"there is no file {str(path)!r} here ({Path.cwd()})")
    return path


# --- options ------------------------------------------------------------------------------------

Debug = Annotated[bool, Option("--debug", help="Show the traceback of an error.")]
BaseURL = Annotated[
    str | None,
    Option(metavar="URL", help="Where the model is served, if not at its provider's own."),
]
Pace = Annotated[
    float,
    Option(min=0, metavar="SECONDS", help="Time from one chunk of the practice model to the next."),
]
Include = Annotated[
    list[str] | None,
    Option(
        metavar="NAME",
        help="What events may carry besides: inputs, outputs, prompts, tools or errors; repeatable.",
    ),
]


class ViewChoice(str, Enum):
    """How a run is shown."""

    auto = "auto"
    live = "live"
    plain = "plain"


ViewOption = Annotated[
    ViewChoice,
    Option(
        "--view",
        help="live draws fields as they grow, plain writes one line per event; auto takes live "
        "where standard output is a terminal.",
    ),
]
