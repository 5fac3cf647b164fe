"""The wire formats: as the providers document them, and the same streamed or not."""

from __future__ import annotations

import json

import openai
import pytest
from raw_client import request
from sample_replies import REPLIES, RICH

from streamll.testing import Reply, ToolCall, Usage


def folded(wire: str, parts: list[dict]) -> dict:
    """The body that a client puts together from a stream."""
    folds = {
        "openai": folded_chat,
        "responses": folded_response,
        "anthropic": folded_message,
        "gemini": folded_content,
    }
    return folds[wire](parts)


def folded_chat(parts: list[dict]) -> dict:
    body = {**parts[0], "object": "chat.completion", "usage": parts[-1]["usage"]}
    message = {"content": None, "refusal": None, "annotations": []}
    calls: list[dict] = []
    reason = None
    for part in parts:
        assert part["object"] == "chat.completion.chunk"
        for choice in part["choices"]:
            reason = choice["finish_reason"] or reason
            for key, value in choice["delta"].items():
                if key == "tool_calls":
                    for call in value:
                        if "id" in call:
                            calls.append({k: v for k, v in call.items() if k != "index"})
                        else:
                            arguments = call["function"]["arguments"]
                            calls[call["index"]]["function"]["arguments"] += arguments
                elif key in {"role", "annotations"} or value is None:
                    message[key] = value or message.get(key)
                else:
                    message[key] = (message.get(key) or "") + value
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {**body, "choices": [choice]}


def folded_response(parts: list[dict]) -> dict:
    assert [part["sequence_number"] for part in parts] == list(range(len(parts)))
    done = [part["item"] for part in parts if part["type"] == "response.output_item.done"]
    text = "".join(p["delta"] for p in parts if p["type"] == "response.output_text.delta")
    body = parts[-1]["response"]
    assert body["output"] == done
    said = [item for item in done if item["type"] == "message"]
    assert text == "".join(c.get("text", "") for item in said for c in item["content"])
    return body


def folded_message(parts: list[dict]) -> dict:
    body = {}
    for part in parts:
        if part["type"] == "message_start":
            body = part["message"]
        elif part["type"] == "content_block_start":
            assert part["index"] == len(body["content"])
            body["content"].append({**part["content_block"], "json": ""})
        elif part["type"] == "content_block_delta":
            block, delta = body["content"][part["index"]], part["delta"]
            if delta["type"] == "citations_delta":
                block["citations"].append(delta["citation"])
            elif delta["type"] == "input_json_delta":
                block["json"] += delta["partial_json"]
            else:
                key = delta["type"].removesuffix("_delta")
                block[key] += delta[key]
        elif part["type"] == "message_delta":
            body |= part["delta"]
            body["usage"] |= part["usage"]
    for block in body["content"]:
        arguments = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(arguments)
    assert parts[-1] == {"type": "message_stop"}
    return body


def folded_content(parts: list[dict]) -> dict:
    body = {**parts[-1], "candidates": [{**parts[-1]["candidates"][0], "content": None}]}
    said: list[dict] = []
    for part in (each for frame in parts for each in frame["candidates"][0]["content"]["parts"]):
        continues = said and "text" in part and "text" in said[-1]
        if continues and part.get("thought") == said[-1].get("thought"):
            said[-1] = {**said[-1], **part, "text": said[-1]["text"] + part["text"]}
        elif part != {"text": ""} or not said:
            said.append(part)
    body["candidates"][0]["content"] = {"parts": said, "role": "model"}
    return body


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
@pytest.mark.parametrize("chunk", ["token", 1, "whole"])
def test_a_streamed_reply_folds_to_the_unstreamed_one(practice, ask, wire, reply, chunk):
    """X3: what a capture compares is equal before it begins."""
    practice.chunk = chunk
    practice.script(reply, reply)
    whole = ask(wire).json
    options = {"stream_options": {"include_usage": True}} if wire == "openai" else {}
    streamed = ask(wire, stream=True, **options)
    assert folded(wire, streamed.data) == whole
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_the_same_reply_to_another_question_has_another_id(practice, ask, wire):
    practice.respond(lambda request: "the same")
    first, again, other = ask(wire), ask(wire), ask(wire, "Another question?")
    assert first.json == again.json
    identity = "responseId" if wire == "gemini" else "id"
    assert first.json[identity] != other.json[identity]


def test_a_reply_may_have_an_id_and_a_time_of_its_own(practice, ask):
    practice.script(Reply("x", id="chatcmpl-mine", created=7))
    body = ask().json
    assert (body["id"], body["created"]) == ("chatcmpl-mine", 7)


# --- as documented ------------------------------------------------------------------------------


def test_chat_completion_chunks_are_byte_for_byte_as_openai_sends_them(practice, ask):
    practice.script(Reply("Hello there", usage=Usage(9, 2, cached_tokens=4, reasoning_tokens=1)))
    received = ask(stream=True, stream_options={"include_usage": True})
    key = received.data[0]["id"].removeprefix("chatcmpl-")
    head = (
        f'{{"id":"chatcmpl-{key}","object":"chat.completion.chunk","created":1735689600,'
        '"model":"m","service_tier":"default","system_fingerprint":"fp_practice","choices":['
    )
    choice = '{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}],"usage":null}'
    usage = (
        '],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,'
        '"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},'
        '"completion_tokens_details":{"reasoning_tokens":1,"audio_tokens":0,'
        '"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}'
    )
    assert received.body.decode().split("\n\n") == [
        f"data: {head}" + choice % ('{"role":"assistant","content":"","refusal":null}', "null"),
        f"data: {head}" + choice % ('{"content":"Hello"}', "null"),
        f"data: {head}" + choice % ('{"content":" there"}', "null"),
        f"data: {head}" + choice % ("{}", '"stop"'),
        f"data: {head}" + usage,
        "data: [DONE]",
        "",
    ]


def test_without_include_usage_no_chat_chunk_mentions_usage(practice, ask):
    received = ask(stream=True)
    assert all("usage" not in part for part in received.data)


def test_candidates_are_interleaved_and_missing_ones_repeat_the_first(practice, ask):
    practice.script(*[Reply("one a", candidates=["two b"])] * 2)
    whole = ask(n=3).json
    assert [c["message"]["content"] for c in whole["choices"]] == ["one a", "two b", "one a"]
    streamed = ask(n=3, stream=True)
    order = [part["choices"][0]["index"] for part in streamed.data]
    assert order == [0, 1, 2] * 4
    second = [part["choices"][0] for part in streamed.data if part["choices"][0]["index"] == 1]
    assert "".join(choice["delta"].get("content") or "" for choice in second) == "two b"


def test_requested_logprobs_are_the_same_streamed_and_unstreamed(practice, ask):
    practice.script("one two", "one two")
    whole = ask(logprobs=True, top_logprobs=2).json["choices"][0]["logprobs"]["content"]
    streamed = ask(logprobs=True, top_logprobs=2, stream=True).data
    parts = [part["choices"][0]["logprobs"] for part in streamed]
    assert [token for part in parts if part for token in part["content"]] == whole
    assert [token["token"] for token in whole] == ["one", " two"]


def test_responses_events_have_openais_order(practice, ask):
    practice.script(
        Reply("Hi.", thinking="Hm.", tool_calls=[ToolCall("clock", {"zone": 1})], chunk="whole")
    )
    received = ask("responses", stream=True)
    assert all(name == json.loads(data)["type"] for name, data in received.events)
    item = ["response.output_item.added", "response.output_item.done"]
    assert [name for name, _ in received.events] == [
        "response.created",
        "response.in_progress",
        item[0],
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        item[1],
        item[0],
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        item[1],
        item[0],
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        item[1],
        "response.completed",
    ]
    added = [part["item"] for part in received.data if part["type"] == item[0]]
    assert [each["type"] for each in added] == ["reasoning", "message", "function_call"]
    assert (added[0]["summary"], added[1]["content"], added[2]["arguments"]) == ([], [], "")


def test_a_response_cut_by_its_token_limit_is_incomplete(practice, ask):
    practice.script(Reply("Half", finish_reason="length"))
    last = ask("responses", stream=True).data[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_message_events_have_anthropics_order(practice, ask):
    practice.script(
        Reply("Hi.", thinking="Hm.", tool_calls=[ToolCall("clock", {"zone": 1})], chunk="whole")
    )
    received = ask("anthropic", stream=True)
    assert all(name == json.loads(data)["type"] for name, data in received.events)
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert [name for name, _ in received.events] == [
        "message_start",
        block[0],
        "ping",
        block[1],  # thinking
        block[1],  # its signature
        block[2],
        *block,  # text
        block[0],
        block[1],  # an empty input_json_delta comes first
        block[1],
        block[2],
        "message_delta",
        "message_stop",
    ]
    start = received.data[0]["message"]
    assert (start["content"], start["stop_reason"], start["usage"]["output_tokens"]) == (
        [],
        None,
        1,
    )
    assert received.data[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


def test_anthropic_input_tokens_exclude_cached_tokens(practice, ask):
    practice.script(Reply("x", usage=Usage(100, 5, cached_tokens=40)))
    usage = ask("anthropic").json["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (60, 40)


def test_gemini_frames_are_byte_for_byte_as_google_sends_them(practice, ask):
    practice.script(Reply("Hello there", usage=Usage(9, 2)))
    received = ask("gemini", stream=True)
    key = received.data[0]["responseId"]
    details = '"promptTokensDetails":[{"modality":"TEXT","tokenCount":9}]},'
    top = f'"modelVersion":"m","responseId":"{key}"}}'
    counted = (
        '"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":%d,"totalTokenCount":%d,'
    )
    said = 'data: {"candidates":[{"content":{"parts":[{"text":"%s"}],"role":"model"},%s"index":0}],'
    assert received.body.decode().split("\r\n\r\n") == [
        said % ("Hello", "") + counted % (1, 10) + details + top,
        said % (" there", "") + counted % (2, 11) + details + top,
        said % ("", '"finishReason":"STOP",') + counted % (2, 11) + details + top,
        "",
    ]


def test_gemini_without_alt_sse_streams_one_json_array(practice, ask, client):
    practice.respond(lambda request: "one two")
    path, body = request("gemini", stream=True)
    client.send_raw("POST", path.removesuffix("?alt=sse"), json.dumps(body).encode())
    received = client.receive()
    assert received.headers["content-type"] == "application/json"
    assert received.json == ask("gemini", stream=True).data


def test_a_gemini_signature_is_on_the_first_call_or_at_the_end_of_the_text(practice, ask):
    practice.script(RICH, Reply("Hi", thinking="Hm.", chunk="whole"))
    signed = [part for part in parts_of(ask("gemini", stream=True)) if "thoughtSignature" in part]
    assert [part["functionCall"]["name"] for part in signed] == ["search"]
    thought, text, end = parts_of(ask("gemini", stream=True))
    assert (thought, text) == ({"text": "Hm.", "thought": True}, {"text": "Hi"})
    assert end["text"] == ""
    assert end["thoughtSignature"]


def parts_of(received) -> list[dict]:
    candidates = [part["candidates"][0] for part in received.data]
    return [part for each in candidates for part in each["content"]["parts"]]


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_gemini_prompt_has_no_candidates(practice, ask, stream):
    practice.script(Reply("", finish_reason="content_filter"))
    received = ask("gemini", stream=stream)
    body = received.data[0] if stream else received.json
    assert body["promptFeedback"] == {"blockReason": "SAFETY"}
    assert "candidates" not in body
    assert body["usageMetadata"]["promptTokenCount"]


def test_tool_arguments_that_are_not_json_are_sent_unchanged_where_the_wire_has_text(practice, ask):
    practice.respond(lambda request: Reply(tool_calls=[ToolCall("clock", '{"zone": ')]))
    message = ask().json["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["arguments"] == '{"zone": '
    assert ask("anthropic").json["content"][0]["input"] == {}
    deltas = [part["delta"] for part in ask("anthropic", stream=True).data if "delta" in part]
    assert "".join(delta.get("partial_json", "") for delta in deltas) == '{"zone": '


def test_conversations_of_all_wires_are_recorded_alike(practice, ask):
    system, asked, said, result = "Be brief.", "Why?", "Let me look.", "Because."
    ask(
        messages=[
            {"role": "system", "content": system},
            {"role": "user", "content": [{"type": "text", "text": asked}]},
            {"role": "assistant", "content": said},
            {"role": "tool", "tool_call_id": "c", "content": result},
        ]
    )
    ask(
        "responses",
        instructions=system,
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": asked}]},
            {"type": "message", "role": "assistant", "content": said},
            {"type": "function_call_output", "call_id": "c", "output": result},
        ],
    )
    block = {"type": "tool_result", "tool_use_id": "c", "text": result}
    ask(
        "anthropic",
        system=[{"type": "text", "text": system}],
        messages=[
            {"role": "user", "content": asked},
            {"role": "assistant", "content": [{"type": "text", "text": said}]},
            {"role": "user", "content": [block]},
        ],
    )
    called = {"functionResponse": {"name": "f", "response": {"result": result}}}
    ask(
        "gemini",
        system_instruction={"parts": [{"text": system}]},
        contents=[
            {"role": "user", "parts": [{"text": asked}]},
            {"role": "model", "parts": [{"text": said}]},
            {"role": "user", "parts": [called]},
        ],
    )
    expected = [("system", system), ("user", asked), ("assistant", said), ("tool", result)]
    assert [list(request.messages) for request in practice.requests] == [expected] * 4


# --- as clients read it -------------------------------------------------------------------------


@pytest.fixture
def sdk(practice):
    with openai.OpenAI(base_url=practice.openai_url, api_key="practice", max_retries=0) as client:
        yield client


def test_the_openai_sdk_assembles_a_streamed_completion_equal_to_the_unstreamed_one(practice, sdk):
    practice.script(RICH, RICH)
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    whole = sdk.chat.completions.create(**asked)
    usage = {"stream_options": {"include_usage": True}}
    with sdk.chat.completions.stream(**asked, **usage) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content == RICH.text
    assert final.usage == whole.usage
    assert final.model == whole.model == "served-model-2025"
    assert final.id == whole.id
    calls = zip(
        final.choices[0].message.tool_calls, whole.choices[0].message.tool_calls, strict=True
    )
    for ours, theirs in calls:
        assert ours.function.name == theirs.function.name
        assert ours.function.arguments == theirs.function.arguments
        assert ours.id == theirs.id


def test_the_openai_sdk_assembles_a_streamed_response_equal_to_the_unstreamed_one(practice, sdk):
    practice.script(RICH, RICH)
    whole = sdk.responses.create(model="m", input="Hi")
    with sdk.responses.stream(model="m", input="Hi") as stream:
        final = stream.get_final_response()
    assert whole.output_text == RICH.text
    assert final.to_dict(warnings=False)["output"][0] == whole.to_dict()["output"][0]
    assert final.output_text == whole.output_text
    assert final.usage == whole.usage


def test_the_openai_sdk_lists_the_model_and_raises_its_own_errors(practice, sdk):
    from streamll.testing import Fault

    assert [model.id for model in sdk.models.list()] == ["practice-model"]
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    practice.script(Fault(status=429, retry_after=3), Fault(status=401))
    with pytest.raises(openai.RateLimitError) as limited:
        sdk.chat.completions.create(**asked)
    assert limited.value.response.headers["retry-after"] == "3"
    with pytest.raises(openai.AuthenticationError):
        sdk.chat.completions.create(**asked)
    practice.script(Reply("ab cd", fault=Fault(error_after=1, message="Boom")))
    with pytest.raises(openai.APIError, match="Boom"):
        list(sdk.chat.completions.create(**asked, stream=True))


ENGINES = [
    ("openai", "lm15"),
    ("responses", "lm15"),
    ("anthropic", "lm15"),
    ("gemini", "lm15"),
    ("openai", "litellm"),
    ("gemini", "litellm"),
    ("anthropic", "litellm"),  # LiteLLM's Responses client needs the package `mcp`
]


@pytest.mark.parametrize(("wire", "engine"), ENGINES)
def test_dspys_engines_read_every_part_of_a_reply(practice, wire, engine):
    practice.script(RICH)
    lm = practice.lm(wire, model="gpt-4o-mini", engine=engine)
    [output] = lm("Hi")
    [entry] = lm.history
    assert output["text"] == RICH.text
    assert output["reasoning_content"] == RICH.thinking
    assert [(call["function"]["name"]) for call in output["tool_calls"]] == ["search", "clock"]
    if wire == "anthropic" or (wire, engine) == ("gemini", "lm15"):
        assert output["citations"]
    usage = entry["usage"]
    assert usage["completion_tokens"] == 20
    served = "gpt-4o-mini" if (wire, engine) == ("gemini", "lm15") else "served-model-2025"
    assert entry["response_model"] == served  # lm15 does not read this wire's ``modelVersion``
