"""However a reply is cut, the same text and the same values leave, and nothing of the secret."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import dspy
import pytest
from guarded_runs import GUARDS, LETTERS, MASK, SECRET, Item, checked, shown
from hypothesis import given
from hypothesis import strategies as st
from programs import Heard

from streamll.capture.reply.attempt_fields import AttemptFields
from streamll.capture.reply.call_fields import CallFields
from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.run import Run
from streamll.capture.run.scope import Scope
from streamll.core import events as ev
from streamll.core.events import Identity
from streamll.core.jsonable import plain

PIECES = [SECRET, SECRET[:1], SECRET[:3], SECRET[3:], SECRET[-1:], "a", " ", "\\", '"', "ü\n", "é"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)
FOUND = re.compile(f"(?:{re.escape(SECRET)})+")
ITEMS = st.lists(st.builds(dict, name=TEXTS, tags=st.lists(TEXTS, max_size=2)), max_size=3)
SIGNATURES = {
    annotation: dspy.Signature("question -> value: str, end: str").with_updated_fields(
        "value", type_=annotation
    )
    for annotation in (str, list[Item])
}


def as_chat(value):
    return f"[[ ## value ## ]]\n{value}\n\n[[ ## end ## ]]\nx\n\n[[ ## completed ## ]]\n"


def as_json(value):
    return f'{{"value": {value}, "end": "x"}}'


def events_of(annotation, adapter, reply, cuts):
    """The events of a predictor's call whose reply comes in these pieces."""
    program = dspy.Predict(SIGNATURES[annotation])
    heard, run = Heard(), Run(program)
    scope = Scope(run, program, receivers=(heard,), declared=FieldSelection("*"), guards=GUARDS)
    who = Identity(run_id=run.run_id, call_id="c", predictor="self", path=("Predict",))
    run.start(scope, {})
    run.publish(ev.ModuleStart, scope, who, name="Predict")
    prompt = SimpleNamespace(adapter=adapter, signature=program.signature)
    attempt = AttemptFields(scope, who, CallFields(scope, program, prompt))
    for start, end in zip([0, *cuts], [*cuts, len(reply)], strict=True):
        attempt.emit(attempt.parser.feed(reply[start:end]))
    attempt.emit(attempt.parser.finish())
    attempt.end_open("stop")
    try:
        values = adapter.parse(program.signature, reply)
    except Exception:  # the program would ask again
        values = {}
    attempt.settle(values, set())
    run.publish(ev.ModuleEnd, scope, who, name="Predict", duration=0.0)
    run.succeed(scope, None)
    return checked(heard.events), values


def told(events):
    """The text of the field, and its last value."""
    text = "".join(e.token for e in events if e.event_type == "token" and e.field == "value")
    values = [plain(e.value) for e in events if e.event_type == "field.partial" and not e.pointer]
    return text, values[-1:]


@pytest.mark.parametrize("form", ["text", "JSON in chat", "JSON", "JSON with escapes"])
@given(data=st.data())
def test_whatever_the_cuts_the_same_leaves_and_nothing_forbidden(form, data):
    is_text = form == "text"
    value = data.draw(TEXTS if is_text else ITEMS)
    written = value if is_text else json.dumps(value, ensure_ascii=form == "JSON with escapes")
    adapter = dspy.JSONAdapter() if form == "JSON" else dspy.ChatAdapter()
    reply = (as_json if form == "JSON" else as_chat)(written)
    annotation = str if is_text else list[Item]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(reply) - 1), max_size=len(reply))))
    events, values = events_of(annotation, adapter, reply, cuts)
    whole, _ = events_of(annotation, adapter, reply, [])
    assert told(events) == told(whole)
    assert SECRET not in shown(events)
    if is_text and "value" in values:
        assert told(events)[0] == FOUND.sub(MASK, values["value"])
    if not is_text and all(FOUND.sub("", text) == "" for text in texts_in(value)):
        assert LETTERS.search(shown(events)) is None


def texts_in(value):
    for item in value:
        yield from (item["name"], *item["tags"])
