"""Chunks that come from elsewhere, go elsewhere, or are not text."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from unittest import mock

import anyio.from_thread
import dspy
import msgspec
import pytest
from dspy.adapters.types import Type
from dspy.clients.call_result import attributes
from dspy.clients.engines.streaming import EngineChunk
from dspy.experimental import Citations
from dspy.utils.dummies import DummyLM
from dspy_and_ours import BOTH, DSPY, OURS, read, read_all

import streamll
from streamll.testing import Fault, Reply, ToolCall

pytestmark = pytest.mark.since_3_4  # chunks of its engines

REPLY = "[[ ## answer ## ]]\nHow are you?\n\n[[ ## completed ## ]]\n"


# --- no listener: a provider's chunks as they are -------------------------------------------------


@pytest.mark.parametrize("program_is_async", [False, True])
@pytest.mark.parametrize("side", BOTH, ids=lambda side: side.name)
def test_without_listeners_raw_chunks_come(practice, lm, side, program_is_async):
    """C1: the same class, the same text, the same end."""
    qa = dspy.Predict("question -> answer")
    practice.script(Reply(REPLY, thinking="Hm."))
    said = read_all(side.streamify(qa, is_async_program=program_is_async)(question="?"))
    *chunks, prediction = said.values
    assert {type(chunk) for chunk in chunks} == {EngineChunk}
    assert {chunk.predict_id for chunk in chunks} == {id(qa)}
    assert len({chunk.id for chunk in chunks}) == 1
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == REPLY
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm."
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert prediction.answer == "How are you?"


def test_raw_tool_calls_are_put_as_dspy_puts_them(practice, lm):
    """C1."""

    class Calling(dspy.Signature):
        question: str = dspy.InputField()
        tools: list[dspy.Tool] = dspy.InputField()
        calls: dspy.ToolCalls = dspy.OutputField()

    def search(q: str) -> str:
        return q

    said = {}
    for side in BOTH:
        practice.script(Reply("", tool_calls=[ToolCall("search", {"q": "x"})]))
        adapter = dspy.ChatAdapter(use_native_function_calling=True)
        with dspy.context(adapter=adapter):
            streaming = side.streamify(dspy.Predict(Calling))
            values = read_all(streaming(question="?", tools=[dspy.Tool(search)])).values
        choices = [value.choices[0] for value in values if isinstance(value, EngineChunk)]
        calls = [call for c in choices for call in c.delta.get("tool_calls", ())]
        assert "".join(call.function.arguments for call in calls) == '{"q": "x"}'
        said[side.name] = (
            {call.function.get("name") for call in calls} - {None},
            {call.get("id") for call in calls} - {None},
            [choice.finish_reason for choice in choices if choice.finish_reason],
        )
    assert said["streamll"] == said["dspy"]


@pytest.mark.parametrize("side", BOTH, ids=lambda side: side.name)
def test_an_lm_that_does_not_stream_has_no_raw_chunks(side):
    """C1: DSPy's ``DummyLM``; its fields can be listened to, here."""
    qa = dspy.Predict("question -> answer")
    answers = [{"answer": "red"}, {"answer": "red"}]
    with dspy.context(lm=DummyLM(answers), adapter=dspy.ChatAdapter()):
        raw = read_all(side.streamify(qa)(question="?"))
        listeners = [side.StreamListener("answer")]
        said = read_all(side.streamify(qa, stream_listeners=listeners)(question="?"))
    assert [type(value) for value in raw.values] == [dspy.Prediction]
    assert said.text("answer") == ("" if side is DSPY else "red")


def test_every_predictor_speaks_without_listeners(practice, lm):
    class Two(dspy.Module):
        def __init__(self):
            self.first = dspy.Predict("question -> answer")
            self.second = dspy.Predict("question -> answer")

        def forward(self, question):
            self.first(question=question)
            return self.second(question=question)

    program = Two()
    practice.script(REPLY, REPLY)
    said = read_all(streamll.streamify(program)(question="?"))
    ids = [chunk.predict_id for chunk in said.values if isinstance(chunk, EngineChunk)]
    assert list(dict.fromkeys(ids)) == [id(program.first), id(program.second)]


def test_a_retry_of_raw_chunks_is_announced(practice, lm):
    """X3, X4."""
    practice.script(Reply(REPLY, fault=Fault(disconnect_after=3)), REPLY)
    with dspy.context(lm=practice.lm(num_retries=1)):
        said = read_all(streamll.streamify(dspy.Predict("question -> answer"))(question="?"))
    (place,) = [i for i, v in enumerate(said.values) if isinstance(v, streamll.StreamReset)]
    rest = said.values[place + 1 : -1]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in rest) == REPLY


# --- chunks of LiteLLM's, put in its place by a test ----------------------------------------------


def litellm_chunks(*texts, **delta):
    from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices

    deltas = [Delta(content=text) for text in texts] or [Delta(**delta)]
    return [
        ModelResponseStream(model="gpt-4o-mini", choices=[StreamingChoices(delta=delta)])
        for delta in deltas
    ]


def streaming_of(chunks):
    async def completion(*_args, **_options):
        async def stream():
            for chunk in chunks:
                yield chunk

        return stream()

    return mock.patch("litellm.acompletion", side_effect=completion)


PIECES = ["[[ ##", " answer", " ## ]]\n", "How", " are", " you?", "\n\n[[ ##", " completed ## ]]"]


@pytest.mark.parametrize("program_is_async", [False, True])
def test_a_mocked_litellm_is_served(program_is_async):
    """C1: a test that puts chunks in LiteLLM's place needs no change."""
    lm = dspy.LM("openai/gpt-4o-mini", cache=False, engine="litellm", api_key="none")
    for side in BOTH:
        qa = dspy.Predict("question -> answer")
        listeners = [side.StreamListener("answer")]
        options = {"is_async_program": program_is_async}
        with streaming_of(litellm_chunks(*PIECES)), dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
            said = read_all(side.streamify(qa, stream_listeners=listeners, **options)(question="?"))
            raw = read_all(side.streamify(qa, **options)(question="?"))
        assert said.error is None
        assert said.text("answer") == said.prediction.answer == "How are you?"
        assert sum(chunk.is_last_chunk for chunk in said.chunks) == 1
        assert {type(value).__name__ for value in raw.values[:-1]} == {"ModelResponseStream"}
        assert len(raw.values) == len(PIECES) + 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_real_litellm_is_heard_below_its_own_streaming(practice, asynchronous):
    """X3: its call is the plain one; the chunks are made of what is heard."""
    practice.script(REPLY)
    lm = practice.lm(engine="litellm")
    qa = dspy.Predict("question -> answer")
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        streaming = streamll.streamify(
            qa,
            stream_listeners=[streamll.StreamListener("answer")],
            is_async_program=asynchronous,
        )
        said = read_all(streaming(question="?"))
    assert said.text("answer") == "How are you?"
    assert len(said.chunks) > 3


# --- chunks that a custom LM or the program sends ---------------------------------------------------


def engine_chunk(text, predict_id=None, finish_reason=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return EngineChunk(id="1", model="own", predict_id=predict_id, choices=[attributes(choice)])


class OwnLM(dspy.BaseLM):
    """A custom LM that sends what it gets to ``send_stream``, as DSPy's documentation shows."""

    def __init__(self):
        super().__init__(model="own/model", cache=False)

    def forward(self, prompt=None, messages=None, **kwargs):
        stream = dspy.settings.send_stream
        if stream is not None:
            for piece in PIECES:
                anyio.from_thread.run(stream.send, engine_chunk(piece, id(self.predictor)))
        message = attributes({"content": "".join(PIECES), "tool_calls": None})
        return attributes(
            {
                "model": "own/model",
                "usage": {},
                "choices": [{"message": message, "finish_reason": "stop"}],
            }
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("side", BOTH, ids=lambda side: side.name)
def test_a_custom_lm_that_sends_engine_chunks_is_served(side):
    qa = dspy.Predict("question -> answer")
    lm = OwnLM()
    lm.predictor = qa
    streaming = side.streamify(qa, stream_listeners=[side.StreamListener("answer")])
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        said = read_all(streaming(question="?"))
    assert said.error is None
    assert said.text("answer") == said.prediction.answer == "How are you?"


def test_lm_chunks_from_the_program_itself_are_read():
    """C1: no LM call at all; the chunk names the predictor."""

    class Program(dspy.Module):
        def __init__(self):
            self.qa = dspy.Predict("question -> answer")

        def forward(self, question):
            for piece in PIECES:
                chunk = engine_chunk(piece, id(self.qa))
                anyio.from_thread.run(dspy.settings.send_stream.send, chunk)
            return dspy.Prediction(answer="How are you?")

    for side in BOTH:
        streaming = side.streamify(Program(), stream_listeners=[side.StreamListener("answer")])
        said = read_all(streaming(question="?"))
        assert said.text("answer") == "How are you?"
    assert [chunk.is_last_chunk for chunk in said.chunks].count(True) == 1


@dataclasses.dataclass
class Own:
    number: int


class Sending(dspy.Module):
    def __init__(self):
        self.qa = dspy.Predict("question -> answer")

    def forward(self, question):
        anyio.from_thread.run(dspy.settings.send_stream.send, Own(1))
        prediction = self.qa(question=question)
        anyio.from_thread.run(dspy.settings.send_stream.send, Own(2))
        return prediction

    async def aforward(self, question):
        await dspy.settings.send_stream.send(Own(1))
        prediction = await self.qa.acall(question=question)
        await dspy.settings.send_stream.send(Own(2))
        return prediction


@pytest.mark.parametrize("async_streaming", [False, True])
@pytest.mark.parametrize("program_is_async", [False, True])
def test_custom_chunks_pass_through_in_their_place(practice, lm, program_is_async, async_streaming):
    """C1."""
    for side in BOTH:
        practice.script(REPLY)
        streaming = side.streamify(
            Sending(),
            stream_listeners=[side.StreamListener("answer")],
            is_async_program=program_is_async,
            async_streaming=async_streaming,
        )
        stream = streaming(question="?")
        values = read_all(stream).values if async_streaming else list(stream)
        first, *chunks, last, prediction = values
        assert (first, last) == (Own(1), Own(2))
        assert "".join(chunk.chunk for chunk in chunks) == "How are you?"
        assert prediction.answer == "How are you?"


def test_thousands_of_custom_chunks_wait_for_a_slow_reader():
    class Program(dspy.Module):
        def forward(self):
            for number in range(3000):
                anyio.from_thread.run(dspy.settings.send_stream.send, Own(number))
            return dspy.Prediction(answer="done")

    async def main():
        numbers = []
        async for value in streamll.streamify(Program())():
            if isinstance(value, Own):
                numbers.append(value.number)
                await asyncio.sleep(0)
        return numbers

    # each waits for two switches between threads
    assert asyncio.run(asyncio.wait_for(main(), 300)) == list(range(3000))


def test_the_lm_call_does_not_see_the_stream(practice, lm):
    """X3: so its retries, fallback, cache and threads are those of a call without streaming."""
    seen = {}

    class Program(dspy.Module):
        def __init__(self):
            self.qa = dspy.Predict("question -> answer")

        def forward(self, question):
            seen["program"] = dspy.settings.send_stream is not None
            with mock.patch("dspy.clients.execution._attempt", wraps=attempt) as patched:
                bare = dspy.settings.lm("hello")
                prediction = self.qa(question=question)
                assert patched.call_count == 2
            seen["after"] = dspy.settings.send_stream is not None
            assert bare
            return prediction

    from dspy.clients import execution

    original = execution._attempt

    def attempt(*args):
        seen.setdefault("lm", []).append(dspy.settings.send_stream)
        return original(*args)

    practice.script("hello", REPLY)
    said = read_all(streamll.streamify(Program())(question="?"))
    assert said.error is None
    assert seen == {"program": True, "lm": [None, None], "after": True}


def test_a_malformed_reply_falls_back_to_json(practice, lm):
    """X3: inside ``dspy.streamify`` this raises."""
    for side in BOTH:
        practice.script("no headers at all", *(['{"answer": "in JSON"}'] if side is OURS else []))
        qa = dspy.Predict("question -> answer")
        said = read_all(
            side.streamify(qa, stream_listeners=[side.StreamListener("answer")])(question="?")
        )
        if side is DSPY:
            assert type(said.error).__name__ == "AdapterParseError"
    assert said.text("answer") == said.prediction.answer == "in JSON"


class Inheriting(dspy.LM):
    """A plugin whose calls go on to DSPy's own."""

    def forward(self, prompt=None, messages=None, **options):
        return super().forward(prompt=prompt, messages=messages, **options)

    async def aforward(self, prompt=None, messages=None, **options):
        return await super().aforward(prompt=prompt, messages=messages, **options)


class Delegating(dspy.LM):
    """A plugin that asks another LM."""

    def __init__(self, model, **options):
        super().__init__(model, **options)
        self.other = dspy.LM(model, **options)

    def forward(self, prompt=None, messages=None, **options):
        return self.other.forward(prompt=prompt, messages=messages, **options)

    async def aforward(self, prompt=None, messages=None, **options):
        return await self.other.aforward(prompt=prompt, messages=messages, **options)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("engine", ["lm15", "litellm"])
@pytest.mark.filterwarnings("ignore:Implementing custom LMs")
@pytest.mark.parametrize("plugin", [Inheriting, Delegating])
def test_calls_that_a_plugin_makes_do_not_see_the_stream(
    practice, plugin, engine, asynchronous, monkeypatch
):
    """X3: they are tried again after a cut, fall back to JSON, and leave the same cache records."""
    made = practice.lm(engine=engine)
    records = []

    def outcome(call):
        practice.script(
            Reply(REPLY, chunk=4, fault=Fault(disconnect_after=7)),
            "no headers",
            '{"answer": "yes"}',
        )
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
        put = dspy.cache.put
        records.append([])

        def keep(request, value, *rest, **options):
            records[-1].append((request, sorted(value)))
            return put(request, value, *rest, **options)

        monkeypatch.setattr(dspy.cache, "put", keep)
        lm = plugin(made.model, **made.kwargs, engine=engine, cache=True)
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
            return call(dspy.Predict("question -> answer"))

    async def streamed(qa):
        listeners = [streamll.StreamListener("answer")]
        said = await read(
            streamll.streamify(qa, stream_listeners=listeners, is_async_program=asynchronous)(
                question="?"
            )
        )
        assert said.error is None
        assert said.text("answer") == said.prediction.answer
        assert sum(isinstance(chunk, streamll.StreamReset) for chunk in said.chunks) == 1
        return said.prediction.toDict()

    plain = outcome(
        lambda qa: asyncio.run(qa.acall(question="?")) if asynchronous else qa(question="?")
    )
    assert outcome(lambda qa: asyncio.run(streamed(qa))) == plain.toDict() == {"answer": "yes"}
    assert len(practice.requests) == 6
    assert records[0] == records[1] != []


# --- types that are read from chunks ----------------------------------------------------------------


class Thoughtful(dspy.Signature):
    question: str = dspy.InputField()
    reasoning: dspy.Reasoning = dspy.OutputField()
    answer: str = dspy.OutputField()


@pytest.mark.parametrize("native", [True, False])
def test_reasoning_comes_from_the_model_or_the_text(practice, native):
    """C3: native or not, it is the field's text; a native field has no closing chunk."""
    reply = REPLY if native else "[[ ## reasoning ## ]]\nFirst. Then.\n\n" + REPLY
    practice.script(Reply(reply, thinking="First. Then." if native else ""))
    adapter = dspy.ChatAdapter(native_response_types=[dspy.Reasoning] if native else [])
    names = ("reasoning", "answer")
    streaming = streamll.streamify(
        dspy.Predict(Thoughtful), stream_listeners=[streamll.StreamListener(n) for n in names]
    )
    with (
        mock.patch.object(dspy.LM, "supports_reasoning", new=native, create=True),
        dspy.context(lm=practice.lm("anthropic"), adapter=adapter),
    ):
        said = read_all(streaming(question="?"))
    assert said.error is None
    assert said.text("reasoning") == said.prediction.reasoning.content == "First. Then."
    assert said.text("answer") == "How are you?"
    last = [chunk.signature_field_name for chunk in said.chunks if chunk.is_last_chunk]
    assert last == (["answer"] if native else ["reasoning", "answer"])


class Shout(Type):
    words: str

    @classmethod
    def is_streamable(cls):
        return True

    @classmethod
    def adapt_to_native_lm_feature(cls, signature, field_name, lm, lm_kwargs):
        return signature.delete(field_name)

    @classmethod
    def parse_stream_chunk(cls, chunk):
        if chunk.choices[0].delta.content == " are":
            raise ValueError("a type's own mistake")
        content = chunk.choices[0].delta.content
        return cls(words=content.upper()) if content else None

    @classmethod
    def parse_lm_response(cls, response):
        return cls(words=str(response))


class Shouting(dspy.Signature):
    question: str = dspy.InputField()
    answer: Shout = dspy.OutputField()


def test_a_custom_streamable_type_reads_the_chunks(practice):
    practice.script(Reply(chunks=["How", " are", " you"]))
    streaming = streamll.streamify(
        dspy.Predict(Shouting), stream_listeners=[streamll.StreamListener("answer")]
    )
    adapter = dspy.ChatAdapter(native_response_types=[Shout])
    with dspy.context(lm=practice.lm(), adapter=adapter):
        said = read_all(streaming(question="?"))
    assert [chunk.chunk.words for chunk in said.chunks] == ["HOW", " YOU"]
    assert not any(chunk.is_last_chunk for chunk in said.chunks)
    assert isinstance(said.prediction.answer, Shout)


class Cited(dspy.Signature):
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: Citations = dspy.OutputField()


def test_citations_come_from_the_chunks():
    citation = {
        "type": "char_location", "cited_text": "water boils", "document_index": 0,
        "document_title": "Physics", "start_char_index": 0, "end_char_index": 11,
    }  # fmt: skip
    cited = litellm_chunks(content="", provider_specific_fields={"citation": citation})
    chunks = [*litellm_chunks(*PIECES[:5]), *cited, *litellm_chunks(*PIECES[5:])]
    lm = dspy.LM("anthropic/claude-3", cache=False, engine="litellm", api_key="none")
    streaming = streamll.streamify(
        dspy.Predict(Cited),
        stream_listeners=[streamll.StreamListener("answer"), streamll.StreamListener("citations")],
    )
    adapter = dspy.ChatAdapter(native_response_types=[Citations])
    with streaming_of(chunks), dspy.context(lm=lm, adapter=adapter):
        said = read_all(streaming(question="?"))
    assert said.error is None
    (chunk,) = said.of("citations")
    assert chunk.chunk[0].cited_text == "water boils"
    assert said.text("answer") == "How are you?"


# --- redact: it gets events, and raw chunks are none ------------------------------------------------


def shout(event):
    """Only what it has seen leaves."""
    if event.event_type == "token":
        return msgspec.structs.replace(event, token=event.token.upper())
    return None


@pytest.mark.parametrize("listens", [False, True])
def test_nothing_passes_by_redact(practice, lm, caplog, listens):
    practice.script(Reply(REPLY, thinking="Hm."))
    listeners = [streamll.StreamListener("answer")] if listens else None
    with streamll.configure(redact=shout):
        streaming = streamll.streamify(
            dspy.Predict("question -> answer"), stream_listeners=listeners
        )
        said = read_all(streaming(question="?"))
    assert said.text("answer") == ("HOW ARE YOU?" if listens else "")
    assert said.values == [*said.chunks, said.prediction]
    assert said.prediction.answer == "How are you?"  # the program's result stays what it is
    told = [m for m in caplog.messages if "raw chunks, which redact cannot mask" in m]
    assert len(told) == (not listens)


def test_redact_gets_reasoning_as_text(practice):
    practice.script(Reply(REPLY, thinking="First. Then."))
    adapter = dspy.ChatAdapter(native_response_types=[dspy.Reasoning])
    listeners = [streamll.StreamListener("reasoning")]
    streaming = streamll.streamify(dspy.Predict(Thoughtful), stream_listeners=listeners)
    with (
        mock.patch.object(dspy.LM, "supports_reasoning", new=True, create=True),
        dspy.context(lm=practice.lm("anthropic"), adapter=adapter),
        streamll.configure(redact=shout),
    ):
        said = read_all(streaming(question="?"))
    assert said.text("reasoning") == "FIRST. THEN."


def test_values_that_are_read_from_chunks_do_not_pass_by_redact(practice, caplog):
    practice.script(Reply(chunks=["How", " are", " you"]))
    listeners = [streamll.StreamListener("answer")]
    streaming = streamll.streamify(dspy.Predict(Shouting), stream_listeners=listeners)
    adapter = dspy.ChatAdapter(native_response_types=[Shout])
    with dspy.context(lm=practice.lm(), adapter=adapter), streamll.configure(redact=shout):
        said = read_all(streaming(question="?"))
    assert said.values == [said.prediction]
    assert "reads Shout from raw chunks, which redact cannot mask" in caplog.text


def test_chunks_of_the_program_itself_do_not_pass_by_redact():
    class Program(dspy.Module):
        def forward(self, question):
            for item in (engine_chunk("How", id(self)), "own"):
                anyio.from_thread.run(dspy.settings.send_stream.send, item)

    with streamll.configure(redact=shout):
        said = read_all(streamll.streamify(Program())(question="?"))
    assert said.values == ["own", None]


# --- server-sent events -----------------------------------------------------------------------------


def frames(side, stream) -> list[str]:
    respond = dspy.streaming.streaming_response if side is DSPY else streamll.streaming_response
    return list(asyncio.run(read(respond(stream))).values)


def test_the_frames_are_those_of_dspy(practice, lm):
    """C1: but for ids."""
    said = {}
    for side in BOTH:
        practice.script(REPLY)
        sent = frames(side, side.streamify(dspy.Predict("question -> answer"))(question="?"))
        assert sent.pop() == "data: [DONE]\n\n"
        assert all(frame.startswith("data: ") and frame.endswith("\n\n") for frame in sent)
        bodies = [json.loads(frame[6:]) for frame in sent]
        for body in bodies[:-1]:
            chunk = json.loads(body["chunk"])
            body["chunk"] = [choice["delta"]["content"] for choice in chunk["choices"]]
        said[side.name] = bodies
    assert said["streamll"] == said["dspy"]
    assert said["streamll"][-1] == {"prediction": {"answer": "How are you?"}}


def test_everything_that_is_said_has_a_frame(practice, lm):
    practice.script("no headers at all", '{"answer": "in JSON"}')
    streaming = streamll.streamify(
        dspy.Predict("question -> answer"), stream_listeners=[streamll.StreamListener("answer")]
    )
    kinds = [
        next(iter(json.loads(frame[6:]))) for frame in frames(OURS, streaming(question="?"))[:-1]
    ]
    assert kinds[-1] == "prediction"
    assert set(kinds) == {"response", "prediction"}
    with pytest.raises(ValueError, match="Own has no frame"):
        asyncio.run(consume(streamll.streaming_response(yielding(Own(1)))))


async def yielding(*values):
    for value in values:
        yield value


async def consume(stream):
    return [value async for value in stream]
