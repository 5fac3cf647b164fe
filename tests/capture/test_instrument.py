"""A1, A2, A10, A15, A16: instrumenting classes and instances without changing them."""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from programs import QA, contiguous

import streamll
from streamll.core.errors import ConfigurationError, UnknownFieldError
from streamll.core.ordering import OrderCheck
from streamll.testing import Fault, Reply


def instrumented(heard, base=QA, **options):
    @streamll.instrument(sinks=[heard], **options)
    class Program(base):
        pass

    return Program


def test_a_bare_decorator_streams_lifecycle_and_no_text(lm, heard, practice):
    """A2: no stream_fields means lifecycle events only, and no streaming request is made."""

    @streamll.instrument
    class Program(QA):
        pass

    with streamll.configure(sinks=[heard]):
        result = Program()("Why?")
    assert isinstance(result, dspy.Prediction)
    assert heard.types == [
        "run.start", "module.start", "module.start", "module.start", "lm.start",
        "lm.end", "module.end", "module.end", "module.end", "run.end",
    ]  # fmt: skip
    assert not practice.requests[0].streaming


@pytest.mark.parametrize("options", [
    {"fields": ["answer"]}, {"stream_fields": ("answer",)},
    {"fields": ["answer"], "stream_fields": ["answer"]},
])  # fmt: skip
def test_fields_and_stream_fields_are_one_option(lm, heard, options):
    result = instrumented(heard, **options)()("Why?")
    assert heard.text("answer") == result.answer


def test_different_fields_and_stream_fields_are_refused():
    with pytest.raises(TypeError, match="different fields= and stream_fields="):
        streamll.instrument(fields=["answer"], stream_fields=["reasoning"])


@pytest.mark.parametrize("call", ["positional", "keyword", "async"])
def test_calls_of_every_kind_stream_the_named_field(lm, heard, call):
    """A1: positional, keyword and ``await qa.acall(...)``."""

    class Asynchronous(QA):
        async def aforward(self, question):
            return await self.generate.acall(question=question)

    qa = instrumented(heard, Asynchronous, stream_fields=["answer"])()
    if call == "positional":
        result = qa("Why is the sky blue?")
    elif call == "keyword":
        result = qa(question="Why is the sky blue?")
    else:
        result = asyncio.run(qa.acall("Why is the sky blue?"))
    assert heard.text("answer") == result.answer
    assert {token.field for token in heard.of("token")} == {"answer"}
    assert contiguous(heard.events)


def test_without_super_init_and_on_nested_lists_and_dicts(lm, heard):
    """A1: modules without ``super().__init__()``, predictors held in lists and dicts."""

    @streamll.instrument(stream_fields="*", sinks=[heard])
    class Nest(dspy.Module):
        def __init__(self):
            self.steps = [dspy.Predict("question -> draft")]
            self.named = {"final": dspy.Predict("draft -> answer")}

        def forward(self, question):
            draft = self.steps[0](question=question).draft
            return self.named["final"](draft=draft)

    result = Nest()("Why?")
    assert heard.text("answer", predictor="named['final']") == result.answer
    assert {token.predictor for token in heard.of("token")} == {"steps[0]", "named['final']"}


def test_all_fields_and_single_fields_of_a_chain_of_thought(lm, heard):
    """A2: reasoning, answer, either or both."""
    both = instrumented(heard, stream_fields="*")()("Why?")
    assert heard.text("reasoning") == both.reasoning
    assert heard.text("answer") == both.answer
    heard.events.clear()
    one = instrumented(heard, stream_fields=["reasoning"])()("Why?")
    assert heard.text("reasoning") == one.reasoning
    assert heard.text("answer") == ""


def test_a_field_named_with_its_predictor_streams_from_that_one_alone(lm, heard):
    class Two(dspy.Module):
        def __init__(self):
            super().__init__()
            self.first = dspy.Predict("question -> answer")
            self.second = dspy.ChainOfThought("question -> answer")

        def forward(self, question):
            self.first(question=question)
            return self.second(question=question)

    program = instrumented(heard, Two, stream_fields=["second.answer"])()
    result = program("Why?")
    assert {t.predictor for t in heard.of("token")} == {"second.predict"}
    assert heard.text("answer") == result.answer


def test_token_events_carry_index_offset_and_a_closing_finish_reason(lm, heard):
    """A3: 0, 1, 2… per field; the reason the model stopped on an empty closing token."""
    instrumented(heard, stream_fields="*")()("Why?")
    for field in ("reasoning", "answer"):
        tokens = [t for t in heard.of("token") if t.field == field]
        assert [t.token_index for t in tokens] == list(range(len(tokens)))
        offset = 0
        for token in tokens:
            assert token.offset == offset
            assert token.data["token"] == token.token
            assert token.data["field"] == field
            offset += len(token.token)
    last = heard.of("token")[-1]
    assert (last.token, last.finish_reason, last.field) == ("", "stop", "answer")


def test_an_instance_can_be_instrumented_and_stays_itself(lm, heard):
    qa = QA()
    same = streamll.instrument(qa, stream_fields=["answer"], sinks=[heard])
    assert same is qa
    assert type(qa) is QA
    result = qa("Why?")
    assert heard.text("answer") == result.answer
    QA()("another instance is not captured")
    assert len(heard.runs()) == 1


def test_a_decorated_base_and_subclass_make_one_run(lm, heard):
    """A1: wrapped once, the subclass's own declaration holds."""
    base = instrumented(heard, stream_fields=["reasoning"])
    sub = instrumented(heard, base, stream_fields=["answer"])
    result = sub()("Why?")
    assert len(heard.runs()) == 1
    assert heard.text("answer") == result.answer
    assert heard.text("reasoning") == ""

    class Undecorated(base):
        pass

    heard.events.clear()
    result = Undecorated()("Why?")
    assert len(heard.runs()) == 1
    assert heard.text("reasoning") == result.reasoning


def test_nested_instrumented_modules_are_one_run_and_the_inner_declaration_governs(lm, heard):
    inner_class = instrumented(heard, stream_fields=["reasoning"])

    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner_class()
            self.polish = dspy.Predict("answer -> polished")

        def forward(self, question):
            return self.polish(answer=self.inner(question).answer)

    outer = instrumented(heard, Outer, stream_fields=["polished"])()
    outer("Why?")
    assert len(heard.runs()) == 1
    assert contiguous(heard.events)
    assert {t.field for t in heard.of("token")} == {"reasoning", "polished"}


def result_of(call):
    with call as events:
        return events.result()


async def read_all(stream):
    return [value async for value in stream]


WAYS = {
    "called": lambda program: program("Why?"),
    "stream": lambda program: result_of(streamll.stream(program)("Why?")),
    "result alone": lambda program: result_of(streamll.stream(program, fields=None)("Why?")),
    "streamify": lambda program: asyncio.run(read_all(streamll.streamify(program)("Why?"))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("on_instance", [False, True], ids=["class", "instance"])
def test_the_sinks_of_the_outermost_module_get_the_whole_run(lm, heard, way, on_instance):
    """However it is run."""
    options = {"fields": ["answer"], "sinks": [heard]}
    program = streamll.instrument(QA(), **options) if on_instance else instrumented(heard)()
    WAYS[way](program)
    OrderCheck().check_all(heard.events)
    assert contiguous(heard.events)
    assert (heard.types[0], heard.types[-1]) == ("run.start", "run.end")


def test_a_module_that_is_not_outermost_has_its_own_part_of_the_run(lm, heard):
    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.qa = streamll.instrument(QA(), sinks=[heard])

        def forward(self, question):
            return self.qa(question=question)

    result_of(streamll.stream(Outer())("Why?"))
    assert (heard.types[0], heard.types[-1]) == ("module.start", "module.end")


def test_the_declared_fields_stream_to_a_modules_sinks_where_the_reader_wants_none(lm, heard):
    program = streamll.instrument(QA(), fields=["answer"], sinks=[heard])
    result_of(streamll.stream(program, fields=None)("Why?"))
    assert {event.field for event in heard.of("token")} == {"answer"}


def test_fields_are_switched_for_one_call_only_even_under_concurrency(lm, heard):
    """A10: ``self._streamll_stream_fields`` belongs to the call."""

    @streamll.instrument(sinks=[heard])
    class Adaptive(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        def forward(self, question):
            self._streamll_stream_fields = ["answer"] if "long" in question else []
            meet.wait(60)
            return self.predict(question=question)

    program = Adaptive()
    meet = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        questions = [f"{'long' if i % 2 else 'short'} question {i}" for i in range(8)]
        list(pool.map(program, questions))
    texts = [
        "".join(t.token for t in run if t.event_type == "token") for run in heard.runs().values()
    ]
    assert len(texts) == 8
    assert sum(map(bool, texts)) == 4


def test_switching_off_overrides_the_declaration_for_that_call(lm, heard):
    @streamll.instrument(stream_fields=["answer"], sinks=[heard])
    class Program(QA):
        def forward(self, question):
            if question == "quiet":
                self._streamll_stream_fields = []
            return super().forward(question)

    program = Program()
    program("quiet")
    assert heard.of("token") == []
    program("loud")
    assert heard.of("token") != []


def test_an_unknown_field_is_an_error_that_lists_the_fields_before_any_request(lm, heard, practice):
    """A15: names the module and its output fields."""
    program = instrumented(heard, stream_fields=["anwser"])()
    with pytest.raises(UnknownFieldError) as caught:
        program("Why?")
    message = str(caught.value)
    assert "Program" in message
    assert "reasoning, answer" in message
    assert "Did you mean 'answer'" in message
    assert practice.requests == []
    with pytest.raises(UnknownFieldError, match="generate.nope"):
        streamll.instrument(QA(), stream_fields=["generate.nope"])


def test_on_token_counts_are_right_when_forward_goes_on(lm, heard):
    """A16: called in the program's thread, before it goes on; seed 000's summary event."""

    @streamll.instrument(stream_fields=["answer"], sinks=[heard], on_token="count")
    class Counting(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")
            self.token_count = 0

        def count(self, event):
            self.token_count += 1

        def forward(self, question):
            result = self.predict(question=question)
            streamll.emit_event(
                streamll.StreamllEvent(
                    event_type="token.summary", data={"total_tokens": self.token_count}
                )
            )
            return result

    Counting()("Why?")
    (summary,) = heard.of("token.summary")
    assert summary.data["total_tokens"] == len([e for e in heard.of("token") if e.token]) > 1
    assert heard.types.index("token.summary") < heard.types.index("run.end")


@pytest.mark.parametrize("shape", ["event", "module and event"])
def test_on_token_takes_the_event_or_the_module_and_the_event(lm, heard, shape):
    seen = []
    hook = seen.append if shape == "event" else lambda module, event: seen.append((module, event))
    program = instrumented(heard, stream_fields=["answer"], on_token=hook)()
    program("Why?")
    assert len(seen) == len([event for event in heard.of("token") if event.token])
    if shape != "event":
        assert all(module is program for module, _ in seen)


def test_a_raising_on_token_does_not_reach_the_program(lm, heard, caplog):
    def broken(event):
        raise RuntimeError("listener bug")

    result = instrumented(heard, stream_fields=["answer"], on_token=broken)()("Why?")
    assert result.answer == heard.text("answer")
    assert len(heard.of("token")) > 2
    assert caplog.text.count("on_token raised") == 1


def test_on_token_is_told_of_what_no_longer_counts(practice, heard):
    """A retry after some text, one before any, and a value that is not what was streamed."""
    seen = []
    corrected = '{"answer": "one", "answer": "two"}'
    cut = Reply({"answer": "one two"}, fault=Fault(disconnect_after=8))
    practice.script(cut, {"answer": "one"}, Fault(status=500), corrected, corrected)
    with dspy.context(lm=practice.lm(num_retries=1, cache=False), adapter=dspy.ChatAdapter()):
        qa = dspy.Predict("question -> answer")
        streamll.instrument(qa, fields=["answer"], sinks=[heard], on_token=seen.append)
        qa(question="?")
        with dspy.context(adapter=dspy.JSONAdapter()):
            assert qa(question="?").answer == "two"
    told = [event for event in seen if event.event_type != "token"]
    assert [event.event_type for event in told] == ["lm.superseded", "field.corrected"]
    assert told[0] in heard.of("lm.superseded")
    assert len(heard.of("lm.superseded")) == 2
    first = seen[: seen.index(told[0])]
    assert {event.attempt for event in first} == {0}
    assert "".join(event.token for event in first)
    assert all(event.token for event in seen if event.event_type == "token")


def test_a_status_that_is_no_provider_is_refused(lm):
    """Its place is easily taken for that of a message. Any object with a hook is a provider."""
    with pytest.raises(ConfigurationError, match="status is a StatusMessageProvider, not str"):
        streamll.instrument(QA(), sinks=[], status="Searching…")

    class Own:
        def lm_start_status_message(self, instance, inputs):
            return "Asking…"

    assert streamll.instrument(QA(), sinks=[], status=Own())("Why?").answer


@pytest.mark.parametrize("on_token", ["nothing", "later"])
def test_a_method_that_is_missing_or_a_coroutine_function_is_refused(lm, practice, on_token):
    class Program(QA):
        async def later(self, event): ...

    with pytest.raises(ConfigurationError, match=on_token):
        streamll.instrument(Program(), sinks=[], on_token=on_token)
    streamll.instrument(Program, sinks=[], on_token=on_token)
    with pytest.raises(ConfigurationError, match=on_token):
        Program()("Why?")
    with pytest.raises(ConfigurationError, match="coroutine function"):
        streamll.instrument(QA(), sinks=[], on_token=Program.later)
    assert practice.requests == []


def test_classes_that_cannot_be_hashed_are_called_and_instrumented_too(lm, heard):
    class Unhashable(type(dspy.Module)):
        def __eq__(cls, other):
            return cls is other

        __hash__ = None

    class Odd(QA, metaclass=Unhashable):
        pass

    instrumented(heard)()("Why?")
    heard.events.clear()
    assert Odd()("Why?").answer
    assert not heard.events
    instrumented(heard, base=Odd)()("Why?")
    assert heard.of("run.start")
    streamll.instrument(Odd, sinks=[heard])
    heard.events.clear()
    Odd()("Why?")
    assert heard.of("run.start")


def test_a_class_that_is_gone_leaves_nothing_to_a_later_one(heard):
    from streamll.capture.run import options

    before = set(options._of_classes)
    instrumented(heard)
    gc.collect()
    assert set(options._of_classes) <= before


def test_a_copied_saved_and_loaded_program_keeps_working(lm, heard, tmp_path):
    program = instrumented(heard, stream_fields=["answer"])()
    for copied in (copy.deepcopy(program), program.deepcopy(), program.reset_copy()):
        heard.events.clear()
        assert copied("Why?").answer == heard.text("answer")
    program.save(tmp_path / "state.json")
    program.load(tmp_path / "state.json")
    program.save(tmp_path / "whole", save_program=True)
    heard.events.clear()
    assert program("Why?").answer == heard.text("answer")

    instance = streamll.instrument(QA(), stream_fields=["answer"], sinks=[heard])
    instance.save(tmp_path / "instance", save_program=True)
    loaded = dspy.load(str(tmp_path / "instance"), allow_pickle=True)
    heard.events.clear()
    assert loaded("Why?").answer
    assert heard.events == []  # saved without its listeners


def test_instrument_rejects_other_objects_by_name():
    with pytest.raises(TypeError, match="instrument takes a dspy.Module class or instance, not f"):

        @streamll.instrument
        def f(question):
            return question

    with pytest.raises(TypeError, match="not dict"):
        streamll.instrument({}, stream_fields=["answer"])
