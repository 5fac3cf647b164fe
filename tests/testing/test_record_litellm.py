"""X13: what DSPy asks through LiteLLM is recorded and replayed as what it asks itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dspy
import httpx
import pytest
from dspy.clients import embedding
from dspy.clients.engines.litellm_engine import AsyncLiteLLMEngine, LiteLLMEngine

from streamll.testing import Fault, Reply, record, replay
from streamll.testing.record_file import recorded_exchanges

pytestmark = pytest.mark.since_3_4

QUESTION = "Which city lies on the Seine?"
PROGRAM = "question -> answer"


@pytest.fixture
def through_litellm(practice):
    def configure(**options):
        dspy.configure(lm=practice.lm(engine="litellm", **options), adapter=dspy.ChatAdapter())

    return configure


def tokens(events):
    return [event.token for event in events if event.event_type == "token" and event.token]


def test_its_chunks_are_kept_with_their_timing(practice, through_litellm, tmp_path):
    through_litellm()
    program = dspy.Predict(PROGRAM)
    for pace in (0.02, 0.5):  # of chunks that come while a busy machine does not read, one is made
        practice.pace = pace
        practice.script({"answer": "one two three four"})
        with record(tmp_path / "run.jsonl") as path:
            answer = program(question=QUESTION)
        [exchange] = recorded_exchanges(path)
        times = [after for after, _ in exchange.chunks]
        if len(times) > 4 and times[-1] - times[0] > 0.06:
            break
    assert len(times) > 4
    assert times[-1] - times[0] > 0.06
    assert exchange.complete
    practice.stop()
    with replay(path, speed=math.inf) as played:
        assert program(question=QUESTION).answer == answer.answer
    assert tokens(played.events) == tokens(played.recorded) != []


def test_async_calls_many_at_once(practice, through_litellm, tmp_path):
    practice.respond(lambda request: {"answer": f"about {request.inputs['question']}"})
    through_litellm()
    program = dspy.Predict(PROGRAM)

    async def ask():
        calls = [program.acall(question=f"question {number % 3}") for number in range(6)]
        return [answer.answer for answer in await asyncio.gather(*calls)]

    with record(tmp_path / "run.jsonl") as path:
        answers = asyncio.run(ask())
    exchanges = recorded_exchanges(path)
    assert all(exchange.complete and exchange.chunks for exchange in exchanges)
    practice.stop()
    with replay(path, speed=math.inf) as played:
        assert asyncio.run(ask()) == answers == [f"about question {n % 3}" for n in range(6)]
    assert played.unused == []


def test_its_retries_are_recorded_with_their_faults(practice, through_litellm, tmp_path):
    practice.script(Fault(status=500), {"answer": "Paris"})
    through_litellm(num_retries=2)
    program = dspy.Predict(PROGRAM)
    with record(tmp_path / "run.jsonl") as path:
        program(question=QUESTION)
    assert [exchange.status for exchange in recorded_exchanges(path)] == [500, 200]
    practice.stop()
    with replay(path, speed=math.inf) as played:
        assert program(question=QUESTION).answer == "Paris"
    assert played.unused == []


def test_a_provider_that_only_litellm_knows_needs_neither_key_nor_network(practice, tmp_path):
    practice.script({"answer": "Paris"})
    program = dspy.Predict(PROGRAM)
    name = "mistral/mistral-small-latest"
    with record(tmp_path / "run.jsonl") as path:
        with dspy.context(lm=dspy.LM(name, api_base=practice.openai_url, api_key="sk-secret")):
            program(question=QUESTION)
    practice.stop()
    text = path.read_text("utf-8")
    assert "Seine" not in text
    assert "sk-secret" not in text
    with replay(path, speed=math.inf):
        with dspy.context(lm=dspy.LM(name)):
            assert program(question=QUESTION).answer == "Paris"


def test_inside_dspys_own_streamify(practice, through_litellm, tmp_path):
    practice.respond(lambda _: {"answer": "one two three"})
    through_litellm()
    listeners = [dspy.streaming.StreamListener(signature_field_name="answer")]

    def ask():
        streamed = dspy.streamify(
            dspy.Predict(PROGRAM), stream_listeners=listeners, async_streaming=False
        )
        return [getattr(item, "chunk", None) for item in streamed(question=QUESTION)]

    with record(tmp_path / "run.jsonl") as path:
        chunks = ask()
    practice.stop()
    listeners = [dspy.streaming.StreamListener(signature_field_name="answer")]
    with replay(path, speed=math.inf):
        assert ask() == chunks
    assert "".join(chunk for chunk in chunks if chunk) == "one two three"


def test_an_engines_events_are_kept_while_they_are_read(practice, tmp_path, monkeypatch):
    """An engine's ``stream`` is a generator: what its reader does between two events is not LiteLLM's."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    practice.respond(lambda _: "one two three")
    request = dspy.lm15.Request(
        model="openai/practice-model", messages=(dspy.lm15.Message.user(QUESTION),)
    )
    options = {"api_base": practice.openai_url, "api_key": "sk-secret"}

    def text(events):
        return "".join(event.delta.text for event in events if event.type == "delta")

    def ask():
        asked = []
        for event in LiteLLMEngine(**options).stream(request):
            asked.append(event)
            url = f"{practice.openai_url}/chat/completions"
            httpx.post(url, json={"messages": []}, timeout=60)
        return text(asked)

    async def ask_async():
        events = AsyncLiteLLMEngine(**options).stream(request)
        async with contextlib.aclosing(events):
            return text([event async for event in events])

    with record(tmp_path / "run.jsonl") as path:
        assert (ask(), asyncio.run(ask_async())) == ("one two three", "one two three")
    exchanges = recorded_exchanges(path)
    assert [exchange.path for exchange in exchanges] == ["/v1/chat/completions"] * 2
    assert all(exchange.chunks for exchange in exchanges)


def test_the_programs_own_requests_are_nobodys_business(practice, through_litellm, tmp_path):
    """A tool that posts JSON with httpx is no model: neither recorded nor sent elsewhere."""
    practice.respond(lambda _: {"answer": "Paris"})
    through_litellm()
    served = own_server(lambda _: {"found": 1})

    class Searching(dspy.Module):
        def __init__(self):
            super().__init__()
            self.qa = dspy.Predict(PROGRAM)

        def forward(self, question):
            asked = {"q": question}
            found = httpx.post(served.url, json=asked, trust_env=False, timeout=60).json()
            return dspy.Prediction(answer=self.qa(question=question).answer, **found)

    with served:
        with record(tmp_path / "run.jsonl") as path:
            Searching()(question=QUESTION)
        assert len(recorded_exchanges(path)) == 1
        practice.stop()
        with replay(path, speed=math.inf):
            assert Searching()(question=QUESTION).toDict() == {"answer": "Paris", "found": 1}
        assert len(served.asked) == 2


def test_an_embedder_is_replayed_as_well(tmp_path):
    def embed(body):
        data = [
            {"object": "embedding", "index": index, "embedding": [float(len(text)), 0.5]}
            for index, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}

    def ask(**options):
        """What ``dspy.Embedder`` does before it makes arrays, for which it needs numpy."""
        model = "openai/text-embedding-3-small"
        later = embedding._acompute_embeddings(model, ["a"], **options)
        return embedding._compute_embeddings(model, ["one", "three"], **options), asyncio.run(later)

    with own_server(embed) as served, record(tmp_path / "run.jsonl") as path:
        vectors = ask(api_base=f"{served.url}/v1", api_key="sk-secret")
    with replay(path, speed=math.inf) as played:
        assert ask() == vectors == ([[3.0, 0.5], [5.0, 0.5]], [[1.0, 0.5]])
    assert played.unused == []


def test_another_question_is_refused_and_reaches_no_provider(practice, through_litellm, tmp_path):
    practice.script({"answer": "Paris"})
    through_litellm()
    with record(tmp_path / "run.jsonl") as path:
        dspy.Predict(PROGRAM)(question=QUESTION)
    with replay(path, speed=math.inf) as played:
        with pytest.raises(Exception, match="has no such request: the program has changed"):
            dspy.Predict(PROGRAM)(question="And on the Thames?")
        assert len(played.unused) == 1
    assert len(practice.requests) == 1


def test_a_reader_that_left_is_a_cut_exchange(practice, through_litellm, tmp_path):
    import streamll

    practice.script(Reply({"answer": "one two three four five six seven eight"}, hold_after=14))
    through_litellm()
    with record(tmp_path / "run.jsonl") as path:
        with streamll.stream(dspy.Predict(PROGRAM))(question=QUESTION) as events:
            for event in events:
                if event.event_type == "token":
                    break
        practice.requests[0].wait_closed(timeout=60)
    [exchange] = recorded_exchanges(path)
    assert not exchange.complete


def test_litellm_asks_nobody_for_prices_while_it_is_replayed(practice, tmp_path, monkeypatch):
    """Imported for the first time it would, and wait for a network that is not there."""
    practice.script({"answer": "Paris"})
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    with record(tmp_path / "run.jsonl") as path:
        dspy.Predict(PROGRAM)(question=QUESTION)
    monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP", raising=False)
    with replay(path, speed=math.inf):
        assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert "LITELLM_LOCAL_MODEL_COST_MAP" not in os.environ


def test_outside_nothing_is_left_behind(practice, through_litellm, tmp_path):
    before = vars(httpx.Client)["_send_single_request"]
    practice.respond(lambda _: {"answer": "Paris"})
    through_litellm()
    with record(tmp_path / "run.jsonl") as path:
        assert vars(httpx.Client)["_send_single_request"] is not before
    assert vars(httpx.Client)["_send_single_request"] is before
    dspy.Predict(PROGRAM)(question=QUESTION)
    assert recorded_exchanges(path) == []


class own_server:  # noqa: N801 - reads as what it gives
    """A server that answers every POST with ``respond(body)`` as JSON."""

    def __init__(self, respond):
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                asked.append(body)
                answer = json.dumps(respond(body)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
