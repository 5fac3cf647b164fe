"""X10, X11: a worker is killed in the middle of a field; readers elsewhere get a defined ending."""

from __future__ import annotations

import json
import threading

import pytest

from serve.formats.test_wire_formats import READ_AGUI, READ_VERCEL
from serve.npm import run_node
from serve.process import ServerProcess
from serve.serving import Frame, events_of, frames, text_of, wait_for_latest, wait_until
from streamll.core.ordering import OrderCheck
from streamll.core.wire import from_dict
from streamll.testing import Reply

LOST_SECONDS = 12.0
"""Long enough for a process that is alive to be heard on a busy machine."""
REASONING = "because it is so"
TEXT = "one two three four five six seven eight"


@pytest.fixture
def processes(practice, log):
    """``processes()``: one more server's process on the same log."""
    running = []

    def start():
        running.append(ServerProcess(log, practice.openai_url, LOST_SECONDS))
        return running[-1]

    yield start
    practice.release()
    for process in running:
        process.stop()


def begin(client, *others):
    """Start a run; returns it when all others know of it, too."""
    run = client.post("/runs", json={"inputs": {"question": "q"}}).json()
    for other in others:
        wait_until(lambda other=other: other.get(run["url"]).status_code == 200, what="the run")
    return run


@pytest.fixture
def orphan(practice, processes):
    """A run whose process was killed while it wrote its answer, and a process that is alive."""
    practice.script(Reply({"reasoning": REASONING, "answer": TEXT}, hold_after=26))
    victim, survivor = processes(), processes()
    with victim.client() as client, survivor.client() as other:
        run = begin(client, other)
        said = ""
        with other.stream("GET", run["events"]) as response:
            for frame in frames(response):
                if frame.event["event_type"] == "token" and frame.event["field"] == "answer":
                    said += frame.event["token"]
                if said.startswith("one two"):
                    break
        victim.kill()
        yield run, other


def test_a_killed_workers_run_ends_for_readers_elsewhere_in_every_format(orphan):
    run, client = orphan
    body = {}
    with client.stream("GET", run["events"]) as response:  # while it is not known to be lost
        body["native"] = response.read().decode()
    for form in ("vercel", "agui", "openai", "responses"):
        with client.stream("GET", f"{run['events']}?format={form}&reply=answer") as response:
            body[form] = response.read().decode()
    told = {
        name: [f.data for f in map(Frame, text.split("\n\n")) if f.data]
        for name, text in body.items()
    }
    check_native([json.loads(data) for data in told["native"]])
    said = text_of([json.loads(data) for data in told["native"]])
    check_vercel(told["vercel"], said)
    check_agui([json.loads(data) for data in told["agui"]], said)
    check_openai(told["openai"], said)
    check_responses([json.loads(data) for data in told["responses"]], said)
    the_wires_own_readers_agree(body, said)
    assert client.get(run["url"]).json()["status"] == "lost"
    wait_for_latest(client, "lost")
    assert len(client.get("/runs").json()["runs"]) == 1


def take_notices(events):
    """Take out what readers are told while nothing comes; how many there were.

    A reader that comes when the run has been silent for long is told the end alone. So is one whose
    process finds the run closed by another. A process that the machine has kept waiting is silent, too,
    and then heard again.
    """
    notices = [event for event in events if "seq" not in event]
    for notice in notices:
        assert notice["event_type"] == "status"
        assert f"silent; after {LOST_SECONDS:.0f} s it counts as lost" in notice["message"]
        assert events.index(notice) < len(events) - 1
        events.remove(notice)
    return len(notices)


def check_native(events):
    take_notices(events)
    OrderCheck().check_all(from_dict(event) for event in events)
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
    ends = [e for e in events if e["event_type"] == "field.end" and e["field"] == "answer"]
    said = text_of(events)
    assert [(e["length"], e["complete"]) for e in ends] == [(len(said), False)]
    assert TEXT.startswith(said)
    last = events[-1]
    assert (last["event_type"], last["error_type"]) == ("run.error", "RunLost")
    assert last["partial"]["self.answer"] == said


def check_vercel(told, said):
    assert told[-1] == "[DONE]"
    parts = [json.loads(data) for data in told[:-1]]
    kinds = [part["type"] for part in parts]
    assert kinds[-3:] == ["text-end", "message-metadata", "error"]
    assert kinds.count("text-start") == kinds.count("text-end") == 1
    assert "".join(part["delta"] for part in parts if part["type"] == "text-delta") == said
    assert "gone" in parts[-1]["errorText"]


def check_agui(events, said):
    kinds = [event["type"] for event in events]
    assert kinds[-1] == "RUN_ERROR"
    assert events[-1]["code"] == "RunLost"
    for begun, ended in (
        ("TEXT_MESSAGE_START", "TEXT_MESSAGE_END"),
        ("REASONING_START", "REASONING_END"),
        ("STEP_STARTED", "STEP_FINISHED"),
    ):
        assert kinds.count(begun) == kinds.count(ended) == 1, begun
    assert "".join(e["delta"] for e in events if e["type"] == "TEXT_MESSAGE_CONTENT") == said


def check_openai(told, said):
    assert told[-1] == "[DONE]"
    error = json.loads(told[-2])["error"]
    assert (error["type"], error["code"]) == ("RunLost", "run_failed")
    deltas = [json.loads(data)["choices"][0]["delta"] for data in told[:-2]]
    assert "".join(delta.get("content", "") for delta in deltas) == said


def check_responses(events, said):
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.failed"
    response = events[-1]["response"]
    assert (response["status"], response["error"]["type"]) == ("failed", "RunLost")
    message = response["output"][-1]
    assert (message["status"], message["content"][0]["text"]) == ("incomplete", said)


def the_wires_own_readers_agree(body, said):
    vercel = run_node(READ_VERCEL, {"run": {"sse": body["vercel"]}})["run"]
    assert vercel["errors"] == ["the process that ran it is gone"]
    parts = {p["type"]: p for p in vercel["message"]["parts"] if p["type"] in {"text", "reasoning"}}
    assert {kind: part["state"] for kind, part in parts.items()} == {
        "text": "done", "reasoning": "done",
    }  # fmt: skip
    assert parts["text"]["text"] == said
    assert run_node(READ_AGUI, {"run": body["agui"]})["run"]["errors"] == vercel["errors"]


def test_a_reader_of_the_dead_run_that_was_there_all_along_gets_each_event_once(
    practice, processes
):
    practice.script(Reply({"reasoning": REASONING, "answer": TEXT}, hold_after=26))
    victim, survivor = processes(), processes()
    with victim.client() as client, survivor.client() as other:
        run = begin(client, other)
        events = []
        with other.stream("GET", run["events"]) as response:
            for frame in frames(response):
                events.append(frame.event)
                if text_of(events).startswith("one two") and client is not None:
                    victim.kill()
                    client = None
        assert (
            take_notices(events) >= 1
        )  # by the only process that is left, before it closes the run
        check_native(events)
        assert events_of(other, run["events"])[-1] == events[-1]


def test_two_processes_that_see_it_lost_at_once_end_it_once(practice, processes):
    practice.script(Reply({"reasoning": REASONING, "answer": TEXT}, hold_after=26))
    victim, *survivors = processes(), processes(), processes()
    with victim.client() as client, survivors[0].client() as other:
        run = begin(client, other)
    begun, ended = threading.Semaphore(0), {}

    def read(process):
        events = []
        with process.client() as client, client.stream("GET", run["events"]) as response:
            for frame in frames(response):
                before = text_of(events)
                events.append(frame.event)
                if text_of(events).startswith("one two") and not before.startswith("one two"):
                    begun.release()
        ended[process.port] = events

    readers = [threading.Thread(target=read, args=(process,)) for process in survivors]
    for reader in readers:
        reader.start()
    for _ in readers:
        assert begun.acquire(timeout=60)
    victim.kill()
    for reader in readers:
        reader.join(60)
    for process in survivors:
        check_native(ended[process.port])
        with process.client() as client:
            again = events_of(client, run["events"])
            assert take_notices(again) == 0  # nobody waits for a run that is over
            check_native(again)
