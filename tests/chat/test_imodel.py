"""``iModel``: asking, streamed and not, and what is known of a reply."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys

import pytest
from dspy import lm15

import streamll
from streamll.core.errors import ConfigurationError, StreamllError
from streamll.services import CallStatus, Chunk, MissingKeyError, StreamConfig, iModel
from streamll.testing import Citation, Fault, OrderCheck, RecordingSink, Reply, ToolCall, Usage

pytestmark = pytest.mark.since_3_4

WIRES = ("openai", "responses", "anthropic")
TEXT = "Streams are read while they are written."
ASK = [{"role": "user", "content": "What is a stream?"}]


async def collected(stream):
    return [chunk async for chunk in stream]


@pytest.mark.parametrize("wire", WIRES)
def test_a_stream_yields_text_and_knows_the_rest_afterwards(make_model, practice, run, wire):
    """E2: usage, finish reason, time to first token, thinking."""
    practice.script(Reply(TEXT, thinking="Let me see.", usage=Usage(7, 9), finish_reason="length"))
    stream = make_model(wire).invoke_stream(model="another-model", messages=ASK)
    chunks = run(collected(stream))
    assert len(chunks) > 3
    assert all(isinstance(chunk, str) and chunk for chunk in chunks)
    assert [chunk.data for chunk in chunks] == chunks
    assert "".join(chunks) == stream.text == TEXT
    assert stream.thinking == "Let me see."
    assert stream.finish_reason == "length"
    assert (stream.usage.input_tokens, stream.usage.output_tokens) == (7, 9)
    assert 0 < stream.time_to_first_token <= stream.duration
    assert stream.model == "another-model"
    assert practice.requests[0].model == "another-model"
    assert practice.requests[0].streaming


@pytest.mark.parametrize("wire", WIRES)
def test_tool_calls_are_complete_afterwards(make_model, practice, run, wire):
    tools = [
        {
            "type": "function",
            "function": {
                "name": "search",
                "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
            },
        }
    ]
    calls = [ToolCall("search", {"q": "Paris"}, id="a"), ToolCall("search", {"q": "Rome"}, id="b")]
    practice.script(Reply(tool_calls=calls), Reply(tool_calls=calls))
    model = make_model(wire)
    stream = model.invoke_stream(messages=ASK, tools=tools)
    assert run(collected(stream)) == []
    whole = model.invoke_sync(messages=ASK, tools=tools).execution.response
    for found in (stream.tool_calls, whole.tool_calls):
        assert [call.name for call in found] == ["search", "search"]
        assert [json.loads(call.arguments) for call in found] == [{"q": "Paris"}, {"q": "Rome"}]
    assert practice.requests[0].body["tools"]


@pytest.mark.parametrize("reply", [TEXT, Fault(status=401)])
def test_duration_stops_when_the_reply_ends(make_model, practice, reply):
    practice.script(reply)
    stream = make_model().invoke_stream(ASK)
    with contextlib.suppress(lm15.AuthError):
        list(stream)
    assert stream.duration == stream.duration > 0


def test_citations_are_known(make_model, practice, run):
    practice.script(Reply("See there.", citations=[Citation(url="https://example.org", title="X")]))
    stream = make_model("responses").invoke_stream(ASK)
    run(collected(stream))
    assert [source.url for source in stream.citations] == ["https://example.org"]


@pytest.mark.parametrize("wire", WIRES)
def test_invoke_gives_the_calling_of_the_notebook(make_model, practice, run, wire):
    """E3."""
    practice.script(TEXT)

    async def ask():
        return await make_model(wire).invoke(model="m", messages=ASK)

    calling = run(ask())
    execution = calling.execution
    assert execution.response.data == calling.text == TEXT
    assert execution.status is CallStatus.COMPLETED
    assert execution.status.value == "completed"
    assert execution.error is None
    assert execution.duration > 0
    assert execution.response.usage.output_tokens > 0
    assert not practice.requests[0].streaming  # nobody wanted to see it come


def test_async_for_over_invoke_names_invoke_stream(make_model, practice, run):
    """Ruling 7."""

    async def wrong():
        async for _ in make_model().invoke(messages=ASK):
            pass

    with pytest.raises(TypeError, match="invoke_stream"):
        run(wrong())
    assert practice.requests == []


def test_invoke_can_be_a_task_and_be_gathered(make_model, practice, run):
    practice.respond(lambda request: f"re: {request.body['messages'][0]['content']}")
    model = make_model()

    async def ask():
        task = asyncio.create_task(model.invoke("one"))
        two, three = await asyncio.gather(model.invoke("two"), model.invoke("three"))
        return [calling.text for calling in (await task, two, three)]

    assert run(ask()) == ["re: one", "re: two", "re: three"]


def test_sync_forms(make_model, practice):
    practice.script(TEXT, TEXT)
    model = make_model()
    with model.invoke_stream(ASK) as stream:
        assert "".join(stream) == TEXT
    assert list(stream) == []
    assert model.invoke_sync(ASK).text == TEXT


def test_sync_forms_work_inside_a_running_loop(make_model, practice, run):
    practice.script(TEXT, TEXT)
    model = make_model()

    async def ask():
        return "".join(model.invoke_stream(ASK)), model.invoke_sync(ASK).text

    assert run(ask()) == (TEXT, TEXT)


def test_one_model_serves_several_loops_and_threads(make_model, practice, run):
    practice.respond(lambda _: TEXT)
    model = make_model()
    for _ in range(3):
        assert "".join(run(collected(model.invoke_stream(ASK)))) == TEXT
        assert "".join(model.invoke_stream(ASK)) == TEXT


def test_options_of_the_model_and_of_the_question(make_model, practice):
    model = make_model(temperature=0.7, max_tokens=100)
    model.invoke_sync(ASK, temperature=0.1, seed=3)
    body = practice.requests[0].body
    assert body["temperature"] == 0.1
    assert body["seed"] == 3
    assert 100 in (body.get("max_tokens"), body.get("max_completion_tokens"))


def test_whether_a_reply_is_streamed_is_decided_by_what_is_called(make_model, practice):
    model = make_model()
    assert model.invoke_sync(ASK, stream=False).text
    assert "".join(model.invoke_stream(ASK, stream=True))
    for ask, stream in ((model.invoke_sync, True), (model.invoke_stream, False)):
        with pytest.raises(ConfigurationError, match="invoke_stream and communicate_stream"):
            ask(ASK, stream=stream)
    assert [request.streaming for request in practice.requests] == [False, True]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temprature": 1}, "'temprature' is no option of a question; did you mean 'temperature'"),
        ({"flavour": 1}, "'flavour' is no option of a question$"),
        ({"n": 2}, "'n' cannot be sent: "),
        ({"temperature": "hot"}, "temperature must be numeric"),
    ],
)
def test_an_option_that_cannot_be_sent_is_named(make_model, practice, options, says):
    with pytest.raises(ConfigurationError, match=says) as refusal:
        make_model().invoke_sync(ASK, **options)
    assert ".json" not in str(refusal.value)
    assert practice.requests == []


def test_printing_what_invoke_gives_prints_the_text(make_model, practice):
    practice.script("Four.", Fault(status=401, message="no such key"))
    model = make_model(config=StreamConfig(max_retries=0))
    calling = model.invoke_sync(ASK)
    assert str(calling) == str(calling.execution.response) == "Four."
    assert repr(calling.execution.response) == "<ModelReply stop, 5 characters>"
    assert "no such key" in str(model.invoke_sync(ASK))
    assert "await" in repr(model.invoke(ASK))


def test_a_plain_reply_takes_as_long_as_its_stream(make_model, practice):
    practice.pace = 0.02
    practice.script(TEXT)
    calling = make_model().invoke_sync(ASK)
    assert not practice.requests[0].streaming
    assert calling.execution.duration >= practice.pace * (len(TEXT.split()) - 1)


def test_messages_may_be_a_text_or_whole_conversations(make_model, practice):
    from streamll.session.messages import InstructionContent, Message

    model = make_model()
    model.invoke_sync("Hello")
    model.invoke_sync([{"role": "system", "content": "Be brief."}, "Hello"])
    model.invoke_sync(Message(content=InstructionContent(instruction="Hello")))
    sent = [request.body["messages"] for request in practice.requests]
    assert [[m["role"] for m in messages] for messages in sent] == [
        ["user"],
        ["system", "user"],
        ["user"],
    ]


@pytest.mark.parametrize(
    ("messages", "options", "says"),
    [
        ([], {}, "no message"),
        (None, {}, "messages is a list"),
        ([3], {}, "has a role"),
        ("x", {"api_key": "k"}, "api_key belongs to the model"),
        ("x", {"timeout": 3}, "timeout belongs to the model"),
        ([{"role": "bard", "content": "x"}], {}, "this cannot be sent: .*bard"),
    ],
)
def test_what_cannot_be_sent_raises_before_any_request(
    make_model, practice, messages, options, says
):
    model = make_model()
    for ask in (model.invoke_stream, model.invoke, model.invoke_sync, model.events):
        with pytest.raises(ConfigurationError, match=says):
            ask(messages, **options)
    assert practice.requests == []


def test_a_question_is_a_run_with_events_in_order(make_model, practice, run):
    """E10: events, sinks, order."""
    practice.script(Reply(TEXT, thinking="Hm."))
    own, everyone = RecordingSink(), RecordingSink()
    with streamll.configure(sinks=[everyone]):
        run(collected(make_model(sinks=[own]).invoke_stream(ASK)))
    for sink in (own, everyone):
        assert sink.catch_up(60)
        OrderCheck().check_all(sink.events)
        kinds = [event.event_type for event in sink.events]
        assert kinds[:2] == ["run.start", "lm.start"]
        assert kinds[-2:] == ["lm.end", "run.end"]
        assert "thinking" in kinds
        tokens = [event for event in sink.events if event.event_type == "token"]
        assert {token.field for token in tokens} == {"text"}
        assert "".join(token.token for token in tokens) == TEXT
        end = sink.events[-2]
        assert end.model == "openai/practice-model"
        assert end.streamed
        assert end.completion_tokens > 0
        assert sink.events[-1].completion_tokens == end.completion_tokens
        assert sink.events[0].program == "openai/practice-model"


def test_events_gives_the_events_of_a_question(make_model, practice, run):
    practice.script(TEXT, TEXT)
    model = make_model()
    with model.events(ASK) as events:
        assert "".join(events.tokens("text")) == TEXT
        assert events.result().text == TEXT

    async def read():
        async with model.events(ASK) as events:
            return [event.event_type async for event in events]

    assert run(read())[-1] == "run.end"


def test_a_question_inside_a_program_belongs_to_its_run(make_model, practice):
    practice.respond(lambda _: TEXT)
    model = make_model()

    def program(question):
        return model.invoke_sync(question).text + "".join(model.invoke_stream(question))

    with streamll.stream(program)("Why?") as events:
        seen = list(events)
        assert events.result() == TEXT + TEXT
    assert len({event.run_id for event in seen}) == 1
    assert [event.event_type for event in seen].count("lm.start") == 2
    OrderCheck().check_all(seen)


def test_invoke_streams_only_where_somebody_listens(make_model, practice):
    practice.respond(lambda _: TEXT)
    model, sink = make_model(), RecordingSink()

    def asked():
        assert model.invoke_sync(ASK).text == TEXT
        return practice.requests[-1].streaming

    assert not asked()
    with streamll.configure(sinks=[sink]):
        assert asked()
    with streamll.stream(asked)() as events:
        assert events.result()
        assert events.text("text") == TEXT
    with streamll.watch():
        assert asked()
    assert not asked()
    assert sink.catch_up(60)
    assert "".join(token.token for token in sink.tokens) == TEXT


def test_a_call_is_entered_once_only(make_model, practice):
    practice.script(TEXT)
    asked = make_model().events(ASK)
    with asked as events:
        assert events.result().text == TEXT
    with pytest.raises(StreamllError, match="entered already"):
        asked.__enter__()
    assert len(practice.requests) == 1


def test_prompts_and_replies_stay_in_the_process_by_default(make_model, practice):
    """X15."""
    practice.script(TEXT)
    sink = RecordingSink()
    make_model(sinks=[sink], api_key="sk-very-secret").invoke_sync("my private question")
    assert sink.catch_up(60)
    assert "private" not in repr(sink.events)
    assert "secret" not in repr(sink.events)


# --- where, and with whose key --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "variable", "address", "path"),
    [
        ("openai", "OPENAI_BASE_URL", "{url}/v1", "/v1/chat/completions"),
        ("anthropic", "ANTHROPIC_BASE_URL", "{url}", "/v1/messages"),
        ("anthropic", "ANTHROPIC_BASE_URL", "{url}/v1/", "/v1/messages"),
        ("gemini", "GOOGLE_GEMINI_BASE_URL", "{url}", "/v1beta/models/m:streamGenerateContent"),
        ("groq", "GROQ_BASE_URL", "{url}", "/openai/v1/chat/completions"),
        ("openrouter", "OPENROUTER_BASE_URL", "{url}/v1", "/v1/chat/completions"),
        ("ollama", "OLLAMA_HOST", "{host}", "/v1/chat/completions"),
        ("ollama", "OLLAMA_BASE_URL", " {url}/v1 ", "/v1/chat/completions"),
        ("deepseek", "DEEPSEEK_BASE_URL", "{url}/v1", "/v1/chat/completions"),
        ("xai", "XAI_BASE_URL", "{url}/v1", "/v1/chat/completions"),
    ],
)
def test_addresses_come_from_the_environment(
    practice, monkeypatch, provider, variable, address, path
):
    """E1: as the providers' own clients read them, with the paths that those add."""
    url = practice.url
    monkeypatch.setenv(variable, address.format(url=url, host=url.removeprefix("http://")))
    practice.respond(lambda _: TEXT)
    stream = iModel(provider=provider, model="m").invoke_stream("x")
    assert "".join(stream) == TEXT
    assert practice.requests[0].path.partition("?")[0] == path


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("192.168.1.5", "http://192.168.1.5:11434/v1"),
        ("box:8080", "http://box:8080/v1"),
        ("https://ollama.example.org", "https://ollama.example.org/v1"),
    ],
)
def test_a_host_without_a_port_gets_ollama_s_port(monkeypatch, host, url):
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert iModel("ollama", "m").backend.config.base_url == url


@pytest.mark.parametrize(
    ("provider", "variables"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("gemini", "GEMINI_API_KEY or GOOGLE_API_KEY"),
        ("groq", "GROQ_API_KEY"),
        ("openrouter", "OPENROUTER_API_KEY"),
    ],
)
def test_a_missing_key_names_its_variables(provider, variables):
    model = iModel(provider=provider, model="m")
    for ask in (model.invoke_stream, model.invoke, model.invoke_sync):
        with pytest.raises(MissingKeyError, match=variables):
            ask("x")


def test_a_server_that_is_not_a_known_provider(practice, monkeypatch):
    practice.respond(lambda _: TEXT)
    model = iModel(provider="our-gateway", model="m", base_url=practice.openai_url)
    assert model.name == "our-gateway/m"
    assert model.invoke_sync("x").text == TEXT
    for here in ("http://localhost:1/v1", "http://[::1]:1/v1", "http://127.1.2.3:1/v1"):
        iModel("openai", "m", base_url=here).invoke_stream("x")  # none is needed
    monkeypatch.setenv("THEIRS_API_KEY", "k-123")
    other = iModel(provider="theirs", model="m", base_url="https://example.org/v1")
    other.invoke_stream("x")  # has its key
    with pytest.raises(MissingKeyError, match="NOBODYS_API_KEY"):
        iModel("nobodys", "m", base_url="https://example.org/v1").invoke_stream("x")


def test_names_and_config_are_those_of_the_notebook():
    model = iModel(provider="openai", model="gpt-4o-mini", temperature=0.7, api_key="sk-secret")
    assert model.name == "openai/gpt-4o-mini"
    assert model.backend.config.model == "gpt-4o-mini"
    assert model.backend.config.options == {"temperature": 0.7}
    assert iModel(provider="openai", model="m", name="gpt").name == "gpt"
    assert iModel(model="openrouter/openai/gpt-4o").backend.config.model == "openai/gpt-4o"
    assert iModel("Google", "m").backend.config.provider == "gemini"
    assert iModel("Claude", "m").name == "anthropic/m"
    assert iModel("our_gateway", "m", base_url="http://x/v1").name == "our-gateway/m"
    assert "secret" not in f"{model!r}{model.backend!r}{vars(model)!r}"


def test_no_repr_has_a_password_or_an_option():
    options = {"api_key": "secret", "user": "secret"}
    model = iModel("openai", "m", base_url="https://u:secret@host/v1?key=secret", **options)
    assert "https://host/v1" in repr(model)
    assert "secret" not in f"{model!r} {model.backend!r}"


def test_a_model_is_named_as_dspy_names_it():
    model = iModel("openrouter/openai/gpt-4o-mini", api_key="k")
    assert model.backend.config.provider == "openrouter"
    assert model.backend.config.model == "openai/gpt-4o-mini"
    assert model.name == "openrouter/openai/gpt-4o-mini"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"provider": "opnai", "model": "m"}, "Did you mean 'openai'"),
        ({"provider": "openai", "model": "m", "endpoint": "sing"}, "chat, chat/completions, resp"),
        ({"provider": "openai"}, "needs a model"),
        ({"provider": "opnai/m"}, "Did you mean 'openai'"),
        ({"model": "gpt-4o"}, "needs a provider"),
        ({"provider": "openai", "model": "m", "config": {}}, "takes StreamConfig.* here, not dict"),
        ({"provider": "openai", "model": "m", "limits": 5}, "takes Limits.* here, not int"),
        ({"provider": "openai", "model": "m", "hooks": print}, "takes Hooks.* here, not builtin"),
        (
            {"provider": "ours", "model": "m", "endpoint": "responses", "base_url": "http://x/v1"},
            "has no endpoint .responses.",
        ),
    ],
)
def test_a_wrong_model_is_refused_with_a_hint(options, says):
    with pytest.raises(ConfigurationError, match=says):
        iModel(**options)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timeout", "config=StreamConfig"),
        ("max_retries", "config=StreamConfig"),
        ("api_base", "base_url"),
        ("headers", "no option 'headers'"),
        ("extra_headers", "no option 'extra_headers'"),
    ],
)
def test_an_option_that_no_model_has_is_refused_before_the_first_question(name, says):
    with pytest.raises(ConfigurationError, match=says):
        iModel("openai", "m", **{name: 5})


@pytest.mark.parametrize("endpoint", ["chat", "/chat/completions", "v1/chat/completions"])
def test_endpoints_in_the_spellings_people_use(practice, endpoint):
    iModel("openai", "m", endpoint, base_url=practice.openai_url).invoke_sync("x")
    assert practice.requests[0].path == "/v1/chat/completions"


def test_hundred_streams_leave_no_threads_and_no_tasks(make_model, practice, run, new_threads):
    practice.respond(lambda _: TEXT)
    model = make_model()

    async def many():
        before = asyncio.all_tasks()
        await asyncio.gather(*(collected(model.invoke_stream("x")) for _ in range(100)))
        await asyncio.sleep(0)
        return asyncio.all_tasks() - before

    assert run(many()) == set()
    assert len(new_threads()) <= 8  # the loop's own pool, gone with it


def test_reading_a_session_needs_no_dspy():
    code = (
        "import sys, streamll; s = streamll.Session(); s.create_branch('main'); s.to_json(); "
        "print('dspy' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "False", answer.stderr


def test_a_chunk_is_a_str_in_every_way():
    chunk = Chunk("abc")
    assert chunk == "abc"
    assert type(chunk.data) is str
    assert json.dumps(chunk) == '"abc"'
    assert chunk.split() == ["abc"]


def test_the_config_of_a_question_overrides_the_model_s(make_model, practice, run):
    from streamll.testing import Fault

    practice.script(Fault(status=500), TEXT)
    model = make_model(config=StreamConfig(max_retries=0))
    eager = StreamConfig(max_retries=1, retry_delay=0)
    assert "".join(run(collected(model.invoke_stream(ASK, config=eager)))) == TEXT
