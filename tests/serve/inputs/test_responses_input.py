"""The input of OpenAI's responses as messages, and what of a response is the next one's input."""

from __future__ import annotations

import base64

import pytest

from serve.runs import RUNS
from streamll.core.errors import InvalidInputs
from streamll.serve.formats import RenderOptions
from streamll.serve.formats.openai_responses import ResponsesFormat
from streamll.serve.formats.output_items import REFUSAL
from streamll.serve.inputs.messages import Attachment, Message, Text, ToolCall, ToolResult
from streamll.serve.inputs.wires import openai_responses as wire

PNG = "data:image/png;base64," + base64.b64encode(b"pixels").decode()


def read(*items, **more):
    return wire.messages_of({"input": list(items), **more})


def parts_of(*content):
    [message] = read({"role": "user", "content": list(content)})
    return message.parts


def test_a_text_is_a_message_of_the_user():
    assert wire.messages_of({"input": "Why?", "instructions": "be kind"}) == [
        Message("system", (Text("be kind", "instructions"),), "instructions"),
        Message("user", (Text("Why?", "input.content"),), "input"),
    ]
    assert wire.messages_of({}) == []


def test_messages_have_the_roles_of_chats():
    found = read(
        {"role": "developer", "content": "d"},
        {"type": "message", "role": "assistant", "content": [
            {"type": "output_text", "text": "one ", "annotations": []}, {"type": "refusal", "refusal": "two"},
        ]},
    )  # fmt: skip
    assert [(m.role, m.text, m.place) for m in found] == [
        ("system", "d", "input[0]"),
        ("assistant", "one two", "input[1]"),
    ]


def test_attachments_keep_their_place():
    place = "input[0].content[0]"
    [image] = parts_of({"type": "input_image", "image_url": PNG, "detail": "auto"})
    assert image == Attachment(kind="image", url=PNG, place=place)
    [named] = parts_of({"type": "input_image", "file_id": "file-1"})
    assert (named.url, named.file_id) == (None, "file-1")
    [sound] = parts_of({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})
    assert (sound.kind, sound.url) == ("audio", "data:audio/wav;base64,AAAA")
    [there] = parts_of({"type": "input_file", "file_url": "https://example.org/a.pdf"})
    assert (there.kind, there.url) == ("file", "https://example.org/a.pdf")
    [here] = parts_of({"type": "input_file", "file_data": "AAAA", "filename": "a.pdf"})
    assert (here.url, here.filename) == ("data:application/octet-stream;base64,AAAA", "a.pdf")


def test_tool_calls_and_their_outputs():
    call, result, own, done, _ = read(
        {"type": "function_call", "call_id": "c1", "name": "search", "arguments": '{"q": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "it"}]},
        {"type": "mcp_call", "id": "m1", "name": "look", "arguments": "{}", "output": None, "error": {"content": "KeyError"}},
        {"type": "reasoning", "id": "r", "summary": []},
        {"role": "user", "content": "q"},
    )  # fmt: skip
    assert call.parts == (ToolCall(id="c1", name="search", arguments='{"q": 1}'),)
    assert result.parts == (ToolResult(id="c1", value="it"),)
    assert own.parts == (ToolCall(id="m1", name="look"),)
    [failed] = done.parts
    assert (failed.name, failed.value, failed.failed) == ("look", {"content": "KeyError"}, True)


def test_every_item_that_cannot_be_read_is_named():
    with pytest.raises(InvalidInputs) as caught:
        read(3, {"role": "user", "content": 3}, {"type": "compaction"}, {"type": "function_call_output"}, {"role": "user", "content": [{"type": "input_image", "image_url": 3}]})  # fmt: skip
    assert [each.place for each in caught.value.problems] == [
        "input[0]", "input[1].content", "input[2]", "input[3].call_id", "input[4].content[0].image_url",
    ]  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_what_a_response_said_can_be_read_again(run):
    form = ResponsesFormat(RenderOptions(text="answer"))
    for event in RUNS[run]():
        form.feed(event)
    output = form.response()["output"]
    kept, sent_back = wire.as_input(output), output
    for items in (kept, sent_back):
        found = read(*items)
        said = "".join(m.text for m in found if m.role == "assistant")
        assert said == "".join(p.text for p in form.texts if p.reply or p.key[2] == REFUSAL)
        calls = [part for m in found for part in m.parts if isinstance(part, ToolCall)]
        assert len(calls) == sum(item["type"].endswith("_call") for item in output)
