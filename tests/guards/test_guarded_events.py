"""What becomes of single events: every kind's content, each action, each way in which text comes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from streamll.core import events as ev
from streamll.core import wire
from streamll.core.events import KINDS, Event, EventData, Identity, StreamllEvent, own_fields
from streamll.core.ordering import OrderCheck
from streamll.guards import Pattern
from streamll.guards.events import Guarding
from streamll.guards.text import ExactRules
from streamll.guards.values import ValueGuard

SECRET = "Ω42Ψ"
MASK = "[~]"
RUN = Identity(run_id="r")
CALL = Identity(run_id="r", call_id="c", predictor="p", path=("p",))
NAMES = {
    "answer_id", "error_type", "field", "finish_reason", "kind", "media_type", "metric",
    "model", "next_model", "optimizer", "outcome", "parent_trace_id", "program", "question_id", "reason",
    "response_id", "response_model", "state", "tool", "trace_id", "usage",
}  # fmt: skip
"""Fields that are names and words of the code, whatever the kind."""


def guard(**options: Any) -> Pattern:
    return Pattern(**{"name": "secret", "regex": SECRET, "mask": MASK, **options})


def scope_of(*guards: Pattern) -> Any:
    return SimpleNamespace(guards=guards)


def no_checks() -> Any:
    raise AssertionError


class Reading:
    """A run of one call, given event by event."""

    def __init__(self, *guards: Pattern) -> None:
        self.guarding = Guarding(no_checks)
        self.scope = scope_of(*(guards or (guard(),)))
        self.events: list[Event] = []

    def feed(self, *events: Event) -> list[Event]:
        left = [
            event for each in events for event, _ in self.guarding.feed(each, self.scope)
        ]  # fmt: skip
        self.take(left)
        return left

    def take(self, left: Any) -> None:
        for event in left:
            self.events.append(msgspec.structs.replace(event, seq=len(self.events)))

    def field(self, *pieces: str, form: Any = "plain", complete: bool = True) -> list[Event]:
        self.guarding.begin_field(CALL, "answer", form, self.scope.guards)
        tokens = [ev.TokenEvent(identity=CALL, field="answer", token=piece) for piece in pieces]
        end = ev.FieldEnd(
            identity=CALL, field="answer", length=len("".join(pieces)), complete=complete
        )
        return self.feed(ev.FieldStart(identity=CALL, field="answer"), *tokens, end)

    def in_a_run(self, *events: Event) -> None:
        self.feed(ev.RunStart(identity=RUN, program="P"))
        self.feed(ev.ModuleStart(identity=CALL, name="p"), *events)

    def ended(self) -> list[Event]:
        self.feed(ev.ModuleEnd(identity=CALL, name="p", duration=0.0), ev.RunEnd(identity=RUN))
        OrderCheck().check_all(self.events)
        return self.events


def said(events: list[Event]) -> list[Any]:
    return [
        event.token if isinstance(event, ev.TokenEvent) else event.event_type for event in events
    ]


# --- every kind -----------------------------------------------------------------------------------


def texts_of(kind: type[Event]) -> dict[str, Any]:
    """A value with the secret for each own field that can hold one."""
    values: dict[str, Any] = {}
    for each in msgspec.structs.fields(kind):
        if each.name not in own_fields(kind):
            continue
        told = str(each.type)
        if "Mapping" in told:
            values[each.name] = {SECRET: [{"a": SECRET}]}
        elif "str" in told or "Any" in told:
            values[each.name] = (SECRET,) if "tuple" in told else f"so {SECRET}"
        elif each.required:
            values[each.name] = 0
    return values


def whole(kind: type[Event]) -> set[str]:
    """The own fields of ``kind`` in which the secret is left."""
    reading = Reading()
    values = texts_of(kind)
    if "field" in values:
        values["field"] = "answer"
        reading.field()
    event = kind(identity=CALL, **values)
    left = reading.feed(
        event, *([] if event.closes else [ev.LMEnd(identity=CALL, model="", duration=0)])
    )
    left += [event for event, _ in reading.guarding.finish_texts(CALL, reading.scope, 0.0)]
    ours = [each for each in left if type(each) is kind]
    assert ours
    return {
        name for each in ours for name in own_fields(kind) if SECRET in repr(getattr(each, name))
    }


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_all_content_of_every_kind_is_guarded(kind):
    is_named = kind is ev.Guarded or {kind.opens, kind.closes} & {*ev.CALLS}
    names = NAMES | {"name"} if is_named else NAMES
    left = whole(kind) - names
    assert left <= {"partial"}, "what is no name must be content"  # it is what was shown


def test_custom_events_their_context_and_unknown_keys_are_guarded():
    context = {"customer": SECRET}
    event = StreamllEvent(
        event_type="own",
        identity=CALL,
        data=EventData({"a": [SECRET]}, context),
        context=context,
        extra={"more": SECRET},
    )
    *told, left = Reading().feed(event)
    assert SECRET not in wire.encode(left).decode() + repr(left) + repr(left.data)
    assert dict(left.data) == {"a": [MASK], "customer": MASK}
    assert {each.name for each in told} == {"secret"}
    assert len(told) == 2  # of the context, and of the rest


def test_a_number_that_is_all_of_a_content_is_guarded():
    reading = Reading(guard(regex="777"))
    ended = ev.ToolEnd(identity=CALL, name="t", duration=777.0, result=777)
    (*_, ended) = reading.feed(ended)
    answer = ev.Answer(identity=CALL, question_id="q", outcome="answered", value=777, waited=777.0)
    (*_, answer) = reading.feed(answer)
    assert (ended.duration, ended.result, answer.value, answer.waited) == (777.0, MASK, MASK, 777.0)


class Own(Event, frozen=True, kw_only=True):
    event_type = "mine"
    name: str
    kind: str = ""


def test_of_a_users_own_kind_every_field_is_content():
    left = Reading().feed(Own(identity=CALL, name=SECRET, kind=SECRET))[-1]
    assert (left.name, left.kind) == (MASK, MASK)


class Odd:
    def __str__(self) -> str:
        return f"odd {SECRET}"


class Broken:
    def __str__(self) -> str:
        raise ValueError(SECRET)


def test_values_are_guarded_however_deep_and_stay_themselves_otherwise():
    rules = ExactRules((guard(regex=f"{SECRET}|777"),))

    def masked(value: Any) -> Any:
        return ValueGuard(rules).value(value)

    again: list[Any] = []
    again.append(again)
    for value in ({"a": [1, (2.5, None)], "b": {True}}, [b"x", Odd], {1: "a", None: "b"}):
        assert masked(value) is value
    assert masked({"a": [{SECRET: (SECRET, 1)}]}) == {"a": [{MASK: [MASK, 1]}]}
    alike = {f"a{SECRET}": 1, f"a{SECRET}{SECRET}": 2, f"a{MASK} 2": 3, f"b{SECRET}": 4}
    apart = {f"a{MASK}": 1, f"a{MASK} 3": 2, f"a{MASK} 2": 3, f"b{MASK}": 4}
    assert masked(alike) == apart
    assert masked([777, 1.777, 5, True]) == [MASK, f"1.{MASK}", 5, True]
    assert masked({777: 1, (SECRET,): 2}) == {MASK: 1, f"('{MASK}',)": 2}
    assert masked([Odd(), SECRET.encode()]) == [f"odd {MASK}", MASK]
    assert masked([again]) == [["<list>"]]
    assert masked([Broken()]) is not None
    assert masked(r'{"a": "\u03a942\u03a8"}') == f'{{"a": "{MASK}"}}'
    assert masked("<a>&#937;42&#936;</a>") == f"<a>{MASK}</a>"


# --- fields ---------------------------------------------------------------------------------------


def test_tokens_are_counted_as_they_leave():
    reading = Reading()
    reading.in_a_run()
    reading.field("so ", "Ω4", "2", "Ψ", "!", "Ω4")
    events = reading.ended()
    assert said(events)[3:8] == ["so ", "guarded", MASK, "!", "Ω4"]
    told = events[4]
    assert (told.name, told.kind, told.outcome) == ("secret", "pattern", "mask")
    assert (told.field, told.offset) == ("answer", 3)
    assert reading.guarding.shown(CALL, "answer") is None  # the call has ended


def test_what_is_held_of_a_field_that_breaks_off_is_not_shown():
    reading = Reading()
    assert said(reading.field("so ", "Ω4", complete=False)) == ["field.start", "so ", "field.end"]
    assert reading.guarding.shown(CALL, "answer") == "so "


@pytest.mark.parametrize(("action", "instead"), [("drop", None), ("replace", MASK)])
def test_a_field_can_be_withheld_from_a_match_on(action, instead):
    reading = Reading(guard(action=action))
    reading.in_a_run()
    reading.field("so ", SECRET, " and more")
    whole_value = ev.FieldPartial(
        identity=CALL, field="answer", value=f"so {SECRET}", state="complete"
    )
    corrected = ev.FieldCorrected(identity=CALL, field="answer", text="other", value="other")
    left = reading.feed(whole_value, corrected)
    assert [event.value for event in left] == [instead]
    events = reading.ended()
    assert said(events)[3:7] == ["so ", "guarded", "field.end", "field.corrected"]
    assert (events[6].text, events[6].value) == (instead or "", instead)


def test_only_the_fields_a_guard_names_are_guarded():
    reading = Reading(guard(fields=["p.answer"]))
    reading.in_a_run(ev.Status(identity=CALL, message=SECRET))
    reading.field(SECRET)
    outputs = {"answer": SECRET, "other": SECRET}
    reading.feed(ev.ModuleEnd(identity=CALL, name="p", duration=0.0, outputs=outputs))
    assert reading.events[2].message == SECRET
    assert MASK in said(reading.events)
    assert reading.events[-1].outputs == {"answer": MASK, "other": SECRET}
    other = Identity(run_id="r", call_id="d", predictor="q")
    reading.guarding.begin_field(other, "answer", "plain", reading.scope.guards)
    token = ev.TokenEvent(identity=other, field="answer", token=SECRET)
    assert said(reading.feed(token)) == [SECRET]


def test_a_part_of_a_value_begins_though_its_text_is_held():
    def part(value: Any, *pointer: Any, append: bool = False, state: str = "partial") -> Event:
        return ev.FieldPartial(
            identity=CALL, field="answer", value=value, pointer=pointer, append=append, state=state
        )

    reading = Reading()
    reading.field()
    left = reading.feed(
        part([], append=False),
        part({}, 0),
        part("Ω4", 0, SECRET),
        part("2", 0, SECRET, append=True),
        part("Ψ.", 0, SECRET, append=True),
        part("", 0, SECRET, append=True, state="complete"),
    )
    changes = [event for event in left if isinstance(event, ev.FieldPartial)]
    assert [(each.value, each.append) for each in changes] == [
        ([], False), ({}, False), ("", False), (f"{MASK}.", True), ("", True),
    ]  # fmt: skip
    assert changes[-1].pointer == (0, MASK)
    assert said(left).count("guarded") == 1


# --- texts that belong to no field ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ev.Thinking, ev.Refusal, ev.ToolCallDelta])
def test_what_is_held_of_the_models_other_texts_comes_when_its_reply_is_complete(kind):
    name = "arguments" if kind is ev.ToolCallDelta else "text"

    def pieces(*texts: str) -> list[Event]:
        more = {"index": 0} if kind is ev.ToolCallDelta else {}
        return [kind(identity=CALL, **{name: text}, **more) for text in texts]

    reading = Reading()
    reading.in_a_run(*pieces('"a', "Ω4", "2Ψ", "b", "Ω4"))
    reading.take(event for event, _ in reading.guarding.finish_texts(CALL, reading.scope, 1.0))
    shown = [event for event in reading.ended() if type(event) is kind]
    assert [getattr(event, name) for event in shown] == ['"a', MASK, "b", "Ω4"]
    if kind is ev.Thinking:
        assert [event.index for event in shown] == [0, 1, 2, 3]


def test_what_is_held_of_an_attempt_that_does_not_count_goes_with_it():
    reading = Reading()
    reading.in_a_run(ev.Thinking(identity=CALL, text="Ω4"))
    reading.feed(ev.LMSuperseded(identity=CALL, reason="E"))
    again = msgspec.structs.replace(CALL, attempt=1)
    reading.feed(ev.Thinking(identity=again, text="2Ψ"))
    for identity in (CALL, again):
        reading.take(e for e, _ in reading.guarding.finish_texts(identity, reading.scope, 1.0))
    assert [e.text for e in reading.ended() if isinstance(e, ev.Thinking)] == ["2Ψ"]
