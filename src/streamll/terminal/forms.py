"""What is asked of a person at a terminal to answer a question, line by line. No I/O.

A ``Form`` says what it needs next (``field``), takes the line that was typed (``enter``), and has the
answer once nothing is missing. What the schema says beyond the type of a value is checked by whoever
gets the answer; ``reject`` then asks once more for what was wrong, and for nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamll.core import events as ev
from streamll.core.problems import Problem, pointer

PLACE = "answer"
"""How problems name the whole answer."""

MAX_DEPTH = 6
"""Objects and lists inside one another, beyond which JSON is asked for."""

YES, NO, EDIT = ("yes", "y", "true"), ("no", "n", "false"), ("edit", "e")
NEEDED = "this needs an answer"
REQUIRED: Any = object()
LEFT_OUT: Any = object()

Asking = Generator["Field", str, Any]


@dataclass(frozen=True)
class Field:
    """One line that is asked for."""

    place: str
    label: str
    """Which part of the answer; empty for all of it."""
    hint: str = ""
    """What may be typed."""
    empty: str = ""
    """What an empty line stands for; empty if it cannot."""
    choices: tuple[str, ...] = ()
    about: str = ""


class Form:
    """The form of one question.

    Attributes:
        field: what is asked for now.
        problems: what was wrong with what was typed last.
        answer: as JSON has it; valid once ``enter`` has returned True.
    """

    field: Field

    def __init__(self, question: ev.Question) -> None:
        self.problems: list[str] = []
        self.answer: Any = None
        self._question = question
        self._schema = question.schema
        self._known: dict[str, tuple[Any, str, str]] = {}
        self._begin()

    @property
    def filled(self) -> list[tuple[str, str]]:
        """The parts that are known, as they were typed."""
        return [(label, typed) for _, label, typed in self._known.values() if label]

    def enter(self, line: str) -> bool:
        """Take a line; True when the answer is complete."""
        self.problems = []
        try:
            self.field = self._asking.send(line)
        except StopIteration as end:
            self.answer = end.value
            return True
        return False

    def reject(self, problems: Iterable[Problem]) -> None:
        """The answer was wrong: ask again for the parts that the problems name."""
        problems = list(problems)
        wrong = {place for place in self._known if any(_meet(place, p.place) for p in problems)}
        kept = {place: known for place, known in self._known.items() if place not in wrong}
        self._known = kept if wrong else {}
        self.problems = [str(each).removeprefix(PLACE).lstrip(".: ") for each in problems]
        self._begin()

    def _begin(self) -> None:
        is_approval = self._question.tool is not None
        whole = self._approval() if is_approval else self._value(self._schema, PLACE)
        self._asking = whole
        self.field = next(whole)

    # --- what is asked for, by schema -----------------------------------------------------------

    def _approval(self) -> Asking:
        place, arguments = f"{PLACE}.allow", _inside(self._schema, "properties", "arguments")
        fields = _inside(arguments, "properties")
        editing = ", or edit its arguments" if fields else ""
        names = {name: word for word in (YES, NO, EDIT) for name in word}

        def decision(line: str) -> str:
            word = names.get(line.strip().lower())
            if word is None or (word is EDIT and not fields):
                raise ValueError(f"yes or no{editing}")
            return word[0]

        decided = yield from self._line(Field(place, "", f"yes or no{editing}"), decision)
        if decided == "no":
            reason = Field(f"{PLACE}.reason", "reason", "the tool's result says it", "none")
            said = yield from self._line(reason, str, default="")
            return False if not said else {"allow": False, "reason": said}
        if decided == "yes":
            return True
        changed = {}
        for name, schema in fields.items():
            value = yield from self._value(
                _mapping(schema), f"{PLACE}.arguments.{name}", default=LEFT_OUT, empty="as it is"
            )
            if value is not LEFT_OUT:
                changed[name] = value
        return {"allow": True, "arguments": changed}

    def _value(
        self,
        schema: Mapping[str, Any],
        place: str,
        *,
        default: Any = REQUIRED,
        empty: str = "",
        depth: int = 0,
    ) -> Asking:
        """A value. An empty line stands for ``default``, and ``empty`` says what that means."""
        schema, nullable = self._resolved(schema)
        if nullable and default is REQUIRED:
            default, empty = None, "none"
        kind = schema.get("type")
        arguments = ".arguments" if self._question.tool is not None else ""
        field = Field(
            place,
            place.removeprefix(PLACE).removeprefix(arguments).removeprefix("."),
            about=str(schema.get("description") or "").partition("\n")[0],
            empty=empty,
        )
        choices = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(choices, list) and choices:
            return (yield from self._line(*_choice(field, choices), default))
        if depth < MAX_DEPTH and kind == "object" and schema.get("properties"):
            if default is not REQUIRED and not (yield from self._wanted(field)):
                return default
            return (yield from self._object(schema, place, depth))
        if depth < MAX_DEPTH and kind == "array" and isinstance(schema.get("items"), Mapping):
            made = yield from self._array(schema["items"], field, depth)
            return made if made or default is REQUIRED else default
        hint, read = _READERS.get(kind if isinstance(kind, str) else "", ("JSON", _json))
        if kind is None and _takes_text(schema):
            hint, read = "text or JSON", _json_or_text
        if kind == "string" and isinstance(schema.get("format"), str):
            hint = schema["format"]
        return (yield from self._line(replace(field, hint=hint), read, default))

    def _wanted(self, field: Field) -> Asking:
        """Whether something that may be left out is given."""
        field = replace(
            field, place=f"{field.place}?", label=f"{field.label}?", hint="yes or no", empty="no"
        )
        return (yield from self._line(field, _yes_or_no, default=False))

    def _object(self, schema: Mapping[str, Any], place: str, depth: int) -> Asking:
        required = schema.get("required", ())
        made = {}
        for name, inside in _inside(schema, "properties").items():
            options: dict[str, Any] = {}
            if name not in required:
                known = _mapping(inside).get("default")
                empty = "left out" if known is None else json.dumps(known, ensure_ascii=False)
                options = {"default": LEFT_OUT, "empty": empty}
            value = yield from self._value(
                _mapping(inside), pointer(place, [name]), depth=depth + 1, **options
            )
            if value is not LEFT_OUT:
                made[name] = value
        return made

    def _array(self, items: Mapping[str, Any], field: Field, depth: int) -> Asking:
        made: list[Any] = []
        while True:
            value = yield from self._value(
                items,
                pointer(field.place, [len(made)]),
                default=LEFT_OUT,
                empty="no more" if made or not field.empty else field.empty,
                depth=depth + 1,
            )
            if value is LEFT_OUT:
                return made
            made.append(value)

    def _line(self, field: Field, read: Callable[[str], Any], default: Any = REQUIRED) -> Asking:
        """What one line says, unless it is known."""
        while field.place not in self._known:
            line = yield field
            typed = line.strip()
            if not typed and default is REQUIRED:
                self.problems = [NEEDED]
                continue
            try:
                value = read(line) if typed else default
            except ValueError as error:
                self.problems = [str(error)]
            else:
                self._known[field.place] = (value, field.label, typed)
        return self._known[field.place][0]

    def _resolved(self, schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
        """The schema itself, without references and ``null``; whether it may be ``null``."""
        nullable = False
        for _ in range(2 * MAX_DEPTH):
            rest = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
            if isinstance(schema.get("$ref"), str):
                schema = {**_inside(self._schema, *schema["$ref"].split("/")[1:]), **rest}
            elif isinstance(schema.get("anyOf"), list):
                others = [_mapping(each) for each in schema["anyOf"]]
                typed = [each for each in others if each.get("type") != "null"]
                nullable = nullable or len(typed) < len(others)
                if len(typed) != 1:
                    return schema, nullable
                schema = {**rest, **typed[0]}
            else:
                break
        return schema, nullable


def _choice(field: Field, choices: list[Any]) -> tuple[Field, Callable[[str], Any]]:
    """A choice by its name or, if no other is called so, by its number."""
    names = [each if isinstance(each, str) else json.dumps(each) for each in choices]

    def read(line: str) -> Any:
        typed = line.strip()
        if typed in names:
            return choices[names.index(typed)]
        if typed.isdecimal() and 1 <= int(typed) <= len(names):
            return choices[int(typed) - 1]
        raise ValueError(f"one of {', '.join(names)}, or its number")

    return replace(field, hint="a name or its number", choices=tuple(names)), read


def _yes_or_no(line: str) -> bool:
    word = line.strip().lower()
    if word not in (*YES, *NO):
        raise ValueError("yes or no")
    return word in YES


def _integer(line: str) -> int:
    try:
        return int(line)
    except ValueError:
        raise ValueError("this is no integer") from None


def _number(line: str) -> float:
    value = _json(line, "this is no number")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise ValueError("this is no number")


def _json(line: str, problem: str = "this is no JSON") -> Any:
    def refuse(_: str) -> Any:
        raise ValueError

    try:
        return json.loads(line, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ValueError(problem) from None


def _json_or_text(line: str) -> Any:
    try:
        return _json(line)
    except ValueError:
        return line


_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "boolean": ("yes or no", _yes_or_no),
    "integer": ("an integer", _integer),
    "number": ("a number", _number),
    "string": ("", str),
}


def _takes_text(schema: Mapping[str, Any]) -> bool:
    """Whether a string is among what it may be."""
    kinds = [_mapping(each).get("type") for each in schema.get("anyOf", ())]
    return not kinds or "string" in kinds


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _inside(schema: Mapping[str, Any], *steps: str) -> Mapping[str, Any]:
    for step in steps:
        schema = _mapping(schema.get(step))
    return schema


def _meet(place: str, other: str) -> bool:
    """Whether one of two places is the other, or inside it."""
    place = place.removesuffix("?")
    inner, outer = (place, other) if len(place) > len(other) else (other, place)
    return inner.startswith(outer) and inner[len(outer) : len(outer) + 1] in ("", ".", "[")
