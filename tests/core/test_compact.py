"""The compact form says what the full form says: any events, whatever is cut, merged or interleaved."""

from __future__ import annotations

import itertools
import json
import math
import re
import time

import msgspec
import pytest
from event_samples import SAMPLES
from hypothesis import given
from hypothesis import strategies as st
from test_wire import events as any_event

from streamll.core.compact import MAX_REFS, CompactReader, CompactWriter
from streamll.core.errors import WireError
from streamll.core.events import Identity, StreamllEvent, Thinking, TokenEvent, ToolCallDelta
from streamll.core.wire import decode, encode
from streamll.flow.coalesce import coalesce

CONTEXTS = ({"conversation_id": "c-17"}, {"conversation_id": "c-18"})


def sent(events):
    """The frames of one connection."""
    writer = CompactWriter()
    return [writer.short(event) or writer.full(event, encode(event)) for event in events]


def read(frames):
    reader = CompactReader()
    return [reader.read(frame) for frame in frames]


def is_short(frame):
    return frame.startswith(b"[")


class Call:
    """One call's pieces of text, as capture numbers them."""

    def __init__(self, number):
        self.identity = Identity(
            run_id="r", path=("QA", "predict"), predictor="predict", call_id=f"c{number % 2}",
            attempt=number // 2,
        )  # fmt: skip
        self.offset = self.index = self.thoughts = 0

    def token(self, text, count, **keys):
        event = TokenEvent(
            identity=self.identity, field="answer", token=text, count=count,
            offset=self.offset, token_index=self.index, **keys,
        )  # fmt: skip
        self.offset += len(text)
        self.index += count
        return event

    def thinking(self, text, _, **keys):
        self.thoughts += 1
        return Thinking(identity=self.identity, text=text, index=self.thoughts - 1, **keys)

    def tool(self, text, count, **keys):
        return ToolCallDelta(identity=self.identity, index=count % 2, arguments=text, **keys)


texts = st.text(max_size=6) | st.sampled_from(["\ud800", "\u2028\n\r", "🎉", ""])
times = (
    st.floats(1.7e9, 2e9)
    | st.floats()
    | st.sampled_from([0.0, -0.0, 1e300, math.inf, math.nan, 5e-324, 2.0**53, 1790000000])
)
pauses = st.floats(0, 3) | st.floats(-1e-6, 1e-6) | st.sampled_from([1e-7, 2.4e-7, 1e9])


@st.composite
def streams(draw):
    """Pieces of up to four calls in any order, of each a part left out, with other events between."""
    calls = [Call(number) for number in range(4)]
    timestamp, out = draw(st.just(time.time()) | times), []
    for seq in range(draw(st.integers(0, 25))):
        timestamp = draw(times) if draw(st.integers(0, 9)) == 0 else timestamp + draw(pauses)
        call = draw(st.sampled_from(calls))
        make = draw(st.sampled_from([call.token, call.token, call.thinking, call.tool]))
        event = make(
            draw(texts), draw(st.integers(1, 3)), seq=seq, timestamp=timestamp,
            context=CONTEXTS[draw(st.integers(0, 9)) == 0],
        )  # fmt: skip
        odd = draw(st.integers(0, 19))
        if odd == 0:
            event = msgspec.structs.replace(event, extra={"region": "eu"})
        elif odd == 1:
            event = msgspec.structs.replace(event, seq=draw(st.none() | st.integers(-1, 2**63)))
        elif odd == 2:
            event = draw(any_event())
        elif odd == 3:
            continue  # lost on the way
        out.append(event)
    return coalesce(out) if draw(st.booleans()) else out


def by_full_form(events):
    return [msgspec.structs.astuple(decode(encode(event))) for event in events]


def same(one, other):
    """NaN is NaN, where ``==`` says it is not."""
    return repr(one) == repr(other)


@given(streams())
def test_any_events_come_out_as_the_full_form_has_them(events):
    """X0a: merged or not, at any time, from any place on: a reader who resumes has a new connection."""
    for start in {0, len(events) // 3, len(events) // 2}:
        got = [msgspec.structs.astuple(event) for event in read(sent(events[start:]))]
        assert same(got, by_full_form(events[start:]))


def test_every_kind_goes_through():
    assert read(sent(SAMPLES)) == SAMPLES
    assert read([frame.decode() for frame in sent(SAMPLES)]) == SAMPLES


def test_text_costs_what_it_is_long():
    """X0a: two calls at once, one of them merged; everything but the first of each is an array."""
    calls = [Call(0), Call(1)]
    events, base = [], 1790000000.123456
    for number in range(200):
        call = calls[number % 2]
        make = call.thinking if number < 50 else call.tool if number < 70 else call.token
        events.append(make(f" w{number}", 1, seq=number, timestamp=base + number * 0.0123457))
    events = coalesce(events[:150], across_calls=True) + events[150:]
    frames = sent(events)
    assert read(frames) == events
    full = [frame for frame in frames if not is_short(frame)]
    assert [json.loads(frame)["ref"] for frame in full] == list(range(6))
    short = [frame for frame in frames if is_short(frame)]
    assert max(map(len, short[-50:])) < 32
    assert min(map(len, full)) > 150


def test_times_are_exact_at_every_tick():
    """Doubles near the present are 0.24 µs apart: a tick is always found that gives this one."""
    call, base = Call(0), 1790000000.1
    times = [math.nextafter(base, math.inf)]
    times += itertools.accumulate(
        range(300), lambda at, _: math.nextafter(at, math.inf), initial=base
    )
    times += [base + 0.1 * n for n in range(1, 600)] + [base + 86400.0 * n for n in range(1, 30)]
    events = [call.token("x", 1, seq=seq, timestamp=at) for seq, at in enumerate(times)]
    frames = sent(events)
    assert [event.timestamp for event in read(frames)] == times
    assert all(map(is_short, frames[1:]))


def test_no_more_is_remembered_than_agreed():
    """The oldest gives way; one who comes back after that is written in full again."""
    events = []
    calls = [Call(number) for number in range(MAX_REFS + 1)]
    for round_ in range(2):
        for number, call in enumerate(calls):
            events.append(call.token("x", 1, seq=round_ * 1000 + number, timestamp=1.0))
    frames = sent(events)
    assert read(frames) == events
    refs = {json.loads(frame)["ref"] for frame in frames if not is_short(frame)}
    assert refs == set(range(MAX_REFS))


def test_a_key_called_ref_is_the_compact_forms_own():
    """Custom events have theirs under ``data``."""
    call = Call(0)
    custom = StreamllEvent(event_type="paper", data={"ref": 3}, seq=0)
    unknown = decode(b'{"v":1,"event_type":"newer","seq":1,"ref":7}')
    first = call.token("a", 1, seq=2)
    odd = call.token("b", 1, seq=3, extra={"ref": 0, "more": 1})
    got = read(sent([custom, unknown, first, odd, call.token("c", 1, seq=4)]))
    assert got[:3] == [custom, unknown, first]
    assert (got[3].token, got[3].extra, got[4].token, got[4].extra) == ("b", {"more": 1}, "c", {})


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"[0,1,2]", "compact form"),
        (b'[0,1,2.5,"x"]', "compact form"),
        (b'[0,1,2,"x"', "compact form"),
        (b'[7,1,2,"x"]', "goes on from ref 7, which was not sent before"),
        (b'{"v":2,"event_type":"token"}', "Upgrade"),
    ],
)
def test_what_is_not_a_frame_is_an_error(frame, says):
    with pytest.raises(WireError, match=re.escape(says)):
        CompactReader().read(frame)
