"""Guards as options: who takes them, what they refuse, and what comes of a result, a stop, a log."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import io
import logging
import math
import traceback
from typing import Any, NamedTuple
from unittest import mock

import dspy
import msgspec
import pydantic
import pytest
from dspy.adapters.types.citation import Citations
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from programs import QA, AsyncQA

import streamll
from capture.streamify.dspy_and_ours import read_all
from streamll.capture.run.results import guarded_result
from streamll.configuration import configuration
from streamll.core.errors import ConfigurationError, GuardStopped, UnknownFieldError
from streamll.core.wire import encode
from streamll.guards import Pattern, Words
from streamll.sinks import JSONLSink, TerminalSink
from streamll.sinks.otel import OTelSink
from streamll.testing import Fault, OrderCheck, RecordingSink, Reply, record, replay
from streamll.testing.record_file import recorded_events

SECRET = "4111 1111 1111 1111"
CARD = r"\d{4} \d{4} \d{4} \d{4}"
REPLY = {"reasoning": f"It says {SECRET}.", "answer": f"The card is {SECRET}, it seems."}
MASKED = "The card is [card], it seems."


def cards(**options):
    return Pattern(CARD, name="card", **{"mask": "[card]", **options})


def cut(reply=REPLY, **options):
    """A reply in pieces of three characters, so that no piece has a card number."""
    return Reply(reply, **{"chunk": 3, **options})


def leaks(events):
    """Whether the secret, or half of it, is in an event or in the text of a field."""
    texts: dict[Any, str] = {}
    for event in events:
        for part in ("token", "text", "arguments"):
            if isinstance(piece := getattr(event, part, None), str):
                key = (event.call_id, event.event_type, getattr(event, "field", None))
                texts[key] = texts.get(key, "") + piece
    shown = [*texts.values(), *(encode(event).decode() for event in events)]
    return any("1111 1111" in each for each in shown)


# --- who takes them -------------------------------------------------------------------------------


def by_stream(guards, sink):
    with streamll.stream(QA(), guards=guards, sinks=[sink])(question="Why?") as events:
        assert not leaks(list(events))
        return events.result()


def by_async_stream(guards, sink):
    async def read():
        async with streamll.stream(AsyncQA(), guards=guards, sinks=[sink])(question="q") as events:
            assert not leaks([event async for event in events])
            return await events.result()

    return asyncio.run(read())


def by_instance(guards, sink):
    return streamll.instrument(QA(), fields="*", guards=guards, sinks=[sink])(question="Why?")


def by_class(guards, sink):
    @streamll.instrument(fields="*", guards=guards, sinks=[sink])
    class Program(AsyncQA): ...

    return asyncio.run(Program().acall(question="Why?"))


def by_watch(guards, sink):
    with streamll.watch(guards=guards, sinks=[sink]):
        return QA()(question="Why?")


def by_configure(guards, sink):
    with streamll.configure(guards=guards), streamll.watch(sinks=[sink]):
        return QA()(question="Why?")


def by_streamed_instance(guards, sink):
    """What a program declares for itself holds for the run it is read as, to its last event."""
    qa = streamll.instrument(QA(), guards=guards, sinks=[sink])
    with streamll.stream(qa)(question="Why?") as events:
        assert not leaks(list(events))
        return events.result()


WAYS = [
    by_stream,
    by_async_stream,
    by_instance,
    by_class,
    by_watch,
    by_configure,
    by_streamed_instance,
]


@pytest.mark.parametrize("way", WAYS)
def test_no_event_has_the_secret_and_the_result_is_the_programs_own(lm, practice, way):
    practice.script(cut())
    sink = RecordingSink()
    with streamll.configure(include=["inputs", "outputs", "prompts"]):
        result = way([cards()], sink)
    assert sink.catch_up(60)
    assert not leaks(sink.events)
    OrderCheck().check_all(sink.events)
    text = "".join(e.token for e in sink.events if e.event_type == "token" and e.field == "answer")
    assert text == MASKED
    assert SECRET in result.answer


@pytest.mark.parametrize("way", WAYS)
def test_a_stop_ends_the_run_and_reaches_whoever_waits_for_it(lm, practice, way):
    """The provider's connection is closed while it still has something to say."""
    practice.script(cut({**REPLY, "answer": f"No. {SECRET}" + "!" * 3000}, hold_after=60))
    sink = RecordingSink()
    with pytest.raises(GuardStopped) as stopped:
        way([cards(action="stop", fields=["answer"])], sink)
    assert (stopped.value.rule, stopped.value.field) == ("card", "answer")
    assert stopped.value.partial["generate.predict.answer"] == "No. "
    assert stopped.value.__cause__ is None
    practice.requests[0].wait_closed(60)
    assert practice.requests[0].finished_at is None
    assert sink.catch_up(60)
    OrderCheck().check_all(sink.events)
    assert not leaks([e for e in sink.events if getattr(e, "field", None) == "answer"])
    [end] = [
        e for e in sink.events if e.event_type.startswith("run.") and e.event_type != "run.start"
    ]
    assert (end.event_type, end.error_type) == ("run.error", "GuardStopped")
    assert "'card'" in end.message
    assert end.partial["generate.predict.answer"] == "No. "


def test_a_stop_counts_where_nothing_is_left_to_unwind(lm, practice):
    """In the last chunk, in what no chunk has, and whatever the program makes of being stopped."""

    class Stubborn(QA):
        def forward(self, question):
            try:
                return super().forward(question)
            except BaseException as error:
                raise ValueError(SECRET) from error

    stop = cards(action="stop")
    for program, options in [(QA(), {"fields": "*"}), (QA(), {}), (Stubborn(), {"fields": "*"})]:
        practice.script(Reply(REPLY, chunk="whole"))
        sink = RecordingSink()
        qa = streamll.instrument(program, sinks=[sink], guards=[stop], **options)
        with streamll.configure(include=["outputs"]), pytest.raises(GuardStopped) as stopped:
            qa(question="Why?")
        assert "1111 1" not in "".join(traceback.format_exception(stopped.value))
        assert sink.catch_up(60)
        assert not leaks(sink.events)


def test_a_stop_by_the_runs_last_event_still_reaches_the_caller():
    with streamll.configure(include=["outputs"]):
        for program in (lambda: {"answer": SECRET}, Fixed(SECRET)):
            sink, guards = RecordingSink(), [cards(action="stop")]
            with streamll.stream(program, fields=None, guards=guards, sinks=[sink])() as events:
                with pytest.raises(GuardStopped):
                    events.result()
            assert sink.catch_up(60)
            assert sink.events[-1].event_type == "run.error"
            assert sink.events[-1].error_type == "GuardStopped"
            assert not leaks(sink.events)


def streamed(question):
    with streamll.stream(QA())(question=question) as events:
        yield from events


def streamified(question):
    listeners = [streamll.StreamListener("answer")]
    streaming = streamll.streamify(QA(), stream_listeners=listeners, async_streaming=False)
    yield from streaming(question=question)


@pytest.mark.parametrize("read", [streamed, streamified])
def test_whoever_reads_a_stream_inside_a_stopped_run_is_told_so(lm, practice, read):
    practice.script(cut({**REPLY, "answer": SECRET + "!" * 3000}, hold_after=60))
    found = []

    def program(question):
        try:
            for _ in read(question):
                pass
        except GuardStopped as stopped:
            found.append(stopped.rule)
            raise

    with streamll.stream(program, guards=[cards(action="stop", fields=None)])("Why?") as events:
        with pytest.raises(GuardStopped):
            events.result()
    assert found == ["card"]


@pytest.mark.since_3_4
def test_an_optimizers_caller_gets_an_error_that_can_be_handled(lm, practice, heard):
    """A stop ends its examples as their own errors do; of more than it bears, it raises one."""
    practice.respond(lambda _: {"answer": SECRET})
    examples = [dspy.Example(question=f"q{n}").with_inputs("question") for n in range(3)]
    options = {"metric": lambda *_: True, "max_bootstrapped_demos": 1, "max_errors": 2}
    stop = cards(action="stop")
    with (
        streamll.watch(sinks=[heard], guards=[stop]),
        streamll.configure(tokens_in_evaluate=True),
        pytest.raises(GuardStopped),
    ):
        dspy.BootstrapFewShot(**options).compile(
            dspy.Predict("question -> answer"), trainset=examples
        )
    assert len(practice.requests) == 1
    assert [e.error_type for e in heard.events if e.event_type == "run.error"] == ["GuardStopped"]


# --- what they refuse -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "take",
    [
        lambda guards: streamll.configure(guards=guards),
        lambda guards: streamll.stream(QA(), guards=guards),
        lambda guards: streamll.instrument(guards=guards),
        lambda guards: streamll.watch(guards=guards),
        lambda guards: streamll.iModel("openai/gpt-4o-mini", guards=guards),
    ],
    ids=["configure", "stream", "instrument", "watch", "iModel"],
)
def test_what_is_no_guard_is_refused_when_it_is_given(take):
    for wrong, message in [
        (cards(), "a list of guards, not Pattern"),
        ("card", "a list of guards, not str"),
        (["card"], "str is not a guard; give Pattern"),
        ([cards], "cards is not a guard"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            take(wrong)


def test_a_field_that_no_predictor_has_is_named_early():
    wrong = [cards(fields=["anser"])]
    for take in (
        lambda: streamll.stream(QA(), guards=wrong),
        lambda: streamll.instrument(QA(), guards=wrong),
    ):
        with pytest.raises(UnknownFieldError, match="no output field 'anser'.*mean 'answer'"):
            take()

    @streamll.instrument(guards=wrong)
    class Program(QA): ...

    with pytest.raises(UnknownFieldError, match="anser"):
        Program()(question="Why?")


def test_a_guard_of_no_field_is_refused_and_one_of_all_is_of_everything(lm, practice):
    for wrong in ([], [""], [None], "answer"):
        with pytest.raises(ConfigurationError, match="a list of names, or None for every text"):
            cards(fields=wrong)
    practice.script(REPLY)
    with streamll.stream(QA(), guards=[cards(fields=["*"])])(question="Why?") as events:
        assert not leaks(list(events))


def test_configure_shows_its_guards_and_takes_them_back():
    with streamll.configure(guards=[cards(), Words(["Rosebud"], name="plot")]) as configured:
        assert "guards=[card, plot]" in repr(configured)
        with streamll.configure(guards=()):
            assert configuration.guards == ()
        assert len(configuration.guards) == 2
    assert configuration.guards == ()


def test_a_run_reads_the_configuration_when_it_starts(lm, practice):
    practice.script(REPLY, REPLY)
    qa, sink = QA(), RecordingSink()

    def program(question):
        with streamll.configure(guards=()):
            return qa(question=question)

    with streamll.configure(guards=[cards()]):
        with streamll.stream(program, sinks=[sink])("Why?") as events:
            events.result()
    assert sink.catch_up(60)
    assert sink.text("answer") == MASKED


# --- the result -----------------------------------------------------------------------------------


class Fixed(dspy.Module):
    """Returns what it was made with."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self):
        return self.value

    async def aforward(self):
        return self.value


def calls_of(value, **options):
    """What each way to call a program returns."""

    async def by_async():
        async with streamll.stream(Fixed(value), **options)() as events:
            return await events.result(), events.value

    fixed = streamll.instrument(Fixed(value), sinks=[], **options)
    with streamll.stream(Fixed(value), **options)() as events:
        streamed = events.result()
        assert events.value is streamed
    awaited, kept = asyncio.run(by_async())
    assert awaited is kept
    return fixed(), asyncio.run(fixed.acall()), streamed, awaited


def test_the_result_is_untouched_unless_a_guard_is_about_it():
    prediction = dspy.Prediction(answer=SECRET)
    assert all(each is prediction for each in calls_of(prediction, guards=[cards()]))
    harmless = dspy.Prediction(answer="Nothing.")
    assert all(each is harmless for each in calls_of(harmless, guards=[cards(result=True)]))


def test_the_result_is_a_masked_copy():
    prediction = dspy.Prediction.from_completions([{"answer": SECRET}, {"answer": f"2 {SECRET}"}])
    for each in calls_of(prediction, guards=[cards(result=True)]):
        assert (each.answer, each.completions.answer) == ("[card]", ["[card]", "2 [card]"])
        assert SECRET not in repr(vars(each)) + repr(vars(each.completions))
    assert prediction.answer == SECRET
    assert prediction.completions.answer[1] == f"2 {SECRET}"


class Choice(enum.Enum):
    CARD = SECRET
    NONE = "none"


class Payment(pydantic.BaseModel):
    card: str = pydantic.Field(alias="cardNumber")
    notes: list[str] = []


class Strict(pydantic.BaseModel):
    card: str = pydantic.Field(pattern=r"^[\d ]+$")


class Struct(msgspec.Struct):
    card: str


@dataclasses.dataclass(frozen=True)
class Data:
    card: str
    when: dt.date = dt.date(2026, 1, 1)


class Pair(NamedTuple):
    first: str
    second: int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [SECRET, 1], SECRET: None}, {"a": ["[card]", 1], "[card]": None}),
        ({SECRET: 1, f"{SECRET} ": 2, "[card] ": 3}, {"[card]": 1, "[card]  2": 2, "[card] ": 3}),
        ((f"a {SECRET}", b"x"), ("a [card]", b"x")),
        ({SECRET, "x"}, {"[card]", "x"}),
        (Pair(SECRET, 1), Pair("[card]", 1)),
        (Struct(SECRET), Struct("[card]")),
        (Data(SECRET), Data("[card]")),
        ([Payment(cardNumber=SECRET)], [Payment(cardNumber="[card]")]),
        (Payment(cardNumber="1", notes=[SECRET]), Payment(cardNumber="1", notes=["[card]"])),
        (dspy.Example(card=SECRET).with_inputs("card"), dspy.Example(card="[card]")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_typed_values_stay_of_their_type(value, expected):
    masked = guarded_result(dspy.Prediction(answer=value, other=[value]), [cards(result=True)])
    assert masked.answer == expected
    assert type(masked.answer) is type(value)
    assert masked.other == [expected]


@pytest.mark.parametrize(
    "value",
    [
        4111111111111111,
        Choice.CARD,
        Strict(card=SECRET),
        type("Own", (), {"__str__": lambda _: SECRET})(),
        {(SECRET,): 1, (SECRET.replace(" ", ""),): 2},
    ],
    ids=["number", "choice", "model", "object", "keys"],
)
def test_what_cannot_be_masked_ends_the_call(lm, value):
    guard = Pattern(r"(?:\d ?){16}", name="card", result=True)
    with pytest.raises(GuardStopped) as stopped:
        streamll.instrument(Fixed(dspy.Prediction(answer=[value])), sinks=[], guards=[guard])()
    assert (stopped.value.rule, stopped.value.field) == ("card", "answer")
    assert "1111 1" not in str(stopped.value)
    assert guarded_result([Choice.NONE, 42, None, True], [guard]) == [Choice.NONE, 42, None, True]


def test_what_contains_itself_is_masked_nowhere_or_ends_the_call():
    loop: dict[str, Any] = {"a": "nothing"}
    loop["self"] = loop
    assert guarded_result(loop, [cards(result=True)]) is loop
    loop["a"] = SECRET
    with pytest.raises(GuardStopped):
        guarded_result(loop, [cards(result=True)])


def test_results_follow_actions_and_fields():
    prediction = dspy.Prediction(answer=f"a {SECRET} b", reasoning=SECRET)
    for options, answer in [
        ({"action": "drop"}, ""),
        ({"action": "replace", "mask": "Sorry."}, "Sorry."),
    ]:
        masked = guarded_result(prediction, [cards(result=True, fields=["answer"], **options)])
        assert (masked.answer, masked.reasoning) == (answer, SECRET)
    with pytest.raises(GuardStopped):
        guarded_result(prediction, [cards(result=True, action="stop", fields=["x.reasoning"])])


# --- wherever text may end up ---------------------------------------------------------------------


def test_no_sink_keeps_the_secret(lm, practice, tmp_path):
    """Not in a file, a log, a terminal or a span with content: by its bytes."""
    practice.script(cut())
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    shown = [io.StringIO(), io.StringIO()]
    sinks = [
        JSONLSink(tmp_path / "run.jsonl"),
        streamll.open_sink(f"sqlite:///{tmp_path}/log.db"),
        OTelSink(tracer_provider=tracers, content=True),
        TerminalSink("plain", file=shown[0]),
        TerminalSink("live", file=shown[1], width=100),
    ]
    include = ["inputs", "outputs", "prompts", "tools", "errors"]
    with streamll.configure(guards=[cards()], include=include):
        with streamll.stream(QA(), sinks=sinks)(question=f"Is it {SECRET}?") as events:
            events.result()
    for sink in sinks:
        sink.stop(60)
    kept = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    kept |= {f"terminal {n}": each.getvalue().encode() for n, each in enumerate(shown)}
    kept["spans"] = "".join(span.to_json() for span in exporter.get_finished_spans()).encode()
    assert len(kept) > len(sinks) - 1
    for name, data in kept.items():
        assert b"1111 1111" not in data, name
        if not name.endswith(("-wal", "-shm")):
            assert b"[card]" in data or name == "log.db", name


@pytest.mark.parametrize("timeout", ["timeout", "idle_timeout"])
@pytest.mark.since_3_4
def test_a_timeout_has_what_had_gone_out(lm, practice, timeout):
    """The end of what had come might be the beginning of a secret."""
    answer = f"One {SECRET}, then {SECRET}"
    practice.respond(lambda _: cut({**REPLY, "answer": answer}, fault=Fault(stall_after=38)))
    config = streamll.StreamConfig(max_retries=0, **{timeout: 0.5})
    for _ in range(5):  # until the machine is quick enough to read all that comes
        with streamll.stream(QA(), guards=[cards()], config=config)(question="Why?") as events:
            with pytest.raises(streamll.StreamTimeout) as late:
                events.result()
        partial = late.value.partial.get("generate.predict.answer", "")
        if partial.startswith("One [card], then"):
            break
        config = dataclasses.replace(config, **{timeout: getattr(config, timeout) * 4})
    assert answer.replace(SECRET, "[card]", 1).startswith(partial)
    assert partial.startswith("One [card], then")
    assert "4111 1" not in repr(late.value.partial)


def test_a_programs_own_hook_gets_what_readers_get(lm, practice):
    practice.script(cut())
    heard = []
    streamll.instrument(QA(), fields="*", sinks=[], guards=[cards()], on_token=heard.append)("Why?")
    assert "".join(each.token for each in heard if each.field == "answer") == MASKED
    assert not leaks(heard)


def test_a_traceback_in_our_log_is_masked_too(lm, practice, caplog):
    def hook(event):
        raise ValueError(f"no {SECRET}")

    practice.script(REPLY, REPLY)
    with caplog.at_level(logging.ERROR):
        for guards in ([cards()], ()):
            qa = streamll.instrument(QA(), fields="*", sinks=[], guards=guards, on_token=hook)
            qa("Why?")
    ours = [record for record in caplog.records if record.name == "streamll"]
    guarded, plain = map(caplog.handler.format, ours)
    assert "ValueError: no [card]" in guarded
    assert f"ValueError: no {SECRET}" in plain


def test_an_event_outside_of_any_run_is_guarded_by_the_configuration(heard):
    with streamll.configure(sinks=[heard], guards=[cards()]):
        streamll.set_context(card=SECRET)
        streamll.emit("paid", card=SECRET, amount=1)
        with streamll.trace(f"with {SECRET}"):
            pass
    assert len(heard.events) == 3
    assert heard.events[0].data["card"] == "[card]"
    assert heard.events[0].data["amount"] == 1
    assert not leaks(heard.events)


# --- recordings -----------------------------------------------------------------------------------


def test_a_recording_has_no_reply_to_a_guarded_call(practice, tmp_path, caplog):
    """Its events are there, to be watched; what would have to be replayed is not."""
    dspy.configure(lm=practice.lm())
    practice.script(cut(), cut())
    guarded = streamll.instrument(QA(), fields="*", sinks=[], guards=[cards()])
    with record(tmp_path / "run.jsonl") as path:
        guarded(question="Why?")
    assert b"1111 1111" not in path.read_bytes()
    assert "can be watched, and not replayed" in caplog.text
    text = "".join(
        e.token
        for e in recorded_events(path)
        if getattr(e, "field", "") == "answer" and e.event_type == "token"
    )
    assert text == MASKED
    with replay(path, speed=math.inf), pytest.raises(Exception, match="guards were at work"):
        QA()(question="Why?")


# --- streamify ------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [QA, AsyncQA])
def test_what_streamify_yields_is_made_of_guarded_text(lm, practice, program):
    practice.script(cut())
    listeners = [streamll.StreamListener(field) for field in ("reasoning", "answer")]
    qa = streamll.instrument(program(), sinks=[], guards=[cards(result=True)])
    streaming = streamll.streamify(
        qa, stream_listeners=listeners, is_async_program=program is AsyncQA
    )
    said = read_all(streaming(question="Why?"))
    assert said.error is None
    assert "".join(each.chunk for each in said.of("answer")) == MASKED
    assert said.prediction.answer == MASKED
    assert "1111 1" not in repr(said.values)


def test_streamify_ends_where_a_guard_stops(lm, practice):
    practice.script(cut({**REPLY, "answer": SECRET + "!" * 3000}, hold_after=60))
    with streamll.configure(guards=[cards(action="stop", fields=["answer"])]):
        streaming = streamll.streamify(QA(), stream_listeners=[streamll.StreamListener("answer")])
        said = read_all(streaming(question="Why?"))
    assert isinstance(said.error, GuardStopped)
    assert "1111 1" not in repr(said.values)
    practice.requests[0].wait_closed(60)


def test_streamify_refuses_raw_chunks_where_there_are_guards(lm, practice):
    class Sources(dspy.Signature):
        question: str = dspy.InputField()
        sources: Citations = dspy.OutputField()

    listeners = [streamll.StreamListener("sources")]
    for streaming, message in [
        (streamll.streamify(QA()), "without listeners yields raw chunks"),
        (
            streamll.streamify(dspy.Predict(Sources), stream_listeners=listeners),
            "the listener of 'sources' reads Citations from raw chunks",
        ),
    ]:
        with streamll.configure(guards=[cards()]), pytest.raises(ConfigurationError, match=message):
            streaming(question="Why?")
        streaming(question="Why?")  # without guards


@pytest.mark.since_3_4
def test_raw_chunks_of_a_guarded_part_are_withheld(lm, practice):
    """The program around it is not guarded, and so is read as ever."""
    practice.script(cut(), cut({**REPLY, "answer": "Open."}))
    inner, outer = streamll.instrument(QA(), sinks=[], guards=[cards()]), QA()

    class Both(dspy.Module):
        def forward(self, question):
            inner(question=question)
            return outer(question=question)

    said = read_all(streamll.streamify(Both())(question="Why?"))
    chunks = [each for each in said.values if not isinstance(each, dspy.Prediction)]
    text = "".join(
        each.choices[0].delta.content or "" for each in chunks if hasattr(each, "choices")
    )
    assert "Open." in text
    assert "[card]" not in text
    assert text.count("completed") == 1


@pytest.mark.since_3_4
def test_reasoning_of_the_provider_is_guarded_as_well(lm, practice):
    class Thoughtful(dspy.Signature):
        question: str = dspy.InputField()
        reasoning: dspy.Reasoning = dspy.OutputField()
        answer: str = dspy.OutputField()

    adapter = dspy.ChatAdapter(native_response_types=[dspy.Reasoning])
    with (
        mock.patch.object(dspy.LM, "supports_reasoning", new=True, create=True),
        dspy.context(lm=practice.lm("anthropic"), adapter=adapter),
    ):
        practice.script(cut({"answer": "Yes."}, thinking=REPLY["reasoning"]))
        listeners = [streamll.StreamListener("reasoning"), streamll.StreamListener("answer")]
        qa = streamll.instrument(dspy.Predict(Thoughtful), sinks=[], guards=[cards()])
        said = read_all(streamll.streamify(qa, stream_listeners=listeners)(question="Why?"))
    assert "".join(each.chunk for each in said.of("reasoning")) == "It says [card]."


def test_what_a_program_sends_itself_is_guarded(lm, practice, caplog):
    """Texts are pieces of one; else each item is a whole."""

    class Sending(dspy.Module):
        async def aforward(self):
            stream = dspy.settings.send_stream
            for item in ("a 4111 1111 1", "111 1111", " b", {"x": SECRET}, 1):
                await stream.send(item)
            await stream.send(Opaque())
            return dspy.Prediction(answer="")

    class Opaque:
        def __str__(self):
            return SECRET

    listeners = [streamll.StreamListener("answer")]
    with streamll.configure(guards=[cards()]):
        streaming = streamll.streamify(Sending(), stream_listeners=listeners, is_async_program=True)
        said = read_all(streaming())
    assert said.error is None
    own = [each for each in said.values if not isinstance(each, dspy.Prediction)]
    assert own == ["a ", "[card]", " b", {"x": "[card]"}, 1]
    assert "an object that a program sent to its stream is withheld" in caplog.text


@pytest.mark.parametrize("is_async", [False, True])
def test_a_stop_by_the_end_of_what_a_program_sends_itself_is_the_runs(is_async):
    """A word may end a text only where nothing more comes."""

    class Sending(dspy.Module):
        def forward(self):
            dspy.settings.send_stream.send_nowait("a secret")

        async def aforward(self):
            await dspy.settings.send_stream.send("a secret")

    sink = RecordingSink()
    sending = streamll.instrument(
        Sending(), sinks=[sink], guards=[Words(["secret"], action="stop")]
    )
    listeners = [streamll.StreamListener("answer")]
    streaming = streamll.streamify(sending, stream_listeners=listeners, is_async_program=is_async)
    said = read_all(streaming())
    assert isinstance(said.error, GuardStopped)
    assert sink.catch_up(60)
    assert sink.events[-1].event_type == "run.error"
    assert sink.events[-1].error_type == "GuardStopped"


# --- models without programs ----------------------------------------------------------------------


@pytest.mark.since_3_4
def test_a_models_replies_are_guarded_where_they_stream_or_are_asked_to_be(practice):
    practice.script(*[cut(MASKED.replace("[card]", SECRET), thinking=SECRET)] * 5)
    model = {"provider": "openai", "model": "m", "base_url": practice.openai_url, "api_key": "k"}
    streamed = streamll.iModel(**model, guards=[cards()]).invoke_stream("Which?")
    assert "".join(streamed) == streamed.text == MASKED
    own = streamll.iModel(**model)
    assert "".join(own.invoke_stream("Which?", guards=[cards()])) == MASKED
    reply = own.invoke_sync("Which?", guards=[cards(result=True)]).execution.response
    assert (reply.text, reply.thinking) == (MASKED, "[card]")
    assert "1111 1111" not in repr(reply.response.message)
    assert SECRET in own.invoke_sync("Which?", guards=[cards()]).text
    stopped = own.invoke_sync("Which?", guards=[cards(result=True, action="stop")])
    assert isinstance(stopped.execution.error, GuardStopped)
    assert (stopped.execution.partial, stopped.reply.text, stopped.reply.response) == ("", "", None)
    own.close()
