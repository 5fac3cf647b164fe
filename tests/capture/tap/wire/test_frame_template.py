"""A frame read by its template says what it says when it is read whole."""

from __future__ import annotations

import json

import pytest
from frames import Reading, read
from hypothesis import given
from hypothesis import strategies as st

from streamll.capture.tap.wire import anthropic, chat
from streamll.capture.tap.wire.base import decode_object
from streamll.capture.tap.wire.template import Template

PLACE = ("choices", 0, "delta", "content")
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(['"', "\\", '"}', '","content":"', "index", "choices", "a/b", "\x00", "é🎉"]),
)


def frame(text: str, *, ascii_only: bool = False, slashes: bool = False, **more) -> bytes:
    delta = {"content": text, **more}
    written = json.dumps({"id": "c-1", "choices": [{"index": 0, "delta": delta}]},
                         ensure_ascii=ascii_only)  # fmt: skip
    return (written.replace("/", "\\/") if slashes else written).encode()


def template_of(data: bytes, place, text: str) -> Template | None:
    template = Template()
    template.learn(data, place, text, lambda said: (said,))
    return template if template.shape is not None else None


@given(TEXTS, TEXTS, st.booleans(), st.booleans())
def test_a_template_reads_the_same_text_as_decoding_the_frame(first, second, ascii_only, slashes):
    template = template_of(frame(first), PLACE, first)
    if template is not None:
        deltas = template.deltas_in(frame(second, ascii_only=ascii_only, slashes=slashes))
        assert deltas in (None, (second,))


@given(st.text(min_size=3, alphabet="xyz"), TEXTS)
def test_ordinary_frames_give_a_template(first, second):
    template = template_of(frame(first), PLACE, first)
    assert template is not None
    assert template.deltas_in(frame(second)) == ((second,) if second else None)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (frame("a/b", slashes=True), "a/b"),  # escaped as this provider likes it
        (frame("index"), "index"),  # a key as well
        (frame("c-1"), "c-1"),  # another value as well
        (frame("\ud83d", ascii_only=True), "\ud83d"),
    ],
)
def test_no_template_where_the_position_of_the_text_is_uncertain(data, text):
    assert template_of(data, PLACE, text) is None


def test_an_escaped_text_is_not_confused_with_an_equal_value_elsewhere():
    """The frame escapes its content; what looks like it is another value."""
    data = b'{"model":"ab","choices":[{"delta":{"content":"\\u0061b"}}]}'
    assert decode_object(data)["choices"][0]["delta"]["content"] == "ab"
    assert template_of(data, PLACE, "ab") is None


@pytest.mark.parametrize(
    "other",
    [
        frame("x", role="assistant"),
        frame("x").replace(b'"index": 0', b'"index": 1'),
        frame("x")[:-1] + b', "usage": null}',
        b'{"id": "c-1", "choices": [{"index": 0, "delta": {"content": "x", "refusal": "y"}}]}',
        b'{"id": "c-1", "choices": [{"index": 0, "delta": {"content": null}}]}',
        b'{"id": "c-1", "choices": [{"index": 0, "delta": {"content": "\\ud83d"}}]}',
        b"[DONE]",
    ],
)
def test_a_frame_of_another_shape_is_not_read_by_the_template(other):
    template = template_of(frame("xyz"), PLACE, "xyz")
    assert template.deltas_in(other) is None


def event(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return json.dumps({"type": "content_block_delta", "index": 0, "delta": delta}).encode()


OPENING = (
    b'{"type":"message_start","message":{}}',
    b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
)


@pytest.mark.parametrize(
    ("module", "assembler", "opening", "made"),
    [
        (chat, chat.ChatAssembler, (), frame),
        (anthropic, anthropic.AnthropicAssembler, OPENING, event),
    ],
)
def test_of_a_long_reply_only_the_first_frames_are_decoded_whole(
    monkeypatch, module, assembler, opening, made
):
    whole = []

    def counting(data):
        whole.append(data)
        return decode_object(data)

    monkeypatch.setattr(module, "decode_object", counting)
    reading = Reading(assembler())
    words = [f"word {number} " for number in range(500)]
    for data in (*opening, *map(made, words)):
        reading.frame(data)
    assert reading.joined("text") == "".join(words)
    assert len(whole) < len(opening) + 5


def test_content_given_as_blocks_ends_a_template():
    """Text behind a block of a list is that block's, though its frame looks like those before."""
    blocks = [{"type": "text", "text": "four"}]
    listed = {"id": "c-1", "choices": [{"index": 0, "delta": {"content": blocks}}]}
    ended = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    reading = read(
        chat.ChatAssembler(),
        frame("one"),
        frame("two"),
        frame("three"),
        listed,
        frame("five"),
        ended,
    )
    assert reading.joined("text") == "onetwothreefourfive"
    [choice] = reading.body()["choices"]
    assert choice["message"]["content"] == [{"type": "text", "text": "onetwothreefourfive"}]
