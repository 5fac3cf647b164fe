"""What each part of a value may be, read from its JSON schema (draft 2020-12, as pydantic writes).

Used while the value is still being written, so every answer covers all that is still possible:
a union is all of its alternatives, until a member with a fixed value (a discriminator, a
``Literal``) rules some out. References are resolved when they are reached, so schemas may be
recursive.

A schema only decides what may be *shown* early. What is shown is a claim about the value that the
program will have, so that what it would be converted into (``"1"`` for an integer) is not shown, nor
what it would be without (a key that a model does not have). Nothing is validated here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
Alternative = tuple[Schema, Mapping[str, Any]]
"""A schema without references or unions at its top, and the definitions it may refer to."""

_UNIONS = ("anyOf", "oneOf", "allOf")
_FIXED = ("enum", "const", "format", "pattern", "contentEncoding", "contentMediaType")
"""Keywords under which the beginning of a valid string may be invalid."""

_TYPES: Mapping[type, tuple[str, ...]] = {
    str: ("string",),
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number", "integer"),
    type(None): ("null",),
}
_NAMES: Mapping[type, str] = {kind: names[0] for kind, names in _TYPES.items()}
OWN_NAMES = "ownNames"
"""A keyword that is no JSON Schema's: the names of members whose properties are aliases."""
WITHHELD: Any = object()
"""In place of a value that is not to be shown."""


def _same(value: Any) -> Any:
    return value


def _withheld(value: Any) -> Any:
    del value
    return WITHHELD


def _as_float(value: int) -> Any:
    try:
        return float(value)
    except OverflowError:  # pydantic has infinity then, or refuses it
        return WITHHELD


_NUMBER_OR_WORD = re.compile(
    r"\s*[-+]?(?:[\d.,_eE+-]+|(?i:true|false|yes|no|on|off|nan|-?inf(?:inity)?))\s*"
)

CACHED_VALUES = 64
"""Values of members whose consequences are cached, for each part."""


class SchemaView:
    """The schema of one part of a value. ``ANYTHING`` allows every value."""

    __slots__ = (
        "_alternatives", "_is_fixed", "_is_open", "_item", "_knowing", "_longest", "_makes",
        "_member", "_names", "_own_names", "_takes_more", "grows", "kinds",
    )  # fmt: skip

    def __init__(self, alternatives: tuple[Alternative, ...]) -> None:
        self._alternatives = alternatives
        self._names = {name for schema, _ in alternatives for name in schema.get("properties", ())}
        self._member = functools.cache(self._find_member)
        self._item = functools.cache(self._find_item)
        self._knowing = functools.lru_cache(CACHED_VALUES, typed=True)(self._find_knowing)
        schemas = [schema for schema, _ in alternatives]
        kinds = [_kinds(schema) for schema in schemas]
        self.kinds = frozenset(kind for each in kinds for kind in each if all(kinds))
        """The JSON types allowed here; empty for any."""
        self.grows = any(_grows(schema) for schema, _ in alternatives)
        """Whether the beginning of a string may be shown before the string has ended."""
        self._is_open = any(not (_kinds(schema) or _is_fixed(schema)) for schema in schemas)
        self._is_fixed = any(map(_is_fixed, schemas))
        self._makes: dict[type, Callable[[Any], Any]] = {}  # by the type of a value
        self._longest = max((len(s.get("prefixItems", ())) for s in schemas), default=0)
        self._own_names: dict[str, str] = {}
        for schema in schemas:
            self._own_names |= schema.get(OWN_NAMES, {})
        self._takes_more = self._is_open or any(map(_takes_more, schemas))

    @classmethod
    def of(cls, *schemas: Schema) -> SchemaView:
        """The union of these complete JSON schemas."""
        return _union((schema, schema.get("$defs", {})) for schema in schemas)

    def allows(self, kind: str) -> bool:
        return not self.kinds or kind in self.kinds

    def lists(self, text: str) -> bool:
        """Whether a string is one of those that are listed here."""
        return any(text in each.get("enum", (each.get("const"),)) for each, _ in self._alternatives)

    def claim(self, value: Any) -> Any:
        """A value as the program will have it; ``WITHHELD`` where it will be something else.

        Of lists and objects, which are empty here, only the kind is looked at.
        """
        if self._is_open:
            return value
        made = self._makes.get(type(value))
        if made is None or self._is_fixed:
            made = self._made(value)
            self._makes[type(value)] = made
        return made(value)

    def _made(self, value: Any) -> Callable[[Any], Any]:
        """What becomes of a value: by its type alone, unless values are fixed."""
        if type(value) in (list, dict):
            return _same if self.takes(value) else _withheld
        name = _NAMES[type(value)]
        made: Callable[[Any], Any] = _withheld
        for schema, _ in self._alternatives:
            kinds = _kinds(schema) if _may_be_fixed(schema, value) else ()
            if name in kinds:
                return _same
            if name == "integer" and "number" in kinds:
                made = _as_float
        return made

    def takes(self, container: list[Any] | dict[str, Any]) -> bool:
        """Whether the program will have a list or an object like this, in this order."""
        kind = "array" if type(container) is list else "object"
        return self._is_open or any(
            kind in _kinds(schema) and not (kind == "array" and schema.get("uniqueItems"))
            for schema, _ in self._alternatives
        )

    def fills(self, container: list[Any] | dict[str, Any]) -> bool:
        """Whether nothing is added to it: not so for a ``NamedTuple`` written without its defaults."""
        if type(container) is dict or not self._longest:
            return True
        lists = [schema for schema, _ in self._alternatives if "array" in _kinds(schema)]
        return any(len(schema.get("prefixItems", ())) <= len(container) for schema in lists)

    def knows(self, key: str) -> bool:
        """Whether the program's object will have such a key."""
        return key in self._names or self._takes_more

    def own_name(self, key: str) -> str:
        """The name of the member that is written as ``key``: another one for an alias."""
        return self._own_names.get(key, key)

    def member(self, key: str) -> SchemaView:
        """The schema of an object's member."""
        return self._member(key if key in self._names else None)

    def item(self, index: int) -> SchemaView:
        """The schema of a list's item."""
        return self._item(min(index, self._longest))

    def knowing(self, key: str, value: object) -> SchemaView:
        """What is still possible here when the object's member ``key`` is ``value``."""
        if len(self._alternatives) < 2:  # noqa: PLR2004
            return self
        return self._knowing(key, value if type(value) in _TYPES else ())

    def _find_knowing(self, key: str, value: object) -> SchemaView:
        left = tuple(each for each in self._alternatives if _may_have(each, key, value))
        return self if len(left) in (0, len(self._alternatives)) else SchemaView(left)

    def _find_member(self, key: str | None) -> SchemaView:
        named, others = [], []
        for schema, definitions in self._alternatives:
            if key in (properties := schema.get("properties", {})):
                named.append((properties[key], definitions))
            elif isinstance(more := schema.get("additionalProperties"), Mapping):
                others.append((more, definitions))
        return _union(named or others)

    def _find_item(self, index: int) -> SchemaView:
        found = []
        for schema, definitions in self._alternatives:
            if schema.get("uniqueItems"):  # a set's are never shown
                continue
            first = schema.get("prefixItems", ())
            if index < len(first):
                found.append((first[index], definitions))
            elif isinstance(items := schema.get("items"), Mapping):
                found.append((items, definitions))
        return _union(found)


def _union(schemas: Any) -> SchemaView:
    found = tuple(each for schema, defs in schemas for each in _alternatives(schema, defs))
    return SchemaView(found) if found else ANYTHING


def _alternatives(schema: Any, definitions: Mapping[str, Any]) -> Iterator[Alternative]:
    """The alternatives of a schema's unions, references resolved."""
    waiting, seen = [schema], set()
    while waiting:
        schema = waiting.pop(0)
        if not isinstance(schema, Mapping):
            yield {}, definitions
        elif reference := schema.get("$ref"):
            if reference not in seen:
                seen.add(reference)
                waiting.append(definitions.get(str(reference).rpartition("/")[2], {}))
        elif inner := [each for union in _UNIONS for each in schema.get(union, ())]:
            waiting.extend(inner)
        else:
            yield schema, definitions


def _kinds(schema: Schema) -> tuple[str, ...]:
    """The JSON types a schema names; none if it names no type."""
    kind = schema.get("type")
    if kind is None and ("const" in schema or "enum" in schema):
        values = schema.get("enum", [schema.get("const")])
        return tuple({name for value in values for name in _TYPES.get(type(value), ())})
    return tuple(kind) if isinstance(kind, list) else (kind,) if kind else ()


def _is_fixed(schema: Schema) -> bool:
    return "const" in schema or "enum" in schema


def _may_be_fixed(schema: Schema, value: object) -> bool:
    """Whether a fixed value may be this one; true where none is fixed."""
    if "const" in schema:
        return bool(value == schema["const"])
    return "enum" not in schema or value in schema["enum"]


def _takes_more(schema: Schema) -> bool:
    """Whether an object keeps keys that its schema does not name."""
    more = schema.get("additionalProperties", "properties" not in schema)
    return "object" in _kinds(schema) and more is not False


def _grows(schema: Schema) -> bool:
    kinds = _kinds(schema)
    return (not kinds or "string" in kinds) and not any(key in schema for key in _FIXED)


def _may_have(alternative: Alternative, key: str, value: object) -> bool:
    """Whether an object of this alternative may have this value for its member."""
    schema, definitions = alternative
    member = schema.get("properties", {}).get(key)
    if member is None:
        return True
    return any(_may_be(each, value) for each, _ in _alternatives(member, definitions))


def _may_be(schema: Schema, value: object) -> bool:
    """By its type and the values it is fixed to; text may be written for a number or word."""
    if _is_fixed(schema):
        return _may_be_fixed(schema, value)
    kinds = _kinds(schema)
    if not kinds or type(value) not in _TYPES:
        return True
    if isinstance(value, str) and "string" not in kinds and _NUMBER_OR_WORD.fullmatch(value):
        return True
    return any(kind in kinds for kind in _TYPES[type(value)])


ANYTHING = SchemaView((({}, {}),))
