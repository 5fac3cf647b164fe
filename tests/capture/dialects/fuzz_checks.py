"""What holds for every stream, however random. Each check takes a wire's writer and a seed."""

from __future__ import annotations

import random
from typing import Any

from fuzzing import FAULT, Outcome, Reply, Stream, Writer, damaged, framed, odd_values, read

from streamll.capture.tap.wire import base


def a_whole_stream_is_its_plain_reply(writer: Writer, seed: int) -> None:
    """However it is numbered, framed and cut."""
    rng = random.Random(seed)
    stream = writer.whole(rng)
    outcome = read(writer, rng, b"".join(framed(rng, stream.frames)))
    right(writer, stream, outcome, usage=True)


def a_cut_stream_is_an_error_or_whole(writer: Writer, seed: int) -> None:
    """Wherever it is cut, with the connection or without an error."""
    rng = random.Random(seed)
    stream = writer.whole(rng)
    sent = b"".join(framed(rng, stream.frames))
    outcome = read(writer, rng, sent[: rng.randint(0, len(sent))], lost=rng.random() < 0.5)
    if outcome.body is not None:
        right(writer, stream, outcome, usage=False)
    elif outcome.fault is not None:
        assert isinstance(outcome.fault, (base.CutShort, base.Confused)), outcome.fault
    assert stream.reply.text.startswith(outcome.heard.text)


def an_error_in_a_stream_has_its_words(writer: Writer, seed: int) -> None:
    """In any shape, anywhere before the end."""
    rng = random.Random(seed)
    stream = writer.whole(rng)
    error: dict[str, Any] = {"message": FAULT, "code": rng.choice((400, "429", 503, None))}
    shape = rng.choice(
        ({"error": error}, {"error": FAULT}, {"type": "error", "error": error},
         {"object": "error", **error}, {"type": "error", **error})
    )  # fmt: skip
    frames = framed(rng, stream.frames)
    wrong = framed(rng, [shape], keep_alives=False)[0]
    if rng.random() < 0.2:
        wrong = b"event: error\ndata: %b\n\n" % FAULT.encode()
    frames.insert(rng.randint(0, len(frames) - 2) if len(frames) > 2 else 0, wrong)
    outcome = read(writer, rng, b"".join(frames))
    assert isinstance(outcome.fault, (base.ErrorFrame, base.Confused)), outcome
    if isinstance(outcome.fault, base.ErrorFrame):
        assert FAULT in str(outcome.fault)
        assert FAULT.encode() in outcome.fault.body
        if error["code"] and shape.get("error") != FAULT and wrong[:6] != b"event:":
            assert outcome.fault.status == int(error["code"])


def a_damaged_stream_says_what_is_returned(writer: Writer, seed: int) -> None:
    """Bytes and frames are lost, repeated and changed: no exception, and no two stories."""
    rng = random.Random(seed)
    stream = writer.whole(rng)
    outcome = read(writer, rng, damaged(rng, framed(rng, stream.frames)), lost=rng.random() < 0.3)
    consistent(writer, outcome)


def values_of_any_type_do_no_harm(writer: Writer, seed: int) -> None:
    """A value of another type, or none, anywhere."""
    rng = random.Random(seed)
    stream = writer.whole(rng)
    outcome = read(writer, rng, b"".join(framed(rng, odd_values(rng, stream.frames))))
    consistent(writer, outcome)


CHECKS = (
    a_whole_stream_is_its_plain_reply,
    a_cut_stream_is_an_error_or_whole,
    an_error_in_a_stream_has_its_words,
    a_damaged_stream_says_what_is_returned,
    values_of_any_type_do_no_harm,
)


def right(writer: Writer, stream: Stream, outcome: Outcome, *, usage: bool) -> None:
    """The reply is the stream's, and what was heard is the reply; or it is asked for again."""
    if not stream.certain and isinstance(outcome.fault, base.Confused):
        return
    assert outcome.fault is None, repr(outcome.fault)
    assert outcome.body is not None
    reply = writer.reply_in(outcome.body)
    assert reply.content == stream.reply.content
    assert reply.thinking == stream.reply.thinking
    assert outcome.heard.content == stream.reply.content
    assert outcome.heard.thinking == stream.reply.thinking
    if usage:
        assert reply.usage == stream.reply.usage


def consistent(writer: Writer, outcome: Outcome) -> None:
    """Nothing but the wire's own faults; what is returned is what was heard."""
    if outcome.body is None:
        assert outcome.fault is None or isinstance(outcome.fault, base.WireFault)
        return
    reply: Reply = writer.reply_in(outcome.body)
    if writer.restates:
        return
    text, calls = reply.content
    heard, heard_calls = outcome.heard.content
    if writer.reorders:
        assert sorted(heard) == sorted(text)
        assert sorted(map(repr, heard_calls)) == sorted(map(repr, calls))
    else:
        assert (heard, heard_calls) == (text, calls)
