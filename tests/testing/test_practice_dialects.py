"""Dialects: each says the same as an ordinary reply, in its own way, and is read all the same."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import dspy
import pytest
from profiles import THOROUGH

import streamll
from streamll.services import iModel
from streamll.testing import Fault, PracticeServer, RecordingSink, Reply, ToolCall, Usage
from streamll.testing.dialects import DIALECTS

pytestmark = [
    pytest.mark.since_3_4,
    pytest.mark.filterwarnings("ignore:Passing OpenAI-style:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic"),
]
ANSWER = Reply(
    "[[ ## answer ## ]]\nNine lives, says the cat.\n\n[[ ## completed ## ]]",
    thinking="A cat. How many lives?",
    usage=Usage(70, 20, cached_tokens=4, reasoning_tokens=6),
)
CALLS = Reply(
    "Let me look.",
    tool_calls=[ToolCall("search", {"q": "cats"}), ToolCall("search", {"q": "lives"})],
    usage=Usage(70, 20),
)
ENGINES = ("lm15", "litellm", "imodel")
PROVIDERS = {  # a provider's own name, where the engine has one that takes an address
    "lm15": {"groq", "deepseek", "xai", "openrouter", "ollama"},
    "litellm": {
        "groq",
        "mistral",
        "deepseek",
        "perplexity",
        "xai",
        "openrouter",
        "vllm",
        "lmstudio",
    },
}
LITELLM_NAMES = {"vllm": "hosted_vllm", "lmstudio": "lm_studio"}
OWN = [(name, engine) for engine, names in PROVIDERS.items() for name in sorted(names)]


def wire_of(name: str) -> str:
    return DIALECTS[name].wire


@pytest.fixture
def server(request):
    with PracticeServer(dialect=request.param) as running:
        yield running


def asked(server, ask):
    """The same question without and with capture; both outcomes, and the events."""
    plain = ask()
    sink = RecordingSink()
    with streamll.watch(sinks=[sink]):
        captured = ask()
    streamed = [request.streaming for request in server.requests]
    assert streamed == [False, True]
    return plain, captured, list(sink.events)


def text_of(events) -> str:
    return "".join(event.token for event in events if event.event_type == "token")


def lm_for(server, engine):
    """LiteLLM's client for OpenAI takes no content in blocks, not even in plain replies."""
    if (server.dialect, engine) == ("mistral", "litellm"):
        address = {"api_base": server.openai_url, "api_key": "x"}
        return dspy.LM("mistral/m", engine=engine, cache=False, **address)
    return server.lm(wire_of(server.dialect), "gpt-4o-mini", engine=engine)


def usage_of(lm):
    counts = [entry["usage"] for entry in lm.history]
    return [(each["prompt_tokens"], each["completion_tokens"]) for each in counts]


ASKED = [  # each dialect by each engine; sync or async, in turn, unless the run is thorough
    (name, engine, asynchronous)
    for number, name in enumerate(DIALECTS)
    for turn, engine in enumerate(ENGINES[:2])
    for asynchronous in (False, True)
    if THOROUGH or asynchronous == (number // 2 + turn) % 2
]


@pytest.mark.parametrize(("server", "engine", "asynchronous"), ASKED, indirect=["server"])
def test_a_program_gets_the_same(server, engine, asynchronous):
    server.respond(lambda request: ANSWER)
    lm = lm_for(server, engine)
    qa = dspy.Predict("question -> answer")

    def ask():
        with dspy.context(lm=lm):
            said = asyncio.run(qa.acall(question="?")) if asynchronous else qa(question="?")
        return said.answer

    plain, captured, events = asked(server, ask)
    assert plain == captured == text_of(events) == "Nine lives, says the cat."
    counts = usage_of(lm)
    assert counts[0] == counts[1] != (0, 0)
    [end] = [event for event in events if event.event_type == "lm.end"]
    assert (end.prompt_tokens, end.completion_tokens) == counts[0]
    said = "".join(event.text for event in events if event.event_type == "thinking")
    assert said == ANSWER.thinking


@pytest.mark.parametrize("server", DIALECTS, indirect=True)
@pytest.mark.parametrize("engine", ENGINES[:2])
def test_tool_calls_are_the_same(server, engine):
    server.respond(lambda request: CALLS)
    lm = lm_for(server, engine)
    plain, captured, _ = asked(server, lambda: lm("Hi"))
    calls = [
        [
            (call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in each["tool_calls"]
        ]
        for [each] in (plain, captured)
    ]
    assert calls[0] == calls[1] == [("search", {"q": "cats"}), ("search", {"q": "lives"})]
    assert [each["text"] for [each] in (plain, captured)] == ["Let me look."] * 2


@pytest.mark.parametrize(("server", "engine"), OWN, indirect=["server"])
def test_under_the_providers_own_name_too(server, engine):
    """What a library's code for a provider reads is there."""
    server.respond(lambda request: ANSWER)
    name = (
        LITELLM_NAMES.get(server.dialect, server.dialect) if engine == "litellm" else server.dialect
    )
    lm = dspy.LM(
        f"{name}/practice", api_base=server.openai_url, api_key="x", engine=engine, cache=False,
        num_retries=0,
    )  # fmt: skip
    qa = dspy.Predict("question -> answer")

    def ask():
        with dspy.context(lm=lm):
            return qa(question="?").answer

    plain, captured, events = asked(server, ask)
    assert plain == captured == text_of(events) == "Nine lives, says the cat."


@pytest.mark.parametrize("server", DIALECTS, indirect=True)
def test_a_model_that_is_talked_to_reads_it(server):
    server.respond(lambda request: ANSWER)
    gemini = wire_of(server.dialect) == "gemini"
    with iModel(
        "gemini" if gemini else "openai",
        "m",
        base_url=server.gemini_url if gemini else server.openai_url,
    ) as model:
        stream = model.invoke_stream("How many lives has a cat?")
        assert "".join(stream) == ANSWER.text
        assert stream.thinking == ANSWER.thinking
        assert (stream.usage.input_tokens, stream.finish_reason) == (70, "stop")


# --- what each does -----------------------------------------------------------------------------


def chunks(practice, ask, name, reply, **options):
    practice.dialect = name
    practice.script(reply)
    wire = wire_of(name)
    return ask(wire, stream=True, **options)


def test_openai_and_azure_pad_their_chunks(practice, ask):
    for name in ("openai", "azure"):
        data = chunks(practice, ask, name, Reply("a b")).data[-2:]
        assert all(part["obfuscation"] for part in data)


def test_azure_begins_with_a_chunk_of_nothing_but_filter_results(practice, ask):
    begin, first, *_ = chunks(practice, ask, "azure", Reply("a b")).data
    assert (begin["choices"], begin["id"], begin["model"]) == ([], "", "")
    assert begin["prompt_filter_results"]
    assert first["choices"][0]["content_filter_results"]


def test_groq_has_its_own_usage_at_the_end(practice, ask):
    first, *_, last = chunks(practice, ask, "groq", ANSWER).data
    assert "usage" not in first["x_groq"]
    assert last["usage"]["queue_time"] == last["x_groq"]["usage"]["queue_time"]
    assert last["choices"][0]["finish_reason"] == "stop"
    practice.script(ANSWER)
    assert ask().json["service_tier"] == "on_demand"
    assert "service_tier" not in first


def test_mistral_has_content_in_blocks_and_calls_without_index(practice, ask):
    said = [part["choices"][0] for part in chunks(practice, ask, "mistral", ANSWER).data]
    kinds = [b["type"] for choice in said for b in choice["delta"].get("content") or ()]
    assert kinds == ["thinking"] * kinds.count("thinking") + ["text"] * kinds.count("text")
    assert kinds.count("thinking") > 1
    called = [part["choices"][0]["delta"] for part in chunks(practice, ask, "mistral", CALLS).data]
    calls = [call for delta in called for call in delta.get("tool_calls") or ()]
    assert [set(call) for call in calls] == [{"id", "function"}] * 2
    assert [len(call["id"]) for call in calls] == [9, 9]


@pytest.mark.parametrize(
    ("name", "comment"),
    [("deepseek", b": keep-alive\n\n"), ("openrouter", b": OPENROUTER PROCESSING\n\n")],
)
def test_comments_come_while_it_waits(practice, ask, name, comment):
    received = chunks(practice, ask, name, Reply("a b"))
    assert received.body.startswith(comment)
    assert received.body.count(comment) == 3


def test_deepseeks_plain_reply_begins_with_blank_lines(practice, ask):
    practice.dialect = "deepseek"
    received = ask()
    assert received.body.startswith(b"\n\n\n{")
    assert received.json["usage"]["prompt_cache_miss_tokens"]


def test_perplexity_counts_in_every_chunk_and_has_no_done(practice, ask):
    received = chunks(practice, ask, "perplexity", Reply("a b c", usage=Usage(9, 3)))
    counts = [part["usage"]["completion_tokens"] for part in received.data]
    assert counts == sorted(counts)
    assert counts[-1] == 3
    assert b"[DONE]" not in received.body
    assert received.data[-1]["object"] == "chat.completion.done"


def test_openrouter_ends_with_usage_beside_an_empty_choice(practice, ask):
    last = chunks(practice, ask, "openrouter", Reply("a b")).data[-1]
    assert last["usage"]
    assert last["choices"][0]["finish_reason"] is None


def test_vllm_has_keys_that_its_stream_lacks(practice, ask):
    last = chunks(practice, ask, "vllm", Reply("a b")).data[-1]
    practice.script(Reply("a b"))
    whole = ask().json
    assert "kv_transfer_params" in whole.keys() - last.keys()
    assert whole["choices"][0]["message"]["function_call"] is None


def test_ollama_numbers_every_call_zero(practice, ask):
    data = chunks(practice, ask, "ollama", CALLS).data
    calls = [c for part in data for c in part["choices"][0]["delta"].get("tool_calls", ())]
    assert [(call["index"], json.loads(call["function"]["arguments"])) for call in calls] == [
        (0, {"q": "cats"}),
        (0, {"q": "lives"}),
    ]


def test_llamacpps_timings_change(practice, ask):
    timings = [part["timings"] for part in chunks(practice, ask, "llamacpp", Reply("a b")).data]
    assert timings[0] != timings[1]


def test_vertex_counts_only_at_the_end(practice, ask):
    first, *_, last = chunks(practice, ask, "vertex", Reply("a b")).data
    assert set(first["usageMetadata"]) == {"trafficType"}
    assert last["usageMetadata"]["promptTokenCount"]
    assert "index" not in first["candidates"][0]


def test_faults_count_the_same_chunks(practice, ask, client):
    practice.dialect = "groq"
    practice.script(Reply("one two three four", fault=Fault(disconnect_after=2)))
    client.send(stream=True)
    assert client.receive().text("openai") == "one two"


@pytest.mark.parametrize("wire", ["responses", "anthropic", "gemini"])
def test_a_dialect_leaves_other_wires_alone(practice, ask, wire):
    practice.respond(lambda request: "the same")
    ordinary = ask(wire, stream=True).body
    practice.dialect = "groq"
    assert ask(wire, stream=True).body == ordinary


# --- names --------------------------------------------------------------------------------------


def test_an_unknown_dialect_is_refused_with_the_list():
    with pytest.raises(ValueError, match="no dialect 'klingon', only openai, azure, groq"):
        PracticeServer(dialect="klingon")


def test_the_docs_say_what_each_does():
    page = Path(__file__).parents[2].joinpath("docs", "testing.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    told = {line.split("|")[1].strip(" `"): line.split("|")[2].strip() for line in lines}
    assert told == {name: dialect.about for name, dialect in DIALECTS.items()}
