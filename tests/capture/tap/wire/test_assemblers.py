"""What servers do that the practice server does not: chat dialects, Gemini, odd events."""

from __future__ import annotations

import pytest
from frames import read

from streamll.capture.tap.wire.anthropic import AnthropicAssembler
from streamll.capture.tap.wire.base import Confused, CutShort, ErrorFrame, MalformedFrame
from streamll.capture.tap.wire.chat import ChatAssembler
from streamll.capture.tap.wire.gemini import GeminiAssembler
from streamll.capture.tap.wire.responses import ResponsesAssembler

DONE = b"[DONE]"


def chunk(delta, **rest):
    choice = {"index": 0, "delta": delta, "finish_reason": rest.pop("finish_reason", None)}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [choice],
        **rest,
    }


def message(*deltas, **rest):
    chat = read(ChatAssembler(), *(chunk(delta) for delta in deltas), chunk({}, **rest), DONE)
    return chat.body()["choices"][0]["message"], chat


# --- chat -----------------------------------------------------------------------------------------


def test_azure_begins_with_an_empty_chunk():
    first = {"id": "", "model": "", "object": "", "created": 0, "choices": [], "prompt_filter": [1]}
    chat = read(ChatAssembler(), first, chunk({"content": "Hi"}, created=5), DONE)
    body = chat.body()
    assert (body["id"], body["model"], body["created"]) == ("c1", "m", 5)
    assert body["object"] == "chat.completion"
    assert body["prompt_filter"] == [1]


def test_every_tool_call_under_index_zero():
    """Ollama and others number all calls 0: a new id with a name is a new call."""
    calls = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"index": 0, "id": "b", "function": {"name": "g", "arguments": '{"x"'}},
        {"index": 0, "function": {"arguments": ":1}"}},
    ]
    said, heard = message(*({"tool_calls": [call]} for call in calls))
    assert [call["function"] for call in said["tool_calls"]] == [
        {"name": "f", "arguments": "{}"},
        {"name": "g", "arguments": '{"x":1}'},
    ]
    assert [call["id"] for call in said["tool_calls"]] == ["a", "b"]
    assert heard.all("tool_call") == [
        (0, "a", "f", "{}"),
        (1, "b", "g", '{"x"'),
        (1, None, None, ":1}"),
    ]


def test_an_id_repeated_with_every_fragment_is_one_call():
    fragments = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": piece}}
        for piece in ('{"q":', "1", "}")
    ]
    said, _ = message(*({"tool_calls": [fragment]} for fragment in fragments))
    assert [call["function"] for call in said["tool_calls"]] == [
        {"name": "f", "arguments": '{"q":1}'}
    ]


def test_pieces_that_begin_alike_by_accident_are_a_reply():
    """Not those of a server that sends all of the text each time."""
    said, _ = message(*({"content": piece} for piece in ('"', '"', '","a')))
    assert said["content"] == '""","a'
    with pytest.raises(Confused, match="repeat"):
        message(*({"content": piece} for piece in ("T", "Te", "Ten")))


def test_tool_calls_without_a_number():
    said, _ = message({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]})
    assert said["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


def test_content_as_a_list_of_blocks():
    """Mistral's reasoning models."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    said, heard = message(
        {"content": [thinking]}, {"content": [{"type": "text", "text": "Hi"}]}, {"content": "!"}
    )
    assert said["content"] == [thinking, {"type": "text", "text": "Hi!"}]
    assert (heard.joined("thinking"), heard.joined("text")) == ("Hm", "Hi!")


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_both_names_of_thinking_are_read(key):
    said, heard = message({key: "a"}, {key: "b"}, {"content": "c"})
    assert (said[key], said["content"]) == ("ab", "c")
    assert (heard.joined("thinking"), heard.joined("text")) == ("ab", "c")


def test_thinking_under_two_names_is_reported_once():
    said, heard = message({"reasoning": "a", "reasoning_content": "a"})
    assert heard.all("thinking") == ["a"]
    assert said["reasoning"] == said["reasoning_content"] == "a"


def test_unknown_fields_are_kept():
    details = [{"type": "x", "text": "a"}], [{"type": "x", "text": "b"}]
    said, _ = message(
        {"reasoning_details": details[0], "odd": 1}, {"reasoning_details": details[1], "odd": 2}
    )
    assert said["reasoning_details"] == [*details[0], *details[1]]
    assert said["odd"] == 2


def test_usage_with_every_chunk_the_last_counts():
    chat = read(
        ChatAssembler(),
        chunk({"content": "a"}, usage={"total_tokens": 1}),
        chunk({"content": "b"}, usage={"total_tokens": 2}),
        chunk({}, finish_reason="stop", usage=None),
    )
    assert chat.body()["usage"] == {"total_tokens": 2}


def test_text_that_looks_like_the_frame_around_it():
    texts = ['{"content":"x"}', '","content":"', "\\", '"', "plain", "more", "[DONE]", "\u2028"]
    said, heard = message(*({"content": text} for text in texts))
    assert heard.all("text") == texts
    assert said["content"] == "".join(texts)


def test_half_a_surrogate_pair_in_each_chunk():
    chat = ChatAssembler()
    for text in (b"\\ud83d", b"\\ude00"):
        chat.frame(b'{"choices":[{"index":0,"delta":{"content":"%s"}}]}' % text)
    chat.frame(DONE)
    assert chat.body()["choices"][0]["message"]["content"] == "\ud83d\ude00"


def test_a_stream_without_any_end_is_cut_short():
    chat = read(ChatAssembler(), chunk({"content": "Hi"}))
    with pytest.raises(CutShort):
        chat.body()


def test_a_finish_reason_or_done_completes_a_reply():
    assert read(ChatAssembler(), chunk({}, finish_reason="stop")).body()
    assert read(ChatAssembler(), chunk({"content": "Hi"}), DONE).body()


@pytest.mark.parametrize("frames", [[DONE], [chunk({"role": "assistant", "content": ""}), DONE]])
def test_a_reply_that_says_nothing_is_cut_short(frames):
    with pytest.raises(CutShort):
        read(ChatAssembler(), *frames).body()


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 502}, 502),
        ({"code": "429"}, 429),
        ({"type": "server_error"}, 500),
        ({"type": "overloaded_error"}, 529),
        ({"code": "rate_limit_exceeded"}, 429),
        ({"type": "insufficient_quota", "code": "insufficient_quota"}, 429),
        ({"code": 8, "status": "RESOURCE_EXHAUSTED"}, 429),
        ({"code": 503, "status": "UNAVAILABLE"}, 503),
        ({"type": "authentication_error"}, 401),
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, 400),
        ({"message": "no kind at all"}, 500),
    ],
)
@pytest.mark.parametrize("assembler", [ChatAssembler, GeminiAssembler])
def test_an_error_in_the_stream_has_the_status_it_would_have_had(assembler, error, status):
    with pytest.raises(ErrorFrame) as raised:
        read(assembler(), {"error": error})
    assert raised.value.status == status


@pytest.mark.parametrize(
    "assembler", [ChatAssembler, ResponsesAssembler, AnthropicAssembler, GeminiAssembler]
)
@pytest.mark.parametrize("data", [b"{", b"nothing", b"[1]", b"3", b'"text"', b"\xff\xfe", b""])
def test_a_frame_that_is_not_an_object_is_malformed(assembler, data):
    with pytest.raises(MalformedFrame):
        assembler().frame(data)


# --- Responses ------------------------------------------------------------------------------------


def test_an_empty_output_is_made_up_of_the_finished_items():
    items = [{"type": "reasoning", "id": "r"}, {"type": "message", "id": "m"}]
    done = [
        {"type": "response.output_item.done", "output_index": index, "item": item}
        for index, item in enumerate(items)
    ]
    final = {"type": "response.completed", "response": {"id": "x", "output": []}}
    body = read(ResponsesAssembler(), *reversed(done), final).body()
    assert body == {"id": "x", "status": "completed", "output": items}


def test_the_order_of_an_event_s_keys_does_not_matter():
    padding = {f"padding_{number}": "x" * 20 for number in range(5)}
    heard = read(
        ResponsesAssembler(), {**padding, "delta": "Hi", "type": "response.output_text.delta"}
    )
    assert heard.joined("text") == "Hi"


def test_a_failed_response_is_the_reply():
    failed = {"id": "x", "status": "failed", "error": {"code": "server_error", "message": "no"}}
    read_to = read(ResponsesAssembler(), {"type": "response.failed", "response": failed})
    assert read_to.body() == failed


# --- Anthropic --------------------------------------------------------------------------------------


def begin(**message):
    return {"type": "message_start", "message": {"id": "m", "content": [], **message}}


def block(index, **content):
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index, **content):
    return {"type": "content_block_delta", "index": index, "delta": content}


STOP = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {"output_tokens": 3},
}


def test_usage_of_the_end_completes_that_of_the_beginning():
    body = read(
        AnthropicAssembler(),
        begin(usage={"input_tokens": 7, "output_tokens": 1}),
        {**STOP, "usage": {"output_tokens": 3, "input_tokens": None}, "context_management": {}},
    ).body()
    assert body["usage"] == {"input_tokens": 7, "output_tokens": 3}
    assert body["stop_reason"] == "end_turn"
    assert body["context_management"] == {}


def test_text_of_several_blocks_stays_apart():
    heard = read(
        AnthropicAssembler(),
        begin(),
        block(0, type="text", text=""),
        delta(0, type="text_delta", text="a"),
        delta(0, type="text_delta", text="b"),
        block(1, type="text", text=""),
        delta(1, type="text_delta", text="c"),
        delta(0, type="text_delta", text="d"),
        delta(1, type="text_delta", text="e"),
        STOP,
    )
    assert [each["text"] for each in heard.body()["content"]] == ["abd", "ce"]
    assert heard.joined("text") == "abcde"


def test_blocks_that_come_whole_stay_whole():
    result = {"type": "web_search_tool_result", "content": [{"url": "u"}]}
    hidden = {"type": "redacted_thinking", "data": "x"}
    said = read(AnthropicAssembler(), begin(), block(0, **result), block(1, **hidden), STOP)
    assert said.body()["content"] == [result, hidden]


def test_an_unknown_kind_of_delta_is_added_to_the_field_of_its_name():
    said = read(
        AnthropicAssembler(),
        begin(),
        block(0, type="compaction", content=""),
        delta(0, type="compaction_delta", content="a"),
        delta(0, type="compaction_delta", content="b"),
        STOP,
    )
    assert said.body()["content"] == [{"type": "compaction", "content": "ab"}]


def test_arguments_cut_off_by_max_tokens_are_empty():
    said = read(
        AnthropicAssembler(),
        begin(),
        block(0, type="tool_use", id="t", name="f", input={}),
        delta(0, type="input_json_delta", partial_json='{"q": "cu'),
        {**STOP, "delta": {"stop_reason": "max_tokens"}},
    )
    assert said.body()["content"][0]["input"] == {}


def test_a_message_without_a_stop_is_cut_short():
    with pytest.raises(CutShort):
        read(AnthropicAssembler(), begin(), block(0, type="text", text="a")).body()
    with pytest.raises(CutShort):
        AnthropicAssembler().body()


# --- Gemini -----------------------------------------------------------------------------------------


def candidate(*parts, **rest):
    content = {"role": "model", "parts": list(parts)} if parts else {"role": "model"}
    return {"candidates": [{"index": 0, "content": content, **rest}], "responseId": "r"}


def test_gemini_text_thinking_and_tools():
    first, second = ({"functionCall": {"name": name, "args": {"q": 1}}} for name in "fg")
    heard = read(
        GeminiAssembler(),
        candidate({"text": "Hm", "thought": True}),
        candidate({"text": "m.", "thought": True}),
        candidate({"text": "Hel"}),
        candidate({"text": "lo"}, first, second, usageMetadata={"n": 1}),
        candidate({"text": ""}, finishReason="STOP", groundingMetadata={"g": 1}),
    )
    body = heard.body()
    assert body["responseId"] == "r"
    only = body["candidates"][0]
    assert only["content"]["parts"] == [
        {"text": "Hmm.", "thought": True},
        {"text": "Hello"},
        first,
        second,
    ]
    assert only["finishReason"] == "STOP"
    assert only["groundingMetadata"] == {"g": 1}
    assert (heard.joined("thinking"), heard.joined("text")) == ("Hmm.", "Hello")
    assert [(index, name) for index, _, name, _ in heard.all("tool_call")] == [(0, "f"), (1, "g")]


def test_a_gemini_signature_closes_a_text():
    signed = {"text": "b", "thoughtSignature": "s"}
    body = read(
        GeminiAssembler(),
        candidate({"text": "a"}),
        candidate(signed),
        candidate({"text": "c"}, finishReason="STOP"),
    ).body()
    assert body["candidates"][0]["content"]["parts"] == [
        {"text": "ab", "thoughtSignature": "s"},
        {"text": "c"},
    ]


def test_a_gemini_reply_of_empty_text_alone_keeps_it():
    body = read(GeminiAssembler(), candidate({"text": ""}, finishReason="STOP")).body()
    assert body["candidates"][0]["content"]["parts"] == [{"text": ""}]


def test_a_blocked_gemini_prompt_is_a_complete_reply():
    feedback = {"promptFeedback": {"blockReason": "SAFETY"}}
    assert read(GeminiAssembler(), feedback).body() == feedback


def test_a_gemini_reply_without_a_finish_reason_is_cut_short():
    with pytest.raises(CutShort):
        read(GeminiAssembler(), candidate({"text": "a"})).body()
