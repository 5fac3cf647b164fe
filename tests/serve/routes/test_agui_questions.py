"""AG-UI's own client answers what a run asks: approves, edits, denies, gives up, comes late, comes back."""

from __future__ import annotations

from typing import Literal

import dspy
import pytest

import streamll
from serve.npm import AGUI_0, packages, run_node
from serve.serving import wait_until
from streamll.serve import Limits, Permit, bearer_token, create_app

DRIVE = r"""
import {HttpAgent} from '@ag-ui/client';
import fs from 'fs';
const {stories} = JSON.parse(fs.readFileSync(0, 'utf8'));
console.warn = console.error = () => {};
process.on('unhandledRejection', () => {}); // a refused request, which ``runAgent`` throws as well

async function told({threadId, urls, steps, question, headers}) {
  const agent = new HttpAgent({url: urls[0], threadId, headers,
    initialMessages: [{id: 'u', role: 'user', content: question}]});
  const legs = [];
  async function leg(run, at) {
    const seen = [];
    agent.url = urls[at % urls.length];
    const error = await run({onEvent: ({event}) => { seen.push(event); }}).then(() => null, (e) => e.message);
    legs.push({error, events: seen, pending: structuredClone(agent.pendingInterrupts ?? [])});
  }
  await leg((watch) => agent.runAgent({runId: `${threadId} r0`}, watch), 0);
  let number = 0;
  for (const step of steps) {
    number += 1;
    if (!agent.pendingInterrupts.length) continue; // it had an end before it was told
    if (step.over) {
      const url = step.over.replace('RUN', agent.pendingInterrupts[0].id.split(':')[0]);
      for (let status = ''; status !== 'ended';) {
        ({status} = await (await fetch(url, {headers})).json());
      }
    }
    if (step.answered_elsewhere) {
      const [run_id, question_id] = agent.pendingInterrupts[0].id.split(':');
      await fetch(step.answered_elsewhere.replace('RUN', run_id), {method: 'POST',
        headers: {...headers, 'content-type': 'application/json'},
        body: JSON.stringify({question_id, value: step.value})});
    }
    const resume = agent.pendingInterrupts.map(({id}) => ({interruptId: id, ...step.resume}));
    await leg((watch) => agent.runAgent({runId: `${threadId} r${number}`, resume}, watch), number);
  }
  return {legs, messages: agent.messages};
}
const all = await Promise.all(stories.map(told));
console.log(JSON.stringify(all));
"""


def send_mail(to: str, subject: str = "Hi") -> str:
    """Send a mail."""
    return f"sent {subject} to {to}"


class Mails(dspy.Module):
    """Sends a mail after a yes, asks whether there is more, and says what came of both."""

    def __init__(self):
        super().__init__()
        self.mail = dspy.Tool(send_mail)

    async def aforward(self, question):
        sent = await streamll.approve(self.mail).acall(to=question)
        more = await streamll.ask_async("More?", schema=Literal["yes", "no"], default="nobody says")
        return dspy.Prediction(answer=f"{sent}; {more}")


TIMES = {"in an hour": 3600, "soon": 2, "at once": 0.05}


class Asks(dspy.Module):
    async def aforward(self, question):
        timeout, default = TIMES.get(question), "late"
        said = await streamll.ask_async("Which?", schema=int, default=default, timeout=timeout)
        return dspy.Prediction(answer=f"{said}")


def auth(connection):
    reads = Permit("reader", see="all", answer="none", start="all")
    return {"writer": Permit("writer", see="all", answer="all"), "reader": reads}.get(
        bearer_token(connection)
    )


@pytest.fixture
def fleet(serve, log, monkeypatch):
    """Two servers of one log. What still waits for an answer when they stop is not waited for."""
    monkeypatch.setattr("streamll.serve.routes.answers.HEARD_S", 60)  # however busy the machine
    # A program that asks at once has done so before the log has the name of its thread.
    monkeypatch.setattr("streamll.serve.runner.CHAT_APPEARS_S", 30)
    streamll.configure(include=["tools", "outputs"])
    programs, limits = {"mails": Mails(), "asks": Asks()}, Limits(drain_seconds=0)
    options = {"log": log, "auth": auth, "secret": "s", "limits": limits}
    yield [serve(create_app(programs, **options)) for _ in range(2)]
    streamll.configure(include=[])


def story(fleet, program, thread, *steps, question="ada", who="writer"):
    urls = [f"{server.url}/agui/{program}" for server in fleet]
    key = {"authorization": f"Bearer {who}"}
    return {"threadId": thread, "urls": urls, "steps": steps, "question": question, "headers": key}


def resolved(payload):
    return {"resume": {"status": "resolved", "payload": payload}}


CANCELLED = {"resume": {"status": "cancelled"}}


def end(leg):
    return leg["events"][-1]


def of(leg, kind):
    return [each for each in leg["events"] if each["type"] == kind]


def test_its_client_approves_edits_denies_and_gives_up_at_another_process(fleet):
    no = resolved("no")
    elsewhere = f"{fleet[1].url}/runs/RUN/answers"
    stories = {
        "approved": story(fleet, "mails", "t1", resolved({"approved": True}), no),
        "edited": story(
            fleet, "mails", "t2", resolved({"approved": True, "editedArgs": {"to": "bob", "subject": "Yo"}}), no
        ),
        "denied": story(fleet, "mails", "t3", resolved({"approved": False, "reason": "away"}), no),
        "given up": story(fleet, "mails", "t4", resolved({"approved": True}), CANCELLED),
        "wrong": story(fleet, "mails", "t5", resolved({"approved": "so"}), resolved({"allow": True}), no),
        "elsewhere": story(
            fleet, "mails", "t6", {"answered_elsewhere": elsewhere, "value": False, **resolved({"approved": True})}, no
        ),
    }  # fmt: skip
    told = run_node(DRIVE, {"stories": list(stories.values())}, timeout=120)
    read = dict(zip(stories, told, strict=True))
    results = {name: end(each["legs"][-1])["result"] for name, each in read.items()}
    assert results == {
        "approved": {"answer": "sent Hi to ada; no"},
        "edited": {"answer": "sent Yo to bob; no"},
        "denied": {"answer": "The call of send_mail was refused: away; no"},
        "given up": {"answer": "sent Hi to ada; nobody says"},
        "wrong": {"answer": "sent Hi to ada; no"},
        "elsewhere": {"answer": "The call of send_mail was refused; no"},
    }
    first, second, third = read["approved"]["legs"]
    [asked] = end(first)["outcome"]["interrupts"]
    assert (asked["reason"], asked["message"]) == ("tool_call", "Allow send_mail?")
    [call] = of(first, "TOOL_CALL_START")
    assert asked["toolCallId"] == call["toolCallId"]
    assert set(asked["responseSchema"]["properties"]) == {"approved", "editedArgs", "reason"}
    assert asked["metadata"]["streamll"]["arguments"] == {"to": "ada"}
    assert not of(second, "TOOL_CALL_START")  # a call is told once, its result where it comes
    assert [each["toolCallId"] for each in of(second, "TOOL_CALL_RESULT")] == [call["toolCallId"]]
    [more] = second["pending"]
    assert (more["reason"], more["responseSchema"]["enum"]) == ("input_required", ["yes", "no"])
    assert end(third)["outcome"]["type"] == "success"
    assert [each["runId"] for each in map(end, (first, second, third))] == [
        "t1 r0",
        "t1 r1",
        "t1 r2",
    ]
    refused = read["wrong"]["legs"][1]
    assert "422" in refused["error"]
    assert refused["pending"] == read["wrong"]["legs"][0]["pending"]
    late = [each["value"] for each in of(read["elsewhere"]["legs"][1], "CUSTOM")]
    assert ["answered by writer" in each["reason"] for each in late] == [True]
    for each in read.values():
        assert all(leg["error"] is None for leg in each["legs"] if leg is not refused)


def test_who_may_not_answer_and_who_comes_too_late(fleet):
    told = run_node(
        DRIVE,
        {"stories": [
            story(fleet, "asks", "a1", resolved(3), who="reader"),
            story(fleet, "asks", "a2", {"over": f"{fleet[0].url}/runs/RUN", **CANCELLED}, question="soon"),
            story(fleet, "asks", "a3", question="in an hour"),
        ]},
        timeout=120,
    )  # fmt: skip
    refused, lapsed, waits = told
    assert "403" in refused["legs"][1]["error"]
    assert end(lapsed["legs"][-1])["result"] == {"answer": "late"}
    [asked] = waits["legs"][0]["pending"]
    assert asked["expiresAt"].endswith("Z")
    key = {"authorization": "Bearer writer"}
    body = {"threadId": "a3", "runId": "late", "protocolVersion": "1.0", "messages": []}
    entry = {"interruptId": asked["id"], "status": "resolved", "payload": 3}
    here, there = (server.client() for server in fleet)
    run = asked["id"].partition(":")[0]
    gone = {"question_id": asked["id"].partition(":")[2], "decline": True}
    there.post(f"/runs/{run}/answers", json=gone, headers=key)
    wait_until(lambda: here.get(f"/runs/{run}", headers=key).json()["status"] == "ended")
    for client in (here, there):  # also a request that is sent again
        answer = client.post("/agui/asks", json={**body, "resume": [entry]}, headers=key)
        assert '"unused-answer"' in answer.text
        assert '"outcome":{"type":"success"}' in answer.text
        assert '"answer":"late"' in answer.text
    for wrong in ("nothing", f"{run}:nothing", f"{'f' * 32}:x"):
        entry["interruptId"] = wrong
        answer = here.post("/agui/asks", json={**body, "resume": [entry]}, headers=key)
        assert answer.status_code == 404, answer.text


def test_who_comes_back_finds_the_question_and_who_stops_on_leave_may_answer(fleet):
    key = {"authorization": "Bearer writer"}
    here, there = (server.client() for server in fleet)
    body = {"threadId": "b", "runId": "r", "protocolVersion": "1.0"}
    body["messages"] = [{"id": "u", "role": "user", "content": "q"}]
    first = here.post("/agui/asks?stop_on_leave=1", json=body, headers=key).text
    back = there.post("/agui/connect", json=body, headers=key).text
    for text in (first, back):
        assert text.count('"type":"interrupt"') == 1
    asked = first.partition('"interrupts":[{"id":"')[2].partition('"')[0]
    assert asked in back
    entry = {"interruptId": asked, "status": "resolved", "payload": 5}
    answer = there.post("/agui/asks", json={**body, "resume": [entry]}, headers=key)
    assert '"answer":"5"' in answer.text


def test_a_client_before_1_0_reads_questions_and_their_ends_as_events_of_its_own(fleet):
    told = run_node(
        DRIVE,
        {"stories": [story(fleet, "asks", "c", question="at once")]},
        place=packages(AGUI_0, "npm-agui-0"),
    )
    [leg] = told[0]["legs"]
    assert leg["error"] is None
    assert [each["name"] for each in of(leg, "CUSTOM")] == ["question", "answer"]
    question, answer = (each["value"] for each in of(leg, "CUSTOM"))
    assert (question["text"], question["schema"]) == ("Which?", {"type": "integer"})
    assert (answer["outcome"], answer["question_id"]) == ("lapsed", question["question_id"])
    assert end(leg)["type"] == "RUN_FINISHED"
