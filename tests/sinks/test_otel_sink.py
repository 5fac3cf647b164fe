"""X14: runs as OpenTelemetry spans and GenAI metrics."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import dspy
import pytest
from dspy_lines import NO_FALLBACK
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import streamll
from streamll.configuration import configuration
from streamll.flow.config import StreamConfig
from streamll.guards import Words
from streamll.sinks.otel import OTelSink
from streamll.testing import Fault, Reply, Usage

COUNTED = Usage(
    input_tokens=120, output_tokens=40, cached_tokens=64, reasoning_tokens=9, cache_write_tokens=16
)


def price(item: str) -> str:
    """The price of an item."""
    return "EUR 7.90"


class Telemetry:
    def __init__(self):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.sink = OTelSink(tracer_provider=self.tracers, meter_provider=self.meters)

    def with_content(self):
        self.sink.stop()
        self.sink = OTelSink(tracer_provider=self.tracers, meter_provider=self.meters, content=True)
        return self.sink

    @property
    def spans(self):
        assert self.sink.catch_up(60)
        return list(self.exporter.get_finished_spans())

    def span(self, name):
        [found] = [span for span in self.spans if span.name == name]
        return found

    def points(self, name):
        assert self.sink.catch_up(60)
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry():
    telemetry = Telemetry()
    yield telemetry
    telemetry.sink.stop()
    telemetry.meters.shutdown()


@pytest.fixture
def run(practice, telemetry):
    """``run(program, **inputs)`` under the sink; what it raises is raised."""
    dspy.configure(lm=practice.lm(num_retries=2), adapter=dspy.ChatAdapter())

    def run_(program, **inputs):
        with streamll.stream(program, sinks=[telemetry.sink])(**inputs) as events:
            return events.result()

    return run_


def test_questions_are_in_the_span_that_asks(telemetry):
    def asks():
        return streamll.approve(price)("pencil") + streamll.ask("Secret?")

    for content in (False, True):
        sink = telemetry.with_content() if content else telemetry.sink
        with streamll.stream(dspy.Tool(asks, name="asks"), sinks=[sink])() as events:
            for event in events:
                if event.event_type == "question":
                    events.answer(event, True if event.tool else "…")
        told = telemetry.span("execute_tool asks").events
        assert [each.name.removeprefix("streamll.") for each in told] == ["question", "answer"] * 2
        approval, answer, free_question, _ = (dict(each.attributes) for each in told)
        assert approval["gen_ai.tool.name"] == "price"
        assert answer["streamll.answer.outcome"] == "answered"
        assert answer["streamll.question.id"] == approval["streamll.question.id"]
        waited = telemetry.span("invoke_workflow Tool").attributes["streamll.waited"]
        assert waited >= answer["streamll.waited"] > 0
        text = free_question.get("streamll.question.text")
        assert text == ("Secret?" if content else None)
        telemetry.exporter.clear()


def test_what_a_guard_kept_back_is_in_the_span_of_its_call_and_not_its_text(
    practice, telemetry, run
):
    practice.script({"answer": "Ask Ada."})
    telemetry.with_content()
    with streamll.configure(guards=[Words(["ada"], name="names")], include=["outputs"]):
        run(dspy.Predict("question -> answer"), question="Whom?")
    told = telemetry.span("Predict").events[0]
    assert (told.name, dict(told.attributes)) == (
        "streamll.guarded",
        {
            "streamll.guard.name": "names",
            "streamll.guard.kind": "words",
            "streamll.guard.outcome": "mask",
            "streamll.field": "answer",
        },
    )
    assert not any("Ada" in str(dict(span.attributes)) for span in telemetry.spans)


def test_spans_nest_like_the_calls(telemetry, run):
    run(dspy.ReAct("question -> answer", tools=[price]), question="What does a pencil cost?")
    spans = telemetry.spans
    by_id = {span.context.span_id: span for span in spans}
    assert len({span.context.trace_id for span in spans}) == 1

    def line(span):
        above = by_id[span.parent.span_id] if span.parent else None
        return [*(line(above) if above else []), span.name]

    lines = [" > ".join(line(span)) for span in spans]
    root = "invoke_workflow ReAct > invoke_agent ReAct"
    assert f"{root} > react > chat practice-model" in lines
    assert f"{root} > execute_tool price" in lines
    assert all(span.end_time >= span.start_time for span in spans)
    for span in spans:
        if span.parent:
            above = by_id[span.parent.span_id]
            assert above.start_time <= span.start_time <= span.end_time <= above.end_time


def test_an_lm_span_has_the_genai_convention_attributes(telemetry, run):
    run(dspy.Predict("question -> answer"), question="?")
    span = telemetry.span("chat practice-model")
    assert span.kind is SpanKind.CLIENT
    told = dict(span.attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "openai"
    assert told["gen_ai.request.model"] == "practice-model"
    assert told["gen_ai.usage.input_tokens"] > 10
    assert told["gen_ai.usage.output_tokens"] > 10
    assert told["gen_ai.response.finish_reasons"] == ("stop",)


def test_what_the_reply_says_of_itself_is_on_the_span(telemetry, run, practice):
    practice.script(
        Reply({"answer": "yes"}, id="chatcmpl-7", model="practice-model-2026", usage=COUNTED)
    )
    run(dspy.Predict("question -> answer"), question="?")
    told = dict(telemetry.span("chat practice-model").attributes)
    assert told["gen_ai.response.id"] == "chatcmpl-7"
    assert told["gen_ai.response.model"] == "practice-model-2026"
    assert told["gen_ai.request.stream"] is True
    assert 0 < told["gen_ai.response.time_to_first_chunk"] < 60
    assert told["gen_ai.usage.cache_read.input_tokens"] == 64
    assert told["gen_ai.usage.cache_write.input_tokens"] == 16
    assert told["gen_ai.usage.reasoning.output_tokens"] == 9
    root = dict(telemetry.span("invoke_workflow Predict").attributes)
    assert root["streamll.usage.input_tokens"] == told["gen_ai.usage.input_tokens"] == 120
    assert not [
        name for name in root if name.startswith("gen_ai.usage.")
    ]  # which would add up to 240
    assert not [name for name in root if "cache" in name or "reasoning" in name]


def test_tokens_are_counted_by_model_under_both_names(telemetry, run, practice):
    practice.script(Reply({"answer": "yes"}, usage=COUNTED))
    run(dspy.Predict("question -> answer"), question="?")
    counted = {
        "input_tokens": 120,
        "output_tokens": 40,
        "cache_read.input_tokens": 64,
        "cache_write.input_tokens": 16,
        "reasoning.output_tokens": 9,
    }
    for name, tokens in counted.items():
        [point] = telemetry.points(f"gen_ai.client.inference.usage.{name}")
        told = dict(point.attributes)
        assert point.value == tokens
        assert told["gen_ai.request.model"] == "practice-model"
        assert told["gen_ai.provider.name"] == "openai"
    kinds = {
        dict(point.attributes)["gen_ai.token.type"]: point.sum
        for point in telemetry.points("gen_ai.client.token.usage")
    }
    assert kinds == {"input": 120, "output": 40}


def test_what_is_not_known_is_neither_on_a_span_nor_counted(telemetry, run, practice):
    practice.respond(lambda _: Reply({"answer": "half an answer"}, fault=Fault(disconnect_after=8)))
    with dspy.context(adapter=NO_FALLBACK), pytest.raises(Exception, match=r"."):
        run(dspy.Predict("question -> answer"), question="?")
    for name in ("chat practice-model", "invoke_workflow Predict"):
        assert not [
            key for key in telemetry.span(name).attributes if key.startswith("gen_ai.usage")
        ]
    assert not telemetry.points("gen_ai.client.token.usage")
    assert not telemetry.points("gen_ai.client.inference.usage.input_tokens")


@pytest.mark.since_3_4
def test_a_fallback_s_tokens_are_its_own(telemetry, practice):
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    other = practice.lm("anthropic", "another-model")
    practice.script(Fault(status=401), Reply({"answer": "yes"}, usage=COUNTED))
    config = StreamConfig(fallbacks=[other], breaker=None)
    program = streamll.stream(
        dspy.Predict("question -> answer"), config=config, sinks=[telemetry.sink]
    )
    with program(question="?") as events:
        events.result()
    [point] = telemetry.points("gen_ai.client.inference.usage.input_tokens")
    told = dict(point.attributes)
    assert (told["gen_ai.provider.name"], told["gen_ai.request.model"]) == (
        "anthropic",
        "another-model",
    )
    assert point.value == 120
    span = dict(telemetry.span("chat practice-model").attributes)
    assert span["gen_ai.provider.name"] == "anthropic"


def test_runs_agents_and_tools_have_durations(telemetry, run):
    run(dspy.ReAct("question -> answer", tools=[price]), question="What does a pencil cost?")
    by_operation = {
        dict(point.attributes)["gen_ai.operation.name"]: dict(point.attributes)
        for point in telemetry.points("gen_ai.invoke_agent.duration")
    }
    assert by_operation.keys() == {"invoke_workflow", "invoke_agent"}
    assert by_operation["invoke_agent"]["gen_ai.agent.name"] == "ReAct"
    [workflow] = telemetry.points("gen_ai.invoke_workflow.duration")
    assert dict(workflow.attributes) == {"gen_ai.workflow.name": "ReAct"}
    tools = [dict(point.attributes) for point in telemetry.points("gen_ai.execute_tool.duration")]
    assert {"price", "finish"} >= {each["gen_ai.tool.name"] for each in tools}
    agent = dict(telemetry.span("invoke_agent ReAct").attributes)
    assert agent["gen_ai.operation.name"] == "invoke_agent"
    assert agent["gen_ai.agent.name"] == "ReAct"


def test_the_conversation_is_on_every_span(telemetry, run):
    streamll.set_context(conversation_id="c-17")
    try:
        run(dspy.ReAct("question -> answer", tools=[price]), question="What does a pencil cost?")
    finally:
        streamll.clear_context()
    spans = telemetry.spans
    assert len(spans) > 4
    assert {span.attributes["gen_ai.conversation.id"] for span in spans} == {"c-17"}


CONTENT = frozenset({"prompts", "inputs", "outputs", "tools"})


def test_no_content_is_exported_unless_the_sink_is_asked_for_it(telemetry, run, monkeypatch):
    monkeypatch.setattr(configuration, "include", CONTENT)
    run(dspy.ReAct("question -> answer", tools=[price]), question="A secret pencil?")
    told = "".join(span.to_json() for span in telemetry.spans)
    assert "secret" not in told
    assert "EUR 7.90" not in told


def test_content_is_messages_in_the_conventions_form(telemetry, run, monkeypatch):
    monkeypatch.setattr(configuration, "include", CONTENT)
    telemetry.with_content()
    run(dspy.ReAct("question -> answer", tools=[price]), question="What does a pencil cost?")
    spans = telemetry.spans
    lm = next(span.attributes for span in spans if span.name == "chat practice-model")
    [*_, asked] = json.loads(lm["gen_ai.input.messages"])
    assert asked["role"] == "user"
    assert "What does a pencil cost?" in asked["parts"][0]["content"]
    assert json.loads(lm["gen_ai.system_instructions"])[0]["type"] == "text"
    [said] = json.loads(lm["gen_ai.output.messages"])
    assert (said["role"], said["finish_reason"]) == ("assistant", "stop")
    assert said["parts"][0]["content"]
    tool = telemetry.span("execute_tool price").attributes
    assert isinstance(json.loads(tool["gen_ai.tool.call.arguments"]), dict)
    assert json.loads(tool["gen_ai.tool.call.result"]) == "EUR 7.90"
    for name in ("invoke_workflow ReAct", "invoke_agent ReAct"):
        told = telemetry.span(name).attributes
        [asked] = json.loads(told["gen_ai.input.messages"])
        assert asked["parts"][0]["content"] == told["input.value"]
        assert json.loads(told["input.value"]) == {"question": "What does a pencil cost?"}
        [said] = json.loads(told["gen_ai.output.messages"])
        assert said["finish_reason"] == "stop"  # without which it is no message of the schema
        assert json.loads(told["output.value"]).keys() >= {"answer"}


def test_a_step_that_is_no_agent_is_a_chain_and_has_no_messages(telemetry, run, monkeypatch):
    """Phoenix takes any span with messages, and no operation, for an LM call."""
    monkeypatch.setattr(configuration, "include", CONTENT)
    telemetry.with_content()
    run(dspy.ReAct("question -> answer", tools=[price]), question="What does a pencil cost?")
    kinds = {span.name: span.attributes.get("openinference.span.kind") for span in telemetry.spans}
    chains = {"invoke_workflow ReAct", "react", "extract", "extract.predict"}
    assert {name for name, kind in kinds.items() if kind == "CHAIN"} == chains
    step = telemetry.span("extract.predict").attributes
    assert not [name for name in step if name.startswith("gen_ai.") and "messages" in name]
    assert "pencil" in step["input.value"]
    assert step["output.mime_type"] == "application/json"


def test_a_reply_is_a_part_for_each_field_and_that_of_a_bare_call_is_there_too(
    telemetry, run, practice
):
    class Bare(dspy.Module):
        def forward(self, question):
            dspy.ChainOfThought("question -> answer")(question=question)
            return dspy.Prediction(answer=dspy.settings.lm(question)[0])

    telemetry.with_content()
    practice.script({"reasoning": "Because.", "answer": "Yes."}, "Bare.")
    run(Bare(), question="?")
    said = [
        [part["content"] for part in json.loads(text)[0]["parts"]]
        for span in telemetry.spans
        if (text := span.attributes.get("gen_ai.output.messages")) and span.name.startswith("chat")
    ]
    assert said == [["Because.", "Yes."], ["Bare."]]


def test_content_that_events_do_not_have_is_not_made_up(telemetry, run, practice):
    telemetry.with_content()
    practice.script({"answer": "Yes."})
    run(dspy.Predict("question -> answer"), question="A secret pencil?")
    told = "".join(span.to_json() for span in telemetry.spans)
    assert "secret" not in told
    assert "gen_ai.output.messages" in told  # the fields that are streamed


def test_a_reply_that_comes_whole_has_no_times_of_chunks(telemetry, run, practice):
    practice.script(Reply(chunks=["[[ ## answer ## ]]\nyes"]))
    run(dspy.Predict("question -> answer"), question="?")
    assert telemetry.points("gen_ai.client.operation.duration")
    assert not telemetry.points("gen_ai.client.operation.time_to_first_chunk")
    assert not telemetry.points("gen_ai.client.operation.time_per_output_chunk")


def test_time_to_first_chunk_and_time_per_chunk_are_measured(telemetry, run, practice):
    """From chunk to chunk as the provider sends them, whatever text of fields comes of it."""
    text = "A preamble of many words\n\n[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"
    chunks = [text[start : start + 4] for start in range(0, len(text), 4)]
    practice.script(Reply(chunks=chunks, packets=True, pace=0.02))
    run(dspy.Predict("question -> answer"), question="?")
    told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "practice-model"}
    [first] = telemetry.points("gen_ai.client.operation.time_to_first_chunk")
    assert first.count == 1
    assert told.items() <= dict(first.attributes).items()
    [per_chunk] = telemetry.points("gen_ai.client.operation.time_per_output_chunk")
    assert per_chunk.count == len(chunks) - 1
    # Who reads the first one late finds others beside it: with the wait for it, it takes as long.
    assert first.sum + per_chunk.sum > 0.01 * per_chunk.count
    assert per_chunk.sum > 0
    [duration] = telemetry.points("gen_ai.client.operation.duration")
    assert duration.sum > per_chunk.sum
    kinds = {
        dict(point.attributes)["gen_ai.token.type"]: point.sum
        for point in telemetry.points("gen_ai.client.token.usage")
    }
    assert kinds["input"] > 10
    assert kinds["output"] > 5


def test_a_long_pause_of_the_model_shows_in_the_distribution(telemetry, practice):
    """Each gap is recorded as it was, not the call's mean as often."""
    dspy.configure(lm=practice.lm(num_retries=2), adapter=dspy.ChatAdapter())
    chunks = ["[[ ## answer ## ]]\n", *["word "] * 10, "\n\n[[ ## completed ## ]]"]
    practice.script(Reply(chunks=chunks, packets=True, hold_after=6))
    program = streamll.stream(dspy.Predict("question -> answer"), sinks=[telemetry.sink])
    with program(question="?") as events:
        text = ""
        while text.split() != ["word"] * 5:  # what comes before the pause has been read
            text += getattr(next(events), "token", "")
        practice.requests[0].wait_held()
        time.sleep(1.0)  # the model's pause
        practice.release()
        events.result()
    [per_chunk] = telemetry.points("gen_ai.client.operation.time_per_output_chunk")
    assert per_chunk.count == len(chunks) - 1
    assert len([count for count in per_chunk.bucket_counts if count]) > 1


def test_errors_are_counted_and_marked(telemetry, run, practice):
    practice.respond(lambda _: Fault(status=401))
    with pytest.raises(Exception, match=r"."):
        run(dspy.Predict("question -> answer"), question="my secret question")
    [duration] = telemetry.points("gen_ai.client.operation.duration")
    assert dict(duration.attributes)["error.type"]
    for name in ("invoke_workflow Predict", "Predict", "chat practice-model"):
        for span in telemetry.spans:
            if span.name == name:
                assert span.status.status_code is StatusCode.ERROR
                assert span.attributes["error.type"]
    assert "secret" not in "".join(span.to_json() for span in telemetry.spans)


def test_a_superseded_attempt_is_a_span_event_of_its_call(telemetry, run, practice):
    practice.script(
        Reply({"answer": "half an answer"}, fault=Fault(error_after=8)), {"answer": "x"}
    )
    run(dspy.Predict("question -> answer"), question="?")
    names = [event.name for event in telemetry.span("chat practice-model").events]
    assert names == ["streamll.superseded"]


def test_an_attempt_that_another_adapter_supersedes_is_a_span_event_of_the_step(
    telemetry, run, practice
):
    telemetry.with_content()
    practice.script("[[ ## other ## ]]\nnope", '{"answer": "x"}')
    run(dspy.Predict("question -> answer"), question="?")
    events = {span.name: [event.name for event in span.events] for span in telemetry.spans}
    assert events["Predict"] == ["streamll.superseded"]
    assert events["chat practice-model"] == events["invoke_workflow Predict"] == []


def test_a_run_belongs_to_the_trace_that_was_active_at_its_start(telemetry, run):
    tracer = telemetry.tracers.get_tracer("the application")
    with tracer.start_as_current_span("request") as request:
        run(dspy.Predict("question -> answer"), question="?")
    trace_ids = {span.context.trace_id for span in telemetry.spans}
    assert trace_ids == {request.get_span_context().trace_id}


def test_a_cancelled_run_leaves_no_span_open(telemetry, practice):
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    practice.script(Reply({"answer": "one two three four five six seven"}, hold_after=10))
    program = streamll.stream(dspy.Predict("question -> answer"), sinks=[telemetry.sink])
    with program(question="?") as events:
        next(event for event in events if event.event_type == "token")
    [root] = [span for span in telemetry.spans if span.parent is None]
    assert root.attributes["streamll.cancelled"] is True
    assert {span.name for span in telemetry.spans} >= {"Predict", "chat practice-model"}


def test_without_opentelemetry_the_sink_names_the_extra():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from streamll.sinks.otel import OTelSink\n"
        "try: OTelSink()\n"
        "except Exception as error: print(error)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "pip install '.[otel]'" in answer.stdout
