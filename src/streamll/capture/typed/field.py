"""Typed output fields while the model writes them: text in, changes of the value out.

The field parsers release a field's text; a ``TypedField`` turns it into changes
(``core.parsing.values``). What may be shown early is decided by the JSON schema that DSPy puts
into the prompt. The program's own validators are never run: a member that they change is shown as
the model wrote it until the program has its value, and is then corrected.
"""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin
from xml.etree import ElementTree as ET

import dspy
import pydantic
from dspy.adapters.types.citation import Citations
from dspy.adapters.xml_adapter import XMLAdapter
from pydantic.json_schema import GenerateJsonSchema

from streamll.capture.inside_dspy import parse_value
from streamll.capture.typed.claims import holds
from streamll.core.parsing.values.builder import COMPLETE, PARTIAL, Change
from streamll.core.parsing.values.json import JSONValueReader
from streamll.core.parsing.values.schema import OWN_NAMES, SchemaView
from streamll.core.parsing.values.xml import XMLValueReader

NOTHING: Any = object()
"""In place of a value, where none was shown."""
_NULLS = ("null", "None")
_LONGEST_NULL = max(map(len, _NULLS))
_JSON_TYPES = (dspy.ToolCalls, Citations)
"""Types of DSPy's own that a model writes as JSON; others (images, code) have their own formats."""


class TypedField:
    """One field of one attempt. The base class shows nothing until the program has the value."""

    def feed(self, text: str) -> Sequence[Change]:
        """The changes that became certain with more of the field's text."""
        return ()

    def finish(self) -> Sequence[Change]:
        """The changes that became certain because the field has ended."""
        return ()

    def agrees(self, value: Any) -> bool:
        """Whether what was shown is the program's value, or a part of it that came first."""
        return True


class TranslatedField(TypedField):
    """One whose value is made of something else than the model writes."""

    def agrees(self, value: Any) -> bool:
        return False


class TextField(TypedField):
    """A text that may also be ``None``."""

    def __init__(self) -> None:
        self._begun = False

    def feed(self, text: str) -> Sequence[Change]:
        begun, self._begun = self._begun, True
        return (Change((), text, PARTIAL, append=begun),)

    def finish(self) -> Sequence[Change]:
        return (Change((), "", COMPLETE, append=True),) if self._begun else ()


class ScalarField(TypedField):
    """A number, a choice, a date: shown when all of it is there, as DSPy reads it."""

    def __init__(self, annotation: Any, *, is_xml: bool = False) -> None:
        self._annotation = annotation
        self._is_xml = is_xml
        self._parts: list[str] = []
        self._shown: Any = NOTHING

    def feed(self, text: str) -> Sequence[Change]:
        self._parts.append(text)
        return ()

    def finish(self) -> Sequence[Change]:
        try:
            text = "".join(self._parts)
            if self._is_xml:
                # The parser released it from between two tags, so there is no document type.
                text = (ET.fromstring(f"<a>{text}</a>").text or "").strip()  # noqa: S314
            self._shown = parse_value(text, self._annotation)
        except Exception:  # noqa: BLE001 - the program reports what is wrong with it
            return ()
        return (Change((), self._shown, COMPLETE),)

    def agrees(self, value: Any) -> bool:
        return self._shown is NOTHING or holds(self._shown, value)


class StructuredField(TypedField):
    """A list or object; ``or_else`` reads the field if it does not begin like one.

    A number or text in its place is shown when it is complete, as DSPy reads it.
    """

    def __init__(
        self,
        annotation: Any,
        reader: JSONValueReader | XMLValueReader,
        or_else: TypedField | None = None,
        *,
        or_null: bool = False,
    ) -> None:
        """``or_null``: the word alone is ``None``, which the reader takes for prose."""
        self._annotation = annotation
        self._reader = reader
        self._openings = "[{<" if isinstance(reader, XMLValueReader) else "[{"
        self._or_else = or_else
        self._decided = or_else is None
        self._scalar: Any = NOTHING  # shown in place of a list or object
        self._begun = False
        self._or_null = or_null
        self._word = ""  # the beginning of the text, which ends here if it is such a word

    def feed(self, text: str) -> Sequence[Change]:
        self._begun = True
        if self._or_null and len(self._word) <= _LONGEST_NULL:
            self._word += text
        if not self._decided and (sign := text.lstrip()[:1]):
            self._decided = True
            if sign in self._openings:
                self._or_else = None
        return self._as_read((self._or_else or self._reader).feed(text))

    def finish(self) -> Sequence[Change]:
        changes = (self._or_else or self._reader).finish()
        if self._word in _NULLS:
            self._reader.builder.put(None)
            changes = self._reader.builder.take()
        changes = self._as_read(changes)
        self._begun = self._begun or bool(changes)  # an element without text is a value in XML
        return changes

    def agrees(self, value: Any) -> bool:
        if self._or_else is not None:
            return self._or_else.agrees(value)
        if not self._begun:  # what it has came apart from the text
            return True
        builder = self._reader.builder
        shown = builder.value
        if not isinstance(shown, (list, dict)):
            shown = self._scalar
        if shown is NOTHING or not builder.is_complete:
            return builder.is_complete
        # Where a key came twice, under its name and its alias perhaps, another may count than was shown.
        return holds(shown, value, whole=builder.is_whole or builder.repeats)

    def _as_read(self, changes: Sequence[Change]) -> Sequence[Change]:
        """The changes, with a scalar as the whole value in the form in which DSPy reads it."""
        if self._or_else is not None or not changes:
            return changes
        pointer, value, state, _ = changes[-1]
        if pointer or isinstance(value, (list, dict)):
            return changes
        if state != COMPLETE:
            return ()
        try:
            self._scalar = parse_value(self._reader.builder.value, self._annotation)
        except Exception:  # noqa: BLE001 - the program reports what is wrong with it
            return ()
        return (Change((), self._scalar, COMPLETE),)


def typed_field(adapter: Any, annotation: Any) -> TypedField | None:
    """The reader of a field; ``None`` for plain text, whose tokens are its value."""
    if is_prose(annotation):
        return None
    if is_text(annotation):
        return ScalarField(annotation) if is_choice(annotation) else TextField()
    schema = schema_of(annotation)
    if schema is None:  # a type with a format of its own
        return TypedField()
    if isinstance(adapter, dspy.JSONAdapter):
        return StructuredField(annotation, JSONValueReader(schema))
    is_xml = isinstance(adapter, XMLAdapter)
    if not (schema.allows("object") or schema.allows("array")):
        return ScalarField(annotation, is_xml=is_xml)
    only_structure = bool(schema.kinds) and schema.kinds <= {"object", "array", "null"}
    makes_list = is_xml and "array" in schema.kinds  # of the word
    return StructuredField(
        annotation,
        XMLValueReader(schema) if is_xml else JSONValueReader(schema, prose=only_structure),
        or_else=None if only_structure else ScalarField(annotation, is_xml=is_xml),
        or_null=only_structure and "null" in schema.kinds and not makes_list,
    )


# --- annotations --------------------------------------------------------------------------------


def is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)


def is_prose(annotation: Any) -> bool:
    """Plain text, whose value is its text."""
    return annotation is str or annotation is dspy.Reasoning


def is_text(annotation: Any) -> bool:
    """Whether the value is the text itself, one of a few fixed texts, or ``None``."""
    return is_prose(annotation) or all(
        each is str or _is_fixed_text(each) for each in _alternatives(annotation)
    )


def is_choice(annotation: Any) -> bool:
    """Whether a text is valid only when it is complete."""
    return not any(each is str for each in _alternatives(annotation))


def is_optional(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        found = [each for each in get_args(annotation) if each is not type(None)]
        return found or [annotation]
    return [annotation]


def _is_fixed_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return all(isinstance(each, str) for each in get_args(annotation))
    return isinstance(annotation, enum.EnumMeta) and all(
        isinstance(value, str) for value in annotation._value2member_map_
    )


def schema_of(annotation: Any) -> SchemaView | None:
    """What may stand in a field of this type; ``None`` if the type does not say."""
    try:
        return _schema(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return _schema.__wrapped__(annotation)


@functools.lru_cache(maxsize=256)
def _schema(annotation: Any) -> SchemaView | None:
    is_dspy_type = isinstance(annotation, type) and issubclass(annotation, dspy.Type)
    if is_dspy_type and not issubclass(annotation, _JSON_TYPES):
        return None
    try:
        adapter = pydantic.TypeAdapter(annotation)
        written, own = (
            adapter.json_schema(by_alias=by_alias, schema_generator=ShownSchema)
            for by_alias in (True, False)
        )
    except Exception:  # noqa: BLE001 - a type without a schema
        return None
    return SchemaView.of(written) if written == own else SchemaView.of(_named(written, own), own)


class ShownSchema(GenerateJsonSchema):
    """JSON schemas in which what cannot be shown early has a type that no value has."""

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        """JSON has no decimals: a number would lose digits, a text is not of its kind."""
        del schema
        return {"type": "decimal"}


def _named(written: Any, own: Any) -> Any:
    """A schema by aliases, with the own names of the members from the same schema by names."""
    if isinstance(written, list) and isinstance(own, list):
        return list(map(_named, written, own))
    if not (isinstance(written, dict) and isinstance(own, dict)):
        return written
    named = {key: _named(part, own.get(key)) for key, part in written.items()}
    if isinstance(written.get("properties"), dict):
        pairs = list(zip(written["properties"].items(), own["properties"].items(), strict=True))
        named["properties"] = {key: _named(part, other) for (key, part), (_, other) in pairs}
        named[OWN_NAMES] = {alias: name for (alias, _), (name, _) in pairs if alias != name}
    return named


# --- fields that the provider sends apart from the text -------------------------------------------


class NativeCalls:
    """A ``dspy.ToolCalls`` field that arrives as native tool calls, in the order of the calls."""

    def __init__(self) -> None:
        self._index = -1
        self._reader = JSONValueReader()

    def add(self, index: int, name: str | None, arguments: str) -> Sequence[Change]:
        """The changes of a fragment of call ``index``; late fragments of earlier calls are ignored."""
        changes: list[Change] = []
        if index == self._index + 1:
            changes += self._next(name or "")
        if index == self._index and arguments:
            pointer = ("tool_calls", index, "args")
            changes += (
                change._replace(pointer=(*pointer, *change.pointer))
                for change in self._reader.feed(arguments)
            )
        return changes

    def _next(self, name: str) -> list[Change]:
        if self._index < 0:
            changes = [Change((), {}, PARTIAL), Change(("tool_calls",), [], PARTIAL)]
        else:
            changes = [Change(("tool_calls", self._index), {}, COMPLETE, append=True)]
        self._index += 1
        self._reader = JSONValueReader()
        return [*changes, Change(("tool_calls", self._index), {"name": name}, PARTIAL)]

    def finish(self) -> Sequence[Change]:
        if self._index < 0:
            return ()
        return (
            Change(("tool_calls", self._index), {}, COMPLETE, append=True),
            Change(("tool_calls",), [], COMPLETE, append=True),
            Change((), {}, COMPLETE, append=True),
        )


def native_fields(own: Any, asked: Any) -> Mapping[Any, str]:
    """Output fields that the adapter left to the provider, by type.

    ``own`` is the predictor's signature, ``asked`` the one the prompt was made from.
    """
    if own is None or asked is None:
        return {}
    return {
        info.annotation: name
        for name, info in own.output_fields.items()
        if name not in asked.output_fields
        and info.annotation in (dspy.Reasoning, dspy.ToolCalls, Citations)
    }
