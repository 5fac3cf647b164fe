"""X9: which tokens merge, and what a merged token says."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_events import RunEvents

from streamll.core.events import Identity, Status, TokenEvent
from streamll.flow.coalesce import Coalescer, coalesce

CALL = Identity(run_id="run", call_id="call")


def pair(**changes):
    """Two adjacent tokens; ``changes`` to the second."""
    first = TokenEvent(
        seq=4, timestamp=1.0, identity=CALL, field="answer", token="ab", token_index=7, offset=20
    )
    second = TokenEvent(
        seq=5, timestamp=2.0, identity=CALL, field="answer", token="cde", token_index=8, offset=22
    )
    return [first, msgspec.structs.replace(second, **changes)]


def test_a_merged_token_has_the_firsts_place_and_the_lasts_finish_reason():
    (merged,) = coalesce(pair())
    first = pair()[0]
    assert merged == msgspec.structs.replace(first, token="abcde", count=2)
    (merged,) = coalesce(pair(finish_reason="stop"))
    assert (merged.finish_reason, merged.count) == ("stop", 2)


def test_an_equal_identity_in_another_object_merges_too():
    assert len(coalesce(pair(identity=Identity(run_id="run", call_id="call")))) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"field": "reasoning"},
        {"offset": 23},
        {"token_index": 9},
        {"cached": True},
        {"context": {"request": 2}},
        {"extra": {"confidence": 0.5}},
        {"identity": Identity(run_id="run", call_id="other")},
        {"identity": Identity(run_id="run", call_id="call", attempt=1)},
        {"identity": Identity(run_id="run", call_id="call", candidate=1)},
        {"identity": Identity(run_id="other", call_id="call")},
    ],
    ids=str,
)
def test_only_text_that_follows_directly_merges(changes):
    assert coalesce(pair(**changes)) == pair(**changes)


def test_nothing_merges_after_the_finish_reason():
    first, second = pair()
    ended = msgspec.structs.replace(first, finish_reason="stop")
    assert coalesce([ended, second]) == [ended, second]


def test_nothing_merges_across_another_event_of_the_run():
    run = RunEvents()
    events = [run.token(), run.status(), run.token()]
    assert coalesce(events) == events


def test_other_runs_do_not_stand_between():
    one, two = RunEvents("one"), RunEvents("two")
    events = [one.token("a"), two.token("b"), one.token("c"), two.token("d")]
    assert [event.token for event in coalesce(events)] == ["ac", "bd"]


def test_across_calls_other_calls_do_not_stand_between_either():
    run = RunEvents()
    events = [run.token("a", "1"), run.token("b", "2"), run.token("c", "1")]
    assert coalesce(events) == events
    assert [event.token for event in coalesce(events, across_calls=True)] == ["ac", "b"]


def test_merging_in_two_passes_is_merging_in_one():
    run = RunEvents()
    events = [run.token(text, call) for text, call in ["a1", "b2", "c1", "d2", "e1", "f1"]]
    strict = Coalescer()
    once = [item for item in map(strict.add, events) if item is not None]
    relaxed = Coalescer(across_calls=True)
    twice = [item for item in map(relaxed.add, once) if item is not None]
    assert [item.joined() for item in twice] == coalesce(events, across_calls=True)


def test_a_delivered_token_takes_no_more():
    coalescer = Coalescer()
    first, second = pair()
    merging = coalescer.add(first)
    coalescer.forget(merging)
    assert coalescer.add(second) is not None
    assert merging.joined() is first


@given(st.lists(st.tuples(st.sampled_from("ab"), st.text(max_size=4) | st.none())))
def test_no_text_is_lost_and_no_event_changes_places(script):
    run = RunEvents()
    events = [run.status() if text is None else run.token(text, call) for call, text in script]
    merged = coalesce(events)
    position = 0
    for event in merged:
        assert event.seq == position
        position += getattr(event, "count", 1)
    assert position == len(events)
    assert [e for e in merged if isinstance(e, Status)] == [
        e for e in events if isinstance(e, Status)
    ]
    for call, (*_, text) in run.calls.items():
        assert "".join(e.token for e in merged if e.call_id == call) == text
