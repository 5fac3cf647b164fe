"""A question outlives the servers that do not run its program, and an hour."""

from __future__ import annotations

import signal
import subprocess
import time

import httpx
import warm

from brokers.backends import Backend, script
from serve.fleet.conftest import BOUND
from serve.serving import frames, wait_until
from streamll.brokers.opening import default_target
from streamll.core.ordering import OrderCheck
from streamll.core.wire import from_dict

PROGRAM = """
import dspy, streamll

class Asks(dspy.Module):
    async def aforward(self, question):
        seats = await streamll.ask_async(question, schema=int, to="ada")
        return dspy.Prediction(answer=f"{seats} seats")

qa = Asks()
"""

EARLIER = """
    import dspy, streamll
    from streamll.capture.run import run as capture

    class Asks(dspy.Module):
        def forward(self, question):
            return dspy.Prediction(answer=streamll.ask(question, schema=int))

    sink = open_sink(url, target=target)
    capture.now = lambda: time.time() - 3600
    with streamll.stream(Asks(), sinks=[sink], read=False)(question="How many?") as run:
        print(run.run_id, flush=True)
        print(run.result().answer, flush=True)
    sink.stop()
"""


def at(member):
    return httpx.Client(base_url=f"http://{member.name}", timeout=BOUND, trust_env=False)


def open_question(client, url):
    def asked():
        return client.get(url).json().get("questions")

    return wait_until(asked, what="the question")[0]


def read(client, url, until):
    """The events of a run, up to the first of this kind."""
    events = []
    with client.stream("GET", url) as response:
        for frame in frames(response):
            if "seq" in frame.event:
                events.append(frame.event)
                if frame.event["event_type"] == until:
                    return events
    raise AssertionError(f"no {until} in {[event['event_type'] for event in events]}")


def test_a_question_outlives_other_servers_and_an_hour(fleet, tmp_path):
    servers = fleet("redis", program=PROGRAM)
    home, second, third = servers.members
    with at(home) as client:
        run = client.post("/runs", json={"inputs": {"question": "Seats?"}}).json()
    with at(third) as client:
        assert read(client, run["events"], "question")[-1]["to"] == "ada"

    log = servers.log
    earlier = warm.Popen(
        script(Backend("redis", log), default_target(log), EARLIER),
        stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        run_id = earlier.stdout.readline().strip()
        with at(second) as client:
            open_question(client, f"/runs/{run_id}")
        for member in (second, third):  # no run is theirs, so they end at once
            member.send(signal.SIGTERM)
            assert member.wait() == 0
            member.start()
            member.wait_ready()

        def answer(client, url, value):
            body = {"question_id": open_question(client, url)["question_id"], "value": value}
            return client.post(f"{url}/answers", json=body)

        with at(second) as answering, at(third) as reading:
            for url, events in (
                (run["url"], run["events"]),
                (f"/runs/{run_id}", f"/runs/{run_id}/events"),
            ):
                assert read(reading, events, "question")[-1]["event_type"] == "question"
                assert answer(answering, url, "two").status_code == 422
                assert answer(answering, url, 2).json()["status"] == "given"
                told = read(reading, events, "run.end")
                OrderCheck().check_all(map(from_dict, told))
                assert [e["value"] for e in told if e["event_type"] == "answer"] == [2]
        assert earlier.communicate(timeout=BOUND)[0].strip() == "2"
        [asked] = [event for event in told if event["event_type"] == "question"]
        assert asked["timestamp"] < time.time() - 3000  # the reader came an hour later
    finally:
        earlier.kill()
        earlier.wait(BOUND)
