"""What the body is decides how it is read, not what it is called."""

from __future__ import annotations

import json

import pytest
from frames import Said

from streamll.capture.tap.wire.base import Confused, CutShort, UnknownShape
from streamll.capture.tap.wire.chat import ChatAssembler
from streamll.capture.tap.wire.reply import (
    GRACE_AFTER_EARLY_REASON_S,
    GRACE_AFTER_END_S,
    GRACE_AFTER_REASON_S,
    WireReply,
)

TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
FRAME = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n'


def reply(*chunks, status=200):
    said = Said()
    made = WireReply(ChatAssembler())
    made.opened(status)
    for chunk in chunks:
        said.deltas += made.feed(chunk)
    return made, said


def finished(*chunks):
    made, said = reply(*chunks)
    said.deltas += made.finish()
    return made, said


@pytest.mark.parametrize(
    "before",
    [b"", b": ping\n\n", b"event: x\n", b"id: 1\n", b"retry: 3\n", b"\r\n", b"\xef\xbb\xbf"],
)
def test_a_stream_is_known_by_its_first_bytes(before):
    wire = before + FRAME + DONE
    for made, said in (reply(wire), reply(*(wire[i : i + 1] for i in range(len(wire))))):
        assert made.streamed
        assert said.joined("text") == "Hi"
        assert json.loads(made.body())["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize(
    "body", [b'{"id": 1}', b"<html>data: x</html>", b"event horizon", b"d", b"", b"[]"]
)
def test_a_body_that_is_no_stream_is_kept_as_it_is(body):
    for made, said in (reply(body), reply(*(body[i : i + 1] for i in range(len(body))))):
        assert not made.streamed
        assert made.body() == body
        assert not said.deltas


def test_an_http_error_is_never_a_stream():
    made, said = reply(FRAME, status=500)
    assert not made.streamed
    assert made.body() == FRAME
    assert not said.deltas


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (400, b"Unrecognized request argument supplied: stream_options", True),
        (422, b'{"detail": "Streaming is not supported"}', True),
        (403, b"must be verified to stream this model", True),
        (400, b"max_tokens is too large", False),
        (401, b"no stream without a key", False),
        (429, b"too many streams", False),
        (400, b"the upstream server was not reachable", False),
        (406, b"Streaming is not supported", True),
        (500, b"stream", False),
        (500, b"stream disconnected before it was complete", False),
        (500, b'{"error": {"code": 500, "message": "Cannot use tools with stream"}}', True),
        (503, b"streaming is not available now", False),
        (200, b"stream", False),
        (200, b'{"error": {"message": "Streaming is not supported"}}', True),
        (200, b'{"error": {"message": "The stream was lost"}}', False),
        (200, b'{"id": "c", "choices": [{"text": "streaming is not supported"}]}', False),
        (200, b'data: {"error": {"message": "Streaming is not supported", "code": 400}}\n\n', True),
        (200, b'data: {"error": {"message": "The stream was lost"}}\n\n', False),
        (200, TEXT + b'data: {"error": {"message": "Streaming is not supported"}}\n\n', False),
    ],
)
def test_a_refusal_to_stream_is_an_error_that_mentions_streams(status, body, refused):
    assert reply(body, status=status)[0].refused is refused


def test_a_body_that_ends_inside_a_frame_is_cut_short():
    made, _ = finished(TEXT, TEXT[:30])
    with pytest.raises(CutShort):
        made.body()


def test_a_body_that_ends_inside_a_frame_after_the_reason_of_its_end_is_whole():
    made, _ = finished(TEXT, FRAME, TEXT[:30])
    assert json.loads(made.body())["choices"][0]["message"]["content"] == "HiHi"


def test_nothing_of_what_follows_the_end_counts():
    made, said = finished(FRAME, DONE, TEXT, b'data: {"error": "late"}\n\ndata: {oops\n\n')
    assert json.loads(made.body())["choices"][0]["message"]["content"] == "Hi"
    assert said.joined("text") == "Hi"


def test_a_last_frame_without_its_blank_line_is_read_at_the_end():
    made, said = reply(FRAME.rstrip())
    assert not said.deltas
    assert made.finish() == ["Hi"]
    assert json.loads(made.body())["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize("data", [b"{oops", b"oops", b"[1]", b"3", b'"x"', b"NaN"])
def test_a_malformed_frame_in_the_middle_is_asked_for_plainly(data):
    made, said = finished(TEXT + b"data: " + data + b"\n\n" + FRAME)
    assert said.joined("text") == "Hi", "what came before the fault counts"
    with pytest.raises(Confused):
        made.body()


def test_a_malformed_frame_after_the_end_hides_nothing_of_what_follows():
    usage = b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n'
    made, _ = finished(TEXT + FRAME + b"data: bye\n\n" + usage)
    assert json.loads(made.body())["usage"] == {"total_tokens": 3}


def test_a_frame_of_an_unknown_shape_is_a_fault_of_its_own():
    class Forgetful(ChatAssembler):
        def frame(self, data):
            return super().frame(data) if b"choices" not in data else self.missing

    made = WireReply(Forgetful())
    made.opened(200)
    assert not made.feed(FRAME)
    with pytest.raises(UnknownShape, match="AttributeError"):
        made.body()


def test_a_reply_is_whole_when_the_provider_says_so_and_waits_for_the_rest_for_a_while():
    for frames, grace in (
        ((TEXT,), None),
        ((TEXT, FRAME), GRACE_AFTER_EARLY_REASON_S),
        ((TEXT, FRAME, USAGE), GRACE_AFTER_REASON_S),
        ((TEXT, DONE), GRACE_AFTER_END_S),
        ((FRAME, DONE), GRACE_AFTER_END_S),
    ):
        made, _ = reply(*frames)
        assert (made.whole, made.grace) == (grace is not None, grace)


@pytest.mark.parametrize(
    ("frames", "may_be_whole"),
    [
        ([FRAME], True),
        ([FRAME, FRAME], False),
        ([FRAME, TEXT], False),
        ([TEXT, FRAME, TEXT], False),
    ],
)
def test_a_reason_that_came_too_early_is_no_end(frames, may_be_whole):
    """But the end of the body is, and on a line that stays open the plain reply is asked for."""
    made, _ = reply(*frames)
    assert (made.whole, made.grace) == (False, GRACE_AFTER_EARLY_REASON_S)
    assert made.outlives_a_cut is may_be_whole
    made.give_up()
    made.finish()
    with pytest.raises(Confused):
        made.body()
    made, _ = finished(*frames)
    assert json.loads(made.body())["choices"][0]["message"]["content"] == "Hi" * len(frames)
