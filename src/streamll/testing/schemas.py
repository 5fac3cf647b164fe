"""The JSON schema of an output field, from the ways DSPy's adapters describe types in prompts.

Four notations: a JSON schema written out (Chat, JSON), Python types (all adapters), BAML's
short form, and nested example elements (XML, which tells no leaf's type). What a prompt does not
tell, such as an enum's members under BAML, no reader of it can know: then any text will do.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

from streamll.testing.formats import Field

Schema = dict[str, Any]

NAMED: dict[str, Schema] = {
    "str": {"type": "string"},
    "string": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "boolean": {"type": "boolean"},
    "None": {"type": "null"},
    "NoneType": {"type": "null"},
    "null": {"type": "null"},
    "Any": {"type": "string"},
    "list": {"type": "array", "items": {"type": "string"}},
    "dict": {"type": "object", "additionalProperties": {"type": "string"}},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
}
UNKNOWN: Schema = {"type": "unknown"}
ONE_OF = re.compile(r"must be one of: (.*)$", re.MULTILINE)


def schema_of(field: Field) -> Schema:
    """What the prompt says about the values of a field."""
    _, found, rest = field.note.partition("adhere to the JSON schema: ")
    if found:
        return read_json(rest)
    members = ONE_OF.search(field.note)
    if members:
        return {"enum": members[1].split("; ")}
    schema = python_type(field.type)
    if knows_all(schema):
        return schema
    _, found, rest = field.note.partition("should be of type: ")
    if found:
        return Baml(rest).type()
    if field.note.lstrip().startswith("<"):
        return element(field.note.strip())
    return schema


def read_json(text: str) -> Schema:
    try:
        schema, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return {}
    return schema if isinstance(schema, dict) else {}


def knows_all(schema: Schema) -> bool:
    return '"unknown"' not in json.dumps(schema)


# --- Python's notation --------------------------------------------------------------------------


def python_type(text: str) -> Schema:
    """Of the type as DSPy writes it, e.g. ``list[Literal['a', 'b']]``.

    >>> python_type("Union[int, NoneType]")
    {'anyOf': [{'type': 'integer'}, {'type': 'null'}]}
    """
    try:
        return of_node(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):
        return UNKNOWN


def of_node(node: ast.expr) -> Schema:
    if isinstance(node, ast.BinOp):
        return {"anyOf": [of_node(node.left), of_node(node.right)]}
    if isinstance(node, ast.Subscript):
        inner = node.slice
        return of_generic(
            name_of(node.value), inner.elts if isinstance(inner, ast.Tuple) else [inner]
        )
    if isinstance(node, ast.Constant):
        return {"type": "null"} if node.value is None else UNKNOWN
    return NAMED.get(name_of(node), UNKNOWN)


def name_of(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def of_generic(name: str, arguments: list[ast.expr]) -> Schema:
    if name == "Literal":
        return {"enum": [ast.literal_eval(argument) for argument in arguments]}
    schemas = [of_node(argument) for argument in arguments]
    if name in {"Union", "Optional"}:
        return {"anyOf": schemas}
    if name.lower() in {"list", "set", "sequence"}:
        return {"type": "array", "items": schemas[0]}
    if name.lower() == "tuple":
        count = len(schemas)
        return {"type": "array", "prefixItems": schemas, "minItems": count, "maxItems": count}
    if name.lower() in {"dict", "mapping"}:
        return {"type": "object", "additionalProperties": schemas[-1]}
    return UNKNOWN


# --- BAML's notation ----------------------------------------------------------------------------


class Baml:
    """Reads ``{ name: string, kind: "a" or "b", tags: string[], born: date or null, }``."""

    TOKENS = re.compile(r'#[^\n]*|"[^"]*"|[\[\]{},:]|[^\s\[\]{},:"]+')

    def __init__(self, text: str) -> None:
        self.tokens = [found for found in self.TOKENS.findall(text) if not found.startswith("#")]

    def take(self) -> str:
        return self.tokens.pop(0) if self.tokens else ""

    def skip(self, token: str) -> bool:
        found = bool(self.tokens) and self.tokens[0] == token
        if found:
            self.take()
        return found

    def type(self) -> Schema:
        options = [self.listed()]
        while self.skip("or"):
            options.append(self.listed())
        if all("const" in option for option in options):
            return {"enum": [option["const"] for option in options]}
        return {"anyOf": options} if len(options) > 1 else options[0]

    def listed(self) -> Schema:
        schema = self.single()
        while self.tokens[:2] == ["[", "]"]:
            self.take(), self.take()
            schema = {"type": "array", "items": schema}
        return schema

    def single(self) -> Schema:
        token = self.take()
        readers: dict[str, Callable[[], Schema]] = {
            "{": self.object,
            "[": self.array,
            "dict": self.mapping,
        }
        if token in readers:
            return readers[token]()
        if token.startswith('"'):
            return {"const": token.strip('"')}
        return NAMED.get(token, {"type": "string"})

    def object(self) -> Schema:
        properties: Schema = {}
        while self.tokens and not self.skip("}"):
            name = self.take()
            self.skip(":")
            properties[name] = self.type()
            self.skip(",")
        return {"type": "object", "properties": properties}

    def array(self) -> Schema:
        items = self.type()
        self.skip("]")
        return {"type": "array", "items": items}

    def mapping(self) -> Schema:
        self.skip("["), self.type(), self.skip(",")
        values = self.type()
        self.skip("]")
        return {"type": "object", "additionalProperties": values}


# --- XML's notation -----------------------------------------------------------------------------

CHILD = re.compile(r"<(\w+)>(.*?)</\1>", re.DOTALL)


def element(text: str) -> Schema:
    """Of example elements: ``<tags><item>...</item></tags>`` without the outer one.

    The first closing tag of a name ends it, except for ``item``, which nests in itself.
    """
    if text.startswith("<item>") and text.endswith("</item>"):
        return {"type": "array", "items": element(text[len("<item>") : -len("</item>")])}
    children = CHILD.findall(text)
    if not children:
        return UNKNOWN
    return {"type": "object", "properties": {name: element(inner) for name, inner in children}}
