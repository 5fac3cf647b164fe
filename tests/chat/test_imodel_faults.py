"""Every fault of the practice server, in every form of the call: the outcome, and how soon."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from dspy import lm15
from outcomes import LIMITS_S, script_anew
from patience import Stopwatch
from profiles import in_turn

from streamll.core.errors import FirstTokenTimeout, IdleTimeout
from streamll.services import CallStatus, StreamConfig
from streamll.testing import Fault, RecordingSink, Reply

pytestmark = pytest.mark.since_3_4

WIRES = ("openai", "responses", "anthropic")
TEXT = "one two three four five six seven eight"
PARTIAL = "one two three"
NO_RETRIES = StreamConfig(max_retries=0, timeout=60, breaker=None)

# fault → the error, and the text that was read of a stream; of a whole answer there is none
REFUSALS = {
    "400": (Fault(status=400), lm15.InvalidRequestError),
    "401": (Fault(status=401), lm15.AuthError),
    "404": (Fault(status=404), lm15.UnsupportedModelError),
    "429": (Fault(status=429, retry_after=1), lm15.RateLimitError),
    "500": (Fault(status=500), lm15.ServerError),
    "529": (Fault(status=529), lm15.ServerError),
    "503 in HTML": (Fault(status=503, content_type="text/html"), lm15.ServerError),
}
BROKEN_STREAMS = {
    "disconnected at once": (Fault(disconnect_after=0), lm15.TransportError, ""),
    "disconnected": (Fault(disconnect_after=3), lm15.TransportError, PARTIAL),
    "cut in a frame": (Fault(disconnect_after_bytes=100), lm15.TransportError, ""),
    "error frame at once": (Fault(error_after=0), lm15.ServerError, ""),
    "error frame": (Fault(error_after=3), lm15.ServerError, PARTIAL),
}
SILENCES = {
    "silent": (Fault(silent=True), FirstTokenTimeout, ""),
    "stalled at once": (Fault(stall_after=0), FirstTokenTimeout, ""),
    "stalled": (Fault(stall_after=3), IdleTimeout, PARTIAL),
    "keep-alives only": (Fault(keepalive=0.02), FirstTokenTimeout, ""),
    "keep-alives later": (Fault(keepalive=0.02, stall_after=3), IdleTimeout, PARTIAL),
}
UNUSUAL_WIRES = {
    "no stream options": Fault(refuse_stream_options=True),
    "JSON instead of a stream": Fault(plain_json=True),
    "text/html": Fault(content_type="text/html"),
    "CRLF": Fault(crlf=True),
    "split characters": Fault(split_characters=True),
    "long lines": Fault(line_length=200_000),
}


def streamed_async(model, run):
    stream = model.invoke_stream("x")

    async def read():
        async for _ in stream:
            pass

    try:
        run(read())
    except Exception as error:
        return error, stream.text
    return None, stream.text


def streamed_sync(model, run):
    stream = model.invoke_stream("x")
    try:
        for _ in stream:
            pass
    except Exception as error:
        return error, stream.text
    return None, stream.text


def outcome(calling):
    execution = calling.execution
    assert (execution.status is CallStatus.COMPLETED) == (execution.error is None)
    assert (execution.response is None) == (execution.error is not None)
    assert execution.duration > 0
    return execution.error, execution.response.data if execution.response else execution.partial


def whole_async(model, run):
    async def ask():
        return await model.invoke("x")

    return outcome(run(ask()))


def whole_sync(model, run):
    return outcome(model.invoke_sync("x"))


STREAMED_CALLS = [streamed_async, streamed_sync]
CALLS = [*STREAMED_CALLS, whole_async, whole_sync]


def ask(make_model, practice, run, wire, call, fault, config=NO_RETRIES):
    """The outcome, and a watch that ran meanwhile."""
    practice.script(Reply(TEXT, fault=fault))
    model = make_model(wire, config=config)
    watch = Stopwatch()
    error, text = call(model, run)
    return error, text, watch


@pytest.mark.parametrize(("name", "wire", "call"), in_turn(REFUSALS, WIRES, CALLS, every=3))
def test_a_refusal_is_lm15_s_error(make_model, practice, run, wire, call, name):
    fault, kind = REFUSALS[name]
    error, text, _ = ask(make_model, practice, run, wire, call, fault)
    assert type(error) is kind
    assert text == ""
    assert len(practice.requests) == 1


@pytest.mark.parametrize(("name", "wire", "call"), in_turn(BROKEN_STREAMS, WIRES, CALLS, every=3))
def test_a_broken_stream_keeps_what_had_come(make_model, practice, run, wire, call, name):
    """What had come is kept."""
    fault, kind, partial = BROKEN_STREAMS[name]
    error, text, _ = ask(make_model, practice, run, wire, call, fault)
    assert type(error) is kind
    assert text == (partial if call in STREAMED_CALLS else "")
    assert len(practice.requests) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wire", WIRES)
def test_a_malformed_frame_costs_a_second_request(make_model, practice, run, wire, call):
    """The plain reply begins with what had been read, so it is read on behind that."""
    practice.script(Reply(TEXT, fault=Fault(malformed_after=3)), TEXT)
    error, text = call(make_model(wire, config=NO_RETRIES, sinks=[RecordingSink()]), run)
    assert (error, text) == (None, TEXT)
    assert [request.streaming for request in practice.requests] == [True, False]


@pytest.mark.parametrize("call", [whole_async, whole_sync])
@pytest.mark.parametrize("wire", WIRES)
def test_invoke_keeps_the_partial_text_where_it_was_streamed(make_model, practice, run, wire, call):
    practice.script(Reply(TEXT, fault=Fault(disconnect_after=3)))
    error, text = call(make_model(wire, config=NO_RETRIES, sinks=[RecordingSink()]), run)
    assert type(error) is lm15.TransportError
    assert text == PARTIAL


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wire", WIRES)
def test_a_connection_reset(make_model, practice, run, wire, call):
    """A reset may destroy what was just sent, so what is kept is a beginning."""
    error, text, _ = ask(
        make_model, practice, run, wire, call, Fault(disconnect_after=3, reset=True)
    )
    assert type(error) is lm15.TransportError
    assert PARTIAL.startswith(text)


@pytest.mark.parametrize(("name", "wire", "call"), in_turn(SILENCES, WIRES, CALLS, every=3))
def test_a_silent_provider_times_out(make_model, practice, run, wire, call, name):
    """X8: a TimeoutError, in time, and the connection is closed."""
    fault, kind, partial = SILENCES[name]
    kind = kind if call in STREAMED_CALLS else FirstTokenTimeout
    setting = "first_token_timeout" if kind is FirstTokenTimeout else "idle_timeout"
    practice.respond(lambda _: Reply(TEXT, fault=fault))  # where a late request took the scripted
    for limit in LIMITS_S:
        config = replace(NO_RETRIES, **{setting: limit})
        script_anew(practice)
        error, text, watch = ask(make_model, practice, run, wire, call, fault, config)
        assert type(error) is kind
        assert isinstance(error, TimeoutError)
        assert time.monotonic() - watch.began >= limit
        assert watch.seconds < limit + 5
        if len(practice.requests) == 1:
            break
    assert text == (partial if call in STREAMED_CALLS else "")
    practice.requests[0].wait_closed()
    assert len(practice.requests) == 1


@pytest.mark.parametrize(("name", "wire", "call"), in_turn(UNUSUAL_WIRES, WIRES, CALLS, every=3))
def test_unusual_wires_give_the_whole_text(make_model, practice, run, wire, call, name):
    error, text, _ = ask(make_model, practice, run, wire, call, UNUSUAL_WIRES[name])
    assert error is None
    assert text == TEXT


def test_the_total_timeout_bounds_an_endless_stream(make_model, practice, run):
    practice.respond(lambda _: Reply("word " * 10_000, pace=0.02))
    for timeout in (0.3, 1, 3, 9):  # until there is time for two words
        model = make_model(config=StreamConfig(timeout=timeout, max_retries=0))
        watch = Stopwatch()
        error, text = streamed_async(model, run)
        assert isinstance(error, TimeoutError)
        assert time.monotonic() - watch.began >= timeout
        assert watch.seconds < timeout + 5
        if text.startswith("word word"):
            practice.requests[-1].wait_closed()
            return
    raise AssertionError(text)
