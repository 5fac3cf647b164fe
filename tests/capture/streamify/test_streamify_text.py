"""C9, X1, X3: the text of a field as its reader gets it, whatever the reply."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from difficult_replies import anything, chat_reply, json_reply, sizes, xml_reply
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy_and_ours import read_all
from hypothesis import HealthCheck, given, settings

import streamll
from streamll import testing
from streamll.testing import Fault, Reply

CHAT = "[[ ## reasoning ## ]]\n{}\n\n[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]\n"


def streaming(*names, program=None, **options):
    qa = program or dspy.Predict("question -> reasoning, answer")
    listeners = [streamll.StreamListener(name) for name in names or ("reasoning", "answer")]
    return streamll.streamify(qa, stream_listeners=listeners, **options)


# --- boundaries and last chunks ---------------------------------------------------------------------


def test_boundaries_are_the_providers_where_nothing_is_held(practice, lm):
    words = ["To", " get", " to", " the", " other", " side"]
    practice.script(Reply(chunks=["[[ ## reasoning ## ]]\n", *words, "\n\n[[ ## answer ## ]]\n"]))
    said = read_all(streaming("reasoning")(question="?"))
    assert [chunk.chunk for chunk in said.chunks if chunk.chunk][: len(words)] == words


@pytest.mark.parametrize(
    "adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter, BAMLAdapter]
)
@pytest.mark.parametrize("chunk", [1, 5, "token", "whole"])
@pytest.mark.parametrize("answer", ["short", ""])
def test_each_text_field_has_exactly_one_last_chunk(practice, adapter, chunk, answer):
    """Empty fields too; nothing of a field follows it."""
    practice.script(Reply({"reasoning": "because of this", "answer": answer}, chunk=chunk))
    with dspy.context(lm=practice.lm(), adapter=adapter()):
        said = read_all(streaming()(question="?"))
    assert said.error is None
    for name, text in [("reasoning", "because of this"), ("answer", answer)]:
        *earlier, last = said.of(name)
        assert (last.is_last_chunk, last.chunk) == (True, "")
        assert not any(chunk.is_last_chunk for chunk in earlier)
        assert "".join(chunk.chunk for chunk in earlier) == text == said.prediction[name]


def test_a_field_ends_as_soon_as_the_next_begins(practice, lm):
    practice.script(Reply(CHAT.format("so", "never seen"), hold_after=13))

    async def main():
        seen = []
        async for value in streaming()(question="?"):
            seen.append(value)
            if getattr(value, "is_last_chunk", False):
                break
        return seen

    seen = asyncio.run(asyncio.wait_for(main(), 60))
    assert [(chunk.signature_field_name, chunk.chunk) for chunk in seen] == [
        ("reasoning", "so"),
        ("reasoning", ""),
    ]


# --- attempts ---------------------------------------------------------------------------------------


def test_a_retry_resets_what_was_said(practice, lm):
    """X4: a reader that minds resets has the text of the attempt that counts."""
    broken = Reply(CHAT.format("one two three", "four"), fault=Fault(disconnect_after=9))
    practice.script(broken, CHAT.format("five six", "seven"))
    with dspy.context(lm=practice.lm(num_retries=1)):
        said = read_all(streaming()(question="?"))
    (reset,) = [chunk for chunk in said.chunks if isinstance(chunk, streamll.StreamReset)]
    assert (reset.signature_field_name, reset.chunk, reset.text) == ("reasoning", "", "")
    assert reset.predict_name == "self"
    before = said.chunks[: said.chunks.index(reset)]
    assert "".join(chunk.chunk for chunk in before).startswith("one")
    assert not any(chunk.is_last_chunk for chunk in before)
    assert {chunk.attempt for chunk in said.chunks[len(before) + 1 :]} == {1}
    assert said.text("reasoning") == said.prediction.reasoning == "five six"
    assert said.text("answer") == said.prediction.answer == "seven"


def test_the_fallback_to_json_resets_every_field(practice, lm):
    practice.script(
        "[[ ## reasoning ## ]]\nwithout an answer\n\n[[ ## completed ## ]]",
        '{"reasoning": "in \\"JSON\\"", "answer": "x"}',
    )
    said = read_all(streaming()(question="?"))
    (reset,) = [chunk for chunk in said.chunks if isinstance(chunk, streamll.StreamReset)]
    assert reset.reason == "fallback"
    assert said.text("reasoning") == said.prediction.reasoning == 'in "JSON"'
    after = said.chunks[said.chunks.index(reset) :]
    assert sum(chunk.is_last_chunk for chunk in after) == 2


def test_a_value_that_differs_from_the_text_is_told(practice):
    """X1: JSON's null in a text field; the reset's text is the value."""
    practice.script('{"reasoning": null, "answer": "fine"}')
    with dspy.context(lm=practice.lm(), adapter=dspy.JSONAdapter()):
        said = read_all(streaming()(question="?"))
    for name in ("reasoning", "answer"):
        assert said.text(name) == str(said.prediction[name])


@pytest.mark.since_3_4  # older ChatAdapters fall back to JSON after any error
def test_an_error_ends_the_stream_with_the_programs_exception(practice, lm):
    """C6: what was certain is there, no field is called complete."""
    practice.script(Reply(CHAT.format("one two", "three"), fault=Fault(error_after=8)))
    with dspy.context(lm=practice.lm(num_retries=0)):
        said = read_all(streaming()(question="?"))
        with pytest.raises(type(said.error)):
            practice.script(Reply(CHAT.format("a", "b"), fault=Fault(error_after=8)))
            dspy.Predict("question -> reasoning, answer")(question="?")
    assert said.text("reasoning").startswith("one")
    assert not any(chunk.is_last_chunk for chunk in said.chunks)
    assert said.prediction is None


class Failing(dspy.Module):
    def forward(self, question):
        try:
            raise LookupError("cause")
        except LookupError as cause:
            raise RuntimeError("effect") from cause


@pytest.mark.parametrize("async_streaming", [True, False])
def test_the_programs_own_error_keeps_its_cause(async_streaming):
    streaming_failing = streamll.streamify(Failing(), async_streaming=async_streaming)
    if async_streaming:
        error = read_all(streaming_failing(question="?")).error
    else:
        with pytest.raises(RuntimeError) as caught:
            list(streaming_failing(question="?"))
        error = caught.value
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, LookupError)


# --- the end ----------------------------------------------------------------------------------------


def test_a_cache_hit_gives_the_prediction_alone(practice):
    """C8: even without ``include_final_prediction_in_output_stream``."""
    practice.respond(lambda request: {"reasoning": "so", "answer": ""})
    with dspy.context(lm=practice.lm(cache=True), adapter=dspy.ChatAdapter()):
        for include in (True, False):
            for called in (1, 2):
                said = read_all(
                    streaming(include_final_prediction_in_output_stream=include)(
                        question=f"cached? {include}"
                    )
                )
                cached = called == 2
                assert bool(said.chunks) is not cached
                assert (said.prediction is not None) is (cached or include)
        raw = read_all(
            streamll.streamify(dspy.Predict("question -> reasoning, answer"))(
                question="cached? True"
            )
        )
    assert len(raw.values) == 1
    assert len(practice.requests) == 2


def test_without_anything_heard_the_prediction_comes_anyway():
    def program():
        return dspy.Prediction(answer="x")

    streaming_nothing = streamll.streamify(program, include_final_prediction_in_output_stream=False)
    said = read_all(streaming_nothing())
    assert said.prediction.answer == "x"


def test_what_is_no_prediction_comes_as_it_is():
    assert read_all(streamll.streamify(lambda: "plain")()).values == ["plain"]


# --- any reply --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    with testing.PracticeServer() as server:
        yield server


def cut(text, sizes):
    chunks = []
    while text:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(text[:size])
        text = text[size:]
    return chunks


def outcome(server, adapter):
    """What the program itself makes of the reply: a prediction, or an error's type."""
    with dspy.context(lm=server.lm(), adapter=adapter):
        try:
            return dspy.Predict("question -> reasoning, answer")(question="?").toDict()
        except Exception as error:
            return type(error)


def check(server, adapter, reply, sizes):
    try:
        reply.encode()
    except UnicodeEncodeError:
        return
    server.requests.clear()
    server.respond(lambda _: Reply(chunks=cut(reply, sizes)))  # asked again where pieces repeat
    expected = outcome(server, adapter)
    with dspy.context(lm=server.lm(), adapter=adapter):
        said = read_all(streaming()(question="?"))
    if isinstance(expected, type):
        assert type(said.error) is expected
        return
    assert said.error is None
    assert said.prediction.toDict() == expected
    for name in ("reasoning", "answer"):
        value = said.prediction.get(name)
        assert said.text(name) == ("" if value is None else value)


quick = settings(
    max_examples=min(settings.default.max_examples, 300), suppress_health_check=list(HealthCheck)
)
"""Every example is two calls; the properties of ``test_exact`` make many more."""


@quick
@given(chat_reply | anything, sizes)
def test_any_chat_reply(server, reply, sizes):
    check(server, dspy.ChatAdapter(use_json_adapter_fallback=False), reply, sizes)


@quick
@given(json_reply | anything, sizes)
def test_any_json_reply(server, reply, sizes):
    check(server, dspy.JSONAdapter(), reply, sizes)


@quick
@given(xml_reply() | anything, sizes)
@pytest.mark.since_3_4  # older XMLAdapters take other options
def test_any_xml_reply(server, reply, sizes):
    check(server, dspy.XMLAdapter(use_json_adapter_fallback=False), reply, sizes)
