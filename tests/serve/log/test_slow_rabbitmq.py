"""X9: a server whose RabbitMQ is slow tells late readers the same as one whose RabbitMQ is not."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
import websockets.sync.client as ws
from profiles import THOROUGH

from brokers.late_deliveries import LateDeliveries
from serve.serving import Frame, wait_until
from streamll.serve import create_app

WORDS = " ".join(f"word{n}" for n in range(30))
CHAT = {"messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "q"}]}]}
THREAD = {"threadId": "th", "runId": "r", "messages": [{"id": "u", "role": "user", "content": "q"}]}


def statuses(client):
    return [each["status"] for each in client.get("/runs").json()["runs"]]


def read_everything(server, run):
    """What each route tells of runs that have ended."""

    def get(path, **options):
        with server.client() as client:
            answer = client.get(path, **options)
            return answer.status_code, answer.text

    def connect():
        with server.client() as client:
            answer = client.post("/agui/connect", json=THREAD)
            told = [frame.event for frame in map(Frame, answer.text.split("\n\n")) if frame.data]
            return answer.status_code, [{**each, "timestamp": 0} for each in told]

    def socket():
        address = f"ws://127.0.0.1:{server.port}{run['websocket']}"
        with ws.connect(address, open_timeout=60) as opened:
            return list(opened)

    reads = {
        "runs": lambda: get("/runs"),
        "snapshot": lambda: get(run["url"]),
        "events": lambda: get(run["events"]),
        "resumed": lambda: get(run["events"], headers={"last-event-id": f"{run['run_id']}:5"}),
        "vercel": lambda: get(run["events"], params={"format": "vercel"}),
        "chat": lambda: get("/ai/c/stream", headers={"last-event-id": "0"}),
        "thread": connect,
        "socket": socket,
        "unknown": lambda: get("/runs/unknown/events"),
    }
    with ThreadPoolExecutor(len(reads)) as pool:
        return dict(zip(reads, pool.map(lambda read: read(), reads.values()), strict=True))


@pytest.mark.parametrize("number", [1, 7] if THOROUGH else [1])
def test_readers_of_ended_runs_get_all_of_them(practice, lm, server_of, serve, number):
    practice.respond(lambda _: {"answer": WORDS})
    rabbitmq, program = server_of("rabbitmq"), dspy.Predict("question -> answer")
    log = rabbitmq.new_part()
    server = serve(create_app(program, log=log))
    with server.client() as client:
        run = client.post("/runs", json={"inputs": {"question": "q"}}).json()
        for path, body in (("/ai", {"id": "c", **CHAT}), ("/agui", THREAD)):
            assert client.post(path, json=body).status_code == 200
        client.get(run["events"])  # which ends when the run does
        # Who reads the log itself may have a run's end before the list has.
        wait_until(lambda: statuses(client) == ["ended"] * 3, what="the end of all runs")
    prompt = read_everything(server, run)
    with contextlib.closing(LateDeliveries(rabbitmq.port, number)) as wire:
        url = log.replace(str(rabbitmq.port), str(wire.port))
        late = read_everything(serve(create_app(program, log=url)), run)
    assert late == prompt
    assert {name: told[0] for name, told in late.items() if isinstance(told, tuple)} == {
        **dict.fromkeys(("runs", "snapshot", "events", "resumed", "vercel", "thread"), 200),
        "chat": late["chat"][0], "unknown": 404,
    }  # fmt: skip
    assert '"run.end"' in late["events"][1]
    assert '"run.end"' in late["socket"][-1]
