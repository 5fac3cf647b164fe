"""Random damage to the streams of all cases: no assembler ever fails by itself.

Frames are lost, doubled and moved, values in them replaced by values of any other kind. What comes of
it is a reply, an error of the provider or of the transport, or a question asked again; an
``UnknownShape`` would be a mistake of ours.
"""

from __future__ import annotations

import contextlib
import json

import anthropic_cases
import chat_cases
import gemini_cases
import pytest
import responses_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import thorough

from streamll.capture.tap.wire.anthropic import AnthropicAssembler
from streamll.capture.tap.wire.base import UnknownShape, WireFault
from streamll.capture.tap.wire.chat import ChatAssembler
from streamll.capture.tap.wire.gemini import GeminiAssembler
from streamll.capture.tap.wire.reply import WireReply
from streamll.capture.tap.wire.responses import ResponsesAssembler

pytestmark = pytest.mark.since_3_4

WIRES = {
    "chat": (chat_cases, ChatAssembler),
    "responses": (responses_cases, ResponsesAssembler),
    "anthropic": (anthropic_cases, AnthropicAssembler),
    "gemini": (gemini_cases, GeminiAssembler),
}
ODD = st.sampled_from([None, 0, 1, -1, "", "x", [], {}, True, 1.5, ["a"], [[]], {"a": 1}])
FEWER = settings(max_examples=thorough(2000))


@st.composite
def damaged(draw, value):
    """A value with one place in it replaced or missing."""
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        rest = {name: part for name, part in value.items() if name != key}
        if draw(st.integers(0, 4)) == 0:
            return rest
        return {**rest, key: draw(damaged(value[key]))}
    if isinstance(value, list) and value:
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(damaged(value[at])), *value[at + 1 :]]
    return draw(ODD)


@st.composite
def streams(draw, cases):
    frames = list(draw(st.sampled_from(cases)).frames)
    for _ in range(draw(st.integers(1, 3))):
        if not frames:
            break
        at, other = (draw(st.integers(0, len(frames) - 1)) for _ in range(2))
        how = draw(st.sampled_from(["lose", "double", "move", "change", "change", "change"]))
        if how == "lose":
            frames.pop(at)
        elif how == "double":
            frames.insert(at, frames[other])
        elif how == "move":
            frames[at], frames[other] = frames[other], frames[at]
        else:
            head, mark, data = frames[at].partition(b"data: ")
            with contextlib.suppress(ValueError):
                changed = json.dumps(draw(damaged(json.loads(data)))).encode()
                frames[at] = head + mark + changed + b"\n\n"
    return frames


@pytest.mark.parametrize("name", WIRES)
@FEWER
@given(data=st.data())
def test_damage_is_never_an_exception_of_ours(name, data):
    module, assembler = WIRES[name]
    reply = WireReply(assembler())
    reply.opened(200)
    for frame in data.draw(streams(module.CASES)):
        reply.feed(frame)
    reply.finish()
    try:
        reply.body()
    except UnknownShape as error:
        raise AssertionError("an assembler failed") from error.__cause__
    except WireFault:
        pass
