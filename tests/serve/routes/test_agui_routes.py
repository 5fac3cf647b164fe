"""X18: AG-UI's own client and a real server: what it asks for, how it comes back, who may."""

from __future__ import annotations

import json
import re

import dspy
import pytest
from profiles import THOROUGH

from serve.npm import ROOT, run_node
from serve.process import ServerProcess
from serve.routes import agui_agent
from serve.serving import Frame, wait_until
from streamll.serve import create_app, run_token
from streamll.testing import Reply, Usage

TOKEN = "secret-token-of-the-server"
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
    given = {"first": first, "second": second, "cuts": 1000 if THOROUGH else 12, "atOnce": 6}
    got = run_node(CUT, given, timeout=240)
    right = of_any_run(got["whole"])
    messages, state = right
    assert messages[0] == {"id": "u", "role": "user", "content": "q"}
    assert state == {"kept": 1, "fields": {"plan": ["look up", "answer"]}}
    assert messages[-1]["content"] == "one two three"
    assert [m["error"] for m in messages if m["role"] == "tool"] == ["KeyError"]
    assert {line.partition(":")[0] for line in got["said"]} == {"Agent execution failed"}
    assert sum(read["failed"] == "cut" for read in got["cut"].values()) > len(got["cut"]) / 2
    for cut, read in got["cut"].items():
        assert len(read["before"]) <= int(cut), cut  # the client drops what it had not told yet
        if read["failed"] is None:  # tokens that were merged on their way make a run shorter
            assert read["before"][-1]["type"] == "RUN_FINISHED"
        else:
            assert read["failed"] == "cut"
        assert read["after"][-1]["type"] == "RUN_FINISHED", cut
        own = {each.get("runId") for each in read["after"] if each["type"].startswith("RUN_")}
        assert own == {f"run {cut}"}, cut
        assert of_any_run(read) == right, f"cut behind {cut}"


@pytest.fixture
def two_servers(serve, log, qa, lm):
    return [serve(create_app(qa, log=log)) for _ in range(2)]


def read_until(response, what):
    """The answer's text up to ``what``; then the client leaves."""
    text = ""
    for piece in response.iter_text():
        text += piece
        if what in text:
            break
    response.close()
    return text


def test_a_live_run_is_read_on_where_it_is(practice, two_servers):
    practice.script(Reply({"answer": WORDS}, hold_after=20))
    first, second = two_servers
    with first.client() as client, second.client() as other:
        with client.stream("POST", "/agui", json=ASK) as response:
            read_until(response, "word1")
        [request] = practice.wait_for_requests(1)
        with other.stream("POST", "/agui/connect", json=ASK) as response:
            coming, text = response.iter_text(), ""
            while '"TEXT_MESSAGE_START"' not in text:
                text += next(coming)
            request.release()
            text += "".join(coming)
    events = [json.loads(frame.data) for frame in map(Frame, text.split("\n\n")) if frame.data]
    [snapshot] = [each["messages"] for each in events if each["type"] == "MESSAGES_SNAPSHOT"]
    rest = "".join(each["delta"] for each in events if each["type"] == "TEXT_MESSAGE_CONTENT")
    assert [message["role"] for message in snapshot] == ["user", "assistant"]
    assert snapshot[1]["content"] + rest == WORDS
    assert snapshot[1]["content"]
    assert rest
    assert events[-1]["type"] == "RUN_FINISHED"
    assert len(practice.requests) == 1


def test_without_its_run_id_a_page_gets_the_threads_latest_run(practice, two_servers):
    practice.respond(lambda request: {"answer": request.inputs["question"]})
    first, second = two_servers
    with first.client() as client, second.client() as other:
        for number in (1, 2):
            asked = {"id": f"u{number}", "role": "user", "content": f"question {number}"}
            sent(client, {**ASK, "runId": f"r{number}", "messages": [asked]})
        sent(client, {**ASK, "threadId": "another", "runId": "r1"})
        for wanted, run, said in (
            ("r1", "r1", "question 1"), ("r2", "r2", "question 2"), ("unknown", "r2", "question 2"),
        ):  # fmt: skip
            events = sent(other, {**ASK, "runId": wanted}, "/agui/connect")
            assert (events[0]["threadId"], events[0]["runId"]) == ("th", run)
            [snapshot] = [
                each["messages"] for each in events if each["type"] == "MESSAGES_SNAPSHOT"
            ]
            assert snapshot[-1]["content"] == said
            assert (events[-1]["type"], events[-1]["runId"]) == ("RUN_FINISHED", run)
        unknown = other.post("/agui/connect", json={**ASK, "threadId": "unknown"})
        assert (unknown.status_code, unknown.json()) == (404, {"error": "this thread has no run"})


def test_what_a_client_has_of_the_run_is_replaced(practice, two_servers):
    """Also what its run has taken back since; and nothing that is not the run's."""
    practice.script({"answer": "yes"})
    with two_servers[0].client() as client:
        run_id = sent(client)[0]["metadata"]["streamll"]["run_id"]
        stale = {"id": f"{run_id}-99", "role": "assistant", "content": "given up"}
        activity = {"id": "a", "role": "activity", "activityType": "x", "content": {}}
        before = [*ASK["messages"], {"id": "x", "role": "assistant", "content": "earlier"}]
        asked = {**ASK, "messages": [*before, stale, activity]}
        events = sent(client, asked, "/agui/connect")
        [snapshot] = [each["messages"] for each in events if each["type"] == "MESSAGES_SNAPSHOT"]
        assert snapshot[:2] == before
        assert [message["content"] for message in snapshot[2:]] == ["yes"]


@pytest.mark.parametrize("thread", ["th", "a/b?c=d&e#f %2F \x00 ü", "x" * 200])
def test_a_run_is_stopped_from_any_process(practice, two_servers, thread):
    practice.script(Reply({"answer": WORDS}, hold_after=20))
    first, second = two_servers
    asked = {**ASK, "threadId": thread, "protocolVersion": "1.0"}
    with first.client() as client, second.client() as other:
        with client.stream("POST", "/agui", json=asked) as response:
            coming, text = response.iter_text(), ""
            while "word1" not in text:
                text += next(coming)
            params = {"threadId": thread}
            assert other.delete("/agui", params=params).status_code == 202
            text += "".join(coming)
        last = json.loads([f.data for f in map(Frame, text.split("\n\n")) if f.data][-1])
        assert (last["type"], last["outcome"]) == ("RUN_FINISHED", {"type": "cancelled"})
        # In a moment: another process knows of the end when it has read that far.
        wait_until(lambda: other.delete("/agui", params=params).json()["status"] == "over")
        again = sent(other, asked, "/agui/connect")[-1]
        assert again["outcome"] == {"type": "cancelled"}
        assert other.delete("/agui", params={"threadId": "unknown"}).status_code == 404
        assert other.delete("/agui").status_code == 404


@pytest.mark.parametrize(("query", "stops"), [("", False), ("?stop_on_leave=1", True)])
def test_a_client_that_leaves_stops_the_run_where_it_asks_for_that(
    practice, two_servers, query, stops
):
    practice.script(Reply({"answer": WORDS}, hold_after=20))
    with two_servers[0].client() as client:
        with client.stream("POST", f"/agui{query}", json=ASK) as response:
            read_until(response, "word1")
        [request] = practice.wait_for_requests(1)
        if stops:
            practice.wait_for(lambda: request.client_closed_at is not None)
        request.release()
        end = sent(client, {**ASK, "protocolVersion": "1.0"}, "/agui/connect")[-1]
        assert end["outcome"]["type"] == ("cancelled" if stops else "success")


def test_several_programs_have_addresses_of_their_own(practice, lm, serve, log):
    practice.respond(lambda request: {request.prompt.fields[0].name: "said"})
    programs = {"ask": dspy.Predict("question -> answer"), "sum up": dspy.Predict("text -> gist")}
    with serve(create_app(programs, log=log)).client() as client:
        assert client.post("/agui", json=ASK).status_code == 404
        for number, path in enumerate(("/agui/ask", "/agui/sum%20up", "/agui?program=ask")):
            asked = {**ASK, "threadId": f"th{number}"}
            result = {"answer": "said"} if "ask" in path else {"gist": "said"}
            assert sent(client, asked, path)[-1]["result"] == result
            place = "/connect?".join(path.split("?")) if "?" in path else f"{path}/connect"
            assert sent(client, asked, place)[-1]["result"] == result
            assert sent(client, asked, "/agui/connect")[-1]["result"] == result
        assert client.post("/agui/unknown", json=ASK).status_code == 404


@pytest.mark.parametrize("engine", ["native", "litellm"])
def test_a_run_says_what_its_provider_counted(practice, serve, log, qa, engine):
    used = Usage(100, 20, cached_tokens=60, reasoning_tokens=5)
    practice.respond(lambda request: Reply({"answer": "a"}, usage=used))
    options = {"engine": "litellm"} if engine == "litellm" else {}
    dspy.configure(lm=practice.lm(**options), adapter=dspy.ChatAdapter())
    with serve(create_app(qa, log=log)).client() as client:
        events = sent(client)
        again = sent(client, path="/agui/connect")
    [usage] = events[-1]["usage"]
    counts = {name: count for name, count in usage.items() if name.endswith("Tokens")}
    assert counts.pop("cacheWriteInputTokens", 0) == 0
    assert counts == {
        "inputTokens": 100, "outputTokens": 20, "totalTokens": 120,
        "cachedInputTokens": 60, "reasoningTokens": 5,
    }  # fmt: skip
    assert usage["provider"] == "openai"
    assert again[-1]["usage"] == [usage]


def test_a_run_whose_provider_counted_nothing_says_nothing(practice, two_servers):
    practice.script(Reply({"answer": WORDS}, hold_after=20))
    with two_servers[0].client() as client:
        with client.stream("POST", "/agui?stop_on_leave=1", json=ASK) as response:
            read_until(response, "word1")
        assert "usage" not in sent(client, path="/agui/connect")[-1]


# --- what a client asks for ---------------------------------------------------------------------------


def test_context_tools_state_and_props_reach_the_program(practice, lm, serve, log):
    seen = []

    class Program(dspy.Module):
        def forward(
            self, question: str, context: list[str], tools: list[dspy.Tool], state: dict,
            forwarded_props: dict, tone: str = "plain",
        ):  # fmt: skip
            seen.append((question, context, state, forwarded_props, tone))
            [tool] = tools
            seen.append((tool.name, tool.desc, tool.args))
            return dspy.Prediction(answer="a")

    asked = {
        **ASK,
        "context": [{"description": "The page", "value": "a cart"}, {"description": "Locale", "value": "de"}],
        "tools": [{"name": "pay", "description": "Pays", "parameters": {
            "type": "object", "properties": {"sum": {"type": "number"}}}}],
        "state": {"cart": [1]},
        "forwardedProps": {"trace": 7, "inputs": {"tone": "formal"}},
        "something": "new",
    }  # fmt: skip
    with serve(create_app(Program(), log=log)).client() as client:
        assert sent(client, asked)[-1]["type"] == "RUN_FINISHED"
    assert seen == [
        ("q", ["The page: a cart", "Locale: de"], {"cart": [1]}, asked["forwardedProps"], "formal"),
        ("pay", "Pays", {"sum": {"type": "number"}}),
    ]


def test_a_model_calls_a_tool_of_the_page_which_answers_in_the_next_run(practice, lm, serve, log):
    """The round trip of the protocol: the run ends with the call unanswered."""

    class Program(dspy.Module):
        def __init__(self):
            super().__init__()
            self.decide = dspy.Predict("question, tools: list[dspy.Tool] -> calls: dspy.ToolCalls")

        def forward(self, question: str, tools: list[dspy.Tool]):
            return self.decide(question=question, tools=tools)

    practice.respond(
        lambda request: {"calls": {"tool_calls": [{"name": "pay", "args": {"sum": 3}}]}}
    )
    tool = {
        "name": "pay",
        "description": "Pays",
        "parameters": {"type": "object", "properties": {"sum": {"type": "number"}}},
    }
    with serve(create_app(Program(), log=log)).client() as client:
        events = sent(client, {**ASK, "tools": [tool]})
        assert events[-1]["type"] == "RUN_FINISHED", events[-1]
        assert "pay" in json.dumps(practice.requests[0].body)
        answered = [
            *ASK["messages"],
            {"id": "c", "role": "assistant", "toolCalls": [
                {"id": "t", "type": "function", "function": {"name": "pay", "arguments": '{"sum": 3}'}}]},
            {"id": "r", "role": "tool", "toolCallId": "t", "content": "paid 3 EUR"},
        ]  # fmt: skip
        last = sent(client, {**ASK, "tools": [tool], "messages": answered})[-1]
        assert last["type"] == "RUN_FINISHED"
        assert "paid 3 EUR" in practice.requests[-1].inputs["question"]


@pytest.mark.parametrize("signature", ["question -> answer", "context, question -> answer"])
def test_the_model_is_told_the_context(practice, lm, serve, log, signature):
    practice.respond(lambda request: {"answer": "a"})
    context = [{"description": "The page", "value": "a cart"}]
    with serve(create_app(dspy.Predict(signature), log=log)).client() as client:
        sent(client, {**ASK, "context": context})
        inputs = practice.requests[-1].inputs
        assert "The page: a cart" in inputs.get("context", inputs["question"])
        sent(client)  # no context is an empty one
        assert practice.requests[-1].inputs["question"] == "q"


IMAGE = {"type": "image", "source": {"type": "url", "value": "https://example.org/i.png"}}
HANDLE = {"type": "document", "source": {"type": "file", "value": "file-1", "provider": "openai"}}


def test_parts_that_a_program_cannot_take_do_not_fail_the_run(practice, lm, serve, log, qa):
    practice.respond(lambda request: {"answer": "a"})
    content = [{"type": "text", "text": "what is it?"}, IMAGE, HANDLE, {"type": "hologram"}]
    messages = [
        {"id": "o", "role": "oracle", "content": 3},
        {"id": "u", "role": "user", "content": content},
    ]
    with serve(create_app(qa, log=log)).client() as client:
        events = sent(client, {**ASK, "messages": messages})
    told = [each["value"] for each in events if each.get("name") == "unused-part"]
    assert [each["place"] for each in told] == [
        "messages[0].role", "messages[1].content[3]", "messages[1].content[1]", "messages[1].content[2]",
    ]  # fmt: skip
    assert "no input for this image" in told[2]["reason"]
    assert events[-1]["type"] == "RUN_FINISHED"
    assert practice.requests[0].inputs["question"] == "what is it?"


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"threadId": 7}, "threadId"),
        ({"runId": "x" * 201}, "runId"),
        ({"protocolVersion": 1.0}, "protocolVersion"),
        ({"messages": None}, "messages"),
        ({"messages": [3]}, "messages[0]"),
        ({"messages": [{"id": 1, "role": "user", "content": "q"}]}, "messages[0].id"),
        ({"messages": [{"id": "u", "role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"id": "u", "role": "user", "content": [{"type": "image", "source": 1}]}]},
         "messages[0].content[0].source"),
        ({"tools": {"name": "x"}}, "tools"),
        ({"tools": [{"name": "x"}]}, "tools[0]"),
        ({"context": [{"description": "x", "value": 1}]}, "context[0].value"),
        ({"resume": [{"interruptId": "i"}]}, "resume[0]"),
        ({"forwardedProps": {"inputs": [1]}}, "forwardedProps.inputs"),
        ({"forwardedProps": {"inputs": {"nope": 1}}}, "nope"),
    ],
)  # fmt: skip
def test_a_malformed_input_is_refused_before_the_run(practice, lm, serve, log, qa, changes, place):
    with serve(create_app(qa, log=log)).client() as client:
        for path in ("/agui", "/agui/connect"):
            answer = client.post(path, json={**ASK, **changes})
            if path == "/agui/connect" and answer.status_code == 404:
                continue  # its messages are only sent back
            assert answer.status_code == 400, answer.text
            assert place in answer.json()["error"]
        assert client.get("/runs").json()["runs"] == []
    assert practice.requests == []


def cancelled(practice, server, version):
    """What a client of this version is sent of a run that is stopped in the middle of its answer."""
    practice.script(Reply({"answer": WORDS}, hold_after=20))
    asked = {**ASK, "protocolVersion": version}
    with server.client() as client, client.stream("POST", "/agui", json=asked) as response:
        coming, text = response.iter_text(), ""
        while "word1" not in text:
            text += next(coming)
        assert client.delete("/agui", params={"threadId": "th"}).status_code == 202
        return text + "".join(coming)


@pytest.mark.parametrize(
    "version", ["1.0", "1.7", "2.0", "99999999999999999999.0", "draft", "1", ""]
)
def test_a_client_of_a_newer_version_is_served(practice, two_servers, version):
    text = cancelled(practice, two_servers[0], version)
    assert '"protocolVersion":"1.0"' in text
    assert '"outcome":{"type":"cancelled"}' in text


@pytest.mark.parametrize("version", [None, "0.9"])
def test_a_client_from_before_the_outcome_learns_of_a_cancelled_run(practice, two_servers, version):
    text = cancelled(practice, two_servers[0], version)
    assert '"type":"RUN_ERROR"' in text
    assert '"code":"cancelled"' in text


def test_the_doors_to_a_thread_need_the_servers_token(practice, lm, serve, log, qa):
    practice.script({"answer": "secret words"})
    server = serve(create_app(qa, log=log, tokens=[TOKEN], secret="s"))
    full = {"authorization": f"Bearer {TOKEN}"}
    with server.client() as client:
        run_id = sent(client, headers=full)[0]["metadata"]["streamll"]["run_id"]
        for headers in ({}, {"authorization": f"Bearer {run_token('s', run_id)}"}):
            for path in ("/agui", "/agui/connect", "/agui/Predict", "/agui/Predict/connect"):
                refused = client.post(path, json=ASK, headers=headers)
                assert refused.status_code == 401
                assert "secret words" not in refused.text
            refused = client.delete("/agui", params={"threadId": "th"}, headers=headers)
            assert refused.status_code == 401
        assert "secret words" in json.dumps(sent(client, path="/agui/connect", headers=full))
        other_page = {**full, "origin": "https://evil.example"}
        assert client.post("/agui/connect", json=ASK, headers=other_page).status_code == 403
        assert client.delete("/agui?threadId=th", headers=other_page).status_code == 403
