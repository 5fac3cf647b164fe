"""``@streamll/client`` in Node against real servers: every form, cut at every tenth event, refused, stopped.

One process of Node does it all (``client_cases.mjs``); the tests look at what became of it. Another one
runs the guide's code.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Annotated

import build_clients
import dspy
import httpx
import msgspec
import pytest
from fastapi import Body, FastAPI
from profiles import THOROUGH

import streamll
from serve.npm import packages
from serve.runs import CALL, RUNS, Scribe
from serve.serving import Server
from streamll.core import events as ev
from streamll.core.positions import position
from streamll.core.run_view import RunView
from streamll.core.wire import decode
from streamll.serve import cancel_run, create_app
from streamll.testing import PracticeServer, Reply

HERE = Path(__file__).parent
GUIDE = (HERE.parents[1] / "docs" / "javascript.md").read_text("utf-8")
TOKEN = "token-of-the-whole-server"
WS = {"ws": "8.23.0"}
EVERY = 10
LONG = 100_000 if THOROUGH else 20_000
HOSTILE = [
    "</script><img src=x onerror=alert(1)>", "data: x\n\nid: y:9\n\n", "\r\n\r\r\n", "\u2028\u2029\0\ufeff", "𝒳🎉👩‍👩‍👧", "é\u0301\u200d", '"\\\\"', '[1,2,3,"x"]',
    '{"event_type":"run.end"}', "", " ", "\t", ": comment", "retry: 999999", "event: token",
]  # fmt: skip
WORDS = " ".join(f"word{number}" for number in range(120))


def hostile():
    scribe = Scribe(0.1).start().text("__proto__", *HOSTILE).text("constructor", *reversed(HOSTILE))
    return scribe.text("answer", *HOSTILE * 3).end().events


def merged():
    """Tokens that stand for several: their positions lie within them as well."""
    scribe, offset = Scribe(1 / 3).start().add(ev.FieldStart, field="answer"), 0
    for number in range(12):
        text, seq = f"{number} 🎉 ", len(scribe.events) + 2 * number
        scribe.add(
            ev.TokenEvent,
            field="answer",
            token=text,
            token_index=3 * number,
            offset=offset,
            count=3,
        )
        scribe.events[-1] = msgspec.structs.replace(scribe.events[-1], seq=seq)
        offset += len(text)
    for kind in (ev.FieldEnd(field="answer", length=offset), ev.RunEnd()):
        seq = position(scribe.events[-1]).seq + 1
        scribe.events.append(msgspec.structs.replace(kind, seq=seq, timestamp=1.8e9, identity=CALL))
    return scribe.events


def long():
    scribe = Scribe(0.001).start()
    return scribe.text("answer", *(f"{number} 🎉" for number in range(LONG))).end().events


STORIES = {**RUNS, "hostile": hostile, "merged": merged}


def of_run(events, run_id):
    for event in events:
        keys = {key: getattr(event.identity, key) for key in event.identity.__struct_fields__}
        yield msgspec.structs.replace(event, identity=ev.Identity(**{**keys, "run_id": run_id}))


def reply(request):
    question = str(request.inputs.get("question", ""))
    if question.startswith("number"):
        return {"answer": f"re: {question}"}
    if "slow" in question:
        return Reply({"answer": WORDS}, hold_after=60)
    return {"reasoning": "Because 🎉", "answer": WORDS}


class Slow(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.predict(question=f"slow {question}")


class Asking(dspy.Module):
    """Asks a person first."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.predict(question=f"number {streamll.ask('Which colour?', schema=str)}")


def own_routes(log):
    """Routes as the guide has them, and a server without tokens beside them."""
    app, programs = FastAPI(), {"kept": dspy.Predict("question -> answer"), "slow": Slow()}

    @app.post("/events/{name}")
    async def ask(name: str, question: Annotated[str, Body(embed=True)]):
        program = programs.get(name, programs["kept"])
        kept = None if name == "unkept" else log
        return streamll.sse_response(program, question=question, log=kept)

    @app.get("/events/{name}")
    async def come_back(name: str, lastEventId: str):  # noqa: N803
        return streamll.sse_response(programs["kept"], log=None if name == "unkept" else log)

    @app.delete("/stop/{run_id}")
    async def stop(run_id: str):
        await cancel_run(log, run_id)

    @app.post("/ask")
    async def guide(question: Annotated[str, Body(embed=True)]):
        return await ask("kept", question)

    app.mount("/", create_app({"qa": dspy.Predict("question -> answer")}, log=log))
    return app


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What Node made of everything, and what it should have: ``(results, expected)``."""
    place, before = tmp_path_factory.mktemp("clients"), dspy.settings.lm
    module, log = (
        build_clients.bundle(build_clients.CLIENTS / "client", place),
        f"sqlite:///{place}/log.db",
    )
    with PracticeServer() as practice:
        dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
        practice.respond(reply)
        programs = {
            "qa": dspy.ChainOfThought("question -> answer"),
            "echo": dspy.Predict("question -> answer"),
            "slow": Slow(),
            "asking": Asking(),
        }
        app = create_app(programs, log=log, tokens=[TOKEN])
        servers = [Server(app), Server(own_routes(f"sqlite:///{place}/own.db"))]
        try:
            sink = app.service.runner.run_log.sink
            # The long one behind the others: all at once could fill the buffer, which merges tokens.
            for stories in (STORIES, {"long": long}):
                for name, make in stories.items():
                    for event in of_run(make(), name):
                        sink.put(event)
                assert sink.catch_up(60)
            expected = expectations(servers[0].url)
            given = {
                "module": str(module), "ws": str(packages(WS, "npm-ws") / "node_modules/ws/wrapper.mjs"), "url": servers[0].url, "port": servers[0].port, "own": servers[1].url, "token": TOKEN,
                "runs": list(STORIES), "every": EVERY, "positions": list(expected["positions"]), "long": "long",
            }  # fmt: skip
            command = ["node", HERE / "client_cases.mjs"]
            answer = subprocess.run(
                command, input=json.dumps(given), capture_output=True, check=False, text=True
            )
            guide = "\n".join(re.findall(r"```javascript\n(.*?)```", GUIDE, re.DOTALL))
            guide = guide.replace("http://127.0.0.1:8000", servers[1].url)
            code = guide.replace("@streamll/client", module.as_uri()) + "process.exit(0);"
            guided = subprocess.run(
                ["node", "--input-type=module", "-e", code],
                capture_output=True,
                check=False,
                text=True,
            )
        finally:
            practice.release()
            for server in servers:
                server.stop()
            dspy.configure(lm=before)
    assert answer.returncode == 0, answer.stderr
    assert guided.returncode == 0, guided.stderr
    expected["guided"] = guided.stdout
    return json.loads(answer.stdout), expected


def expectations(url):
    """The same read by a plain HTTP client in the full form."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:

        def read(run_id, after=""):
            lines = client.get(f"/runs/{run_id}/events", params={"after": after}).text.split("\n")
            return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

        runs = {name: read(name) for name in STORIES}
        places = [
            f"{event['run_id']}:{place.seq - back}:{place.offset - 2 * back}"
            if place.offset
            else str(place)
            for name in ("superseded", "merged")
            for event in runs[name][:-1]
            for place in [position(decode(json.dumps(event).encode()))]
            for back in ((0, 1) if event.get("count") else (0,))
        ]
        positions = {
            place: [event.get("seq") for event in read(place.split(":")[0], place)]
            for place in places
        }
    return {"runs": runs, "positions": positions}


FORMS = [
    f"{transport} {form} {cut}"
    for transport in ("sse", "websocket")
    for form in ("compact", "full")
    for cut in ("whole", "cut")
]


@pytest.mark.parametrize("form", FORMS)
def test_every_event_of_every_run_comes_once_and_in_order(done, form):
    results, expected = done
    got = results["runs"][form]
    for name, events in expected["runs"].items():
        assert got["read"][name]["events"] == events, name
    longest = max(map(len, expected["runs"].values()))
    assert got["cuts"] == 0 if form.endswith("whole") else got["cuts"] > longest / EVERY


def test_fields_are_what_the_same_events_make_in_python(done):
    results, _ = done
    for form, got in results["runs"].items():
        for name, make in STORIES.items():
            view = RunView(keep_values=True)
            for event in make():
                view.feed(event)
            read = got["read"][name]
            fields = [each for each in view.fields.values() if not each.identity.candidate]
            assert [field[:2] for field in read["fields"]] == [
                [each.name, each.text] for each in fields
            ], (form, name)
            for (_, _, value, corrected), each in zip(read["fields"], fields, strict=True):
                known = each.value.value if each.value else None
                assert value == known or corrected, (form, name)
            assert read["status"] == view.status
            assert read["retries"] == view.retries


def test_a_reader_comes_back_at_every_position_of_a_run(done):
    results, expected = done
    assert results["positions"] == list(expected["positions"].values())


def test_very_many_tokens_are_one_text_and_few_calls_of_a_listener(done):
    text, total = "".join(f"{number} 🎉" for number in range(LONG)), 7
    for one in text:
        total = (total * 31 + ord(one)) % 1000003
    long = done[0]["long"]
    assert long.pop("told") < LONG / 10
    units = len(text.encode("utf-16-le")) // 2
    assert long == {"same": True, "length": units, "sum": total}


def test_a_run_is_started_and_shown_as_it_grows(done):
    values = {"reasoning": "Because 🎉", "answer": WORDS}
    assert done[0]["started"] == {
        "values": values,
        "status": "ended",
        "usage": 1,
        "token": True,
        "grows": True,
        "same": True,
        "frozen": True,
        "again": values,
        "late": True,
    }


def test_a_run_is_stopped_by_any_reader(done):
    stopped = done[0]["stopped"]
    assert (stopped["other"], stopped["text"], stopped["status"]) == (
        "cancelled",
        True,
        "cancelled",
    )
    assert stopped["result"]["code"] == "cancelled"


def test_a_question_of_a_run_is_answered(done):
    asking = done[0]["asking"]
    assert asking["wrong"]["code"] == "wrong"
    assert [each["place"] for each in asking["wrong"]["problems"]] == ["answer"]
    assert (asking["taken"], asking["late"]["code"]) == (True, "closed")
    assert (asking["open"], asking["rest"], asking["status"]) == (["Which colour?"], 0, "ended")
    assert asking["said"] == "re: number blue"


def test_who_comes_back_to_a_run_reads_on_and_who_aborts_is_told(done):
    results, _ = done
    assert results["left"]["had"] == list(range(len(results["left"]["had"])))
    iterated, result, status = results["aborted"]
    assert iterated["code"] == result["code"] == 20  # of an AbortError
    assert status == "running"


def test_what_is_refused_says_why(done):
    refused = done[0]["refused"]
    codes = {name: each["code"] for name, each in refused.items()}
    assert codes == {
        "unknown": "not_found",
        "unknownSocket": "not_found",
        "token": "unauthorized",
        "tokenSocket": "unauthorized",
        "start": "refused",
        "nobody": "network",
        "gaveUp": "gave_up",
        "address": "not_found",
    }
    assert refused["start"]["problems"][0]["place"] == "inputs.question"
    assert done[0]["asked"] == {"asked": [None, "wrong 1", "wrong 2"], "status": "ended"}


def test_the_runs_own_token_takes_the_place_of_a_header_however_that_is_spelt(done):
    assert done[0]["header"] == ["ended", True]


def test_each_answer_of_a_server_has_its_outcome(done):
    results, expected = done
    whole = [event["seq"] for event in expected["runs"][next(iter(STORIES))]]
    answers = results["answers"]
    texts = {name: each.pop("text") for name, each in answers.items()}
    assert answers["busy"] == {"all": whole, "status": "ended", "delays": ["as asked"]}
    for name in ("away", "sent away", "error at the end", "garbled"):
        assert answers[name] == {"all": whole, "status": "ended", "delays": ["soon"]}, name
    assert texts["again"] == texts["away"]
    again = [0, 1, 2, 3, "stream.gap", 4, 6, 7, 8]
    assert answers["again"] == {"all": again, "status": "ended", "delays": ["soon"]}
    assert answers["over"] == {"all": [], "status": "failed", "delays": []}
    assert answers["page"]["all"]["code"] == "protocol"
    assert answers["page"]["status"] == "unreachable"


def test_routes_of_ones_own_are_read_and_resumed(done):
    own = done[0]["own"]
    assert own["kept"]["cuts"] > 1
    assert own["kept"]["seqs"] == list(range(len(own["kept"]["seqs"])))
    assert own["kept"]["text"] == WORDS
    assert own["stopped"] == "cancelled"
    problem, status = own["unkept"]
    assert (problem["code"], status) == ("gone", "unreachable")


def test_twenty_runs_at_once_are_twenty_answers(done):
    assert done[0]["twenty"] == [f"re: number {number}" for number in range(20)]


def test_the_guides_code_does_what_it_says(done):
    said = done[1]["guided"]
    assert "running open" in said
    assert said.count(WORDS) >= 3  # started, joined, by a route of one's own
