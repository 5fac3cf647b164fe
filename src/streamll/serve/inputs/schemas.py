"""A program's inputs as JSON Schema (2020-12), for forms, prompts and ``/openapi.json``.

And its output fields, for ``streamll types``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from streamll.core.jsonable import plain
from streamll.serve.inputs.checking import adapter_of
from streamll.serve.inputs.declared import Input

if TYPE_CHECKING:
    from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode


def described(inputs: tuple[Input, ...]) -> list[dict[str, Any]]:
    """Each input with its name, type, description, schema and default, as plain data."""
    schemas, definitions = schemas_of([(each.name, each) for each in inputs])
    told = []
    for each in inputs:
        schema = schemas[each.name]
        if definitions:
            schema = {**schema, "$defs": _needed(schema, definitions)}
        made = {
            "name": each.name,
            "type": each.type,
            "description": each.description,
            "required": each.required,
            "schema": schema,
        }
        if each.default is not msgspec.UNSET:
            made["default"] = plain(each.default)
        told.append(made)
    return told


def schemas_of(
    inputs: Iterable[tuple[Any, Input]],
    ref_template: str = "#/$defs/{model}",
    outputs: Iterable[tuple[Any, Input]] = (),
) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """The schema of each input by its key, and the definitions that they refer to.

    ``outputs``: also those of values as events carry them, with all their members, by own names.
    Types of one name in several programs get names of their own. What JSON has no form for is
    ``{}`` with a ``description`` that says so.
    """
    from pydantic import TypeAdapter

    listed: list[tuple[Any, Input, JsonSchemaMode]] = [(*each, "validation") for each in inputs]
    listed += [(*each, "serialization") for each in outputs]
    made, definitions = TypeAdapter.json_schemas(
        [(number, mode, adapter_of(each)) for number, (_, each, mode) in enumerate(listed)],
        ref_template=ref_template,
        schema_generator=_generator(),
    )
    schemas = {}
    for number, (key, each, mode) in enumerate(listed):
        schema = dict(made[number, mode])
        if each.description:
            schema["description"] = each.description
        schemas[key] = schema
    return schemas, definitions.get("$defs", {})


def _generator() -> type[GenerateJsonSchema]:
    from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

    class Generator(GenerateJsonSchema):
        ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012
        # Events carry a member under its own name, also one with a default.
        by_alias = property(lambda self: self.mode == "validation", lambda *_: None)

        def field_is_required(self, field: Any, total: bool) -> bool:
            written = self.mode == "serialization" and field["type"] != "typed-dict-field"
            return written or super().field_is_required(field, total)

        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
            return {"description": f"cannot be sent as JSON: {error_info}"}

    return Generator


def _needed(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The definitions that a schema refers to, also through others."""
    needed: dict[str, Any] = {}
    todo: list[Any] = [schema]
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            name = str(each.get("$ref", "")).rpartition("/")[2]
            if name in definitions and name not in needed:
                needed[name] = definitions[name]
                todo.append(definitions[name])
            todo += each.values()
        elif isinstance(each, list):
            todo += each
    return needed
