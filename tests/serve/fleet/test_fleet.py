"""X9, X10: any server answers any request of any run, and servers are replaced one after the other."""

from __future__ import annotations

import json
import signal
import threading

import dspy
import httpx
import pytest

from serve.fleet.conftest import BOUND, Meanwhile, documented
from serve.nginx import Nginx
from serve.serving import Frame, frames, text_of, wait_until
from streamll.core.ordering import OrderCheck
from streamll.core.wire import from_dict
from streamll.serve import Limits, create_app
from streamll.testing import Reply

HEADER_CHUNKS = 7
"""So many chunks come before the first word of an answer."""
WORDS = 24
HELD_AT = 9
RUNS = 6


def text_for(run):
    return " ".join(f"{run}w{number}" for number in range(WORDS))


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_started_on_one_read_on_another_cancelled_on_a_third(practice, fleet, kind):
    practice.respond(lambda request: Reply({"answer": text_for("r")}, hold_after=HEADER_CHUNKS + 5))
    servers = fleet(kind)
    with servers.client() as client, servers.client() as third:
        started = client.post("/runs", json={"inputs": {"question": "r"}})
        run = started.json()
        with client.stream("GET", run["events"]) as reading:
            coming, events = frames(reading), []
            for frame in coming:
                events.append(frame.event)
                if text_of(events).count(" ") == 4:
                    break
            cancelled = third.delete(run["url"])
            assert cancelled.status_code == 202
            practice.wait_for(lambda: practice.requests[0].client_closed_at is not None)
            events += [frame.event for frame in coming]
        assert len({servers.member(each).port for each in (started, reading, cancelled)}) == 3
        assert events[-1]["event_type"] == "run.cancelled"
        OrderCheck().check_all(from_dict(event) for event in events)
        shown = [third.get(run["url"]).json() for _ in servers.members]
    assert [each["status"] for each in shown] == ["cancelled"] * 3
    assert shown[0] == shown[1] == shown[2]


def test_what_full_servers_refuse_does_not_keep_nginx_away_from_them(serve, tmp_path, log):
    """With its own defaults nginx answers 502 to everything for a while once each of them has said 503."""
    program = dspy.Predict("question -> answer")
    full = [create_app(program, log=log, limits=Limits(readers=0)) for _ in range(3)]
    passed, location = documented("Several servers")
    nginx = Nginx(
        tmp_path,
        *(serve(app).port for app in full),
        location=location,
        passed=passed,
        level="emerg",
    )
    try:
        with httpx.Client(base_url=nginx.url, timeout=BOUND, trust_env=False) as client:
            answers = [client.get(f"/runs/{'0' * 32}/events") for _ in full]
            assert [each.status_code for each in answers] == [503] * 3
            assert {each.headers["retry-after"] for each in answers} == {"1"}
            assert client.get("/healthz").status_code == 200
    finally:
        nginx.stop()


class NativeReader:
    """Reads a run as an ``EventSource`` does, which comes back with the id it had last."""

    def __init__(self, fleet, run):
        self.run, self.fleet = run, fleet
        self.events = []
        self.place = None

    def open(self, client):
        headers = {} if self.place is None else {"last-event-id": self.place}
        return client.stream("GET", self.run["events"], headers=headers)

    def take(self, response):
        for frame in frames(response):
            if "seq" in frame.event:  # not the notice of a silence
                self.events.append(frame.event)
                self.place = frame.id

    @property
    def over(self):
        return bool(self.events) and self.events[-1]["event_type"].startswith("run.e")

    @property
    def text(self):
        return text_of(self.events)

    def check(self, expected):
        OrderCheck().check_all(from_dict(event) for event in self.events)
        reached = 0
        for event in self.events:
            assert event["seq"] == reached, "an event is missing or came twice"
            reached += event.get("count", 1)
        assert self.text == expected


class ResponsesReader:
    """Reads a response of OpenAI's API, and goes on after the event it had last."""

    def __init__(self, fleet, response_id):
        self.id, self.fleet = response_id, fleet
        self.events = []

    def open(self, client):
        after = {"starting_after": self.events[-1]["sequence_number"]} if self.events else {}
        return client.stream("GET", f"/v1/responses/{self.id}", params={"stream": "true", **after})

    def take(self, response):
        rest = ""
        for text in response.iter_text():
            *whole, rest = (rest + text).split("\n\n")
            self.events += [json.loads(frame.data) for frame in map(Frame, whole) if frame.data]

    @property
    def over(self):
        return bool(self.events) and self.events[-1]["type"] == "response.completed"

    @property
    def text(self):
        return "".join(e["delta"] for e in self.events if e["type"] == "response.output_text.delta")

    def check(self, expected):
        assert [event["sequence_number"] for event in self.events] == list(range(len(self.events)))
        assert self.text == self.events[-1]["response"]["output"][-1]["content"][0]["text"]
        assert self.text == expected


class Reading:
    """A reader in a thread, which comes back until its run is over."""

    def __init__(self, reader):
        self.reader = reader
        self.servers = []
        """Whom nginx has given it, one after the other."""
        self._error = None
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    def _run(self):
        try:
            while not self.reader.over:
                with self.reader.fleet.client() as client, self.reader.open(client) as response:
                    assert response.status_code == 200, response.read()
                    self.servers.append(self.reader.fleet.member(response))
                    self.reader.take(response)
        except Exception as error:  # raised again where the test waits
            self._error = error

    def _check(self):
        if self._error is not None:
            raise self._error

    def wait_for(self, condition, what):
        def holds():
            self._check()
            return condition(self)

        wait_until(holds, what=what)

    def wait_for_another(self, member):
        self.wait_for(lambda reading: reading.servers[-1] is not member, "a reader's return")

    def join(self):
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), "a reader's run has no end"
        self._check()


def test_servers_are_replaced_one_after_the_other_while_runs_are_read_in_mid_field(practice, fleet):
    def answer(request):
        run = request.prompt.inputs["question"]
        return Reply({"answer": text_for(run)}, hold_after=HEADER_CHUNKS + HELD_AT)

    practice.respond(answer)
    servers = fleet("redis")
    home, readers = {}, {}
    with servers.client() as client:
        for number in range(RUNS):
            name = f"run{number}"
            if number % 2:
                body = {"model": "qa", "input": name, "background": True}
                started = client.post("/v1/responses", json=body)
                reader = ResponsesReader(servers, started.json()["id"])
            else:
                started = client.post("/runs", json={"inputs": {"question": name}})
                reader = NativeReader(servers, started.json())
            assert started.is_success, started.text
            home[name] = servers.member(started)
            readers[name] = reader
    readings = {name: Reading(reader) for name, reader in readers.items()}
    assert {member.port for member in home.values()} == {m.port for m in servers.members}
    for name, reading in readings.items():
        reading.wait_for(
            lambda reading: reading.reader.text.count(" ") >= HELD_AT - 2, f"{name}'s middle"
        )
    with Meanwhile(servers) as meanwhile:
        for member in servers.members:
            there = [
                reading
                for reading in readings.values()
                if reading.servers[-1] is member and not reading.reader.over
            ]
            member.send(signal.SIGTERM)
            member.wait_closed()
            for reading in there:  # they go on at another, while their runs are held here
                reading.wait_for_another(member)
            for request in practice.requests:
                if home[request.prompt.inputs["question"]] is member:
                    assert request.client_closed_at is None, "a run did not outlive the drain"
                    request.release()
            assert member.wait() == 0
            for name, reading in readings.items():
                if home[name] is member:
                    reading.join()
            asked = meanwhile.answers + 1  # that one may have been asked before
            wait_until(lambda asked=asked: meanwhile.answers > asked, BOUND, "the others answer")
            member.start()
            member.wait_ready()
    assert meanwhile.refusals == []
    for name, reading in readings.items():
        reading.reader.check(text_for(name))
    assert max(len(reading.servers) for reading in readings.values()) > 1
