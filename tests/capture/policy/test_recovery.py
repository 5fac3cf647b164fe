"""X6: what continuing does at the seam, when it is not possible, and the circuit breaker."""

from __future__ import annotations

import itertools

import dspy
import pytest
from outcomes import TEXT, WHOLE, continuation, run_sync, script_anew
from profiles import in_turn

import streamll
from streamll import CircuitBreaker, StreamConfig
from streamll.capture.policy.continuation import Continuation
from streamll.capture.policy.providers import breaker_of, provider_key
from streamll.testing import Fault, Reply, ToolCall

pytestmark = pytest.mark.since_3_4

CONTINUE = StreamConfig(on_partial="continue", retry_delay=0.01)


@pytest.mark.parametrize(
    ("at", "wire"), in_turn(range(7, 17), ["openai", "responses", "anthropic"])
)
def test_a_continued_text_is_exact_where_the_two_replies_join(practice, run, wire, at):
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=at), chunk=4), continuation)
    with dspy.context(lm=practice.lm(wire), adapter=dspy.ChatAdapter()):
        outcome = run(CONTINUE)
    assert outcome.text == outcome.prediction.answer == TEXT
    assert len(practice.requests) == 2
    assert practice.requests[1].messages[-1].role == "assistant"
    assert not outcome.of("lm.superseded")
    offsets = [(event.offset, len(event.token)) for event in outcome.of("token")]
    assert all(a + n == b for (a, n), (b, _) in itertools.pairwise(offsets))


def test_a_text_is_continued_as_often_as_it_is_cut(practice, run, lm):
    def cut(request):
        last = request.messages[-1]
        rest = WHOLE[len(last.text) :] if last.role == "assistant" else WHOLE
        return Reply(rest, fault=Fault(disconnect_after=9) if len(rest) > 25 else None)

    practice.respond(cut)
    outcome = run(CONTINUE)
    assert outcome.text == outcome.prediction.answer == TEXT
    assert len(practice.requests) > 2


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("one ", " two", "one two"),  # the model says the blank again, since it was not shown it
        ("one ", "two", "one two"),  # it goes on where it stopped
        ("one\n", "\n\ntwo", "one\n\ntwo"),
        ("one", " two", "one two"),
        ("one \n", " two", "one \ntwo"),
    ],
)
def test_blanks_where_a_continuation_joins_are_not_doubled(before, after, expected):
    from dspy import lm15

    seam = Continuation(before, lm15.Request(model="m", messages=(lm15.Message.user("?"),)))
    assert before + "".join(seam.feed(character) for character in after) == expected
    assert seam.request.messages[-1].parts[0].text == before.rstrip()


def restarts(practice, run, *replies, **context):
    practice.script(*replies)
    with dspy.context(**context):
        outcome = run(CONTINUE)
    assert outcome.error is None
    assert outcome.text == outcome.prediction.answer == TEXT
    assert len(outcome.of("lm.superseded")) == 1
    return outcome


def test_a_model_that_starts_over_supersedes_its_first_reply(practice, run):
    cut = Reply({"answer": TEXT}, fault=Fault(disconnect_after=8))
    outcome = restarts(
        practice, run, cut, {"answer": TEXT}, lm=practice.lm(), adapter=dspy.JSONAdapter()
    )
    assert len(practice.requests) == 2
    assert outcome.of("lm.superseded")[0].reason == "StartedOver"


def test_structured_output_is_restarted(practice, run):
    cut = Reply({"answer": TEXT}, fault=Fault(disconnect_after=8))
    lm = practice.lm(model="gpt-4o-mini")  # DSPy knows that it takes a response_format
    restarts(practice, run, cut, {"answer": TEXT}, lm=lm, adapter=dspy.JSONAdapter())
    assert [request.messages[-1].role for request in practice.requests] == ["user", "user"]


def test_thinking_cannot_be_continued(practice, run, lm):
    cut = Reply(WHOLE, thinking="Let me see.", fault=Fault(disconnect_after=14))
    restarts(practice, run, cut, WHOLE)


def test_a_provider_that_refuses_to_continue_is_asked_to_restart(practice, run, lm):
    cut = Reply(WHOLE, fault=Fault(disconnect_after=9))
    restarts(practice, run, cut, Fault(status=400, message="prefill is not supported"), WHOLE)
    assert [request.messages[-1].role for request in practice.requests] == [
        "user", "assistant", "user",
    ]  # fmt: skip


def test_through_litellm_a_reply_is_restarted(practice, run):
    cut = Reply(WHOLE, fault=Fault(disconnect_after=9))
    restarts(
        practice, run, cut, WHOLE, lm=practice.lm(engine="litellm"), adapter=dspy.ChatAdapter()
    )


def test_a_superseded_text_is_dropped_and_announced(practice, run, lm):
    practice.script(
        Reply("[[ ## answer ## ]]\nwrong words", fault=Fault(disconnect_after=8)), WHOLE
    )
    outcome = run(StreamConfig(retry_delay=0.01))
    assert outcome.text == TEXT
    assert {event.attempt for event in outcome.of("token")} == {0, 1}
    types = outcome.types
    assert types.index("lm.superseded") > types.index("lm.waiting")


def test_waiting_for_the_next_attempt_is_announced(practice, run, lm):
    practice.script(Fault(status=429, retry_after=0.2), WHOLE)
    outcome = run(StreamConfig(retry_delay=0.01))
    (waiting,) = outcome.of("lm.waiting")
    assert waiting.reason == "retry"
    assert 0.2 <= waiting.delay <= 0.23


def test_leaving_ends_the_wait_for_the_next_attempt(practice, lm):
    practice.script(Fault(status=500))
    with streamll.stream(dspy.Predict("question -> answer"), config=StreamConfig(retry_delay=60))(
        question="?"
    ) as events:
        for event in events:
            if event.event_type == "lm.waiting":
                break
        thread = events._program_run._thread
    thread.join(60)
    assert not thread.is_alive()
    assert len(practice.requests) == 1


# --- the circuit breaker ------------------------------------------------------------------------


def test_streams_to_one_provider_with_one_key_share_a_breaker(practice):
    assert breaker_of(practice.lm()) is breaker_of(practice.lm(temperature=0.5))
    assert breaker_of(practice.lm()) is not breaker_of(practice.lm(api_key="another"))
    assert breaker_of(practice.lm()) is not breaker_of(practice.lm("anthropic"))
    assert "practice" not in repr(provider_key(practice.lm()))  # the key itself is not kept


def test_a_provider_that_keeps_failing_opens_the_breaker(practice, run, lm, breaker, monkeypatch):
    monkeypatch.setattr(breaker, "_clock", lambda: 0.0)  # a busy machine lets seconds pass
    practice.fault = Fault(status=500)
    config = StreamConfig(max_retries=3, retry_delay=0, max_retry_delay=1)
    for _ in range(3):
        outcome = run(config)
        assert isinstance(outcome.error, dspy.LMError)
    assert len(practice.requests) == 10
    assert breaker.state == "open"
    outcome = run(config)
    assert len(practice.requests) == 10
    assert "openai failed 10 times in a row" in str(outcome.error)
    assert 15 < outcome.error.retry_after <= 30


def test_a_retry_under_way_waits_until_the_breaker_half_opens(practice, run, lm):
    # The retry's own delays are below 0.1 s; what is left of the breaker's seconds is waited.
    for seconds in (2, 20):  # which a busy machine may let pass before
        own = CircuitBreaker(failures=2, open_seconds=seconds)
        script_anew(practice, Fault(status=500), Fault(status=500), WHOLE)
        outcome = run(StreamConfig(retry_delay=0.01, breaker=own))
        assert outcome.text == TEXT
        assert own.state == "closed"
        if waits_for_it := any(event.delay > 0.1 for event in outcome.of("lm.waiting")):
            break
    assert waits_for_it


def test_a_half_open_breaker_admits_one_call_and_closes_when_it_succeeds(practice, run, lm):
    own = CircuitBreaker(failures=2, open_seconds=0)
    practice.script(Fault(status=500), Fault(status=500), Fault(status=500), WHOLE)
    config = StreamConfig(max_retries=0, breaker=own)
    for _ in range(3):
        assert run(config).error is not None
    assert own.state == "half-open"
    assert run(config).text == TEXT
    assert own.state == "closed"


def test_a_stream_from_before_an_outage_that_is_left_does_not_end_the_trial(practice, lm):
    now = [0.0]
    own = CircuitBreaker(failures=1, open_seconds=10, clock=lambda: now[0])
    read = streamll.stream(
        dspy.Predict("question -> answer"), config=StreamConfig(max_retries=0, breaker=own)
    )
    practice.script(Reply(WHOLE, hold_after=9), Fault(status=500), Reply(WHOLE, hold_after=9))
    with read(question="?") as old:
        next(event for event in old if event.event_type == "token")
        assert run_sync(StreamConfig(max_retries=0, breaker=own)).error is not None
        now[0] = 11.0
        with read(question="?") as trial:
            next(event for event in trial if event.event_type == "token")
            thread = old._program_run._thread
            old.close()
            thread.join(60)
            assert not thread.is_alive()
            practice.release()
            assert trial.result().answer == TEXT
    assert own.state == "closed"


@pytest.mark.parametrize("status", [400, 401, 429])
def test_a_rejected_request_does_not_open_the_breaker(practice, run, lm, status):
    own = CircuitBreaker(failures=1)
    practice.script(Fault(status=status, retry_after=0))
    assert run(StreamConfig(max_retries=0, breaker=own)).error is not None
    assert own.state == "closed"


def test_without_a_breaker_each_stream_makes_its_request(practice, lm):
    practice.fault = Fault(status=500)
    for _ in range(12):
        run_sync(StreamConfig(max_retries=0, breaker=None))
    assert len(practice.requests) == 12


# --- more than one call -------------------------------------------------------------------------


def test_each_candidate_has_its_own_attempts(practice, lm):
    practice.script(Fault(status=500), WHOLE, Fault(status=500), WHOLE)
    program = dspy.Predict("question -> answer", n=2, temperature=0.5)
    outcome = run_sync(StreamConfig(max_retries=1, retry_delay=0.01), program=program)
    assert outcome.error is None
    assert outcome.prediction.completions.answer == [TEXT, TEXT]


def test_the_config_applies_to_calls_in_dspy_parallel(practice, lm):
    class Fan(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        def forward(self, question):
            pairs = [(self.predict, {"question": f"{question} {i}"}) for i in range(4)]
            answers = dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)
            return dspy.Prediction(answers=[answer.answer for answer in answers])

    asked = set()

    def answer(request):
        """Each call fails once. Scripted failures might all come to the one that asks first."""
        question = request.inputs["question"]
        if question in asked:
            return WHOLE
        asked.add(question)
        return Fault(status=500)

    practice.respond(answer)
    outcome = run_sync(StreamConfig(retry_delay=0.01), program=Fan())
    assert outcome.prediction.answers == [TEXT] * 4
    assert len(practice.requests) == 8


def test_the_innermost_config_applies(practice, lm):
    inner_config = StreamConfig(max_retries=0)

    class Outer(dspy.Module):
        def forward(self, question):
            inner = streamll.stream(dspy.Predict("question -> answer"), config=inner_config)
            with inner(question=question) as events:
                try:
                    return events.result()
                except dspy.LMError:
                    return dspy.Prediction(answer="inner failed")

    practice.script(Fault(status=500), WHOLE)
    outcome = run_sync(StreamConfig(max_retries=3, retry_delay=0.01), program=Outer())
    assert outcome.prediction.answer == "inner failed"
    assert len(practice.requests) == 1


def test_native_tool_calls_survive_a_cut(practice, lm, run):
    calls = [ToolCall("price", {"fruit": "apple"})]
    practice.script(Reply("", tool_calls=calls, fault=Fault(disconnect_after=2)), WHOLE)
    outcome = run(CONTINUE)
    assert outcome.text == TEXT
