"""X10, X15: events survive JSON, in both directions and across versions; nothing else raises."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import gc
import json
import math
import uuid
from inspect import get_annotations
from pathlib import Path

import msgspec
import pytest
from event_samples import CONTEXT, CUSTOM, NEWER, SAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import thorough

from streamll.core import wire
from streamll.core.errors import WireError
from streamll.core.events import (
    KINDS,
    NOTHING,
    Event,
    EventData,
    Identity,
    RunEnd,
    Status,
    StreamllEvent,
    Thinking,
    TokenEvent,
    ToolCallDelta,
    UnknownEvent,
    own_fields,
)
from streamll.core.usage import COUNTS, ModelUsage

GOLDEN = Path(__file__).parent.parent / "golden"
MANY = GOLDEN / "events-v1.jsonl"
bounded = settings(max_examples=thorough(150))


# --- golden files -------------------------------------------------------------------------------


def test_the_golden_file_has_every_kind_with_every_field():
    """A kind or field that is added later needs a sample, and a golden file of its release."""
    kinds = {type(event) for event in SAMPLES}
    assert kinds == {*KINDS.values(), StreamllEvent, UnknownEvent}
    for kind in kinds:
        samples = [event for event in SAMPLES if type(event) is kind]
        for field in msgspec.structs.fields(kind):
            if not field.required and field.name not in ("seq", "extra"):
                values = [getattr(event, field.name) for event in samples]
                assert any(value != field.default for value in values), (kind, field.name)


def test_what_a_log_of_before_does_not_say_of_tokens_is_not_known():
    """The first writers left 0 out, which said nothing, and had no counts of parts."""
    line = b'{"v":1,"event_type":"lm.end","seq":1,"timestamp":2.5,"model":"m","duration":1.0}'
    call = wire.decode(line)
    assert [getattr(call, name) for name in COUNTS] == [None] * len(COUNTS)
    assert (call.usage, call.response_model, call.response_id) == ((), None, None)
    line = b'{"v":1,"event_type":"run.end","seq":2,"timestamp":2.5,"lm_calls":1,"prompt_tokens":7}'
    end = wire.decode(line)
    assert (end.prompt_tokens, end.completion_tokens, end.usage) == (7, None, ())


def test_no_tokens_is_written_and_not_known_is_left_out():
    written = json.loads(
        wire.encode(RunEnd(seq=1, prompt_tokens=0, usage=(ModelUsage(model="m"),)))
    )
    assert written["prompt_tokens"] == 0
    assert "completion_tokens" not in written
    assert written["usage"] == [{"model": "m"}]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("events-*.jsonl")), ids=lambda path: path.name)
def test_events_of_every_release_can_be_read(path):
    lines = path.read_bytes().splitlines()
    events = [wire.decode(line) for line in lines]
    known = {(type(event), event.seq): event for event in SAMPLES}
    for event in events:
        assert event == known[type(event), event.seq]
    assert [wire.decode(wire.encode(event)) for event in events] == events


def test_only_a_token_s_seq_stands_for_more_than_one():
    """Readers in other languages add ``count`` to ``seq``; a gap has none."""
    assert {name for name, kind in KINDS.items() if "count" in own_fields(kind)} == {
        "token", "stream.gap",
    }  # fmt: skip


def test_the_present_format_equals_the_golden_file():
    lines = MANY.read_bytes().splitlines()
    assert [json.loads(wire.encode(event)) for event in SAMPLES] == [json.loads(x) for x in lines]


def test_an_event_is_one_flat_object_without_defaults():
    token = TokenEvent(
        seq=7,
        timestamp=2.5,
        identity=Identity(run_id="r", path=("QA", "predict"), call_id="c"),
        context={"user": 1},
        field="answer",
        token="Mach",
    )
    assert json.loads(wire.encode(token)) == {
        "v": 1, "event_type": "token", "seq": 7, "timestamp": 2.5, "run_id": "r",
        "path": ["QA", "predict"], "call_id": "c", "context": {"user": 1},
        "field": "answer", "token": "Mach",
    }  # fmt: skip
    custom = StreamllEvent(event_type="docs.found")
    assert json.loads(wire.encode(custom)) == {
        "v": 1, "event_type": "docs.found", "timestamp": 0.0, "data": {},
    }  # fmt: skip


def test_a_kind_that_no_longer_exists_is_kept_as_an_unknown_event():
    line = b'{"v":1,"event_type":"interpreter.start","seq":1,"timestamp":2.5,"name":"P","code":"1"}'
    event = wire.decode(line)
    assert (type(event), event.event_type) == (UnknownEvent, "interpreter.start")
    assert dict(event.data) == {"name": "P", "code": "1"}
    assert wire.decode(wire.encode(event)) == event


# --- round trips --------------------------------------------------------------------------------

texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(texts, json_values, max_size=3)
counts = st.integers(0, 2**40)
identities = st.builds(
    Identity,
    run_id=st.none() | texts,
    path=st.lists(texts, max_size=3).map(tuple),
    predictor=st.none() | texts,
    call_id=st.none() | texts,
    parent_call_id=st.none() | texts,
    turn=counts,
    attempt=counts,
    candidate=counts,
)
usages = st.builds(
    ModelUsage,
    model=texts,
    unreported=counts,
    cost=st.none() | numbers,
    **{name: st.none() | counts for name in COUNTS},
)
_BY_TYPE = {
    "str": texts,
    "int": counts,
    "float": numbers,
    "bool": st.booleans(),
    "Any": json_values,
    "str | None": st.none() | texts,
    "int | None": st.none() | counts,
    "float | None": st.none() | numbers,
    "tuple[str | int, ...]": st.lists(texts | st.integers(0, 99), max_size=3).map(tuple),
    "tuple[tuple[float, int], ...]": st.lists(st.tuples(numbers, counts), max_size=3).map(tuple),
    "tuple[ModelUsage, ...]": st.lists(usages, max_size=3).map(tuple),
    "Mapping[str, Any]": objects,
    "Mapping[str, str]": st.dictionaries(texts, texts, max_size=3),
    "Mapping[str, Any] | None": st.none() | objects,
}
EVERY_KIND = (*KINDS.values(), StreamllEvent, UnknownEvent)
_RESERVED = {"v", "event_type", "seq", "timestamp", "context", "data", *Identity.__struct_fields__}


@st.composite
def events(draw, identity=identities, context=objects, kinds=EVERY_KIND):
    kind = draw(st.sampled_from(kinds))
    shared = {
        "seq": draw(st.none() | counts),
        "timestamp": draw(numbers),
        "identity": draw(identity),
        "context": draw(context) or NOTHING,
    }
    taken = _RESERVED | set(own_fields(kind))
    extra = {key: value for key, value in draw(objects).items() if key not in taken}
    if issubclass(kind, StreamllEvent):
        name = draw(texts.filter(lambda name: name not in KINDS))
        own = extra if kind is UnknownEvent else draw(objects)
        if shared["context"]:
            own = EventData(own, shared["context"])
        shared["extra"] = NOTHING if kind is UnknownEvent else extra
        return kind(**shared, event_type=name, data=own)
    types = {name: text for cls in kind.__mro__ for name, text in get_annotations(cls).items()}
    own = {name: draw(_BY_TYPE[types[name]]) for name in own_fields(kind)}
    return kind(**shared, extra=extra, **own)


@bounded
@given(events())
def test_every_event_comes_back_equal(event):
    assert wire.decode(wire.encode(event)) == event
    assert wire.decode(wire.encode(event).decode()) == event
    assert wire.from_dict(wire.to_dict(event)) == event


@bounded
@given(st.data())
def test_every_batch_comes_back_equal_and_in_order(data):
    few_identities = st.sampled_from(data.draw(st.lists(identities, min_size=1, max_size=2)))
    few_contexts = st.sampled_from([{}, {"user": 1}, {"user": 2}])
    batch = data.draw(st.lists(events(few_identities, few_contexts), max_size=8))
    envelopes = wire.encode_batch(batch)
    assert [event for envelope in envelopes for event in wire.decode_batch(envelope)] == batch


@bounded
@given(st.lists(events() | events(kinds=(TokenEvent, Thinking, ToolCallDelta)), max_size=5))
def test_an_event_has_the_same_keys_inside_an_envelope_and_alone(batch):
    inside = [e for env in wire.encode_batch(batch) for e in json.loads(env)["events"]]
    shared = ("v", "run_id", "context")
    alone = [json.loads(wire.encode(event)) for event in batch]
    alone = [[(k, v) for k, v in event.items() if k not in shared] for event in alone]
    assert [list(event.items()) for event in inside] == alone


def test_text_that_json_cannot_hold_does_not_affect_other_text():
    tokens = [TokenEvent(field="answer", token=text) for text in ("a", "\ud800", "b")]
    (envelope,) = wire.encode_batch(tokens)
    assert [event.token for event in wire.decode_batch(envelope)] == ["a", "\ufffd", "b"]


def test_an_envelope_has_one_run_and_one_context():
    one, two = Identity(run_id="1", call_id="a"), Identity(run_id="1", call_id="b")
    other = Identity(run_id="2")
    say = Status
    batch = [
        say(message="a", identity=one, context={"user": 1}),
        say(message="b", identity=two, context={"user": 1}),
        say(message="c", identity=two, context={"user": 2}),
        say(message="d", identity=other, context={"user": 2}),
        say(message="e"),
        say(message="f"),
    ]
    envelopes = [json.loads(envelope) for envelope in wire.encode_batch(batch)]
    shared = [{k: v for k, v in envelope.items() if k != "events"} for envelope in envelopes]
    assert shared == [
        {"v": 1, "run_id": "1", "context": {"user": 1}},
        {"v": 1, "run_id": "1", "context": {"user": 2}},
        {"v": 1, "run_id": "2", "context": {"user": 2}},
        {"v": 1},
    ]
    assert [[e["message"] for e in envelope["events"]] for envelope in envelopes] == [
        ["a", "b"], ["c"], ["d"], ["e", "f"],
    ]  # fmt: skip
    assert not {"run_id", "context", "v"} & set(envelopes[0]["events"][0])
    assert wire.encode_batch([]) == []


def test_the_events_of_an_envelope_share_one_identity():
    identity = Identity(run_id="1", call_id="a")
    tokens = [TokenEvent(identity=identity, field="answer", token=t) for t in "abc"]
    (envelope,) = wire.encode_batch(tokens)
    assert len({id(event.identity) for event in wire.decode_batch(envelope)}) == 1


def test_a_single_event_counts_as_an_envelope_of_one():
    assert wire.decode_batch(wire.encode(SAMPLES[0])) == [SAMPLES[0]]


# --- what a newer writer may say ----------------------------------------------------------------


def test_unknown_keys_of_known_kinds_are_kept_and_written_again():
    event = wire.decode(b'{"v":1,"event_type":"status","message":"hi","mood":"calm"}')
    assert isinstance(event, Status)
    assert event.extra == {"mood": "calm"}
    assert event.data["mood"] == "calm"
    assert json.loads(wire.encode(event))["mood"] == "calm"


def test_unknown_kinds_keep_their_fields_and_are_written_again():
    line = {"v": 1, "event_type": "frame.shown", "timestamp": 1.0, "run_id": "r", **NEWER}
    event = wire.decode(json.dumps(line))
    assert isinstance(event, StreamllEvent)
    assert dict(event.data) == NEWER
    assert event.run_id == "r"
    assert json.loads(wire.encode(event)) == line


def test_a_newer_shared_key_does_not_hide_the_data_of_custom_events():
    line = {"v": 1, "event_type": "docs.found", "timestamp": 1.0, "data": CUSTOM, "tenant": "x"}
    event = wire.decode(json.dumps(line))
    assert type(event) is StreamllEvent
    assert event.data == CUSTOM
    assert event.extra == {"tenant": "x"}
    assert json.loads(wire.encode(event)) == line


def test_the_context_is_visible_in_the_data_of_custom_events():
    event = StreamllEvent(event_type="x", data=CUSTOM, context=CONTEXT)
    assert wire.decode(wire.encode(event)).data["conversation_id"] == "c-17"


def test_a_newer_major_version_is_a_clear_error():
    for line in (b'{"v":2,"event_type":"token"}', b'{"v":2,"events":[]}'):
        with pytest.raises(WireError, match=r"version 2 .* reads up to version 1\. Upgrade"):
            wire.decode_batch(line)


# --- what is not an event -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not JSON"),
        (b'{"v":1,"event_type":"token"', r"not JSON: .*char \d+"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "an event is an object, not an array"),
        (b"null", "not null"),
        (b'{"event_type":"token"}', "version 'v' is None"),
        (b'{"v":"1","event_type":"token"}', "version 'v' is '1'"),
        (b'{"v":true}', "version 'v' is True"),
        (b'{"v":1}', "the event has no event_type"),
        (b'{"v":1,"event_type":7}', "the event has no event_type"),
        (b'{"v":1,"event_type":"token","field":"a"}', r"the event \(token\).*`token`"),
        (b'{"v":1,"event_type":"token","field":"a","token":"b","seq":"7"}', r"\(token\): .*seq"),
        (b'{"v":1,"event_type":"status","message":"x","path":"p"}', r"\(status\).*path"),
        (b'{"v":1,"event_type":"status","message":"x","context":[]}', r"\(status\).*context"),
        (b'{"v":1,"events":{}}', "events is an object, not an array"),
        (b'{"v":1,"events":[8,7]}', "event 1 of 2 is a number, not an object"),
        (b'{"v":1,"events":[{"event_type":"token"}]}', r"event 1 of 1 \(token\)"),
    ],
    ids=repr,
)
def test_input_that_is_not_an_event_raises_with_its_position(data, says):
    with pytest.raises(WireError, match=says):
        wire.decode_batch(data)


@pytest.mark.parametrize(
    ("kind", "own", "read", "extra"),
    [
        ("status", {"message": 7}, {"message": "7"}, {}),
        ("status", {"message": None}, {"message": ""}, {}),
        ("answer", {"question_id": "q", "outcome": "answered", "by": 4}, {"by": None}, {"by": 4}),
        ("run.end", {"cost": "0.5", "lm_calls": 2}, {"cost": None, "lm_calls": 2}, {"cost": "0.5"}),
        ("run.end", {"usage": [{"model": 3}], "duration": None}, {"usage": ()}, {"usage": [{"model": 3}]}),
        ("lm.end", {"model": {"a": 1}, "duration": 1.5}, {"model": '{"a": 1}', "duration": 1.5}, {}),
    ],
)  # fmt: skip
def test_an_odd_value_costs_no_more_than_itself(kind, own, read, extra):
    """Writers let such values out once, and others' still may: the rest of the run must be read."""
    event = wire.from_dict({"v": 1, "event_type": kind, "seq": 3, **own})
    assert (type(event), event.seq) == (KINDS[kind], 3)
    assert {name: getattr(event, name) for name in read} == read
    assert event.extra == extra
    assert {**json.loads(wire.encode(event)), **extra} == json.loads(wire.encode(event))


def test_an_event_that_cannot_be_read_is_a_gap_in_its_place():
    """So that readers know how many events are missing, and have the others, the last one above all."""
    events = [{"event_type": "status", "seq": 4, "timestamp": 2.5, "message": "a"}, 7,
              {"event_type": "token", "seq": 6}, {"event_type": "run.end", "seq": 7}]  # fmt: skip
    body = json.dumps({"v": 1, "run_id": "r", "context": {"user": 1}, "events": events})
    read = wire.decode_batch(body)
    assert [event.event_type for event in read] == ["status", "stream.gap", "stream.gap", "run.end"]
    assert [event.seq for event in read] == [4, None, None, 7]
    for gap in read[1:3]:
        assert (gap.run_id, gap.timestamp, gap.context) == ("r", 2.5, {"user": 1})
        assert (gap.count, gap.reason) == (1, "unreadable")


@bounded
@given(st.binary(max_size=40) | st.text(max_size=40) | json_values.map(json.dumps))
def test_reading_raises_nothing_but_wire_errors(data):
    for read in (wire.decode, wire.decode_batch):
        with pytest.raises(WireError):
            read(data)


@bounded
@given(st.dictionaries(st.sampled_from(sorted(_RESERVED | {"events", "field"})), json_values))
def test_reading_odd_events_raises_nothing_but_wire_errors(mapping):
    try:
        event = wire.from_dict({"event_type": "token", **mapping, "v": 1})
    except WireError:
        return
    assert isinstance(event, Event)


def test_lenient_json_of_other_writers_is_read():
    """Escaped lone surrogates and NaN are no JSON, but Python's ``json`` writes both."""
    line = json.dumps({"v": 1, "event_type": "docs", "data": {"x": "\ud800", "y": math.nan}})
    event = wire.decode(line)
    assert event.data["x"] == "\ud800"
    assert math.isnan(event.data["y"])


# --- values that are not JSON -------------------------------------------------------------------


class Answer:
    """Like a pydantic model."""

    def model_dump(self):
        return {"city": "Paris", "found": {1, 2}}


class Broken:
    def model_dump(self):
        raise RuntimeError("no")

    def __str__(self):
        raise RuntimeError("no")


class Shape(str, enum.Enum):
    ROUND = "round"


@dataclasses.dataclass
class Point:
    x: int
    tags: dict


class Endless:
    def model_dump(self):
        return Endless()


loop: list = []
loop.append(loop)


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (Answer(), {"city": "Paris", "found": [1, 2]}),
        (Broken(), "<Broken>"),
        (Shape.ROUND, "round"),
        (Point(1, {(1, 2): None}), {"x": 1, "tags": {"(1, 2)": None}}),
        (dt.date(2024, 11, 20), "2024-11-20"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (ValueError("bad"), "ValueError: bad"),
        (Answer, "test_wire.Answer"),
        (range(3), [0, 1, 2]),
        ({None: 1, True: 2}, {"null": 1, "true": 2}),
        ({None: 1, (1, 2): 2, False: 3}, {"null": 1, "(1, 2)": 2, "false": 3}),
        (math.inf, None),
        ([math.nan, 1.5], [None, 1.5]),
        (2**80, 2**80),
        ("a\ud800b", "a\ufffdb"),
        ({"\udfff": "\ud83d\ude00"}, {"\ufffd": "\ufffd\ufffd"}),
        (b"ab", "YWI="),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_outside_json_are_rendered(value, arrives):
    event = StreamllEvent(event_type="x", data={"value": value})
    assert wire.decode(wire.encode(event)).data["value"] == arrives
    (envelope,) = wire.encode_batch([event])
    assert wire.decode_batch(envelope)[0].data["value"] == arrives


@pytest.mark.parametrize(
    "value",
    [loop, Endless(), object(), lambda: 0, [Broken()] * 3],
    ids=["a loop", "endless", "an object", "a function", "broken ones"],
)
def test_encoding_never_raises(value):
    gc.collect()  # else a finalizer may have its turn where Python's limit of recursion is reached
    event = RunEnd(outputs={"value": value, "\ud800": [value]})
    assert wire.decode(wire.encode(event)).outputs.keys() == {"value", "\ufffd"}


def test_pydantic_models_and_arrays_are_rendered():
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Place", name=(str, ...), at=(dt.date, ...))
    place = model(name="Paris", at=dt.date(2024, 1, 2))
    event = wire.decode(wire.encode(RunEnd(outputs={"place": place})))
    assert event.outputs == {"place": {"name": "Paris", "at": "2024-01-02"}}


def test_lone_surrogates_keep_a_tokens_offsets_true():
    token = TokenEvent(field="answer", token="a\ud83db", offset=3)
    assert len(wire.decode(wire.encode(token)).token) == 3


def test_nan_and_infinities_come_back_as_nan():
    event = RunEnd(duration=math.inf, cost=math.nan, timestamp=math.nan)
    again = wire.decode(wire.encode(event))
    assert math.isnan(again.duration)
    assert math.isnan(again.timestamp)
    assert again.cost is None


def test_a_users_own_event_class_is_written_flat():
    class Guess(Event, frozen=True, kw_only=True):
        event_type = "guess"
        number: int = 0

    event = wire.decode(wire.encode(Guess(number=7)))
    assert event.event_type == "guess"
    assert event.data["number"] == 7
