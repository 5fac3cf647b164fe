"""X9: partial values do not make a coalescing buffer grow; what goes is announced and replaced."""

from __future__ import annotations

from streamll.core.events import FieldEnd, FieldPartial, FieldStart, Identity, StreamGap, TokenEvent
from streamll.core.partials import PartialValue
from streamll.flow.channel import Channel

WHO = Identity(run_id="r", call_id="c")


def typed_field(length):
    """A list field of ``length`` tokens, each with its partial, and the program's value."""
    yield FieldStart(seq=0, identity=WHO, field="f")
    for n in range(length):
        yield FieldPartial(
            seq=2 * n + 1, identity=WHO, field="f", value=n, state="complete", pointer=(n,)
        )
        yield TokenEvent(
            seq=2 * n + 2, identity=WHO, field="f", token="1,", token_index=n, offset=2 * n
        )
    yield FieldEnd(seq=2 * length + 1, identity=WHO, field="f", length=2 * length)
    yield FieldPartial(
        seq=2 * length + 2, identity=WHO, field="f", value=list(range(length)), state="complete"
    )


def test_a_reader_that_sleeps_gets_all_text_and_the_last_value():
    channel = Channel(10, "coalesce")
    most = 0
    for event in typed_field(5_000):
        channel.put(event)
        most = max(most, channel.statistics().buffered)
    channel.close()
    assert most <= 400
    events, value = [], PartialValue()
    value.apply(FieldPartial(field="f", value=[]))
    while channel.statistics().buffered:
        events.append(channel.get(timeout=60))
        if isinstance(events[-1], FieldPartial):
            value.apply(events[-1])
    text = "".join(event.token for event in events if isinstance(event, TokenEvent))
    assert text == "1," * 5_000
    assert value.value == list(range(5_000))
    lost = sum(event.count for event in events if isinstance(event, StreamGap))
    merged = sum(event.count - 1 for event in events if isinstance(event, TokenEvent))
    kept = sum(not isinstance(event, StreamGap) for event in events)
    assert kept + lost + merged == 10_003
