"""What a stream is rebuilt into is the reply without streaming, for any reply, however cut.

The practice server's wires render one answer both ways; nothing is sent here.
"""

from __future__ import annotations

import itertools
import json

import pytest
from frames import Said, on_the_wire
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import thorough

from streamll.capture.tap.below_litellm import ASSEMBLERS
from streamll.capture.tap.wire.reply import WireReply
from streamll.testing.prepared import PreparedReply, PreparedToolCall
from streamll.testing.replies import Citation, Usage
from streamll.testing.wires import WIRES

TEXTS = st.one_of(
    st.text(min_size=1, max_size=12),
    st.sampled_from(
        ['"', "\\", '\\"', '","content":"', '"}}', "\n\n", "data: x\n\n", "é🎉", "\ud83d"]
    ),
)
PIECES = st.lists(TEXTS, max_size=12)
REASONS = ["stop", "length", "content_filter"]
ARGUMENTS = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=6), max_size=3)


@st.composite
def calls(draw, number):
    arguments = json.dumps(draw(ARGUMENTS), ensure_ascii=draw(st.booleans()))
    at = draw(st.integers(0, len(arguments)))
    pieces = [piece for piece in (arguments[:at], arguments[at:]) if piece]
    return PreparedToolCall(
        f"{number:024x}", None, draw(st.sampled_from(["search", "look"])), pieces
    )


@st.composite
def answers(draw, *, candidates=1):
    refusal = draw(st.one_of(st.just([]), PIECES))
    tool_calls = [draw(calls(number)) for number in range(draw(st.integers(0, 2)))]
    texts = [[] if refusal else draw(PIECES) for _ in range(candidates)]
    citations = [Citation("x", "T", "https://u.example/")] * draw(st.integers(0, 2))
    return PreparedReply(
        key="0123456789abcdef01234567",
        id=None,
        model=draw(st.sampled_from(["practice", "served-2025"])),
        created=1_735_689_600,
        candidates=texts,
        thinking=draw(PIECES),
        refusal=refusal,
        tool_calls=tool_calls,
        citations=citations if any(texts) else [],
        finish_reason=draw(st.sampled_from(REASONS + ["tool_calls"] * bool(tool_calls))),
        usage=Usage(7, 5, 2, 1),
        request_body={"stream_options": {"include_usage": True}},
    )


def streamed(wire, answer, cuts, end=b"\n", **expected):
    """The reply to a stream of the answer, and what it said."""
    said = Said()
    reply = WireReply(ASSEMBLERS[wire.path](**expected))
    reply.opened(200)
    sent = on_the_wire((frame.data for frame in wire.frames(answer)), end)
    places = sorted({0, len(sent), *(cut % (len(sent) + 1) for cut in cuts)})
    for begin, stop in itertools.pairwise(places):
        said.deltas += reply.feed(sent[begin:stop])
    said.deltas += reply.finish()
    assert reply.streamed
    assert reply.grace is not None, "its end was seen"
    return json.loads(reply.body()), said


def sent_whole(wire, answer):
    return json.loads(json.dumps(wire.body(answer)))


FEWER = settings(max_examples=thorough(500))  # each is a whole reply
CUTS = st.lists(st.integers(0, 100_000), max_size=30)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
@FEWER
@given(data=st.data())
def test_the_stream_becomes_the_plain_reply(wire, data):
    """X3: the same JSON, key by key; X1: and what was heard is what it says."""
    answer = data.draw(answers())
    end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    body, said = streamed(wire, answer, data.draw(CUTS), end)
    assert body == sent_whole(wire, answer)
    refused_in_text = wire.name in (
        "anthropic",
        "gemini",
    )  # which have no words of their own for it
    assert said.joined("thinking") == "".join(answer.thinking)
    assert said.joined("text") == answer.text + "".join(answer.refusal if refused_in_text else [])
    assert said.joined("refusal") == ("" if refused_in_text else "".join(answer.refusal))
    heard = {}
    for index, _, name, arguments in said.all("tool_call"):
        was_named, had = heard.get(index, (None, ""))
        heard[index] = (was_named or name, had + arguments)
    said_calls, sent = (
        list(heard.values()),
        [(each.name, each.arguments) for each in answer.tool_calls],
    )
    if wire.name == "gemini":  # which sends objects, not their JSON
        said_calls, sent = ([(n, json.loads(a)) for n, a in calls] for calls in (said_calls, sent))
    assert said_calls == sent


@FEWER
@given(answers(candidates=3), CUTS)
def test_several_choices_are_rebuilt_and_the_first_is_shown(answer, cuts):
    wire = WIRES[0]
    body, said = streamed(wire, answer, cuts, choices=3)
    assert body == sent_whole(wire, answer)
    assert said.joined("text") == answer.text
