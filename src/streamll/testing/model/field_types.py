"""The JSON schema of an output field, from the ways in which DSPy's adapters describe types.

* Chat and JSON: a JSON schema, or a list of the members of a ``Literal``.
* All but XML's nested types: a Python type, ``list[Literal['a', 'b']]``.
* BAML: ``{ name: string, kind: "a" or "b", tags: string[], }``, whose grammar is that of Python
  expressions but for ``[]``, so one reader serves both.
* XML: example elements, ``<tags><item>...</item></tags>``, which leave the types of leaves open.

What a prompt leaves out, such as the members of an enum under BAML, no model could know: any
text will do.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from streamll.testing.prompts import JSON_SCHEMA, PromptField

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
    "true": {"const": True},
    "false": {"const": False},
    "Any": {"type": "string"},
    "list": {"type": "array", "items": {"type": "string"}},
    "dict": {"type": "object", "additionalProperties": {"type": "string"}},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
}
UNKNOWN: Schema = {"type": "unknown"}
ONE_OF = re.compile(r"must be one of: (.*)$", re.MULTILINE)


def schema_of(field: PromptField) -> Schema:
    """The schema of a field's values, as far as the prompt describes it."""
    _, found, rest = field.note.partition(JSON_SCHEMA)
    if found:
        return json_schema(rest)
    if members := ONE_OF.search(field.note):
        return {"enum": members[1].split("; ")}
    schema = type_expression(field.type)
    if '"unknown"' not in json.dumps(schema):
        return schema
    _, found, rest = field.note.partition("should be of type: ")
    if found:
        return type_expression(rest)
    if field.note.lstrip().startswith("<"):
        return example_element(field.note.strip())
    return schema


def json_schema(text: str) -> Schema:
    try:
        schema, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return {}
    return schema if isinstance(schema, dict) else {}


# --- Python's notation and BAML's ---------------------------------------------------------------


def type_expression(text: str) -> Schema:
    """The schema of a Python type as DSPy writes it, or of a type in BAML's notation.

    >>> type_expression("Union[int, NoneType]")
    {'anyOf': [{'type': 'integer'}, {'type': 'null'}]}
    >>> type_expression('{ kind: "a" or "b", tags: string[], }')["properties"]["kind"]
    {'enum': ['a', 'b']}
    """
    try:
        return of_node(ast.parse(text.replace("[]", "[...]"), mode="eval").body)
    except (SyntaxError, ValueError):
        return UNKNOWN


def of_node(node: ast.expr) -> Schema:
    schema: Schema
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            schema = {"anyOf": [of_node(left), of_node(right)]}
        case ast.BoolOp(op=ast.Or(), values=values):
            schema = one_of([of_node(value) for value in values])
        case ast.Subscript(value=value, slice=inner):
            schema = of_subscript(value, inner)
        case ast.Dict(keys=keys, values=values):
            names = [name_of(key) for key in keys if key is not None]
            properties = dict(zip(names, map(of_node, values), strict=True))
            schema = {"type": "object", "properties": properties}
        case ast.List(elts=[item]):
            schema = {"type": "array", "items": of_node(item)}
        case ast.Constant(value=str() | int() as value):
            schema = {"const": value}
        case _:
            schema = NAMED.get(name_of(node), UNKNOWN)
    return schema


def of_subscript(value: ast.expr, inner: ast.expr) -> Schema:
    if isinstance(inner, ast.Constant) and inner.value is ...:  # BAML's ``[]``
        return {"type": "array", "items": of_node(value)}
    return of_generic(name_of(value), inner.elts if isinstance(inner, ast.Tuple) else [inner])


def name_of(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def one_of(options: list[Schema]) -> Schema:
    if all("const" in option for option in options):
        return {"enum": [option["const"] for option in options]}
    return {"anyOf": options}


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


# --- XML's notation -----------------------------------------------------------------------------

CHILD = re.compile(r"<(\w+)>(.*?)</\1>", re.DOTALL)


def example_element(text: str) -> Schema:
    """The schema of example elements, ``<tags><item>...</item></tags>`` without the outer one.

    The first closing tag of a name ends it, except for ``item``, which nests in itself.
    """
    if text.startswith("<item>") and text.endswith("</item>"):
        items = example_element(text.removeprefix("<item>").removesuffix("</item>"))
        return {"type": "array", "items": items}
    children = CHILD.findall(text)
    if not children:
        return UNKNOWN
    properties = {name: example_element(inner) for name, inner in children}
    return {"type": "object", "properties": properties}
