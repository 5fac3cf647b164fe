"""X14: the recipes of docs/opentelemetry.md, run as they stand there against a receiver of OTLP/HTTP.

The receiver decodes what arrives as a collector does. What MLflow, Phoenix and Langfuse read of it is
looked for here: address, headers and attributes. What they make of it ``scripts/try_otel.py`` asks them.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import dspy
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import streamll
from streamll.configuration import configuration
from streamll.sinks import otel_names as names

PAGE = (Path(__file__).parents[2] / "docs" / "opentelemetry.md").read_text("utf-8")
RECIPES = dict(
    re.findall(r"^<!-- recipe: (\w+) -->\n```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)


def price(item: str) -> str:
    """The price of an item."""
    return "7.90"


class Receiver:
    """Takes OTLP over HTTP; ``requests`` are path, headers and the decoded message."""

    def __init__(self):
        self.requests = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                kind = ExportMetricsServiceRequest if "metrics" in self.path else None
                message = (kind or ExportTraceServiceRequest).FromString(body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, headers, message))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def scopes(self):
        for _, _, message in self.requests:
            if isinstance(message, ExportTraceServiceRequest):
                for resource in message.resource_spans:
                    for scope in resource.scope_spans:
                        yield resource, scope

    def spans(self):
        """Each span's name and attributes."""
        return [
            (span.name, {each.key: value_of(each.value) for each in span.attributes})
            for _, scope in self.scopes()
            for span in scope.spans
        ]

    def span(self, begin):
        return next(told for name, told in self.spans() if name.startswith(begin))


def value_of(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return getattr(value, kind)


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def follow(receiver, practice, monkeypatch):
    """``follow(name)``: run the recipe's code and a program under it; returns its namespace."""
    monkeypatch.setattr(configuration, "include", frozenset())
    dspy.configure(lm=practice.lm("anthropic"), adapter=dspy.ChatAdapter())
    practice.respond(None)
    before = configuration.sinks

    def follow_(name):
        code = re.sub(r"http://localhost:\d+", receiver.url, RECIPES[name])
        assert code != RECIPES[name]
        namespace = {}
        exec(compile(code, name, "exec"), namespace)
        streamll.set_context(conversation_id="c-17")
        program = streamll.instrument(
            dspy.ReAct("question -> answer", tools=[price]), stream_fields=["*"]
        )
        try:
            program(question="What does a pencil cost?")
        finally:
            streamll.clear_context()
            for sink in configuration.sinks:
                sink.stop()
            namespace["tracers"].shutdown()
            if "meters" in namespace:
                namespace["meters"].shutdown()
        return namespace

    yield follow_
    streamll.configure(sinks=before)


def test_every_recipe_of_the_page_is_run_here():
    assert RECIPES.keys() == {"collector", "mlflow", "phoenix", "langfuse"}


def test_a_collector_gets_spans_and_metrics_with_their_schema(receiver, follow):
    follow("collector")
    assert {path for path, _, _ in receiver.requests} == {"/v1/traces", "/v1/metrics"}
    exporter = metadata.version("opentelemetry-exporter-otlp-proto-http")
    sent_on = not exporter.startswith("1.30.")  # which does not send the schema
    schemas = {scope.schema_url for _, scope in receiver.scopes()}
    assert schemas == {names.SCHEMA_URL if sent_on else ""}
    sent = {name.partition(" ")[0] for name, _ in receiver.spans()}
    assert {"invoke_workflow", "invoke_agent", "chat", "execute_tool"} <= sent
    assert not [key for _, told in receiver.spans() for key in told if "messages" in key]
    metrics = {
        metric.name
        for _, _, message in receiver.requests
        if isinstance(message, ExportMetricsServiceRequest)
        for resource in message.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    expected = {*names.HISTOGRAMS, *names.USAGE.values()}
    not_said = {name for name in expected if "reasoning" in name or "cache" in name}
    assert expected - not_said <= metrics <= expected


def check_content(receiver):
    chat, agent = receiver.span("chat "), receiver.span("invoke_agent ")
    assert chat["gen_ai.provider.name"] == "anthropic"
    assert chat["gen_ai.request.model"] == "practice-model"
    assert chat["gen_ai.usage.input_tokens"] > 10 < chat["gen_ai.usage.output_tokens"]
    for told in (chat, agent):
        for key in ("gen_ai.input.messages", "gen_ai.output.messages"):
            [*_, message] = json.loads(told[key])
            assert message["role"] in ("user", "assistant")
            assert message["parts"][0].keys() == {"type", "content"}
    tool = receiver.span("execute_tool ")
    assert tool["gen_ai.tool.name"]
    assert json.loads(tool["gen_ai.tool.call.arguments"]) is not None
    assert {told["gen_ai.conversation.id"] for _, told in receiver.spans()} == {"c-17"}


def test_mlflow_gets_what_it_makes_span_types_tokens_and_messages_of(receiver, follow):
    follow("mlflow")
    for path, headers, _ in receiver.requests:
        assert (path, headers["x-mlflow-experiment-id"]) == ("/v1/traces", "0")
    operations = {told.get("gen_ai.operation.name") for _, told in receiver.spans()} - {None}
    assert operations == {"invoke_workflow", "invoke_agent", "chat", "execute_tool"}
    check_content(receiver)


def test_phoenix_gets_what_it_translates_and_a_session(receiver, follow):
    follow("phoenix")
    for resource, _ in receiver.scopes():
        told = {each.key: value_of(each.value) for each in resource.resource.attributes}
        assert told["openinference.project.name"] == "qa"
    assert {path for path, _, _ in receiver.requests} == {"/v1/traces"}
    assert {told["session.id"] for _, told in receiver.spans()} == {"c-17"}
    assert json.loads(receiver.span("chat ")["gen_ai.system_instructions"])
    check_content(receiver)


def test_langfuse_gets_its_keys_a_session_and_usage(receiver, follow):
    follow("langfuse")
    for path, headers, _ in receiver.requests:
        assert path == "/api/public/otel/v1/traces"
        keys = base64.b64decode(headers["authorization"].removeprefix("Basic "))
        assert keys == b"pk-lf-PUBLIC:sk-lf-SECRET"
        assert headers["x-langfuse-ingestion-version"] == "4"
    assert {told["session.id"] for _, told in receiver.spans()} == {"c-17"}
    chat = receiver.span("chat ")
    assert chat["gen_ai.usage.cache_read.input_tokens"] == 0
    assert chat["gen_ai.response.model"] == "practice-model"
    check_content(receiver)
