"""X4: the legal order of a run's events; every violation is detected and named."""

from __future__ import annotations

import msgspec
import pytest
from draw_event_order import grammar
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import thorough

from streamll.core.errors import OutOfOrder
from streamll.core.events import (
    KINDS,
    Citation,
    FieldCorrected,
    FieldEnd,
    FieldPartial,
    FieldStart,
    Identity,
    LMEnd,
    LMStart,
    LMSuperseded,
    ModuleEnd,
    ModuleError,
    ModuleStart,
    RunCancelled,
    RunEnd,
    RunError,
    RunStart,
    Status,
    StreamGap,
    StreamllEvent,
    Thinking,
    TokenEvent,
    ToolCallDelta,
    ToolEnd,
    ToolStart,
    TraceEnd,
    TraceStart,
)
from streamll.core.ordering import FAILURES, OrderCheck

RUN = "run"


def identity(call_id=None, attempt=0, candidate=0):
    return Identity(run_id=RUN, call_id=call_id, attempt=attempt, candidate=candidate)


def say(kind, call_id="p", *, attempt=0, candidate=0, **own):
    return kind(identity=identity(call_id, attempt, candidate), **own)


def token(text, index, offset, **options):
    return say(TokenEvent, field="answer", token=text, token_index=index, offset=offset, **options)


def numbered(events, first=0):
    return [
        msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(events, start=first)
    ]


START = say(RunStart, None, program="QA")
END = say(RunEnd, None)
MODULE = say(ModuleStart, name="predict")
MODULE_END = say(ModuleEnd, name="predict", duration=0.1)
FIELD = say(FieldStart, field="answer")
FIELD_END = say(FieldEnd, field="answer", length=4)
TOKENS = [token("Pa", 0, 0), token("ri", 1, 2)]
WHOLE = [
    START,
    MODULE,
    say(TraceStart, name="t", trace_id="t1"),
    say(LMStart, "lm", model="m"),
    say(Thinking, text="hm"),
    FIELD,
    TOKENS[0],
    say(Status, None, message="…"),
    say(FieldPartial, field="answer", value="Pa"),
    TOKENS[1],
    FIELD_END,
    say(Citation),
    say(ToolCallDelta, index=0),
    say(LMEnd, "lm", model="m", duration=0.1),
    say(FieldCorrected, field="answer", text="Paris"),
    say(TraceEnd, name="t", trace_id="t1", duration=0.1),
    MODULE_END,
    say(ToolStart, "tool", name="search"),
    say(StreamllEvent, "tool", event_type="docs.found"),
    say(ToolEnd, "tool", name="search", duration=0.1),
    END,
]


def check(events, **options):
    OrderCheck(**options).check_all(numbered(events))


def test_the_grammar_has_every_kind_of_event_exactly_once():
    scopes = {scope.name: scope for scope in grammar()}
    assert list(scopes) == [
        "run", "module", "tool", "lm", "evaluate", "compile", "field", "trace", "question",
    ]  # fmt: skip
    assert scopes["run"].closed_by == ("run.end", "run.error", "run.cancelled")
    assert {"lm.waiting", "status", "stream.gap"} <= set(scopes["run"].contains)
    assert scopes["field"].inside == "call"
    assert "token" in scopes["field"].contains
    for place, contains in (("run", "run"), ("lm", "call"), ("field", "field")):
        stated = [name for name, kind in KINDS.items() if kind.inside == contains]
        single = [name for name in stated if not KINDS[name].opens and not KINDS[name].closes]
        assert list(scopes[place].contains) == single
    assert scopes["module"].contains == scopes["tool"].contains == scopes["lm"].contains
    listed = [name for scope in scopes.values() for name in (scope.opened_by, *scope.closed_by)]
    listed += [*scopes["run"].contains, *scopes["lm"].contains, *scopes["field"].contains]
    listed += [
        kind
        for name in ("evaluate", "compile")
        for kind in scopes[name].contains
        if kind not in scopes["lm"].contains
    ]
    assert sorted(listed) == sorted(KINDS)


def test_every_scope_can_be_closed_as_failed():
    assert {scope.name for scope in grammar()} == set(FAILURES)
    assert {kind.event_type for what, kind in FAILURES.items() if what != "run"} == {
        "module.error", "tool.error", "lm.end", "evaluate.end", "compile.end", "trace.end",
        "field.end", "answer",
    }  # fmt: skip


def test_a_whole_run_is_in_order():
    check(WHOLE)


@pytest.mark.parametrize("last", [RunEnd, RunCancelled])
def test_each_ending_ends_a_run(last):
    check([START, say(last, None)])
    check([START, say(RunError, None, error_type="E", message="")])


def test_a_retry_restarts_its_fields_as_the_next_attempt():
    check([
        START,
        MODULE,
        FIELD,
        *TOKENS,
        FIELD_END,
        say(LMSuperseded, reason="LMServerError"),
        say(FieldStart, field="answer", attempt=1),
        token("Rome", 0, 0, attempt=1),
        say(FieldEnd, field="answer", length=4, attempt=1),
        say(LMSuperseded, reason="fallback", attempt=1),
        say(FieldStart, field="answer", attempt=2),
        say(FieldEnd, field="answer", length=0, attempt=2),
        say(FieldCorrected, field="answer", text="Rome", attempt=2),
        say(ModuleError, name="predict", duration=0.1, error_type="E", message=""),
        END,
    ])  # fmt: skip


def test_calls_of_one_run_interleave():
    one, two = ([token(text, n, n, call_id=call) for n, text in enumerate("abc")] for call in "12")
    fields = [say(FieldStart, call, field="answer") for call in "12"]
    ends = [say(FieldEnd, call, field="answer", length=3) for call in "12"]
    modules = [say(ModuleStart, call, name="p") for call in "12"]
    closing = [say(ModuleEnd, call, name="p", duration=0.1) for call in "21"]
    mixed = [event for pair in zip(one, two, strict=True) for event in pair]
    check([START, *modules, *fields, *mixed, *ends, *closing, END])


def test_a_straggling_call_may_outlive_its_parent():
    child = Identity(run_id=RUN, call_id="child", parent_call_id="p")
    check([
        START,
        MODULE,
        ModuleStart(identity=child, name="c"),
        MODULE_END,
        ModuleEnd(identity=child, name="c", duration=0.1),
        END,
    ])  # fmt: skip


def test_runs_are_checked_independently_and_events_outside_runs_not_at_all():
    order = OrderCheck()
    other = [msgspec.structs.replace(e, identity=Identity(run_id="other")) for e in (START, END)]
    mixed = [numbered([START])[0], Status(message="nobody's"), *numbered(other)]
    order.check_all([*mixed, *numbered([END], first=1)])


def test_merged_tokens_count_for_the_tokens_they_replace():
    first, second = numbered(TOKENS, first=3)
    merged = msgspec.structs.replace(first, token="Pari", count=2)
    begun = numbered([START, MODULE, FIELD])
    OrderCheck().check_all([*begun, merged, *numbered([FIELD_END, MODULE_END, END], first=5)])
    with pytest.raises(OutOfOrder, match="seq rises"):
        OrderCheck().check_all([*begun, merged, *numbered([FIELD_END], first=3)])
    with pytest.raises(OutOfOrder, match="contiguous and 4 is missing"):
        OrderCheck().check_all([*begun, first, *numbered([FIELD_END], first=5)])
    assert second.seq == 4


def test_text_merged_across_calls_is_not_a_loss():
    """A token that stands for seq 3 and 5, with another call's 4 after it."""
    events = [
        START,
        MODULE,
        FIELD,
        token("Pari", 0, 0, call_id="p"),
        Status(identity=identity(), message="between"),
    ]
    events = numbered(events)
    events[3] = msgspec.structs.replace(events[3], count=2)
    order = OrderCheck()
    order.check_all([*events, *numbered([FIELD_END, MODULE_END, END], first=6)])


def test_a_gap_accounts_for_the_events_it_reports_and_no_more():
    begun = numbered([START, MODULE, FIELD])
    ending = [msgspec.structs.replace(TOKENS[1], seq=4), *numbered([FIELD_END], first=5)]
    gap = StreamGap(identity=identity(), count=1, reason="overflow")
    rest = numbered([MODULE_END, END], first=6)
    OrderCheck().check_all([*begun, gap, *ending, *rest])
    longer = [msgspec.structs.replace(event, length=6) for event in numbered([FIELD_END], first=5)]
    OrderCheck().check_all([*begun, gap, ending[0], *longer, *rest])  # what was lost was text
    with pytest.raises(OutOfOrder, match="3 is missing"):
        OrderCheck().check_all([*begun, *ending, *rest])
    with pytest.raises(OutOfOrder, match="4 is missing"):
        OrderCheck().check_all([*begun, gap, *numbered([FIELD_END], first=6)])


def test_a_partial_reader_may_see_holes_but_no_disorder():
    part = numbered([*TOKENS, FIELD_END], first=7)
    OrderCheck(holes=True).check_all(part)
    with pytest.raises(OutOfOrder, match="seq rises"):
        OrderCheck(holes=True).check_all(reversed(part))
    with pytest.raises(OutOfOrder):
        OrderCheck().check_all(part)


BEGUN = [START, MODULE, FIELD]


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([MODULE], "module.start .*: run.start comes first"),
        ([START, START], "run.start comes first and once"),
        ([START, END, MODULE], "nothing follows a run's last event"),
        ([START, END, END], "nothing follows a run's last event"),
        ([START, MODULE, END], "run.end .*: module 'p' is still open"),
        ([START, say(ToolStart, "t", name="x"), END], "tool 't' is still open"),
        ([START, say(LMStart, "lm", model="m"), END], "lm 'lm' is still open"),
        ([START, say(TraceStart, name="t", trace_id="t1"), END], "trace 't1' is still open"),
        ([START, MODULE_END], "this module is not open"),
        ([START, MODULE, MODULE], "this module is open already"),
        ([START, MODULE, MODULE_END, MODULE_END], "this module is not open"),
        ([START, FIELD], "comes only inside its open call"),
        ([START, say(Thinking, text="x")], "comes only inside its open call"),
        ([START, MODULE, TOKENS[0]], "comes only inside its open field"),
        ([*BEGUN, MODULE_END], "field 'answer' of this call is still open"),
        ([*BEGUN, FIELD], "this field is open already"),
        ([*BEGUN, TOKENS[1]], r"\(0, 0\) expected, \(1, 2\) found"),
        ([*BEGUN, TOKENS[0], TOKENS[0]], r"\(1, 2\) expected, \(0, 0\) found"),
        ([*BEGUN, TOKENS[0], token("ri", 1, 3)], r"\(1, 2\) expected, \(1, 3\) found"),
        ([*BEGUN, TOKENS[0], FIELD_END], "length 4, but 2 characters were streamed"),
        ([*BEGUN, *TOKENS, FIELD_END, token("s", 2, 4)], "comes only inside its open field"),
        ([*BEGUN, *TOKENS, FIELD_END, FIELD], "streamed once per attempt"),
        ([*BEGUN, *TOKENS, say(FieldCorrected, field="answer", text="")], "after the field's end"),
        (
            [*BEGUN, *TOKENS, FIELD_END, *[say(FieldCorrected, field="answer", text="")] * 2],
            "corrected at most once",
        ),
        ([*BEGUN, say(LMSuperseded, reason="x")], "field 'answer' of this call is still open"),
        (
            [START, MODULE, say(LMSuperseded, reason="x"), FIELD],
            "at attempt 1, as lm.superseded says",
        ),
        ([START, MODULE, say(FieldStart, field="answer", attempt=1)], "the call is at attempt 0"),
        ([START, MODULE, say(LMSuperseded, reason="x", attempt=1)], "the call is at attempt 0"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else f"{len(value)} events",
)
def test_an_illegal_event_is_an_error_that_names_event_and_rule(events, says):
    with pytest.raises(OutOfOrder, match=says):
        check(events)


def test_a_run_must_have_an_end():
    with pytest.raises(OutOfOrder, match="run run: its last event is missing"):
        check([START])


def test_exactly_the_events_of_a_run_have_a_seq():
    with pytest.raises(OutOfOrder, match="outside any run has no seq"):
        OrderCheck().check(Status(seq=0, message="x"))
    with pytest.raises(OutOfOrder, match="every event of a run has a seq"):
        OrderCheck().check(START)


@settings(max_examples=thorough(100))
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, len(WHOLE) - 1))
def test_any_two_events_swapped_or_one_lost_is_noticed(one, two):
    """By ``seq`` always; where the events are renumbered, nobody could."""
    events = numbered(WHOLE)
    lost = [event for index, event in enumerate(events) if index != one]
    with pytest.raises(OutOfOrder):
        OrderCheck().check_all(lost)
    if one != two:
        events[one], events[two] = events[two], events[one]
        with pytest.raises(OutOfOrder):
            OrderCheck().check_all(events)
