"""Write the reference of the command line from the commands themselves.

    python scripts/write_cli_reference.py > docs/cli.md

``tests/test_docs.py`` compares the page with what this script writes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, get_args

from typer.models import ArgumentInfo

from streamll.cli.main import app

BEGINNING = """\
# Command line

`streamll COMMAND --help` prints the same. `python -m streamll` is the command as well.

A program is named `module:name`, or `file.py:name`: a `dspy.Module` class, an instance, or a function that
makes one; also a `Served`, which says how it is served. Errors are one line, with the place in your code; `--debug` shows the traceback. Exit codes: 0
done, 1 the program failed, 2 the command line is wrong, 130 Ctrl-C. `streamll --install-completion`
completes commands and options in your shell.
"""


def page() -> str:
    """The whole page."""
    commands = [each.callback for each in app.registered_commands if each.callback]
    return "\n".join([BEGINNING, *map(section, commands)])


def section(command: Callable[..., Any]) -> str:
    """What one command does, with its arguments and options in a table."""
    parameters = [*inspect.signature(command, eval_str=True).parameters.values()]
    arguments = [called(each) for each in parameters if isinstance(about(each), ArgumentInfo)]
    usage = " ".join(["streamll", command.__name__, *arguments, "[options]"])
    lines = [f"## streamll {command.__name__}", "", f"`{usage}`", ""]
    lines += [" ".join((command.__doc__ or "").split()), "", "| | |", "|---|---|"]
    return "\n".join([*lines, *rows(parameters), ""])


def about(parameter: inspect.Parameter) -> Any:
    """What is declared of an argument or option."""
    return get_args(parameter.annotation)[1]


def rows(parameters: list[inspect.Parameter]) -> Iterator[str]:
    for each in parameters:
        text = " ".join((about(each).help or "").split())
        default = each.default.value if isinstance(each.default, Enum) else each.default
        if default not in (None, False, "", each.empty) and "Default:" not in text:
            text += f" Default: `{default}`."
        yield f"| `{called(each)}` | {text.strip()} |"


def called(parameter: inspect.Parameter) -> str:
    """An argument or option with what stands for its value."""
    declared, kind = about(parameter), get_args(parameter.annotation)[0]
    name = parameter.name
    if isinstance(declared, ArgumentInfo):
        name = declared.metavar or name.upper()
        return name if parameter.default is parameter.empty else f"[{name}]"
    names = (declared.default, *(declared.param_decls or ()))  # Annotated: the first is a name
    flags = [each for each in names if isinstance(each, str) and each.startswith("--")]
    option = flags[0] if flags else f"--{name.replace('_', '-')}"
    return option if kind is bool else f"{option} {declared.metavar or placeholder(kind)}"


def placeholder(kind: Any) -> str:
    """What stands for an option's value: its choices, or the kind of value."""
    kinds = get_args(kind) or (kind,)
    if issubclass(kinds[0], Enum):
        return "/".join(each.value for each in kinds[0])
    return {int: "NUMBER", float: "NUMBER"}.get(kinds[0], "TEXT")


if __name__ == "__main__":
    print(page(), end="")
