"""Typed output fields while the model writes them: which reader, and whether it read it right.

What the field parsers release of a field that is no plain text comes through here and leaves as
changes (``core.parsing.values``). The schema that decides what may be shown is the one DSPy puts
into the prompt. The program's own validators are never run: a member that they change is shown
as the model wrote it until the program has its value.
"""

from __future__ import annotations

import enum
import functools
import json
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Union, get_args, get_origin
from xml.etree import ElementTree as ET

import dspy
import json_repair
import pydantic
from dspy.adapters.types.citation import Citations
from dspy.adapters.xml_adapter import XMLAdapter

from streamll.capture.inside_dspy import parse_value
from streamll.core.parsing.values.builder import COMPLETE, PARTIAL, Change
from streamll.core.parsing.values.json import JSONValueReader
from streamll.core.parsing.values.schema import SchemaView
from streamll.core.parsing.values.xml import XMLValueReader

_FENCE = re.compile(r"\s*```(?:json)?\s*([\[{].*[\]}])\s*```\s*", re.DOTALL)
STRUCTURED_TYPES = (dspy.ToolCalls, Citations)
"""DSPy's own types that a model writes as JSON; the others have ways of their own."""


class TypedField(Protocol):
    """One field of one attempt."""

    def feed(self, text: str) -> Sequence[Change]:
        """The changes that became certain with more of the field's text."""
        ...

    def finish(self) -> Sequence[Change]:
        """The field has ended."""
        ...

    def agrees(self, text: str) -> bool:
        """Whether the value that was told is the one DSPy reads from the field's text."""
        ...


def typed_field(adapter: Any, annotation: Any) -> TypedField | None:
    """The reader of a field; ``None`` for text, whose tokens say everything."""
    if is_prose(annotation):
        return None
    if is_text(annotation):
        return Chosen(annotation) if is_choice(annotation) else GrowingText()
    shape = shape_of(annotation)
    if shape is None:
        return Unknown()
    if isinstance(adapter, dspy.JSONAdapter):
        return Structured(JSONValueReader(shape))
    is_xml = isinstance(adapter, XMLAdapter)
    if not (shape.allows("object") or shape.allows("array")):
        return Chosen(annotation, is_xml=is_xml)
    only_structure = bool(shape.kinds) and shape.kinds <= {"object", "array", "null"}
    return Structured(
        XMLValueReader(shape) if is_xml else JSONValueReader(shape, prose=only_structure),
        or_else=None if only_structure else Chosen(annotation, is_xml=is_xml),
    )


# --- annotations --------------------------------------------------------------------------------


def is_prose(annotation: Any) -> bool:
    """Plain text, whose value is its text."""
    return annotation is str or annotation is dspy.Reasoning


def is_text(annotation: Any) -> bool:
    """Whether the value is the text itself, or one of some texts, or nothing."""
    return is_prose(annotation) or all(
        each is str or _is_fixed_text(each) for each in _alternatives(annotation)
    )


def is_choice(annotation: Any) -> bool:
    """A text that is valid only when it is whole."""
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


def shape_of(annotation: Any) -> SchemaView | None:
    """What may stand in a field of this type; ``None`` where its type does not say."""
    try:
        return _shape_of(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return _make_shape(annotation)


def _make_shape(annotation: Any) -> SchemaView | None:
    is_dspys = isinstance(annotation, type) and issubclass(annotation, dspy.Type)
    if is_dspys and not issubclass(annotation, STRUCTURED_TYPES):
        return None
    try:
        adapter = pydantic.TypeAdapter(annotation)
        aliases, names = adapter.json_schema(), adapter.json_schema(by_alias=False)
    except Exception:  # noqa: BLE001 - a type without a schema is shown when it is there
        return None
    return SchemaView.of(aliases) if aliases == names else SchemaView.of(aliases, names)


_shape_of = functools.lru_cache(maxsize=256)(_make_shape)


# --- readers ------------------------------------------------------------------------------------


class Structured:
    """A list or object; where a text may stand there as well, its first sign decides."""

    def __init__(
        self, reader: JSONValueReader | XMLValueReader, or_else: TypedField | None = None
    ) -> None:
        self._reader = reader
        self._or_else = or_else
        self._decided = or_else is None

    def feed(self, text: str) -> Sequence[Change]:
        if not self._decided and (sign := text.lstrip()[:1]):
            self._decided = True
            if sign in "[{<":
                self._or_else = None
        return self._reader.feed(text) if self._or_else is None else self._or_else.feed(text)

    def finish(self) -> Sequence[Change]:
        return self._reader.finish() if self._or_else is None else self._or_else.finish()

    def agrees(self, text: str) -> bool:
        if self._or_else is not None:
            return self._or_else.agrees(text)
        reader = self._reader
        if reader.is_exact:
            return not reader.builder.repeats
        if not (isinstance(reader, JSONValueReader) and reader.builder.is_complete):
            return False
        return bool(_read(text) == reader.builder.value)


def _read(text: str) -> Any:
    """What DSPy reads from a text; in a code fence and else in order, at the cost of JSON."""
    if fence := _FENCE.fullmatch(text):
        try:
            return json.loads(fence[1])
        except ValueError:
            pass
    return json_repair.loads(text)


class GrowingText:
    """A text that may also be nothing."""

    def __init__(self) -> None:
        self._begun = False

    def feed(self, text: str) -> Sequence[Change]:
        begun, self._begun = self._begun, True
        return (Change((), text, PARTIAL, append=begun),)

    def finish(self) -> Sequence[Change]:
        return (Change((), "", COMPLETE, append=True),) if self._begun else ()

    def agrees(self, text: str) -> bool:
        return True


class Chosen:
    """A number, a word, a date: known when all of it is there, as DSPy reads it."""

    def __init__(self, annotation: Any, *, is_xml: bool = False) -> None:
        self._annotation = annotation
        self._is_xml = is_xml
        self._parts: list[str] = []

    def feed(self, text: str) -> Sequence[Change]:
        self._parts.append(text)
        return ()

    def finish(self) -> Sequence[Change]:
        try:
            text = "".join(self._parts)
            if self._is_xml:
                # The parser released it from between two tags, so there is no document type.
                text = (ET.fromstring(f"<a>{text}</a>").text or "").strip()  # noqa: S314
            return (Change((), parse_value(text, self._annotation), COMPLETE),)
        except Exception:  # noqa: BLE001 - the program will say what is wrong with it
            return ()

    def agrees(self, text: str) -> bool:
        return True


class Unknown:
    """A type of its own way of being written: its value is there when the program has it."""

    def feed(self, text: str) -> Sequence[Change]:
        return ()

    def finish(self) -> Sequence[Change]:
        return ()

    def agrees(self, text: str) -> bool:
        return True


# --- what the provider writes apart from the text ---------------------------------------------------


class NativeCalls:
    """A ``dspy.ToolCalls`` field that comes as native tool calls, in the order of the calls."""

    def __init__(self) -> None:
        self._index = -1
        self._reader = JSONValueReader()

    def add(self, index: int, name: str | None, arguments: str) -> Sequence[Change]:
        """The changes that a fragment of call ``index`` makes; late ones of earlier calls none."""
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
    """Output fields that the adapter left to the provider, by their type.

    ``own`` is the predictor's signature, ``asked`` the one of the prompt.
    """
    if own is None or asked is None:
        return {}
    return {
        info.annotation: name
        for name, info in own.output_fields.items()
        if name not in asked.output_fields
        and info.annotation in (dspy.Reasoning, dspy.ToolCalls, Citations)
    }
