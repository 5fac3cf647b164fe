"""Scripts, holds, records and connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import json
import resource
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from patience import Stopwatch
from raw_client import PROMPT, RawClient, request

from brokers.servers import free_port
from streamll.testing import PracticeServer, Reply

# --- what is answered ---------------------------------------------------------------------------


def test_scripted_replies_come_in_order_then_the_responder_then_the_practice_model(practice, ask):
    practice.script("first", {"answer": "second"}, lambda request: f"third: {request.path}")
    replies = [ask("anthropic", stream=True).text("anthropic") for _ in range(3)]
    assert replies == ["first", "second", "third: /v1/messages"]
    practice.respond(lambda request: request.inputs["question"].upper())
    assert ask(stream=True, prompt="again").text("openai") == "AGAIN"
    practice.respond(lambda request: None)
    assert "practice model" in ask(stream=True).text("openai")


def test_200_concurrent_calls_get_their_own_answers(practice, ask):
    """X4"""
    practice.respond(lambda request: f"answer to {request.inputs['question']}")
    with ThreadPoolExecutor(20) as pool:
        questions = [f"question {number}" for number in range(200)]
        answers = pool.map(lambda q: ask(prompt=q, stream=True).text("openai"), questions)
    assert list(answers) == [f"answer to {question}" for question in questions]


def test_a_reply_function_that_raises_is_an_error_the_client_can_read(practice, ask):
    practice.script(lambda request: {}["missing"], lambda request: 7, {"x": object()})
    messages = [ask().json["error"]["message"] for _ in range(3)]
    assert "KeyError: 'missing'" in messages[0]
    assert "not int" in messages[1]
    assert "cannot write a object" in messages[2]


def test_an_invalid_reply_raises_where_it_is_scripted(practice):
    with pytest.raises(TypeError, match="a reply is a Reply, a Fault"):
        practice.script(7)


def test_an_unknown_wire_is_rejected_with_the_list_of_wires(practice):
    with pytest.raises(
        ValueError, match="no wire 'gopher', only openai, responses, anthropic, gemini"
    ):
        practice.lm("gopher")


def test_a_reply_overrides_the_servers_chunk_pace_and_packets(practice, ask):
    practice.chunk, practice.packets = 2, True
    practice.script("abcd", Reply("abcd", chunk=1), Reply("abcd", packets=False))
    by_two, by_one, at_once = (ask(stream=True) for _ in range(3))
    assert [len(r.data) for r in (by_two, by_one)] == [4, 6]
    assert len(by_two.chunks) == len(by_two.events)  # a write for each frame
    assert len(at_once.chunks) == 1


def test_chunks_are_sent_at_the_given_pace(practice, ask, wire):
    practice.script(Reply("one two three four five", pace=0.02))
    asked_at = time.monotonic()  # not the first byte: one that was late makes up for it
    received = ask(wire, stream=True)
    assert practice.requests[0].wait_finished() - asked_at >= 4 * 0.02
    assert received.text(wire) == "one two three four five"
    assert len(received.chunks) == 5


def test_chunks_are_sent_exactly_as_given(practice, ask, wire):
    practice.script(Reply(chunks=["a", "", "b c d", "\n"]))
    received = ask(wire, stream=True)
    assert received.text(wire) == "ab c d\n"
    assert practice.requests[0].chunks_sent == 3


# --- holds --------------------------------------------------------------------------------------


def test_a_held_reply_resumes_when_released(practice, client, wire):
    practice.script(Reply("one two three", hold_after=2))
    client.send(wire, stream=True)
    [held] = practice.wait_for_requests(1)
    held.wait_held()
    assert held.chunks_sent == 2
    held.release()
    assert client.receive().text(wire) == "one two three"
    held.wait_finished()
    assert not held.held


def test_a_reply_can_be_held_at_several_places_and_released_before_it_gets_there(practice, client):
    practice.script(Reply("one two three", hold_after=(0, 1, 3)))
    client.send(stream=True)
    [held] = practice.wait_for_requests(1)
    held.release()  # whether it is held at 0 already or not
    held.wait_chunks(1)
    held.wait_held()
    assert held.chunks_sent == 1
    practice.release()
    held.wait_chunks(3)
    practice.release()
    assert client.receive().text("openai") == "one two three"


def test_a_reply_that_is_not_streamed_is_held_before_its_body(practice, client):
    practice.script(Reply("one", hold_after=5))
    client.send()
    [held] = practice.wait_for_requests(1)
    held.wait_held()
    assert held.status is None
    held.release()
    assert client.receive().status == 200


# --- what is recorded ---------------------------------------------------------------------------


def test_a_request_is_recorded_with_the_progress_of_its_reply(practice, ask, wire):
    practice.script("one two three", "whole")
    before = time.monotonic()
    streamed = ask(wire, stream=True)
    ask(wire)
    first, second = practice.wait_for_requests(2)
    path, body = request(wire, stream=True)
    assert (first.method, first.path, first.body) == ("POST", path.partition("?")[0], body)
    assert (first.streaming, first.status, first.chunks_sent) == (True, 200, 3)
    assert first.bytes_sent == len(streamed.body)
    assert first.frames_sent == len(streamed.events)
    assert before < first.started_at <= first.first_byte_at <= first.wait_finished()
    assert first.wait_closed() >= first.finished_at  # this client closes when it has it all
    assert (second.streaming, second.chunks_sent) == (False, 1)
    assert first.messages[-1] == ("user", PROMPT)


def test_credentials_are_never_recorded_and_prompts_are_not_in_the_repr(practice, client):
    path, body = request("openai")
    client.send_raw(
        "POST",
        f"{path}?key=sk-secret",
        json.dumps(body).encode(),
        authorization="Bearer sk-secret",
        x_api_key="sk-secret",
        cookie="sk-secret",
        user_agent="tester",
    )
    client.receive()
    [recorded] = practice.requests
    assert recorded.headers == {"user-agent": "tester"}
    assert "sk-secret" not in str(vars(recorded))
    assert PROMPT not in repr(recorded)
    assert repr(recorded).startswith("<POST /v1/chat/completions 200: 1 chunks, ")


def test_a_wait_that_times_out_names_what_it_waited_for(practice, client):
    with pytest.raises(TimeoutError, match=r"after 0.01 s still waiting for 1 requests: \[\]"):
        practice.wait_for_requests(1, timeout=0.01)
    practice.script(Reply("x", hold_after=0))
    client.send(stream=True)
    [held] = practice.wait_for_requests(1)
    with pytest.raises(TimeoutError, match="is still open"):
        held.wait_closed(timeout=0.01)
    with pytest.raises(TimeoutError, match="is not finished"):
        held.wait_finished(timeout=0.01)
    with pytest.raises(TimeoutError, match="has not sent 5 chunks"):
        held.wait_chunks(5, timeout=0.01)
    assert practice.wait_for(lambda: practice.requests) == [held]


def test_a_disconnect_during_a_reply_is_noticed_at_once(practice):
    """X7: also when the socket's buffers are full. A busy machine gets several chances."""

    def noticed_after():
        practice.script(Reply(chunks=["x" * 1000] * 20_000))
        client = RawClient(practice)
        client.send(stream=True)
        client.head()
        left = Stopwatch()
        client.close()
        left_early = practice.requests[-1]
        closed = left_early.wait_closed()
        assert left_early.finished_at is None
        assert left_early.chunks_sent < 20_000
        return left.until(closed)

    assert any(noticed_after() < 0.1 for _ in range(5))  # X7


def test_a_slow_reader_holds_the_server_back(practice, client):
    practice.script(Reply(chunks=["x" * 1000] * 20_000))
    client.send(stream=True)
    [slow] = practice.wait_for_requests(1)
    slow.wait_chunks(1)
    with pytest.raises(TimeoutError):  # 20 MB do not fit into the buffers between us
        slow.wait_finished(timeout=0.3)
    assert client.receive().complete
    assert slow.chunks_sent == 20_000


def test_connections_that_come_while_it_stops_end_without_a_traceback(caplog):
    gc.collect()  # tasks of tests before would be told of here
    caplog.clear()
    for _ in range(50):
        server = PracticeServer()
        server.start()
        with contextlib.ExitStack() as clients:
            for _ in range(5):
                clients.enter_context(socket.create_connection((server.host, server.port)))
            server.stop()
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []


def test_log_is_called_once_for_every_finished_reply():
    logged = []
    with PracticeServer(log=lambda record: logged.append((record.path, record.status))) as server:
        client = RawClient(server)
        client.send()
        client.receive()
        client.send_raw("GET", "/nowhere")
        client.receive()
        client.close()
        server.wait_for(lambda: len(logged) == 2)
    assert logged == [("/v1/chat/completions", 200), ("/nowhere", 404)]


# --- HTTP ---------------------------------------------------------------------------------------


def test_a_connection_serves_many_requests(practice, wire):
    connection = http.client.HTTPConnection(practice.host, practice.port, timeout=60)
    path, body = request(wire)
    for stream in (False, True, False):
        data = json.dumps({**body, "stream": stream})
        connection.request("POST", path, data, {"content-type": "application/json"})
        first_socket = connection.sock
        response = connection.getresponse()
        assert response.status == 200
        assert response.read()
        assert connection.sock is first_socket
    connection.close()
    assert len(practice.requests) == 3


def test_pipelined_requests_are_answered_in_order(practice, client):
    practice.script(Reply("one", hold_after=0), "two", "three")
    client.send(stream=True)
    [held] = practice.wait_for_requests(1)
    held.wait_held()
    client.send(stream=True)
    client.send(stream=True)
    held.release()
    assert [client.receive().text("openai") for _ in range(3)] == ["one", "two", "three"]


def test_connection_close_closes_the_connection(practice, client):
    client.send_raw("POST", "/v1/messages", b'{"messages": []}', connection="close")
    assert client.receive().status == 200
    assert client.file.read() == b""
    assert practice.requests[0].client_closed_at is None


def test_expect_100_continue_is_answered(practice, client):
    path, body = request("openai")
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {len(data)}"
    client.socket.sendall(head.encode() + b"\r\n\r\n")
    assert client.head().status == 100
    client.socket.sendall(data)
    assert client.receive().status == 200


def test_any_path_prefix_is_accepted(practice, client):
    _, body = request("openai")
    for prefix in ("", "/v1", "/openai/deployments/x"):
        client.send_raw("POST", f"{prefix}/chat/completions", json.dumps(body).encode())
        assert client.receive().status == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/embeddings", b"{}", 404),
        ("GET", "/", b"", 404),
        ("GET", "/v1/chat/completions", b"", 400),
        ("POST", "/v1/chat/completions", b"{not json", 400),
        ("POST", "/v1/chat/completions", b"[]", 400),
        ("POST", "/v1/chat/completions", b'{"messages": "x"}', 400),
        ("POST", "/v1/messages", b'{"messages": [{"content": 1}, 2]}', 400),
    ],
)
def test_unanswerable_requests_get_an_error_with_a_reason(
    practice, client, method, path, body, status
):
    client.send_raw(method, path, body)
    received = client.receive()
    assert received.status == status
    assert received.json["error"]["message"].startswith("The practice server ")


def test_invalid_http_gets_status_400(practice, client):
    client.socket.sendall(b"hello\r\n\r\n")
    assert client.head().status == 400


def test_1000_streams_at_once(practice):
    """B9: all are held open together, then all are finished."""
    practice.respond(lambda request: Reply("one two", hold_after=1))
    path, body = request("openai", stream=True)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode()

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection(practice.host, practice.port)
        writer.write(head + data)
        reply = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        return reply

    async def everyone() -> list[bytes]:
        calls = [asyncio.ensure_future(one()) for _ in range(1000)]
        held = lambda: sum(request.held for request in practice.requests) == 1000  # noqa: E731
        await asyncio.to_thread(practice.wait_for, held, 60)
        practice.release()
        return await asyncio.gather(*calls)

    with room_for_sockets(2500):
        replies = asyncio.run(everyone())
    assert all(b'" two"' in reply and b"[DONE]" in reply for reply in replies)


@contextlib.contextmanager
def room_for_sockets(count: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- starting and stopping ----------------------------------------------------------------------


def test_stop_drops_connections_and_keeps_the_records(practice, client):
    practice.script(Reply("one two", hold_after=1))
    client.send(stream=True)
    [held] = practice.wait_for_requests(1)
    held.wait_held()
    practice.stop()
    assert not client.receive().complete
    assert practice.requests == [held]
    assert held.client_closed_at is None  # it was not the client
    held.release()  # harmless now
    practice.stop()


def test_a_stopped_server_can_start_again_at_the_same_port(practice, ask):
    practice.stop()
    practice.port = port = free_port()  # nobody else takes it meanwhile, as one that was picked
    for _ in range(2):
        practice.start()
        practice.stop()
    practice.start()
    assert practice.port == port
    assert ask().status == 200
    with pytest.raises(RuntimeError, match="already running"):
        practice.start()


def test_a_port_in_use_raises_in_start(practice):
    with pytest.raises(OSError, match="in use"):
        PracticeServer(port=practice.port).start()


def test_serve_forever_serves_until_interrupted():
    code = (
        "from streamll.testing import PracticeServer\n"
        "server = PracticeServer()\n"
        "server.serve_forever(lambda: print(server.port, flush=True))\n"
        "print('over')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (out, err, process.returncode) == ("over\n", "", 0)


def test_importing_streamll_testing_does_not_import_dspy():
    code = "import sys, streamll.testing; sys.exit('dspy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
