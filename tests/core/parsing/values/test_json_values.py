"""X5: a JSON value that arrives in pieces is valid at every moment and never retracts anything."""

from __future__ import annotations

import copy
import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import thorough
from pydantic import TypeAdapter
from typed_value_examples import cut, reordered, schema_of, typed_values

from streamll.capture.typed.partial_form import partial_form
from streamll.core import wire
from streamll.core.events import FieldPartial, Identity, RunCancelled, RunEnd, RunError
from streamll.core.parsing.values.json import JSONValueReader
from streamll.core.parsing.values.schema import ANYTHING, SchemaView
from streamll.core.partials import Partials, PartialValue

WHO = Identity(run_id="r", call_id="c")

bounded = settings(max_examples=thorough(300), deadline=None)


def read(chunks, shape=ANYTHING, *, prose=False):
    """What a reader has after each chunk, and the JSON reader at the end."""
    reader, value, seen = JSONValueReader(shape, prose=prose), PartialValue(), []
    for chunk in chunks:
        take(value, reader.feed(chunk))
        seen.append((copy.deepcopy(value.value), states(value)))
    take(value, reader.finish())
    seen.append((copy.deepcopy(value.value), states(value)))
    return reader, value, seen


def take(value, changes):
    for change in changes:
        value.apply(FieldPartial(field="f", **change._asdict()))
        assert not value.is_broken


def places(value, at=()):
    yield at
    children = value.items() if isinstance(value, dict) else ()
    children = enumerate(value) if isinstance(value, list) else children
    for key, child in children:
        yield from places(child, (*at, key))


def states(value):
    return {at: value.state(*at) for at in places(value.value)}


def at(value, place):
    for key in place:
        value = value[key]
    return value


ORDER = {"pending": 0, "partial": 1, "complete": 2}


def check_forward(seen):
    """States only move forward; what is complete stays; text only grows; nothing goes away."""
    for (before, old), (after, new) in pairwise(seen):
        for place, state in old.items():
            if before is None:
                continue
            assert ORDER[new[place]] >= ORDER[state], place
            if state == "complete":
                assert at(after, place) == at(before, place)
            elif isinstance(at(before, place), str):
                assert at(after, place).startswith(at(before, place))


@bounded
@given(st.data())
def test_every_partial_is_valid_and_the_last_one_is_the_value(data):
    annotation, value = data.draw(typed_values())
    value = data.draw(reordered(value))
    indent = data.draw(st.sampled_from([None, 2]))
    text = json.dumps(value, indent=indent, ensure_ascii=data.draw(st.booleans()))
    reader, last, seen = read(data.draw(cut(text)), SchemaView.of(schema_of(annotation)))
    form = TypeAdapter(partial_form(annotation))
    for partial, _ in seen:
        if partial is not None or value is None:
            form.validate_python(partial)
    check_forward(seen)
    assert last.value == value
    assert last.is_complete
    assert set(seen[-1][1].values()) == {"complete"}
    assert reader.is_exact


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@bounded
@given(json_values, st.data())
def test_without_a_schema_any_json_is_read(value, data):
    reader, last, seen = read(data.draw(cut(json.dumps(value, ensure_ascii=False))))
    assert (last.value, last.is_complete, reader.is_exact) == (value, True, True)
    check_forward(seen)


@bounded
@given(st.text(alphabet="{}[]\",:\\u0041tfn1-.e \n'#/ab", max_size=60), st.data())
def test_no_text_breaks_the_reader_and_chunks_do_not_matter(text, data):
    whole, _, _ = read([text])
    pieces, last, seen = read(data.draw(cut(text)) if text else [])
    check_forward(seen)
    assert pieces.builder.is_complete == whole.builder.is_complete == last.is_complete
    assert pieces.builder.value == whole.builder.value
    assert pieces.is_exact == whole.is_exact
    if pieces.is_exact:
        assert json.loads(text) == pieces.builder.value


@pytest.mark.parametrize(
    ("text", "value", "exact"),
    [
        ("```json\n[1, 2]\n```", [1, 2], False),
        ('Here it is: {"a": 1}', {"a": 1}, False),
        ('  {"a": 1}\n', {"a": 1}, True),
        ("[1, 2,]", [1, 2], False),
        ("[1 2]", [1, 2], False),
        ("[True, None]", [True, None], False),
        ('{"a": 1, "a": 2}', {"a": 1}, True),
        ('["a\nb"]', ["a\nb"], False),
        ('["a\\qb"]', ["a\\qb"], False),
    ],
)
def test_json_as_models_write_it(text, value, exact):
    for chunks in ([text], list(text)):
        reader, last, _ = read(chunks, prose=True)
        assert last.value == value
        assert reader.is_exact is exact
        assert not reader.is_lost


@pytest.mark.parametrize("text", ["['a']", "{a: 1}", '{"a": 1 // one\n}', "[1, }", "[nope]"])
def test_text_that_needs_repair_is_given_up_without_losing_earlier_changes(text):
    reader, _, seen = read(list(text))
    assert reader.is_lost
    check_forward(seen)


def test_numbers_and_words_are_reported_once_certain():
    seen = [value for value, _ in read(list("[12, true]"))[2]]
    assert seen[:-1] == [[], [], [], [12], [12], [12], [12], [12], [12], [12, True]]


@pytest.mark.parametrize("digits", [309, 320, 4301, 5000])
def test_a_whole_number_beyond_a_float_is_withheld(digits):
    shape = SchemaView.of({"type": "array", "items": {"type": "number"}})
    text = f"[1, {'9' * digits}, 2]"
    for chunks in ([text], list(text)):
        assert read(chunks, shape)[1].value == [1.0]


def test_a_string_grows_only_where_the_schema_allows_any_text():
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "size": {"enum": ["small", "large"], "type": "string"},
            "day": {"type": "string", "format": "date"},
        },
    }
    text = '{"name": "Ada", "size": "small", "day": "1815-12-10"}'
    seen = [value for value, _ in read(list(text), SchemaView.of(schema))[2]]
    assert {"name": "A"} in seen
    assert {"name": "Ad"} in seen
    assert {value["size"] for value in seen if value and "size" in value} == {"small"}
    assert {value["day"] for value in seen if value and "day" in value} == {"1815-12-10"}


def test_a_discriminator_decides_what_may_grow():
    circle = {"properties": {"kind": {"const": "circle"}, "note": {"type": "string"}}}
    label = {
        "properties": {"kind": {"const": "label"}, "note": {"type": "string", "format": "date"}}
    }
    shape = SchemaView.of({"oneOf": [circle, label]})
    notes = [
        value["note"]
        for value, _ in read(list('{"kind": "label", "note": "2024-01-01"}'), shape)[2]
        if value and "note" in value
    ]
    assert set(notes) == {"2024-01-01"}
    assert '{"kind": "circle", "note": "ab"}'
    circles = read(list('{"kind": "circle", "note": "ab"}'), shape)[2]
    assert {"kind": "circle", "note": "a"} in [value for value, _ in circles]


def test_states_of_partial_complete_and_pending_parts():
    _, value, _ = read(['{"a": {"b": [1, 2], "c": "te'])
    assert value.value == {"a": {"b": [1, 2], "c": "te"}}
    assert value.state() == value.state("a") == value.state("a", "c") == "partial"
    assert value.state("a", "b") == value.state("a", "b", 0) == "complete"
    assert value.state("a", "d") == value.state("z") == "pending"


def test_too_deep_nesting_is_given_up():
    reader, _, _ = read(["[" * 10_000])
    assert reader.is_lost


def test_a_value_that_missed_a_change_waits_for_the_next_whole_one():
    value = PartialValue()
    value.apply(FieldPartial(field="f", value="x", pointer=("a", 3), append=True))
    assert value.is_broken
    value.apply(FieldPartial(field="f", value=1, pointer=("b",)))
    assert value.is_broken
    value.apply(FieldPartial(field="f", value={"b": 1}, state="complete"))
    assert (value.is_broken, value.value) == (False, {"b": 1})


@bounded
@given(st.data())
def test_changes_survive_the_wire_and_whole_events_need_no_memory(data):
    """X5, X10: a reader behind a broker has what a reader in the process has."""
    annotation, value = data.draw(typed_values())
    reader = JSONValueReader(SchemaView.of(schema_of(annotation)))
    near, far, teller = Partials(), Partials(), Partials()
    for chunk in data.draw(cut(json.dumps(value))):
        for change in reader.feed(chunk):
            event = FieldPartial(identity=WHO, field="f", **change._asdict())
            whole = teller.whole(event)
            assert (whole.pointer, whole.append) == ((), False)
            mine = near.feed(event)
            theirs = far.feed(wire.decode(wire.encode(event)))
            assert theirs.value == mine.value == whole.value
            assert theirs.state() == mine.state() == whole.state


@pytest.mark.parametrize("last", [RunEnd(), RunError(error_type="E", message=""), RunCancelled()])
def test_the_values_of_a_run_are_there_until_something_follows_its_end(last):
    values = Partials()

    def feed(like, run_id, **own):
        event = msgspec.structs.replace(like, identity=Identity(run_id=run_id, call_id="c"), **own)
        return event, values.feed(event)

    partial = FieldPartial(field="f", value=[1])
    _, kept = feed(partial, "a")
    feed(partial, "b")
    end, _ = feed(last, "a")
    assert values.of(end, "f") is kept
    other, _ = feed(partial, "b", pointer=(1,), value=2)
    assert values.of(end, "f") is None
    assert (kept.value, values.of(other, "f").value) == ([1], [1, 2])
