"""X3: ``dspy.streamify`` around a captured program, and a captured program around ``streamify``.

DSPy's reader gets chunk for chunk what it gets without us, and ours gets everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dspy
import pytest
from dspy.streaming import StatusMessage, StatusMessageProvider, StreamListener, StreamResponse
from dspy_lines import without_waiting
from patience import BOUND
from profiles import in_turn
from programs import Heard

import streamll
from streamll.core.ordering import OrderCheck
from streamll.testing import Fault, Reply

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

REASONING = "The question is about a country, and countries have one. " * 3
ANSWER = "Paris is the capital of France, and has been for a long time. " * 3
FIELDS = {"reasoning": REASONING.strip(), "answer": ANSWER.strip()}


class Telling(StatusMessageProvider):
    """Says something at every hook."""

    def module_start_status_message(self, instance, inputs):
        return f"starting {type(instance).__name__}"

    def module_end_status_message(self, outputs):
        return f"ended with {sorted(outputs.keys())}"

    def lm_start_status_message(self, instance, inputs):
        return "asking"

    def lm_end_status_message(self, outputs):
        return "answered"

    def tool_end_status_message(self, outputs):
        return f"the tool says {outputs}"


def search(query: str) -> str:
    """Look something up."""
    return f"found {query}"


STEPS = [
    {"next_thought": "Look.", "next_tool_name": "search", "next_tool_args": '{"query": "x"}'},
    {"next_thought": "Done.", "next_tool_name": "finish", "next_tool_args": "{}"},
    FIELDS,
]


def cot() -> dspy.Module:
    return dspy.ChainOfThought("question -> answer")


def react() -> dspy.Module:
    return dspy.ReAct("question -> answer", tools=[search])


@dataclass
class Row:
    """A program, and what DSPy is asked to stream of it."""

    program: Callable[[], dspy.Module] = cot
    replies: list[Any] = field(default_factory=lambda: [FIELDS])
    listeners: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    adapter: type[dspy.Adapter] = dspy.ChatAdapter
    error: str | None = None
    lm: dict[str, Any] = field(default_factory=dict)


TABLE = {
    "raw chunks": Row(),
    "one listener": Row(listeners=("answer",)),
    "two listeners": Row(listeners=("reasoning", "answer")),
    "an async program": Row(
        listeners=("reasoning", "answer"), options={"is_async_program": True}
    ),
    "status messages": Row(
        listeners=("answer",), options={"status_message_provider": Telling()}
    ),
    "an agent": Row(
        react, STEPS, ("answer",), {"status_message_provider": Telling()}
    ),
    "an async agent": Row(react, STEPS, ("answer",), {"is_async_program": True}),
    "no final prediction": Row(
        listeners=("answer",), options={"include_final_prediction_in_output_stream": False}
    ),
    "JSON": Row(listeners=("answer",), adapter=dspy.JSONAdapter),
    "Anthropic": Row(listeners=("answer",), lm={"wire": "anthropic"}),
    "LiteLLM": Row(listeners=("answer",), lm={"engine": "litellm"}),
    "a malformed reply": Row(
        replies=["no fields at all", FIELDS], listeners=("answer",), error="AdapterParseError"
    ),
    "cut in the middle": Row(
        replies=[Reply(FIELDS, fault=Fault(disconnect_after=30))],
        listeners=("answer",),
        options={"is_async_program": True},
        error="LMTransportError",
    ),
    "500, then success": Row(replies=[Fault(status=500), FIELDS], listeners=("answer",)),
}  # fmt: skip


# --- reading what DSPy streams --------------------------------------------------------------------


async def everything(values: Any) -> list[Any]:
    """What DSPy's generator gives; an error that ends it comes last."""
    seen = []
    try:
        async for value in values:
            seen.append(comparable(value))
    except Exception as error:
        seen.append(comparable(error))
    return seen


def comparable(value: Any) -> Any:
    if isinstance(value, dspy.Prediction):
        return value.toDict()
    if isinstance(value, (StreamResponse, StatusMessage)):
        return value
    if isinstance(value, Exception):
        return [type(value).__name__, str(value)]
    chunk = value.model_dump() if hasattr(value, "model_dump") else dict(vars(value))
    chunk.pop("predict_id", None)  # the address of an object
    return [type(value).__name__, {k: v for k, v in chunk.items() if k not in OWN}]


OWN = {"id", "created"}
"""What LiteLLM makes up for its chunks."""


def streamified(row: Row, program: dspy.Module) -> Callable[..., Any]:
    listeners = [StreamListener(signature_field_name=name) for name in row.listeners]
    return dspy.streamify(program, stream_listeners=listeners, **row.options)


async def plainly(row: Row, heard: Heard) -> list[Any]:
    return await everything(streamified(row, row.program())(question="Where?"))


async def instrumented(row: Row, heard: Heard) -> list[Any]:
    program = streamll.instrument(row.program(), stream_fields="*", sinks=[heard])
    return await everything(streamified(row, program)(question="Where?"))


async def watched(row: Row, heard: Heard) -> list[Any]:
    with streamll.watch(sinks=[heard]):
        return await everything(streamified(row, row.program())(question="Where?"))


class Around(dspy.Module):
    """A module that relays what ``streamify`` streams of another program."""

    def __init__(self, row: Row):
        super().__init__()
        self.inner = row.program()
        self.row = row

    async def aforward(self, question):
        return await everything(streamified(self.row, self.inner)(question=question))


async def instrumented_around(row: Row, heard: Heard) -> list[Any]:
    around = streamll.instrument(Around(row), stream_fields="*", sinks=[heard])
    return await around.acall(question="Where?")


async def streamed_around(row: Row, heard: Heard) -> list[Any]:
    async with streamll.stream(Around(row), sinks=[heard])(question="Where?") as events:
        return await events.result()


async def streamed_sync_around(row: Row, heard: Heard) -> list[Any]:
    """A function in a thread of its own, with an event loop of its own."""

    def read() -> list[Any]:
        return asyncio.run(everything(streamified(row, row.program())(question="Where?")))

    async with streamll.stream(read, sinks=[heard])() as events:
        return await events.result()


WAYS = [instrumented, watched, instrumented_around, streamed_around, streamed_sync_around]


@pytest.fixture
def perform(practice, monkeypatch):
    """Run a row in one way."""
    without_waiting(monkeypatch, lambda *retry: None)

    def run(row: Row, way: Any, heard: Heard) -> list[Any]:
        replies = iter(row.replies)
        practice.respond(lambda request: next(replies, None))
        with dspy.context(lm=practice.lm(**row.lm), adapter=row.adapter()):
            return asyncio.run(
                asyncio.wait_for(way(row, heard), 5 * BOUND)
            )  # it may import LiteLLM

    return run


@pytest.mark.parametrize(("name", "way"), in_turn(TABLE, WAYS))
def test_dspy_streams_what_it_streams_without_us(name, way, perform):
    """X3: chunks, status messages, prediction and errors, in number and order."""
    row, heard = TABLE[name], Heard()
    plain = perform(row, plainly, heard)
    assert perform(row, way, heard) == plain
    OrderCheck().check_all(heard.events)
    if row.error is None:
        assert heard.text("answer") == FIELDS["answer"]
        assert heard.text("reasoning") == FIELDS["reasoning"]
        assert heard.types[-1] == "run.end"
    else:
        assert plain[-1][0] == row.error


def test_a_sync_generator_of_streamify(practice, lm, heard):
    """X3: ``async_streaming=False`` runs the program in threads of DSPy's own."""
    practice.script(FIELDS, FIELDS)
    row = Row(listeners=("answer",), options={"async_streaming": False})
    plain = [comparable(v) for v in streamified(row, cot())(question="Where?")]
    program = streamll.instrument(cot(), stream_fields="*", sinks=[heard])
    assert [comparable(v) for v in streamified(row, program)(question="Where?")] == plain
    assert heard.text("answer") == FIELDS["answer"]


def test_a_program_that_streams_a_streamed_one(practice, lm, heard):
    """X3, X4: ``stream`` in ``stream``: one run, and both readers get the text once."""
    practice.script(FIELDS)

    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = cot()

        def forward(self, question):
            with streamll.stream(self.inner, fields=["answer"])(question=question) as events:
                tokens = "".join(events.tokens())
                return dspy.Prediction(tokens=tokens, answer=events.result().answer)

    with streamll.stream(Outer(), sinks=[heard])(question="Where?") as events:
        prediction = events.result()
        assert prediction.tokens == prediction.answer == events.text("answer") == FIELDS["answer"]
    assert len(heard.runs()) == 1
    OrderCheck().check_all(heard.events)
    assert heard.text("answer") == FIELDS["answer"]
