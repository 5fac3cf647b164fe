"""C2, C3, C4: which field of which predictor, and whose chunk it is."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import pickle

import dspy
import pytest
from dspy_and_ours import BOTH, EACH, read, read_all

import streamll
from streamll.sinks import MemorySink


def fields(**values):
    headers = "".join(f"[[ ## {name} ## ]]\n{value}\n\n" for name, value in values.items())
    return headers + "[[ ## completed ## ]]\n"


class Nested(dspy.Module):
    def __init__(self):
        self.steps = {"draft": dspy.ChainOfThought("question -> draft")}
        self.final = dspy.Predict("question, draft -> answer")

    def forward(self, question):
        draft = self.steps["draft"](question=question).draft
        return self.final(question=question, draft=draft)


class Same(dspy.Module):
    """Two predictors with an output field of one name."""

    def __init__(self):
        self.first = dspy.Predict("question -> answer")
        self.second = dspy.Predict("question, draft -> answer")

    def forward(self, question):
        draft = self.first(question=question).answer
        return self.second(question=question, draft=draft)


def listen(program, *listeners, **options):
    return streamll.streamify(program, stream_listeners=list(listeners), **options)


def test_the_signatures_are_those_of_dspy():
    """C1: what ours take besides has to be named."""
    for ours, theirs in [
        (streamll.streamify, dspy.streamify),
        (streamll.StreamListener, dspy.streaming.StreamListener),
        (streamll.streaming_response, dspy.streaming.streaming_response),
        (streamll.apply_sync_streaming, dspy.streaming.apply_sync_streaming),
        (streamll.StatusMessage, dspy.streaming.StatusMessage),
        (streamll.StreamResponse, dspy.streaming.StreamResponse),
    ]:
        parameters = [inspect.signature(each).parameters.values() for each in (ours, theirs)]
        names = [[(p.name, p.kind, p.default) for p in each] for each in parameters]
        ours_only = names[0][len(names[1]) :]
        assert names[0][: len(names[1])] == names[1]
        assert all(kind == inspect.Parameter.KEYWORD_ONLY for _, kind, _ in ours_only)
    hooks = {n for n in dir(dspy.streaming.StatusMessageProvider) if n.endswith("status_message")}
    assert hooks <= set(dir(streamll.StatusMessageProvider))


def test_what_is_yielded_is_dspys(practice, lm):
    practice.script(fields(answer="one"))
    qa = dspy.Predict("question -> answer")
    said = read_all(listen(qa, streamll.StreamListener("answer"))(question="?"))
    piece, last, prediction = said.values
    assert piece == dspy.streaming.StreamResponse("self", "answer", "one", is_last_chunk=False)
    assert dspy.streaming.StreamResponse("self", "answer", "", is_last_chunk=True) == last
    assert dataclasses.asdict(piece) == {
        "predict_name": "self",
        "signature_field_name": "answer",
        "chunk": "one",
        "is_last_chunk": False,
    }
    assert repr(last) == repr(
        dspy.streaming.StreamResponse("self", "answer", "", is_last_chunk=True)
    )
    assert pickle.loads(pickle.dumps(piece)) == piece
    assert type(prediction) is dspy.Prediction


def test_any_nested_predictor_by_its_name(practice, lm):
    """C3: ``predict_name`` is the ``named_predictors()`` key."""
    practice.script(fields(reasoning="so", draft="a draft"), fields(answer="an answer"))
    names = ("reasoning", "draft", "answer")
    program = Nested()
    said = read_all(listen(program, *map(streamll.StreamListener, names))(question="?"))
    assert {chunk.predict_name for chunk in said.chunks} == {
        name for name, _ in program.named_predictors()
    }
    assert [said.text(name) for name in names] == ["so", "a draft", "an answer"]
    order = list(dict.fromkeys(chunk.signature_field_name for chunk in said.chunks))
    assert order == list(names)


@pytest.mark.parametrize("side", EACH, ids=lambda side: side.name)
def test_equal_field_names_are_told_apart_by_predictor(practice, lm, side):
    """C4."""
    program = Same()
    practice.script(fields(answer="a first one"), fields(answer="a second one"))
    listeners = [
        side.StreamListener("answer", predict=program.first, predict_name="first"),
        side.StreamListener("answer", predict=program.second, predict_name="second"),
    ]
    said = read_all(side.streamify(program, stream_listeners=listeners)(question="?"))
    assert said.text("answer", "first") == "a first one"
    assert said.text("answer", "second") == "a second one"


def test_an_ambiguous_field_says_how_to_choose():
    with pytest.raises(ValueError, match="not unique in the program"):
        dspy.streamify(Same(), stream_listeners=[streamll.StreamListener("answer")])
    with pytest.raises(
        ValueError, match=r"'answer': first, second.*predict_name='first'"
    ) as caught:
        listen(Same(), streamll.StreamListener("answer"))
    assert isinstance(caught.value, streamll.AmbiguousFieldError)


def test_a_predictors_name_is_enough(practice, lm):
    practice.script(fields(answer="one"), fields(answer="two"))
    listener = streamll.StreamListener("answer", predict_name="second")
    said = read_all(listen(Same(), listener)(question="?"))
    assert said.text("answer") == "two"
    with pytest.raises(streamll.UnknownFieldError, match=r"third\.answer"):
        listen(Same(), streamll.StreamListener("answer", predict_name="third"))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda program: program.deepcopy()])
def test_a_predictor_of_a_copy_will_do(practice, lm, copied):
    """A compiled program is a copy; its listeners were written for the original."""
    original = Same()
    practice.script(fields(answer="one"), fields(answer="two"))
    listener = streamll.StreamListener("answer", predict=original.second)
    said = read_all(listen(copied(original), listener)(question="?"))
    assert said.text("answer", "second") == said.text("answer") == "two"


def search(query: str) -> str:
    """Find a page."""
    return "a page"


def test_a_react_module_will_do(practice, lm):
    agent = dspy.ReAct("question -> answer", tools=[search])
    practice.script(
        fields(next_thought="look", next_tool_name="search", next_tool_args='{"query": "x"}'),
        fields(next_thought="done", next_tool_name="finish", next_tool_args="{}"),
        fields(reasoning="so", answer="a page"),
    )
    said = read_all(
        listen(
            agent,
            streamll.StreamListener("answer", predict=agent),
            streamll.StreamListener("next_thought", predict=agent),
        )(question="?")
    )
    assert said.text("answer", "extract.predict") == "a page"
    thoughts = said.of("next_thought", "react")
    assert ["".join(c.chunk for c in thoughts if c.turn == turn) for turn in (0, 1)] == [
        "look",
        "done",
    ]
    assert said.statuses[0] == "Calling tool search..."
    assert len(said.statuses) == 2  # nothing of "finish"


def test_a_module_with_several_such_predictors_will_not_do():
    same = Same()
    with pytest.raises(streamll.AmbiguousFieldError):
        listen(same, streamll.StreamListener("answer", predict=same))
    with pytest.raises(streamll.UnknownFieldError, match="answr"):
        listen(same, streamll.StreamListener("answr", predict=same))
    with pytest.raises(TypeError, match="predict= takes a predictor"):
        listen(same, streamll.StreamListener("answer", predict="first"))


@pytest.mark.since_3_4  # older DSPys stream a header's line end and closing blanks
def test_predictors_outside_the_program_are_told_apart(practice, lm):
    """A closure holds them; DSPy knows them by identity, so do we."""
    first, second = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")

    class Program(dspy.Module):
        def forward(self, question):
            globals_of_the_program[0](question=question)
            return globals_of_the_program[1](question=question)

    globals_of_the_program = [first, second]
    for side in BOTH:
        practice.script(fields(answer="one"), fields(answer="two"))
        listeners = [
            side.StreamListener("answer", predict=first, predict_name="a"),
            side.StreamListener("answer", predict=second, predict_name="b"),
        ]
        said = read_all(side.streamify(Program(), stream_listeners=listeners)(question="?"))
        assert (said.text("answer", "a"), said.text("answer", "b")) == ("one", "two")


def test_a_function_streams_whatever_predictor_it_makes(practice, lm):
    def program(question):
        return dspy.Predict("question -> answer")(question=question)

    async def async_program(question):
        return await dspy.Predict("question -> answer").acall(question=question)

    for each in (program, async_program):
        practice.script(fields(answer="one"))
        said = read_all(listen(each, streamll.StreamListener("answer"))(question="?"))
        assert said.text("answer", "Predict") == "one"


def test_dspys_own_listeners_are_accepted_and_stay_as_they_are(practice, lm):
    listener = dspy.streaming.StreamListener("answer")
    before = {name: value for name, value in vars(listener).items() if "queue" not in name}
    streaming = listen(dspy.Predict("question -> answer"), listener)
    for _ in range(2):
        practice.script(fields(answer="one"))
        assert read_all(streaming(question="?")).text("answer") == "one"
    assert before.items() <= vars(listener).items()


@pytest.mark.since_3_4  # older DSPys stream a header's line end and closing blanks
def test_ours_work_with_dspy_as_well(practice, lm):
    practice.script(fields(answer="one two"))
    listener = streamll.StreamListener("answer")
    qa = dspy.Predict("question -> answer")
    said = read_all(dspy.streamify(qa, stream_listeners=[listener])(question="?"))
    assert said.text("answer") == "one two"
    assert isinstance(listener, dspy.streaming.StreamListener)


def test_instrumented_and_watched_programs_stream_too(practice, lm):
    """What the program declares for its own sinks does not concern the reader."""
    sink = MemorySink()

    @streamll.instrument(stream_fields=["reasoning"], sinks=[sink])
    class Declared(dspy.Module):
        def __init__(self):
            self.qa = dspy.ChainOfThought("question -> answer")

        def forward(self, question):
            return self.qa(question=question)

    practice.script(fields(reasoning="so", answer="one"))
    said = read_all(listen(Declared(), streamll.StreamListener("answer"))(question="?"))
    assert said.text("answer", "qa.predict") == "one"
    assert said.of("reasoning") == []
    assert sink.stop(60)
    assert "so" in {e.token for e in sink.events if e.event_type == "token"}


def test_a_streamified_call_inside_a_captured_program(practice, lm):
    """Names are those of the streamified program, not of the program around it."""

    class Outer(dspy.Module):
        def __init__(self):
            self.inner = Same()
            self.streaming = listen(
                self.inner,
                streamll.StreamListener("answer", predict_name="second"),
                async_streaming=False,
            )

        def forward(self, question):
            chunks = list(self.streaming(question=question))
            return dspy.Prediction(names=[c.predict_name for c in chunks[:-1]], last=chunks[-1])

    practice.script(fields(answer="one"), fields(answer="two"))
    with streamll.stream(Outer(), fields=[])(question="?") as events:
        result = events.result()
    assert set(result.names) == {"second"}
    assert result.last.answer == "two"


def test_one_listener_object_in_many_programs(practice, lm):
    listener = streamll.StreamListener("answer")

    async def main():
        streams = [
            listen(program, listener)(question="?")
            for program in (
                dspy.Predict("question -> answer"),
                dspy.ChainOfThought("question -> answer"),
            )
        ]
        return await asyncio.gather(*map(read, streams))

    practice.respond(lambda request: {"answer": "one", "reasoning": "so"})
    first, second = asyncio.run(main())
    assert {chunk.predict_name for chunk in first.chunks} == {"self"}
    assert {chunk.predict_name for chunk in second.chunks} == {"predict"}
    assert listener.predict is None
