"""Inputs from the command line: texts as what a program's annotations say, and prompts for the rest."""

from __future__ import annotations

import json
import mimetypes
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamll.cli.command import Problem, key_value
from streamll.terminal.text import clean

if TYPE_CHECKING:
    from streamll.serve.inputs.declared import Input

HINT = "--input name=value gives an input"
CHOICE_CHARACTERS = 60
"""Choices that are longer together are listed one below the other."""


def typed_inputs(target: str, program: Any, texts: Mapping[str, str]) -> dict[str, Any]:
    """The inputs of ``program`` that ``texts`` stand for; on a terminal it is asked for the rest.

    Raises:
        Problem: inputs are unknown, missing or of another type: it names all of them.
    """
    from streamll.serve.inputs.checking import left_out
    from streamll.serve.inputs.declared import inputs_of

    inputs = inputs_of(program)
    if not inputs:
        return dict(texts)
    values = given_inputs(target, inputs, texts, [each for each in inputs if each.required])
    return {**left_out(inputs, values), **values}


def given_inputs(
    target: str, inputs: tuple[Input, ...], texts: Mapping[str, str], needed: Iterable[Input]
) -> dict[str, Any]:
    """The values that ``texts`` stand for, and the ``needed`` ones that a terminal is asked for.

    Raises:
        Problem: inputs are unknown, missing or of another type: it names all of them.
    """
    from streamll.core.errors import InvalidInputs
    from streamll.core.problems import Problem as Wrong
    from streamll.serve.inputs.checking import convert_text, missing

    declared = {each.name: each for each in inputs}
    values, wrong = {}, []
    for name, text in texts.items():
        if name not in declared:
            known = ", ".join(declared)
            wrong.append(Wrong(name, f"{target} has no such input; it has {known}"))
            continue
        try:
            values[name] = convert_text(declared[name], with_files(declared[name], text), name)
        except InvalidInputs as error:
            wrong += error.problems
    lacking = tuple(each for each in needed if each.name not in texts)
    if not can_ask():
        wrong += missing(target, lacking, {}, "")
    if wrong:
        raise Problem(f"{target}: {InvalidInputs(wrong)}; {HINT}")
    return {**values, **asked_inputs(lacking)}


def named_texts(pairs: Iterable[str], option: str = "--input") -> dict[str, str]:
    """``key=value`` options as a mapping; ``Problem`` for a name that is given twice."""
    texts: dict[str, str] = {}
    for pair in pairs:
        name, value = key_value(pair, option)
        if name in texts:
            raise Problem(f"{option} gives {name!r} twice")
        texts[name] = value
    return texts


def with_files(declared: Input, text: str) -> str:
    """The text; for an image, a sound or a file on this machine its content as a data URL."""
    from streamll.serve.inputs.annotations import media_of

    kind, _, many = media_of(declared.annotation)
    if kind is None or text.startswith(("data:", "http://", "https://", "gs://", "{", "[")):
        return text
    path = Path(text.removeprefix("@")).expanduser()
    if not path.is_file():
        raise Problem(f"{declared.name}: there is no file {str(path)!r}, and it is no address")
    import base64

    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    url = f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"
    if kind != "file" and not many:
        return url
    value: Any = {"file_data": url, "filename": path.name} if kind == "file" else url
    return json.dumps([value] if many else value)


# --- prompts ----------------------------------------------------------------------------------------


def can_ask() -> bool:
    """Whether somebody is there to answer: standard input and standard error are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def asked_inputs(inputs: Iterable[Input]) -> dict[str, Any]:
    """Ask for each input on the terminal, a model's fields one by one, until it is right."""
    from streamll.core.errors import InvalidInputs
    from streamll.serve.inputs.checking import convert_one, convert_text
    from streamll.serve.inputs.schemas import schemas_of

    listed = list(inputs)
    schemas, definitions = schemas_of([(each.name, each) for each in listed])
    values = {}
    for each in listed:
        while each.name not in values:
            value = _Asking(definitions).value(schemas[each.name], each.name)
            try:
                if isinstance(value, str):
                    values[each.name] = convert_text(each, with_files(each, value), each.name)
                else:
                    values[each.name] = convert_one(each, value, each.name)
            except (InvalidInputs, Problem) as error:
                typer.echo(clean(str(error)), err=True)
    return values


class _Asking:
    """Prompts for a value by its JSON schema."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self.definitions = definitions

    def value(self, schema: Mapping[str, Any], place: str) -> Any:
        schema, optional = self._resolved(schema)
        told = clean(str(schema.get("description") or "").partition("\n")[0])
        if "enum" in schema or "const" in schema:
            return self._choice(schema.get("enum", [schema.get("const")]), place, optional=optional)
        kind = schema.get("type")
        if kind == "object" and schema.get("properties"):
            if optional and not typer.confirm(f"{place}?", default=False, err=True):
                return None
            required = schema.get("required", ())
            return self._object(schema["properties"], required, place)
        if kind == "array" and isinstance(schema.get("items"), Mapping):
            return self._array(schema["items"], place)
        if kind == "boolean" and not optional:
            return typer.confirm(place, err=True)
        notation = "" if kind == "string" else f" ({kind or 'JSON'})"
        return self._line(
            f"{place}{notation}{f': {told}' if told else ''}", kind, optional=optional
        )

    def _resolved(self, schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
        """The schema itself, without references and ``null``; whether it may be ``null``."""
        optional = False
        while True:
            if "$ref" in schema:
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                found = self.definitions[str(schema["$ref"]).rpartition("/")[2]]
                schema = {**found, **rest}
            elif "anyOf" in schema:
                others = [each for each in schema["anyOf"] if each.get("type") != "null"]
                optional = optional or len(others) < len(schema["anyOf"])
                if len(others) != 1:
                    texts = any(each.get("type") == "string" for each in others)
                    return {**schema, "type": "string" if texts else None}, optional
                schema = {**{k: v for k, v in schema.items() if k != "anyOf"}, **others[0]}
            else:
                return schema, optional

    def _choice(self, choices: list[Any], place: str, *, optional: bool) -> Any:
        names = [each if isinstance(each, str) else json.dumps(each) for each in choices]
        text = ", ".join(names)
        if len(text) > CHOICE_CHARACTERS:
            typer.echo("\n".join(f"  {clean(name)}" for name in names), err=True)
            text = f"one of {len(names)}"

        def chosen(answer: str) -> Any:
            if optional and not answer:
                return None
            if answer not in names:
                raise typer.BadParameter(f"one of {', '.join(names)}")
            return choices[names.index(answer)]

        return self._ask(f"{place} ({clean(text)})", chosen, optional=optional)

    def _object(
        self, properties: Mapping[str, Any], required: Iterable[str], place: str
    ) -> dict[str, Any]:
        made = {}
        for name, inside in properties.items():
            if name in required:
                made[name] = self.value(inside, f"{place}.{name}")
            else:
                default = json.dumps(inside.get("default"), ensure_ascii=False)
                what = f"{place}.{name}: other than {clean(default)}?"
                if typer.confirm(what, default=False, err=True):
                    made[name] = self.value(inside, f"{place}.{name}")
        return made

    def _array(self, items: Mapping[str, Any], place: str) -> list[Any]:
        resolved, _ = self._resolved(items)
        made: list[Any] = []
        if resolved.get("type") in ("object", "array"):
            while typer.confirm(f"{place}: one more?", default=not made, err=True):
                made.append(self.value(items, f"{place}[{len(made)}]"))
            return made
        while True:
            name = f"{place}[{len(made)}] (empty: no more)"
            line = self._line(name, resolved.get("type"), optional=True)
            if line is None:
                return made
            made.append(line)

    def _line(self, name: str, kind: Any, *, optional: bool) -> Any:
        def read(answer: str) -> Any:
            if optional and not answer:
                return None
            if kind == "string":
                return answer
            try:
                return json.loads(answer)
            except ValueError:
                if kind in ("integer", "number", "array", "object"):
                    raise typer.BadParameter(f"this is no {kind}") from None
                return answer

        return self._ask(name, read, optional=optional)

    def _ask(self, name: str, read: Any, *, optional: bool) -> Any:
        default = "" if optional else None
        return typer.prompt(name, default=default, show_default=False, value_proc=read, err=True)
