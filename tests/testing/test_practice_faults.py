"""Every fault, seen from the other end of a raw socket."""

from __future__ import annotations

import json

import pytest
from patience import Stopwatch
from raw_client import RawClient

from streamll.testing import Fault, Reply

TEXT = "one two three four five six"
NOTICE_TIMEOUT_S = 0.1  # X7


def notices_at_once(practice, leave):
    """Whether a client that leaves is noticed at once; a busy machine gets several chances.

    ``leave(client)`` asks over a connection of its own and returns its request, to be left.
    """
    for _ in range(5):
        client = RawClient(practice)
        request = leave(client)
        left = Stopwatch()
        client.close()
        if left.until(request.wait_closed()) < NOTICE_TIMEOUT_S:
            return True
    return False


def faulty(**fault) -> Reply:
    return Reply(TEXT, fault=Fault(**fault))


# --- instead of the reply -----------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "openai_type", "anthropic_type", "google_status"),
    [
        (400, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
        (401, "invalid_request_error", "authentication_error", "UNAUTHENTICATED"),
        (429, "requests", "rate_limit_error", "RESOURCE_EXHAUSTED"),
        (500, "server_error", "api_error", "INTERNAL"),
        (529, "server_error", "overloaded_error", "UNAVAILABLE"),
    ],
)
def test_a_status_comes_with_the_providers_error_body(
    practice, ask, wire, status, openai_type, anthropic_type, google_status, stream
):
    practice.script(Fault(status=status, retry_after=1.5))
    received = ask(wire, stream=stream)
    assert received.status == status
    assert received.headers["retry-after"] == "1.5"
    assert received.headers["content-type"] == "application/json"
    error = received.json["error"]
    if wire == "gemini":
        assert (error["code"], error["status"]) == (status, google_status)
    else:
        assert error["type"] == (anthropic_type if wire == "anthropic" else openai_type)
    assert error["message"]
    assert practice.requests[0].status == status


def test_a_status_can_have_its_own_message_and_error_type(practice, ask):
    practice.script(Fault(status=400, message="Too long.", error_type="context_error"))
    assert ask().json["error"] == {
        "message": "Too long.",
        "type": "context_error",
        "param": None,
        "code": None,
    }


def test_refused_stream_options_leave_the_reply_to_the_next_request(practice, ask):
    practice.script(faulty(refuse_stream_options=True), "the next one")
    refused = ask(stream=True, stream_options={"include_usage": True})
    assert refused.status == 400
    assert "stream_options" in refused.json["error"]["message"]
    assert ask(stream=True).text("openai") == TEXT
    assert ask(stream=True).text("openai") == "the next one"


def test_the_servers_fault_applies_to_replies_without_their_own(practice, ask):
    practice.fault = Fault(refuse_stream_options=True)
    practice.script("only once", Reply("another", fault=Fault(crlf=True)))
    practice.respond(lambda request: "ever again")
    asked = [{"stream_options": {}}, {}, {"stream_options": {}}, {"stream_options": {}}, {}]
    replies = [ask(stream=True, **options) for options in asked]
    texts = [each.text("openai") if each.status == 200 else each.status for each in replies]
    assert texts == [400, "only once", "another", 400, "ever again"]
    assert b"\r\n" in replies[2].body


def test_plain_json_is_answered_to_a_request_for_a_stream(practice, ask, wire):
    practice.script(faulty(plain_json=True), TEXT)
    received = ask(wire, stream=True)
    assert received.headers["content-type"] == "application/json"
    assert received.json == ask(wire).json


@pytest.mark.parametrize("stream", [False, True])
def test_the_content_type_can_be_overridden(practice, ask, stream):
    practice.script(faulty(content_type="text/html"))
    assert ask(stream=stream).headers["content-type"] == "text/html"


# --- ends early ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
def test_disconnect_after_closes_the_connection_after_that_many_chunks(
    practice, client, wire, reset
):
    practice.script(faulty(disconnect_after=3, reset=reset))
    client.send(wire, stream=True)
    received = client.receive()
    assert not received.complete
    [request] = practice.requests
    assert request.chunks_sent == 3
    assert (request.finished_at, request.client_closed_at) == (None, None)
    if not reset:
        assert received.text(wire) == "one two three"


@pytest.mark.parametrize("count", [0, 1, 100, 333])
def test_disconnect_after_bytes_closes_the_connection_after_that_many_bytes(
    practice, client, wire, count
):
    practice.script(faulty(disconnect_after_bytes=count))
    client.send(wire, stream=True)
    received = client.receive()
    assert len(received.body) == count
    assert not received.complete


def test_disconnect_after_bytes_cuts_a_reply_that_is_not_streamed(practice, client):
    practice.script(faulty(disconnect_after_bytes=50))
    client.send()
    received = client.receive()
    assert len(received.body) == 50
    assert not received.complete


def test_faults_that_end_a_stream_early_leave_nothing_of_a_reply_that_is_not_streamed(
    practice, client, ask
):
    practice.script(faulty(disconnect_after=3), faulty(error_after=3), faulty(malformed_after=3))
    client.send()
    with pytest.raises(ConnectionError):
        client.head()
    assert ask().status == 500
    with pytest.raises(json.JSONDecodeError):
        _ = ask().json


def test_error_after_ends_the_stream_with_the_providers_error_frame(practice, ask, wire):
    practice.script(faulty(error_after=2, message="Boom.", error_type="bad_day"))
    received = ask(wire, stream=True)
    assert received.complete
    assert received.text(wire) == "one two"
    name, last = received.events[-1]
    if wire == "openai":
        error = {"message": "Boom.", "type": "bad_day", "param": None, "code": None}
        assert last == "[DONE]"
        assert received.data[-1] == {"error": error}
    elif wire == "responses":
        numbers = [part["sequence_number"] for part in received.data]
        assert numbers == list(range(len(numbers)))
        assert [name for name, _ in received.events[-2:]] == ["error", "response.failed"]
        assert received.data[-2]["message"] == "Boom."
        assert received.data[-1]["response"]["error"] == {"code": "bad_day", "message": "Boom."}
    elif wire == "gemini":
        error = {"code": 503, "message": "Boom.", "status": "bad_day"}
        assert json.loads(last) == {"error": error}
    else:
        assert name == "error"
        error = {"type": "bad_day", "message": "Boom."}
        assert json.loads(last) == {"type": "error", "error": error}


def test_malformed_after_breaks_exactly_one_frame(practice, ask, wire):
    practice.script(faulty(malformed_after=2))
    received = ask(wire, stream=True)
    assert received.complete
    bad = []
    for _, data in received.events:
        try:
            json.loads(data)
        except ValueError:
            bad += [data] if data != "[DONE]" else []
    assert len(bad) == 1


# --- says nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_silent_reply_sends_no_status_line_and_notices_a_disconnect_at_once(practice, stream):
    def leave(client):
        practice.script(faulty(silent=True))
        before = len(practice.requests)
        client.send(stream=stream)
        request = practice.wait_for_requests(before + 1)[-1]
        request.wait_held()
        assert request.status is None
        return request

    assert notices_at_once(practice, leave)
    assert practice.requests[-1].over


def test_a_silent_reply_can_be_released(practice, client):
    practice.script(faulty(silent=True))
    client.send(stream=True)
    practice.wait_for_requests(1)[0].wait_held()
    practice.release()
    assert client.receive().text("openai") == TEXT


def test_stall_after_stops_after_that_many_chunks_and_notices_a_disconnect_at_once(practice, wire):
    def leave(client):
        practice.script(faulty(stall_after=4))
        client.send(wire, stream=True)
        received = client.head()
        while received.text(wire) != "one two three four":
            client.chunk(received)
        request = practice.requests[-1]
        request.wait_held()
        assert request.chunks_sent == 4
        return request

    assert notices_at_once(practice, leave)
    assert practice.requests[-1].finished_at is None


def test_an_open_end_keeps_the_connection_after_the_whole_stream(practice, wire):
    def leave(client):
        practice.script(faulty(open_end=True))
        client.send(wire, stream=True)
        received = client.head()
        while received.text(wire) != TEXT:
            client.chunk(received)
        request = practice.requests[-1]
        request.wait_held()
        assert request.chunks_sent == 6
        assert request.finished_at is None
        return request

    assert notices_at_once(practice, leave)


def test_keepalive_sends_nothing_but_comments(practice, client):
    practice.script(faulty(keepalive=0.005))
    client.send(stream=True)
    received = client.head()
    assert received.status == 200
    assert {client.chunk(received) for _ in range(3)} == {b": keep-alive\n\n"}
    practice.release()
    while client.chunk(received):
        pass
    assert received.text("openai") == TEXT


def test_keepalive_sends_comments_during_a_stall(practice):
    def leave(client):
        practice.script(faulty(keepalive=0.005, stall_after=2))
        client.send(stream=True)
        received = client.head()
        while b": keep-alive\n\n" not in received.chunks[-2:]:
            client.chunk(received)
        assert received.text("openai") == "one two"
        return practice.requests[-1]

    assert notices_at_once(practice, leave)


# --- unusual but legal --------------------------------------------------------------------------


def test_crlf_ends_lines_in_cr_lf(practice, ask, wire):
    practice.script(faulty(crlf=True))
    received = ask(wire, stream=True)
    assert received.body.count(b"\n") == received.body.count(b"\r\n") > 0
    assert received.text(wire) == TEXT


def test_split_characters_cuts_every_multi_byte_character_across_writes(practice, ask, wire):
    text = "añb 漢字 👋!"
    practice.script(Reply(text, fault=Fault(split_characters=True), chunk="whole"))
    received = ask(wire, stream=True)
    assert received.text(wire) == text
    inside = [chunk for chunk in received.chunks if chunk[-1] >= 0xC0]  # ends in a first byte
    assert len(inside) == sum(not character.isascii() for character in received.body.decode())


def test_line_length_pads_lines_to_200_kb(practice, ask, wire):
    practice.script(faulty(line_length=200_000))
    received = ask(wire, stream=True)
    lengths = [len(data) for _, data in received.events if data != "[DONE]"]
    assert set(lengths) == {200_000}
    assert received.text(wire) == TEXT


def test_a_long_text_in_one_chunk_is_a_long_line(practice, ask, wire):
    practice.script(Reply("x" * 200_000, chunk="whole"))
    assert ask(wire, stream=True).text(wire) == "x" * 200_000


def test_faults_combine(practice, client):
    practice.script(
        Reply("é " * 20, fault=Fault(crlf=True, split_characters=True, disconnect_after=3))
    )
    client.send(stream=True)
    received = client.receive()
    assert received.text("openai") == "é é é"
    assert b"\r\n" in received.body
    assert not received.complete
