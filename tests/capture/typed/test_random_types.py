"""X5: for any type and anything that a model writes for it, a partial is a claim about the value.

Here the parsers and readers alone are fed, as an attempt feeds them; what the program has is what
DSPy's adapter makes of the reply.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import enum
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import dspy
import pydantic
import pytest
from dspy.adapters.xml_adapter import XMLAdapter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import THOROUGH
from pydantic import AfterValidator
from random_types import Named, Root, Spot, Word, shapes, written_for
from typed_value_examples import cut

from streamll.capture.reply.attempt_fields import ReleasedText
from streamll.capture.reply.call_fields import parser_for
from streamll.capture.typed.field import is_prose, is_text, typed_field
from streamll.capture.typed.partials import ItemReader, item_type_of
from streamll.core.events import FieldEnd, FieldPartial, FieldStart
from streamll.core.parsing.base import Closed, Opened, Text
from streamll.core.parsing.values.builder import COMPLETE
from streamll.core.partials import PartialValue

NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_chat(value, text):
    return f"[[ ## value ## ]]\n{text}\n\n[[ ## end ## ]]\nx\n\n[[ ## completed ## ]]"


def as_json(value, text):
    return f'{{"value": {text}, "end": "x"}}'


def as_xml(value, text):
    return XMLAdapter._value_to_xml(value, "value") + "\n<end>x</end>"


def json_in_xml(value, text):
    return f"<value>\n{text}\n</value>\n<end>x</end>"


FORMS = {
    "chat": (dspy.ChatAdapter(), as_chat),
    "json": (dspy.JSONAdapter(), as_json),
    "xml": (XMLAdapter(), as_xml),
    "json in xml": (XMLAdapter(), json_in_xml),
}


def signature_of(annotation):
    signature = dspy.Signature({"question": (str, dspy.InputField())})
    signature = signature.append("value", dspy.OutputField(), annotation)
    return signature.append("end", dspy.OutputField(), str)


class Shown:
    """What is shown of the field while the chunks arrive."""

    def __init__(self, adapter, signature, annotation, chunks):
        self.released = None
        self.value, self.seen, self.items = PartialValue(), [], []
        self._annotation = annotation
        self._read = ItemReader("value", (), item_type_of(annotation), is_declared=True).read
        self._adapter = adapter
        parser = parser_for(adapter, signature)
        for pieces in (*map(parser.feed, chunks), parser.finish()):
            for piece in pieces:
                if piece.field == "value":
                    self._take(piece)

    def _take(self, piece):
        if isinstance(piece, Opened):
            self.released = ReleasedText(typed_field(self._adapter, self._annotation))
            self._read(FieldStart(field="value"))
        elif isinstance(piece, Text):
            self.released.parts.append(piece.text)
            if self.released.typed is not None:
                self.change(self.released.typed.feed(piece.text))
        elif isinstance(piece, Closed) and self.released.typed is not None:
            self.change(self.released.typed.finish())

    def change(self, changes):
        for change in changes:
            event = FieldPartial(field="value", **change._asdict())
            self.value.apply(event)
            assert not self.value.is_broken
            now = PartialValue()
            now._value, now._open = copy.deepcopy(self.value.value), self.value._open
            now.is_complete = self.value.is_complete
            self.seen.append(now)
            self.items += self._read(event)

    def settle(self, value):
        self.is_read = self.value.is_complete
        self._read(FieldEnd(field="value", length=0, complete=True))
        if isinstance(self.value.value, (list, type(None))):
            event = FieldPartial(
                field="value", value=value, state=COMPLETE, pointer=(), append=False
            )
            self.items += self._read(event)


def claims(shown, value, state, at=()):  # noqa: PLR0911
    """Whether what is shown is of the value's kind and its beginning, and all of it if complete."""
    complete = state(*at) == COMPLETE
    if not isinstance(shown, (str, list, dict)) and type(shown) is type(value):
        return shown == value or shown != shown  # noqa: PLR0124
    if isinstance(value, enum.Enum):
        return shown is value or claims(shown, value.value, state, at)
    if isinstance(value, pydantic.RootModel):
        return claims(shown, value.root, state, at)
    if isinstance(shown, str) and type(value) is str:
        return shown == value if complete else value.startswith(shown)
    if type(value) in (str, int, float, bool, type(None)):
        return type(shown) is type(value) and shown == value
    if isinstance(shown, dict):
        members = members_of(value, shown)
        return (
            members is not None
            and all(
                key in members and claims(part, members[key], state, (*at, key))
                for key, part in shown.items()
            )
            and not (complete and isinstance(value, Mapping) and len(members) != len(shown))
        )
    if isinstance(shown, list):
        return (
            isinstance(value, (list, tuple))
            and (len(shown) == len(value) if complete else len(shown) <= len(value))
            and all(
                claims(p, v, state, (*at, i))
                for i, (p, v) in enumerate(zip(shown, value, strict=False))
            )
        )
    if isinstance(shown, (int, float)) or type(shown) is type(value):
        return type(shown) is type(value) and shown == value
    try:
        return pydantic.TypeAdapter(type(value)).validate_python(shown) == value
    except pydantic.ValidationError:
        return False


def members_of(value, shown):
    """The members by their names; a key's is what was shown, if its type reads that so."""
    if isinstance(value, pydantic.BaseModel):
        return {**vars(value), **(value.model_extra or {})}
    if dataclasses.is_dataclass(value):
        return vars(value)
    if isinstance(value, Mapping):
        return {
            next((name for name in shown if reads(name, key)), repr(key)): part
            for key, part in value.items()
        }
    return None


def reads(name, key):
    if isinstance(key, enum.Enum):
        return name == str(key.value)
    try:
        return pydantic.TypeAdapter(type(key)).validate_python(name) == key
    except pydantic.ValidationError:
        return False


def check(name, annotation, written, chunked):
    adapter, form = FORMS[name]
    reply = form(*written)
    if "xml" in name and NOT_XML.search(reply):
        return
    signature = signature_of(annotation)
    shown = Shown(adapter, signature, annotation, chunked(reply))
    try:
        value = adapter.parse(signature, reply)["value"]
    except Exception:
        return  # the program has no value to differ from
    if shown.released is None:
        return
    corrected = not shown.released.agrees(annotation, value)
    shown.settle(value)
    if is_prose(annotation):
        return
    wrong = [each.value for each in shown.seen if not claims(each.value, value, each.state)]
    if corrected and not is_text(annotation):  # of which the text may be another, in quotes say
        assert wrong or not shown.value.is_complete, "corrected without a reason"
    assert corrected or not wrong, (wrong, value)
    has_items = isinstance(value, (list, tuple)) and item_type_of(annotation) is not None
    if has_items and not corrected:
        assert repr(shown.items) == repr(list(value))
    if has_items and not shown.is_read:  # each of the program's, whatever was made of it before
        assert set(map(repr, value)) <= set(map(repr, shown.items))


FOUND = [  # type, and what was written when something else was shown, and not corrected
    (set[int], []),
    (Spot | None, [169]),  # its default is missing from the list
    (Mapping[Word, dict[int, Spot]], {"red": {"1": [20], "2": {"x": 1}}}),
    (list[Annotated[list[int], AfterValidator(lambda value: [*value, 0])]], [[1]]),
    (list[Annotated[dict[str, int], AfterValidator(lambda value: {**value, "b": 0})]], [{"a": 1}]),
    (tuple[bool, int] | set[int], []),
    (dict[int, float] | list[int], []),
    (dict[str, list[int] | Sequence[Literal[1, "1", 2]]], {"a": ["1", "2", "2"]}),
    (list[frozenset[str] | tuple[bool, dt.date]], [[False, "0001-01-01"]]),
    (list[dt.datetime | Root[int] | None], [1700000000]),
    (list[Spot | Annotated[int, AfterValidator(lambda value: value + 1)]], [{"x": 1}, 1]),
    (Named, {"a": {}, "more": [1], "a_": {"b": 1}}),  # first by a name that does not count
]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("annotation", "value"), FOUND)
def test_what_was_found(name, annotation, value):
    check(name, annotation, (value, json.dumps(value)), list)


@pytest.mark.parametrize("name", FORMS)
@settings(
    suppress_health_check=list(HealthCheck), max_examples=120 if THOROUGH else 12, deadline=None
)
@given(data=st.data())
def test_what_is_shown_of_any_type_is_what_the_program_has(name, data):
    annotation, values = data.draw(shapes())
    written = data.draw(written_for(values))
    check(name, annotation, written, lambda reply: data.draw(cut(reply)))
