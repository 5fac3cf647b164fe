"""TypeScript of JSON Schemas: text in, text out. Knows neither programs nor pydantic.

What a schema does not say is ``unknown``. A description becomes a comment, by its first paragraph.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

Schema = Mapping[str, Any] | bool

UNKNOWN = "unknown"
_SIMPLE = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Names:
    """Names of types, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def give(self, wanted: str) -> str:
        """The name nearest to ``wanted`` that is free.

        It begins with a capital letter, as no word of TypeScript's own does that a type must not
        have for its name.
        """
        parts = [part for part in re.split(r"[^\w$]+", wanted) if part]
        name = "".join(part[0].upper() + part[1:] for part in parts) or "Type"
        if not name.isidentifier():
            name = f"_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
        free, number = name, 1
        while free in self._given:
            number += 1
            free = f"{name}{number}"
        self._given.add(free)
        return free


class TypeScript:
    """Types of schemas that refer to ``definitions`` as ``#/$defs/NAME``."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        names = Names()
        self._definitions = definitions
        # Where pydantic tells what is read from what is written, the plain name is a reader's.
        self._names = {key: names.give(key.removesuffix("-Output")) for key in definitions}

    def declarations(self) -> list[str]:
        """A declaration for each of the definitions."""
        return [self.declaration(name, self._definitions[key]) for key, name in self._names.items()]

    def declaration(self, name: str, schema: Schema) -> str:
        """``export interface`` of an object with known members, else ``export type``."""
        about = comment(_described(schema))
        if isinstance(schema, Mapping) and schema.get("properties"):
            return f"{about}export interface {name} {{\n{self._documented(schema)}}}"
        return f"{about}export type {name} = {self.type(schema)};"

    def type(self, schema: Schema) -> str:
        """The type of the values that a schema admits, as an expression in one line."""
        if isinstance(schema, bool):
            return UNKNOWN if schema else "never"
        if "$ref" in schema:
            return self._names.get(str(schema["$ref"]).removeprefix("#/$defs/"), UNKNOWN)
        if schema.get("properties"):
            return f"{{ {'; '.join(self._members(schema))} }}"
        if "allOf" in schema:
            return " & ".join(_grouped(self.type(each)) for each in schema["allOf"])
        return union(self._alternatives(schema))

    def _alternatives(self, schema: Mapping[str, Any]) -> Iterable[str]:
        if "const" in schema:
            return [literal(schema["const"])]
        if "enum" in schema:
            return map(literal, schema["enum"])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return map(self.type, schema[word])
        kinds = schema.get("type", [])
        return (self._of_kind(k, schema) for k in ([kinds] if isinstance(kinds, str) else kinds))

    def _of_kind(self, kind: str, schema: Mapping[str, Any]) -> str:
        if kind == "array":
            return self._array(schema)
        if kind == "object":
            return self._mapping(schema)
        return _SIMPLE.get(kind, UNKNOWN)

    def _array(self, schema: Mapping[str, Any]) -> str:
        items = schema.get("items", True)
        first = schema.get("prefixItems")
        if not first:
            return f"{_grouped(self.type(items))}[]"
        needed = schema.get("minItems", 0)
        parts = [self.type(each) for each in first[:needed]]
        parts += [f"{_grouped(self.type(each))}?" for each in first[needed:]]
        if items is not False and schema.get("maxItems") != len(first):
            parts.append(f"...{_grouped(self.type(items))}[]")
        return f"[{', '.join(parts)}]"

    def _mapping(self, schema: Mapping[str, Any]) -> str:
        """An object whose keys are data; those of a few fixed ones need not all be there."""
        values: list[Schema] = [*schema.get("patternProperties", {}).values()]
        if "additionalProperties" in schema:
            values.append(schema["additionalProperties"])
        if values == [False]:
            return "{ [name: string]: never }"
        value = union(self.type(each) for each in values if each is not False)
        keys = self.type(schema.get("propertyNames", True))
        if keys in (UNKNOWN, "string", "number"):
            return f"{{ [name: string]: {value} }}"
        return f"{{ [name in {keys}]?: {value} }}"

    def _members(self, schema: Mapping[str, Any]) -> list[str]:
        needed = schema.get("required", ())
        members = [
            f"{key(name)}{'' if name in needed else '?'}: {self.type(each)}"
            for name, each in schema["properties"].items()
        ]
        return members + ["[name: string]: unknown"] * bool(schema.get("additionalProperties"))

    def _documented(self, schema: Mapping[str, Any]) -> str:
        described = [*map(_described, schema["properties"].values()), ""]
        pairs = zip(described, self._members(schema), strict=False)
        return "".join(f"{comment(about, '  ')}  {member};\n" for about, member in pairs)


def union(types: Iterable[str]) -> str:
    """One type of several; of none, nothing is known."""
    found = list(dict.fromkeys(types))
    return UNKNOWN if UNKNOWN in found or not found else " | ".join(found)


def _grouped(text: str) -> str:
    """In parentheses, where it would be read otherwise."""
    return f"({text})" if re.search(r" [|&] ", text) else text


def literal(value: Any) -> str:
    """The type of one value."""
    if isinstance(value, float) and not value.is_integer() and value - value != 0:
        return "number"  # NaN and the infinities have no literal
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return quoted(value) if isinstance(value, str) else UNKNOWN


def quoted(text: str) -> str:
    """A text as a literal; what is not printable is escaped."""
    return "".join(
        c if c.isprintable() else json.dumps(c)[1:-1] for c in json.dumps(text, ensure_ascii=False)
    )


def key(name: str) -> str:
    """The name of a member."""
    return name if _PLAIN_NAME.fullmatch(name) else quoted(name)


def _described(schema: Schema) -> str:
    return "" if isinstance(schema, bool) else str(schema.get("description") or "")


def comment(text: str, indent: str = "") -> str:
    """The first paragraph of a text as a comment, with its newline; nothing of no text."""
    paragraph = re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0]
    lines = [_NO_TEXT.sub("\ufffd", line.strip()) for line in paragraph.splitlines()]
    safe = [line.replace("*/", "*\\/") for line in lines]
    if not paragraph:
        return ""
    if len(safe) == 1:
        return f"{indent}/** {safe[0]} */\n"
    return "".join([f"{indent}/**\n", *(f"{indent} * {line}\n" for line in safe), f"{indent} */\n"])
