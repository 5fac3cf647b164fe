"""X15: private by default; content only when asked for; ``redact`` fails closed."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import weakref
from pathlib import Path

import dspy
import msgspec
import pytest
from dspy_lines import LM_ERROR, NO_FALLBACK
from programs import QA

import streamll
from brokers.servers import wait_until
from streamll.configuration import configuration
from streamll.core import wire
from streamll.core.errors import ConfigurationError
from streamll.guards import Words
from streamll.sinks.jsonl import JSONLSink, read_jsonl
from streamll.testing import Fault, Reply

SECRET = "sk-secret-0123456789"


def search(query: str) -> str:
    """Look something up."""
    return f"tool result about {query}"


class Broken(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        self.predict(question=question)
        raise ValueError(f"could not answer {question}")


@pytest.fixture
def everything_said(practice, heard, caplog, capfd):
    """Run a tool-using program, a failing one and a refused one; all that was said about them."""
    caplog.set_level(logging.DEBUG, logger="streamll")
    lm = practice.lm(api_key=SECRET, num_retries=0)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        practice.script(
            {"next_thought": "t", "next_tool_name": "search",
             "next_tool_args": '{"query": "argument text"}'},
            {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": "{}"},
            {"reasoning": "r", "answer": "visible answer"},
        )  # fmt: skip
        react = dspy.ReAct("question -> answer", tools=[search])
        streamll.instrument(react, stream_fields=["answer"], sinks=[heard])(question="input text")
        with pytest.raises(ValueError, match="input text"):
            streamll.instrument(Broken(), sinks=[heard])(question="input text")
        practice.script(Fault(status=401, message=f"bad key {SECRET} for input text"))
        with dspy.context(adapter=NO_FALLBACK), pytest.raises(LM_ERROR):
            streamll.instrument(QA(), sinks=[heard])("input text")
    said = [repr(heard.events), *(wire.encode(e).decode() for e in heard.events), caplog.text]
    return "\n".join([*said, *capfd.readouterr()])


def test_inputs_prompts_arguments_outputs_and_credentials_stay_inside(everything_said, heard):
    assert heard.text("answer") == "visible answer"
    for private in ("input text", "argument text", "tool result", SECRET, "Your input fields are"):
        assert private not in everything_said


def test_what_is_included_on_request_is_clipped(lm, practice, heard):
    with streamll.configure(
        include=["inputs", "outputs", "prompts", "tools", "errors"], include_limit=20
    ):
        streamll.instrument(QA(), sinks=[heard])("question " * 10)
        with pytest.raises(ValueError, match="could not"):
            streamll.instrument(Broken(), sinks=[heard])(question="short")
    start = heard.of("run.start")[0]
    assert start.inputs == {"0": "question question qu… (90 characters)"}
    assert "answer" in heard.of("run.end")[0].outputs
    assert heard.of("lm.start")[0].messages[0]["role"] == "system"
    assert heard.of("run.error")[0].message == "could not answer sho… (22 characters)"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"include": ["everything"]}, "include has no 'everything'; there are inputs, outputs"),
        ({"include": "inputs"}, r"a list of names, such as \['inputs'\]"),
        ({"include_limit": -1}, "whole number of characters, at least 0, not -1"),
        ({"include_limit": 1.5}, "whole number of characters, at least 0, not 1.5"),
        ({"include_limit": math.nan}, "whole number of characters, at least 0, not nan"),
        ({"redact": True}, "redact must be a function"),
        ({"sinks": "terminal"}, "sinks must be a list of sinks, not str"),
        ({"sinks": [dict]}, "is not a sink; subclass streamll.sinks.BaseSink"),
    ],
)
def test_configure_rejects_unusable_options_and_changes_nothing(options, says):
    with pytest.raises(ConfigurationError, match=says):
        streamll.configure(**{"tokens_in_evaluate": True, **options})
    assert not configuration.tokens_in_evaluate


def test_a_limit_may_be_written_with_an_exponent():
    with streamll.configure(include_limit=1e4):
        assert repr(configuration.include_limit) == "10000"


def test_configure_tells_what_is_in_force(heard):
    """As a notebook cell's last line; a sink may hold an address with a password, so by its name."""
    with streamll.configure(sinks=[heard], include=["outputs", "inputs"], redact=str.upper) as told:
        assert repr(told) == (
            f"<streamll.configure: sinks=[{type(heard).__name__}], redact=upper, guards=[], "
            "include=['inputs', 'outputs'], include_limit=10000, cached_tokens=True, "
            "tokens_in_evaluate=False>"
        )


def test_redact_changes_or_withholds_events_before_any_sink(lm, practice, heard):
    practice.script(Reply({"reasoning": "r", "answer": "call 555-1234"}, chunk="whole"))

    def redact(event):
        if event.event_type == "lm.start":
            return None
        if event.event_type == "token":
            return msgspec.structs.replace(event, token=event.token.replace("555-1234", "***"))
        return event

    with streamll.configure(redact=redact):
        streamll.instrument(QA(), stream_fields=["answer"], sinks=[heard])("Why?")
        with streamll.stream(QA(), fields=["answer"])(question="Why?") as events:
            assert "lm.start" not in {e.event_type for e in events}
    assert "555-1234" not in repr(heard.events)
    assert heard.of("lm.start") == []


def test_a_raising_redact_lets_nothing_out_and_the_program_goes_on(lm, heard, caplog):
    def broken(event):
        raise RuntimeError(f"cannot redact {event}")

    with streamll.configure(redact=broken):
        result = streamll.instrument(QA(), stream_fields="*", sinks=[heard])("input text")
    assert result.answer
    assert heard.events == []
    assert "input text" not in caplog.text


async def later(event):
    return event


@pytest.mark.parametrize("returned", ["a text", True, 7, {"event": 1}, later])
def test_a_redact_that_returns_no_event_lets_nothing_out(lm, tmp_path, caplog, returned):
    """And harms no sink: the next run is heard in full."""

    def careless(event):
        return returned(event) if returned is later else returned

    sink = JSONLSink(tmp_path / "log.jsonl")
    program = streamll.instrument(QA(), stream_fields="*", sinks=[sink])
    with streamll.configure(redact=careless):
        with streamll.stream(program)(question="input text") as events:
            assert list(events) == []
            assert events.result().answer
    assert program("again").answer
    assert sink.stop(60)
    kinds = [event.event_type for event in read_jsonl(tmp_path / "log.jsonl")]
    assert (kinds[0], kinds[-1], kinds.count("run.start")) == ("run.start", "run.end", 1)
    [complaint] = [r.getMessage() for r in caplog.records if "withheld" in r.getMessage()]
    kind = "coroutine" if returned is later else type(returned).__name__
    assert "careless" in complaint
    assert f"returned a {kind} instead of an event or None" in complaint
    assert "input text" not in caplog.text


def test_a_redact_that_leaves_no_text_where_one_is_lets_nothing_out(lm, tmp_path, caplog):
    """Readers of a log would not get the event either, nor those it was written with."""

    def careless(event):
        is_token = event.event_type == "token"
        return msgspec.structs.replace(event, token=None) if is_token else event

    sink = JSONLSink(tmp_path / "log.jsonl")
    with streamll.configure(redact=careless):
        assert streamll.instrument(QA(), stream_fields="*", sinks=[sink])("q").answer
    assert sink.stop(60)
    kinds = [event.event_type for event in read_jsonl(tmp_path / "log.jsonl")]
    assert (kinds[0], kinds[-1], "token" in kinds) == ("run.start", "run.end", False)
    assert "careless returned a TokenEvent whose token is not text" in caplog.text


def test_a_run_that_outlives_the_block_of_its_redact_stays_under_it(lm, practice, heard):
    def without_number(event):
        return wire.decode(wire.encode(event).replace(b"555-", b"###-"))

    practice.script(Reply({"answer": "Call 555-0100"}, chunk=1, packets=True, hold_after=40))
    program = dspy.Predict("question -> answer")
    with contextlib.ExitStack() as left_later:
        with streamll.configure(redact=without_number, sinks=[heard]):
            events = left_later.enter_context(streamll.stream(program)(question="?"))
            next(event for event in events if "555-" in events.text("answer"))
    wait_until(lambda: "run.cancelled" in heard.types, 60, "the run's end")
    assert "Call ###-" in repr(heard.events[-1].data)
    assert "555-" not in repr([event.data for event in heard.events])


def test_each_redact_that_fails_is_reported(lm, caplog):
    for redact in (lambda event: 1, lambda event: 2):
        streamll.configure(redact=redact)
        assert streamll.instrument(QA(), stream_fields="*")("q").answer
    streamll.configure(redact=None)
    assert caplog.text.count("withheld") == 2


def test_configure_as_a_block_restores_what_was_before(heard):
    from streamll.configuration import configuration

    with streamll.configure(sinks=[heard], include=["inputs"]):
        with streamll.configure(include=[]):
            assert configuration.include == frozenset()
            assert configuration.sinks == (heard,)
        assert configuration.include == frozenset({"inputs"})
    assert configuration.sinks == ()
    with pytest.raises(ConfigurationError, match="is not a sink"):
        streamll.configure(sinks=["terminal"])


def withheld(event):
    return None


@pytest.mark.parametrize("first_out", [0, 1, 2])
def test_blocks_that_overlap_are_left_in_any_order(heard, first_out):
    """As two requests at once have them, each in its task."""
    guard = Words(["Bluebird"])
    options = [
        {"guards": [guard], "include": ["errors"], "sinks": [heard]},
        {"guards": [], "redact": withheld, "include_limit": 7},
        {"guards": [guard], "include": ["tools"], "cached_tokens": False},
    ]
    before = msgspec.structs.asdict(configuration)
    blocks = [streamll.configure(**each) for each in options]
    blocks.pop(first_out).close()
    options.pop(first_out)
    assert [each.name for each in configuration.guards] == [g.name for g in options[-1]["guards"]]
    assert configuration.redact is next((e["redact"] for e in options if "redact" in e), None)
    blocks.pop(0).close()
    assert [each.name for each in configuration.guards] == [g.name for g in options[-1]["guards"]]
    assert configuration.include == set(options[-1].get("include", ()))
    blocks.pop(0).close()
    assert msgspec.structs.asdict(configuration) == before


def test_what_is_set_for_good_stays_when_an_earlier_block_is_left():
    block = streamll.configure(guards=[], include_limit=7)
    streamll.configure(guards=[Words(["Bluebird"])])
    block.close()
    assert len(configuration.guards) == 1
    assert configuration.include_limit == 10_000


def test_options_that_nothing_can_bring_back_are_forgotten():
    class Redact:
        def __call__(self, event):
            return event

    redact = Redact()
    gone = weakref.ref(redact)
    streamll.configure(redact=redact)
    del redact
    for _ in range(3):
        streamll.configure(redact=Redact())
    assert gone() is None


class Coded(Exception):
    def __init__(self, **facts):
        super().__init__("secret")
        vars(self).update(facts)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit("secret"), ""),
        (SystemExit("no customer 'Ada' in postgres://app:secret@db"), ""),
        (SystemExit(3), "code 3"),
        (Coded(status=429, code="rate_limit_exceeded"), "status 429, code rate_limit_exceeded"),
        (Coded(code="cannot answer 'x': the key is secret", provider="openai"), "provider openai"),
        (Coded(provider_code="secret" * 20, retry_after=1.5), "retry_after 1.5"),
        (Coded(adapter_name="", code=None, status=["secret"]), ""),
    ],
)
def test_of_an_error_only_facts_are_told(heard, error, message):
    class Fails(dspy.Module):
        def forward(self):
            raise error

    with pytest.raises(type(error)):
        streamll.instrument(Fails(), sinks=[heard])()
    assert [event.message for event in heard.of("run.error")] == [message]
    assert "secret" not in repr(heard.events)


PAGE = Path(__file__).parents[3] / "docs" / "privacy.md"
CALL = {"answer": "Call 555-0100 now and then."}
CORRECTED = '{"answer": "Call 555-0100.", "answer": "Call 555-0199."}'
ENDS = {
    "run.end": CORRECTED,
    "run.error": Reply(CALL, fault=Fault(disconnect_after=9)),
    "run.cancelled": Reply(CALL, hold_after=9),
}


def documented_redact():
    code = PAGE.read_text("utf-8").partition("import re\n")[2].partition("dspy.configure(")[0]
    exec(code, names := {"re": re})
    return names["without_digits"]


@pytest.mark.parametrize("end", ENDS)
def test_the_documented_redact_finds_all_that_a_model_says(practice, heard, end):
    """Also in what is told of a reply that was cut, left, or read otherwise than it had been streamed."""
    practice.script(*[ENDS[end]] * 2)
    adapter = dspy.JSONAdapter() if end == "run.end" else NO_FALLBACK
    with (
        dspy.context(lm=practice.lm(num_retries=0), adapter=adapter),
        streamll.configure(redact=documented_redact(), sinks=[heard]),
    ):
        with (
            streamll.stream(dspy.Predict("question -> answer"))(question="?") as events,
            contextlib.suppress(LM_ERROR),
        ):
            for _ in events:
                if end == "run.cancelled" and "-" in events.text("answer"):
                    break
        # One that is left ends in a thread of its own, for which its reader hardly waits.
        wait_until(lambda: end in heard.types, 60, "the run's end")
    assert heard.events[-1].event_type == end
    assert len(heard.of("field.corrected")) == (end == "run.end")
    said = repr([dict(event.data) for event in heard.events])
    assert "Call ###-" in said
    assert not re.search(r"[Cc]all \d", said)
