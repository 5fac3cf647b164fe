"""X11: chat completions as the newest ``openai`` package has them; what is not honoured is refused."""

from __future__ import annotations

import json
import socket
import typing

import dspy
import httpx
import openai
import pytest
from openai.types.chat import completion_create_params as params

from streamll.core import events as ev
from streamll.serve import create_app
from streamll.serve.formats.openai import url_citation
from streamll.serve.routes import openai_options as options_of
from streamll.testing import Citation, Reply

ASKED = [{"role": "user", "content": "q"}]
TOKEN = "a-token-that-permits-everything"
REPLY = Reply(
    {"reasoning": "because", "answer": "the sky is blue"},
    thinking="hm",
    citations=[Citation("sky", title="Sky", url="https://example.org/sky")],
)


def client_of(server, **options):
    return openai.OpenAI(
        base_url=f"{server.url}/v1", max_retries=0, timeout=60,
        http_client=httpx.Client(trust_env=False), **{"api_key": "none", **options},
    )  # fmt: skip


def leave_once_it_has_asked(practice, server, path, body):
    """Ask the server, and leave when its program has asked the model: however late that is."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head.encode() + content)
        practice.wait_for_requests(1)


@pytest.fixture
def server(practice, lm, serve, log):
    return serve(create_app({"qa": dspy.ChainOfThought("question -> answer")}, log=log))


@pytest.fixture
def client(server):
    return client_of(server)


def refused(client, **options):
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**{"model": "qa", "messages": ASKED, **options})
    assert refusal.value.type == "invalid_request_error"
    return refusal.value


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [{"temperature": 0.5}, {"n": 2}, {"stop": ["x"]}, {"max_tokens": 9}, {"seed": 1},
     {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"reasoning_effort": "high"},
     {"response_format": {"type": "json_object"}}, {"store": True}, {"extra_body": {"own": 1}}],
    ids=str,
)  # fmt: skip
def test_an_option_that_would_be_ignored_is_refused_by_name(practice, client, option):
    [name] = option.get("extra_body", option)
    error = refused(client, **option)
    assert (error.param, error.code) == (name, "unsupported_parameter")
    assert repr(name) in error.message
    assert practice.requests == []


def test_a_server_may_be_told_to_ignore_how_a_model_is_to_write(practice, lm, serve, log):
    """Many clients always send a temperature. What an answer would lack is refused all the same."""
    program = dspy.ChainOfThought("question -> answer")
    client = client_of(serve(create_app({"qa": program}, log=log, ignore_sampling=True)))
    options = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 9, "frequency_penalty": 0.5}
    practice.script(REPLY, REPLY)
    whole = client.chat.completions.create(model="qa", messages=ASKED, **options)
    assert whole.choices[0].message.content == "the sky is blue"
    answer = client.responses.create(
        model="qa", input="q", temperature=0.7, top_p=0.9, max_output_tokens=9
    )
    assert answer.output_text == "the sky is blue"
    for option in ({"n": 2}, {"stop": ["x"]}, {"response_format": {"type": "json_object"}}):
        assert refused(client, **option).param in option


def test_an_option_that_asks_for_what_happens_anyway_is_none(practice, client):
    practice.script(REPLY)
    neutral = {name: values[0] for name, values in options_of.CHAT_DEFAULTS.items()}
    hints = {"user": "u", "metadata": {"a": "b"}, "seed": None}
    whole = client.chat.completions.create(model="qa", messages=ASKED, **neutral, **hints)
    assert whole.choices[0].message.content == "the sky is blue"


def test_every_option_the_tables_name_is_one_of_the_package():
    """A name that is only ours would be a mistake: its own spelling would still be refused."""
    known = set(typing.get_type_hints(params.CompletionCreateParamsStreaming))
    known |= set(typing.get_type_hints(params.CompletionCreateParamsNonStreaming))
    named = options_of.CHAT | options_of.CHAT_DEFAULTS.keys() | options_of.HINTS
    assert named - known == {"include_reasoning", "inputs"}
    assert options_of.SAMPLED - known == {"max_output_tokens"}  # of Responses
    known = set(
        typing.get_type_hints(
            openai.types.responses.response_create_params.ResponseCreateParamsStreaming
        )
    )
    named = options_of.RESPONSES | options_of.RESPONSES_DEFAULTS.keys() | options_of.HINTS
    assert named - known == {"inputs"}


def test_a_wrong_value_is_refused_with_its_place(client):
    for wrong, place in (
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream_options": {"own": 1}, "stream": True}, "stream_options.own"),
        (
            {"stream_options": {"include_usage": "no"}, "stream": True},
            "stream_options.include_usage",
        ),
        ({"stream_options": [], "stream": True}, "stream_options"),
        ({"extra_body": {"include_reasoning": 1}}, "include_reasoning"),
        ({"model": 3}, "model"),
    ):
        assert refused(client, **wrong).param == place


# --- chunks ---------------------------------------------------------------------------------------


def streamed(client, wanted=(), **extra):
    return list(
        client.chat.completions.create(
            model="qa", messages=ASKED, stream=True, extra_body=extra,
            stream_options=dict.fromkeys(("include_usage", *wanted), True),
        )
    )  # fmt: skip


def deltas(chunks, name):
    found = [getattr(c.choices[0].delta, name, None) for c in chunks if c.choices]
    return [each for each in found if each]


def test_a_stream_has_what_the_newest_chunks_have(practice, client):
    practice.script(REPLY, REPLY)
    chunks = streamed(client)
    assert "".join(deltas(chunks, "content")) == "the sky is blue"
    assert deltas(chunks, "reasoning_content") == []
    [[note]] = deltas(chunks, "annotations")
    cited = note["url_citation"]
    assert (cited["url"], cited["title"]) == ("https://example.org/sky", "Sky")
    assert cited["start_index"] == cited["end_index"] <= len("the sky is blue")  # it says no more
    assert all(c.usage is None for c in chunks[:-1])
    usage = chunks[-1].usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    whole = client.chat.completions.create(model="qa", messages=ASKED)
    assert whole.choices[0].message.annotations[0].url_citation.url == "https://example.org/sky"
    assert whole.usage == usage


def test_a_source_is_where_the_text_reads_as_it():
    source = ev.Citation(text="sky", url="https://example.org/sky")
    where = url_citation(source, "a sky, the sky is blue")
    assert (where["start_index"], where["end_index"], where["title"]) == (11, 14, source.url)
    assert url_citation(source, "blue")["start_index"] == 4


def test_reasoning_is_sent_if_it_is_asked_for(practice, client):
    practice.script(REPLY, REPLY)
    chunks = streamed(client, include_reasoning=True)
    assert "".join(deltas(chunks, "reasoning_content")) == "hm\n\nbecause"
    assert "".join(deltas(chunks, "content")) == "the sky is blue"
    whole = client.chat.completions.create(
        model="qa", messages=ASKED, extra_body={"include_reasoning": True}
    )
    assert whole.choices[0].message.reasoning_content == "hm\n\nbecause"


def test_obfuscated_chunks_do_not_tell_how_long_the_text_is(practice, server):
    practice.script(*[Reply({"reasoning": "r", "answer": f'a {"b" * n} "c"'}) for n in (1, 19)])
    body = {
        "model": "qa", "messages": ASKED, "stream": True,
        "stream_options": {"include_obfuscation": True},
    }  # fmt: skip
    with server.client() as client:
        bodies = [client.post("/v1/chat/completions", json=body).text for _ in range(2)]
    texts, sizes = set(), set()
    for line in "".join(bodies).splitlines():
        if '{"content"' in line:
            texts.add(len(json.loads(line[6:])["choices"][0]["delta"]["content"]))
            sizes.add(len(line))
    assert len(texts) > 2
    assert len(sizes) == 1


def test_a_refusal_is_told_as_one(practice, serve, log):
    practice.script(*[Reply("", refusal="I cannot do that.")] * 9)
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    client = client_of(serve(create_app(dspy.Predict("question -> answer"), log=log)))
    chunks = []
    with pytest.raises(openai.APIError):  # the program cannot make anything of it
        for chunk in client.chat.completions.create(model="m", messages=ASKED, stream=True):
            chunks.append(chunk)
    assert "".join(deltas(chunks, "refusal")).startswith("I cannot do that.")


# --- errors ---------------------------------------------------------------------------------------


def test_errors_have_the_shape_that_the_package_reads(practice, lm, serve, log):
    programs = {"qa": dspy.Predict("question -> answer"), "b": dspy.Predict("a -> b")}
    client = client_of(serve(create_app(programs, log=log)))
    with pytest.raises(openai.NotFoundError, match="there are b, qa") as error:
        client.chat.completions.create(model="gpt", messages=ASKED)
    assert (error.value.code, error.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt")
    assert error.value.code == "model_not_found"
    assert client.models.retrieve("qa").id == "qa"
    with pytest.raises(openai.NotFoundError, match="POST /v1/embeddings is not there") as error:
        client.embeddings.create(model="qa", input="x")
    assert (error.value.code, error.value.type) == ("unknown_url", "invalid_request_error")


def test_a_token_is_needed_at_every_door(practice, lm, serve, log):
    qa = dspy.Predict("question -> answer")
    server = serve(create_app(qa, log=log, tokens=TOKEN, hosts=["127.0.0.1"]))
    with server.client() as client:
        for method, path in (
            ("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/x"),
            ("GET", "/v1/other"), ("DELETE", "/v1/models"),
        ):  # fmt: skip
            for key in (None, "wrong", TOKEN[:-1]):
                headers = {} if key is None else {"authorization": f"Bearer {key}"}
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 401, path
                assert answer.json()["error"]["code"] == "invalid_api_key"
    assert [m.id for m in client_of(server, api_key=TOKEN).models.list()] == ["Predict"]
    assert practice.requests == []
