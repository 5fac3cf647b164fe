"""Write the event types of the JavaScript client from the event classes.

    python scripts/write_client_types.py > clients/js/client/src/events.ts

``tests/clients/test_client_types.py`` compares the file with what this script writes.
"""

from __future__ import annotations

import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from streamll.core import events as ev
from streamll.core.usage import ModelUsage

BEGINNING = """\
// The events of a run as they are on the wire. Written by scripts/write_client_types.py: do not edit.

/** What all events share. Keys that have their default (`turn` 0, `path` empty, …) are left out. */
export interface Shared {
  readonly v?: number;
  /** Its number in the run, from 0; missing in what is in no log (`stream.gap`, some `status`). */
  readonly seq?: number;
  /** Seconds since the epoch. */
  readonly timestamp: number;
  readonly context?: Readonly<Record<string, unknown>>;
"""
ENDING = """
/** What the program sends itself (`streamll.emit`), and kinds that are newer than this client. */
export interface CustomEvent extends Shared {
  readonly event_type: string;
  readonly data?: Readonly<Record<string, unknown>>;
}
"""
SIMPLE = {str: "string", int: "number", float: "number", bool: "boolean", Any: "unknown"}
WIDTH = 110


def page() -> str:
    """The whole file."""
    kinds = ev.KINDS.values()
    totals = interface(ev.Totals, "", bases=())
    return "".join(
        [
            BEGINNING,
            *members(ev.Identity),
            "}\n",
            interface(ModelUsage, "", bases=()),
            totals,
            *(interface(kind, name) for name, kind in ev.KINDS.items()),
            "\n/** An event of a kind that this client knows; `asCustom` tells the others. */\n",
            "export type RunEvent =\n",
            *(f"  | {kind.__name__}\n" for kind in kinds),
            "  ;\n",
            "\n/** The kinds of `RunEvent`. */\n",
            "export const KINDS: ReadonlySet<string> = new Set([\n",
            *(f'  "{name}",\n' for name in ev.KINDS),
            "]);\n",
            ENDING,
        ]
    )


def interface(
    cls: type[msgspec.Struct], event_type: str, bases: tuple[str, ...] = ("Shared",)
) -> str:
    """An event class as an interface, with its docstring as a comment."""
    inherited: tuple[str, ...] = ()
    if event_type and issubclass(cls, ev.Totals):
        bases, inherited = (*bases, "Totals"), ev.own_fields(ev.Totals)
    head = f"export interface {cls.__name__}" + (f" extends {', '.join(bases)}" if bases else "")
    kind = f'  readonly event_type: "{event_type}";\n' if event_type else ""
    skipped = {*ev.SHARED_FIELDS, *inherited}
    return f"\n{comment(cls)}{head} {{\n{kind}{''.join(members(cls, skipped))}}}\n"


def members(cls: type[msgspec.Struct], skipped: typing.Collection[str] = ()) -> Iterator[str]:
    hints = get_type_hints(cls)
    for field in msgspec.structs.fields(cls):
        if field.name not in skipped:
            mark = "" if field.required else "?"
            yield f"  readonly {field.name}{mark}: {written(hints[field.name])};\n"


def written(hint: Any) -> str:
    """A Python type as TypeScript. Optional ones are left out rather than null."""
    if hint in SIMPLE:
        return SIMPLE[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return " | ".join(written(each) for each in arguments if each is not types.NoneType)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            inner = written(arguments[0])
            return f"readonly ({inner})[]" if " " in inner else f"readonly {inner}[]"
        return f"readonly [{', '.join(map(written, arguments))}]"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"Readonly<Record<string, {written(arguments[1])}>>"
    if inspect.isclass(hint) and issubclass(hint, msgspec.Struct):
        return hint.__name__
    raise TypeError(f"no TypeScript for {hint}: say it in written()")


def comment(cls: type) -> str:
    text = re.sub(r"``([^`]*)``", r"`\1`", inspect.getdoc(cls) or "").replace("*/", "* /")
    text = text.replace("`None`", "missing").replace("identity.attempt", "attempt")
    lines = [
        line
        for paragraph in text.split("\n\n")
        for line in textwrap.wrap(" ".join(paragraph.split()), WIDTH - 3)
    ]
    if len(lines) == 1:
        return f"/** {lines[0]} */\n"
    return "/**\n" + "".join(f" * {line}\n" for line in lines) + " */\n"


if __name__ == "__main__":
    print(page(), end="")
