"""X18: AG-UI's own client and a real server: what it asks for, how it comes back, who may."""

from __future__ import annotations

import json
import re

import dspy
import pytest

from serve.npm import ROOT, run_node
from serve.process import ServerProcess
from serve.routes import agui_agent
from serve.serving import Frame
from streamll.serve import Served, create_app, run_token
from streamll.testing import Reply

WORDS = " ".join(f"word{n}" for n in range(40))
ASK = {"threadId": "th", "runId": "r1", "messages": [{"id": "u", "role": "user", "content": "q"}]}
RESUMABLE = re.search(
    r"```javascript\n(import \{ HttpAgent.*?)```",
    (ROOT / "docs" / "cookbook.md").read_text("utf-8"),
    re.DOTALL,
)[1]


def sent(client, body=ASK, path="/agui", **options):
    """The events of a request's answer."""
    answer = client.post(path, json=body, **options)
    assert answer.status_code == 200, answer.text
    assert "\r" not in answer.text
    assert "content-encoding" not in answer.headers
    told = map(Frame, answer.text.split("\n\n"))
    return [json.loads(frame.data) for frame in told if frame.data]


@pytest.fixture
def qa():
    return dspy.Predict("question -> answer")


# --- cut, and back at another process ---------------------------------------------------------------

CUT = (
    RESUMABLE
    + r"""
import fs from 'fs';
const {first, second, cuts, atOnce} = JSON.parse(fs.readFileSync(0, 'utf8'));

process.on('unhandledRejection', (error) => { if (error.message !== 'cut') throw error; });
const said = []; // the client's own cleaning up does not expect a broken connection
console.warn = console.error = (...all) => { said.push(all.map(String).join(' ')); };

function cutBehind(count) { // frames with data; then the connection breaks
  return async (url, init) => {
    const response = await fetch(url, init);
    const reader = response.body.getReader(), decoder = new TextDecoder(), encoder = new TextEncoder();
    let rest = '', had = 0;
    const ready = [];
    const body = new ReadableStream({async pull(out) { // a frame each
      if (had === count) { await reader.cancel(); throw new TypeError('cut'); }
      while (!ready.length) {
        const {done, value} = await reader.read();
        if (done) return out.close();
        rest += decoder.decode(value, {stream: true});
        ready.push(...rest.split('\n\n'));
        rest = ready.pop();
      }
      const frame = ready.shift();
      had += /^data: /m.test(frame);
      out.enqueue(encoder.encode(frame + '\n\n'));
    }}, {highWaterMark: 0});
    return new Response(body, {headers: response.headers});
  };
}

async function read(cut) {
  const seen = [], runId = `run ${cut}`;
  const agent = new ResumableAgent({url: first, threadId: `thread ${cut}`, initialState: {kept: 1},
    initialMessages: [{id: 'u', role: 'user', content: 'q'}],
    ...(cut === null ? {} : {fetch: cutBehind(cut)})});
  const watch = {onEvent: ({event}) => { seen.push(event); }};
  const failed = await agent.runAgent({runId}, watch).then(() => null, (error) => error.message);
  const before = seen.splice(0);
  if (cut !== null) {
    agent.url = second;
    agent.fetch = (url, init) => fetch(url, init);
    await agent.connectAgent({runId}, watch);
  }
  return {before, after: seen, failed, messages: agent.messages, state: agent.state};
}

const whole = await read(null), read_ = {};
const frames = whole.before.length, every = Math.max(1, Math.round(frames / cuts));
const places = [...Array(frames).keys()].filter((n) => n % every === 0 || n === frames - 1);
while (places.length) {
  const some = places.splice(0, atOnce);
  const got = await Promise.all(some.map(read));
  some.forEach((cut, n) => { read_[cut] = got[n]; });
}
console.log(JSON.stringify({whole, cut: read_, said}));
"""
)


@pytest.fixture
def processes(practice, log):
    running = [
        ServerProcess(log, practice.openai_url, script=agui_agent.__file__) for _ in range(2)
    ]
    yield running
    for process in running:
        process.stop()


def answer_as_an_agent(request):
    """The first attempt at the answer lacks a field; then JSON is asked for."""
    if request.prompt.fields[0].name == "plan":
        return {"plan": ["look up", "answer"]}
    if request.prompt.format == "chat":
        return Reply("[[ ## reasoning ## ]]\nnot so\n\n[[ ## completed ## ]]\n")
    return {"reasoning": "because it is so", "answer": "one two three"}


def of_any_run(read):
    """What the page has in the end, whichever run it is of."""
    started = [event for event in read["before"] + read["after"] if event["type"] == "RUN_STARTED"]
    run_id = started[-1]["metadata"]["streamll"]["run_id"]
    shown = [m for m in read["messages"] if m.get("content") or m.get("toolCalls")]
    return json.loads(json.dumps([shown, read["state"]]).replace(run_id, "run"))


def test_a_run_cut_behind_every_event_ends_the_same_at_another_process(practice, processes):
    """X18: with the class in the cookbook."""
    practice.respond(answer_as_an_agent)
    practice.pace = 0.004
    first, second = (f"{process.url}/agui" for process in processes)
    given = {"first": first, "second": second, "cuts": 1000, "atOnce": 6}
    got = run_node(CUT, given, timeout=240)
    right = of_any_run(got["whole"])
    messages, state = right
    assert [m["role"] for m in messages][0] == "user"
    assert state == {"kept": 1, "fields": {"plan": ["look up", "answer"]}}
    assert messages[-1]["content"] == "one two three"
    assert [m["error"] for m in messages if m["role"] == "tool"] == ["KeyError"]
    assert {line.partition(":")[0] for line in got["said"]} == {"Agent execution failed"}
    assert len(got["cut"]) > 30
    for cut, read in got["cut"].items():
        assert len(read["before"]) <= int(cut), cut  # the client drops what it had not told yet
        assert read["failed"] == "cut"
        assert read["after"][-1]["type"] == "RUN_FINISHED", cut
        own = {each.get("runId") for each in read["after"] if each["type"].startswith("RUN_")}
        assert own == {f"run {cut}"}, cut
        assert of_any_run(read) == right, f"cut behind {cut}"
