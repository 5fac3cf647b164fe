"""X18: other models where the program's own fails: which errors, what is shown, what the program gets."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import dspy
import pytest
from outcomes import TEXT, WHOLE, AsyncQA, continuation, run_sync, script_anew
from patience import BOUND
from profiles import IN_CI

import streamll
from streamll import CircuitBreaker, FirstTokenTimeout, SafeDSpyStream, StreamConfig
from streamll.capture import running
from streamll.capture.policy import call
from streamll.core.errors import ConfigurationError
from streamll.core.ordering import OrderCheck
from streamll.testing import Fault, PracticeServer, Reply

pytestmark = pytest.mark.since_3_4

FIRST, SECOND = "openai/first", "anthropic/second"
PATIENCE = (0.5, 5, 60)
"""Seconds for a first token where one model is silent: more, if a busy machine needs them for the other."""


@pytest.fixture
def other():
    """Another provider."""
    with PracticeServer() as server:
        yield server


@pytest.fixture
def lms(practice, other):
    """The program's LM, and its fallback on another provider with another wire."""
    first = practice.lm(model="first", api_key="key-of-the-first")
    second = other.lm("anthropic", model="second")
    dspy.configure(lm=first, adapter=dspy.ChatAdapter())
    return first, second


def falls_over(run, config, **options):
    return answered(run(config, **options))


def answered(outcome):
    assert outcome.error is None, outcome.error
    assert outcome.text == outcome.prediction.answer == TEXT
    OrderCheck().check_all(outcome.events)
    return outcome


UNBEGUN = {
    "a server error": Fault(status=500),
    "a rate limit": Fault(status=429),
    "a wait beyond reason": Fault(status=429, retry_after=3600),
    "a wrong key": Fault(status=401),
    "a refused request": Fault(status=400),
    "an unknown model": Fault(status=404),
    "a filter": Fault(status=400, error_type="content_filter", message="flagged"),
    "a lost connection": Fault(disconnect_after=0),
    "an error in the stream": Fault(error_after=0, error_type="server_error"),
    "silence": Fault(silent=True),
    "keep-alives alone": Fault(keepalive=0.05),
}


@pytest.mark.parametrize(
    ("fault", "policy"),
    [
        (fault, policy)
        for number, fault in enumerate(UNBEGUN)
        for place, policy in enumerate(("fail", "restart", "continue"))
        if IN_CI or number % 3 == place
    ],
)
def test_before_the_first_token_another_model_answers_whatever_failed(
    practice, other, lms, run, fault, policy
):
    for patience in PATIENCE if fault in ("silence", "keep-alives alone") else (None,):
        script_anew(practice, UNBEGUN[fault])
        script_anew(other, WHOLE)
        config = StreamConfig(
            max_retries=0, on_partial=policy, first_token_timeout=patience, fallbacks=[lms[1]]
        )
        outcome = run(config)
        if outcome.error is None and len(practice.requests) == len(other.requests) == 1:
            break
    answered(outcome)
    assert (len(practice.requests), len(other.requests)) == (1, 1)
    (superseded,) = outcome.of("lm.superseded")
    assert (superseded.attempt, superseded.next_model) == (0, SECOND)
    (waiting,) = outcome.of("lm.waiting")
    assert (waiting.reason, waiting.model) == ("fallback", SECOND)
    assert [event.model for event in outcome.of("lm.start")] == [FIRST]
    assert [event.model for event in outcome.of("lm.end")] == [SECOND]
    assert {event.attempt for event in outcome.of("token")} == {1}


@pytest.mark.parametrize("engines", [("auto", "litellm"), ("litellm", "auto"), ("litellm",) * 2])
@pytest.mark.parametrize("wires", [("openai", "anthropic"), ("anthropic", "responses")])
def test_a_cut_reply_begins_anew_at_another_model_through_either_engine(
    practice, other, run, engines, wires
):
    first = practice.lm(wires[0], engine=engines[0])
    second = other.lm(wires[1], engine=engines[1])
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=9)))
    other.script(WHOLE)
    with dspy.context(lm=first, adapter=dspy.ChatAdapter()):
        outcome = falls_over(run, StreamConfig(max_retries=0, fallbacks=[second]))
    (superseded,) = outcome.of("lm.superseded")
    assert superseded.next_model == second.model
    assert {event.attempt for event in outcome.of("token")} == {0, 1}
    assert [len(lm.history) for lm in (first, second)] == [0, 1]


@pytest.mark.parametrize("at", [7, 9, 12, 16] if IN_CI else [9])
@pytest.mark.parametrize("wires", [("openai", "anthropic"), ("anthropic", "responses")])
def test_a_cut_reply_is_continued_by_another_model(practice, other, run, wires, at):
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=at), chunk=4))
    other.script(continuation)
    second = other.lm(wires[1])
    config = StreamConfig(max_retries=0, on_partial="continue", fallbacks=[second])
    with dspy.context(lm=practice.lm(wires[0]), adapter=dspy.ChatAdapter()):
        outcome = falls_over(run, config)
    assert other.requests[0].messages[-1].role == "assistant"
    assert not outcome.of("lm.superseded")
    assert [event.model for event in outcome.of("lm.waiting")] == [second.model]
    assert [event.model for event in outcome.of("lm.end")] == [second.model]


def test_a_reply_is_handed_on_as_often_as_it_is_cut(practice, other, lms, run):
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=9), chunk=4))
    third = practice.lm("responses", model="third")
    other.script(lambda r: Reply(continuation(r), fault=Fault(disconnect_after=2), chunk=4))
    practice.script(continuation)
    config = StreamConfig(max_retries=0, on_partial="continue", fallbacks=[lms[1], third])
    outcome = falls_over(run, config)
    assert not outcome.of("lm.superseded")
    assert [event.model for event in outcome.of("lm.waiting")] == [SECOND, third.model]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Reply(WHOLE, fault=Fault(disconnect_after=9)), [Fault(status=400), WHOLE]),
        (Reply(WHOLE, fault=Fault(disconnect_after=9)), [WHOLE]),  # it starts over
        (Reply(WHOLE, thinking="Hm.", fault=Fault(disconnect_after=14)), [WHOLE]),
    ],
    ids=["refused", "starts over", "thinking"],
)
def test_what_another_model_does_not_continue_it_gives_from_the_beginning(
    practice, other, lms, run, first, second
):
    practice.script(first)
    other.script(*second)
    config = StreamConfig(max_retries=0, on_partial="continue", fallbacks=[lms[1]])
    outcome = falls_over(run, config)
    assert len(outcome.of("lm.superseded")) == 1
    assert outcome.of("lm.superseded")[0].next_model == SECOND


def test_after_some_text_a_stream_that_must_not_take_it_back_fails(practice, other, lms, run):
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=9)))
    outcome = run(StreamConfig(max_retries=0, on_partial="fail", fallbacks=[lms[1]]))
    assert isinstance(outcome.error, dspy.LMError)
    assert outcome.text
    assert not other.requests


def test_each_model_has_retries_of_its_own(practice, other, lms, run):
    practice.script(Fault(status=500), Fault(status=500))
    other.script(Fault(status=500), WHOLE)
    outcome = falls_over(run, StreamConfig(max_retries=1, retry_delay=0.01, fallbacks=[lms[1]]))
    assert (len(practice.requests), len(other.requests)) == (2, 2)
    superseded = [(event.attempt, event.next_model) for event in outcome.of("lm.superseded")]
    assert superseded == [(0, None), (1, SECOND), (2, None)]
    assert [event.reason for event in outcome.of("lm.waiting")] == ["retry", "fallback", "retry"]


def test_an_lm_is_asked_once_where_it_is_among_its_own_fallbacks(practice, other, lms, run):
    practice.script(Fault(status=401))
    other.script(WHOLE)
    falls_over(run, StreamConfig(fallbacks=[lms[0], lms[1]]))
    assert len(practice.requests) == 1


# --- what the program gets ------------------------------------------------------------------------


def entry_of(lm):
    """The last of an LM's history, without what differs from call to call."""
    entry = dict(lm.history[-1])
    for name in ("uuid", "timestamp", "response"):
        entry.pop(name)
    return entry


@pytest.mark.parametrize("engine", ["auto", "litellm"])
def test_the_program_gets_what_the_other_model_gives_it_plainly(practice, other, lms, run, engine):
    second = other.lm("anthropic", model="second", engine=engine)
    other.respond(lambda request: WHOLE)
    with dspy.context(lm=second), dspy.track_usage() as plain_usage:
        plain = dspy.Predict("question -> answer")(question="Why?")
    plain_entry = entry_of(second)
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=9)))
    with dspy.track_usage() as usage:
        outcome = falls_over(run, StreamConfig(max_retries=0, fallbacks=[second]))
    assert outcome.prediction.toDict() == plain.toDict()
    assert entry_of(second) == plain_entry
    assert not lms[0].history
    assert usage.get_total_tokens() == plain_usage.get_total_tokens()
    (end,) = outcome.of("lm.end")
    assert end.prompt_tokens is None  # of the reply that was cut they are not known
    (used,) = [each for each in end.usage if each.model == second.model]
    assert (used.prompt_tokens, used.completion_tokens) == (
        plain_entry["usage"]["prompt_tokens"], plain_entry["usage"]["completion_tokens"],
    )  # fmt: skip


def test_a_reply_is_cached_as_the_model_s_that_gave_it(practice, other, lms, run):
    first, second = practice.lm(model="first", cache=True), other.lm("anthropic", cache=True)
    practice.script(Fault(status=401), Reply(WHOLE, fault=Fault(disconnect_after=9)), WHOLE)
    other.script(WHOLE)
    config = StreamConfig(max_retries=0, fallbacks=[second])
    with dspy.context(lm=first):
        falls_over(run, config)
        outcome = falls_over(run, config)  # from the second's cache
        assert [event.cached for event in outcome.of("lm.end")] == [True]
        assert len(outcome.of("lm.superseded")) == 1
        assert (len(practice.requests), len(other.requests)) == (2, 1)
        falls_over(run, config)
        assert len(practice.requests) == 3  # nothing was kept as the first's reply


def test_all_candidates_are_those_of_one_model(practice, other, lms):
    practice.script({"answer": "one of the first"}, Fault(status=401))
    other.script(WHOLE, {"answer": "another"})
    program = dspy.Predict("question -> answer", n=2, temperature=0.5)
    outcome = falls_over(run_sync, StreamConfig(fallbacks=[lms[1]]), program=program)
    assert outcome.prediction.completions.answer == [TEXT, "another"]
    assert [event.next_model for event in outcome.of("lm.superseded")] == [SECOND]
    assert not outcome.of("field.corrected")


def test_a_rollout_stays_one(practice, other, lms):
    """``BestOfN`` asks for replies that differ: not thrice for the one in the cache."""
    first, second = practice.lm(model="first", cache=True), other.lm("anthropic", cache=True)
    practice.respond(lambda request: Fault(status=401))
    other.script(*[{"answer": word} for word in ("one", "two", "three")])
    best = dspy.BestOfN(
        dspy.Predict("question -> answer"), N=3, reward_fn=lambda *_: 0.0, threshold=1.0
    )
    with dspy.context(lm=first):
        outcome = run_sync(StreamConfig(fallbacks=[second]), program=best)
    assert outcome.error is None
    assert len(other.requests) == 3


class HeadersKept(BaseHTTPRequestHandler):
    """Answers nothing, and keeps what it was sent: the practice server keeps no credentials."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(str(self.headers))
        self.send_error(500)

    def log_message(self, *_):
        pass


@pytest.fixture
def headers_kept():
    with HTTPServer(("127.0.0.1", 0), HeadersKept) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_address_and_key_of_a_call_do_not_go_to_another_provider(practice, lms, headers_kept):
    base = f"http://127.0.0.1:{headers_kept.server_port}/v1"
    second = dspy.LM("openai/second", api_base=base, api_key="key-of-the-second", cache=False)
    own = {"api_key": "key-of-the-call", "api_base": practice.openai_url}
    practice.script(Fault(status=401))
    config = StreamConfig(max_retries=0, fallbacks=[second])
    run_sync(config, program=dspy.Predict("question -> answer", **own))
    assert len(practice.requests) == 1
    (headers,) = headers_kept.seen
    assert "key-of-the-second" in headers
    assert "key-of-the-call" not in headers
    assert "key-of-the-first" not in headers


def test_options_of_a_call_are_those_of_every_model(practice, other, lms):
    practice.script(Fault(status=401))
    other.script(WHOLE)
    program = dspy.Predict("question -> answer", max_tokens=77)
    falls_over(run_sync, StreamConfig(fallbacks=[lms[1]]), program=program)
    assert other.requests[0].body["max_tokens"] == 77


class Plugin(dspy.BaseLM):
    """An LM of somebody's own."""

    def __init__(self, error=None):
        super().__init__(model="own/plugin")
        self.error = error

    def forward(self, prompt=None, messages=None, **kwargs):
        if self.error is not None:
            raise self.error
        import litellm

        choice = {"message": {"role": "assistant", "content": WHOLE}, "finish_reason": "stop"}
        return litellm.ModelResponse(choices=[choice], model=self.model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_lm_of_ones_own_falls_over_and_is_fallen_back_to(practice, other, lms):
    other.script(WHOLE)
    with dspy.context(lm=Plugin(ConnectionError("down"))):
        outcome = falls_over(run_sync, StreamConfig(max_retries=0, fallbacks=[lms[1]]))
    assert outcome.of("lm.end")[0].model == SECOND
    practice.script(Fault(status=401))
    outcome = falls_over(run_sync, StreamConfig(fallbacks=[Plugin()]))
    assert outcome.of("lm.end")[0].model == "own/plugin"


# --- nobody answers -------------------------------------------------------------------------------


def test_the_last_error_names_those_before_it(practice, other, lms, run):
    practice.script(Fault(status=401, message="no such key"))
    other.script(Fault(status=500))
    outcome = run(StreamConfig(max_retries=0, fallbacks=[lms[1]]))
    error = outcome.error
    assert type(error) is dspy.LMServerError
    assert (error.model, error.status) == (SECOND, 500)
    assert f"(asked before: {FIRST}: LMAuthError: no such key" in str(error)
    assert [type(each) for each in error.earlier_errors] == [dspy.LMAuthError]
    assert [event.model for event in outcome.of("lm.end")] == [SECOND]
    OrderCheck().check_all(outcome.events)


def test_an_earlier_timeout_is_not_what_the_stream_ended_with(practice, other, lms, run):
    practice.respond(lambda _: Fault(silent=True))
    other.respond(lambda _: Fault(status=500))
    for patience in PATIENCE:
        config = StreamConfig(max_retries=0, first_token_timeout=patience, fallbacks=[lms[1]])
        outcome = run(config)
        if type(outcome.error) is not FirstTokenTimeout:  # which is the second one's
            break
    assert type(outcome.error) is dspy.LMServerError
    assert "first: LMTimeoutError: no first token" in str(outcome.error)


def test_a_timeout_of_the_last_one_is_the_stream_s(practice, other, lms, run, monkeypatch):
    for module in (call, running):  # a stream that does not wait for its program tells no cause
        monkeypatch.setattr(module, "grace", lambda limit: BOUND)
    practice.respond(lambda _: Fault(status=401))
    other.respond(lambda _: Fault(silent=True))
    for patience in PATIENCE:
        config = StreamConfig(max_retries=0, first_token_timeout=patience, fallbacks=[lms[1]])
        outcome = run(config)
        assert type(outcome.error) is FirstTokenTimeout
        if "LMAuthError" in str(outcome.error.__cause__):  # otherwise there was no time for it
            break
    assert "LMAuthError" in str(outcome.error.__cause__)


def test_what_is_wrong_with_the_program_is_no_reason_to_ask_another_model(
    practice, other, lms, run
):
    with dspy.context(lm=practice.lm(timeout="soon")):
        outcome = run(StreamConfig(fallbacks=[lms[1]]))
    assert "timeout must be a number" in str(outcome.error)
    assert not other.requests


def test_leaving_ends_it_before_another_model_is_asked(practice, other, lms):
    practice.script(Reply(WHOLE, hold_after=9))
    with streamll.stream(
        dspy.Predict("question -> answer"), config=StreamConfig(fallbacks=[lms[1]])
    )(question="?") as events:
        next(event for event in events if event.event_type == "token")
        thread = events._program_run._thread
    thread.join(60)
    assert not thread.is_alive()
    assert not other.requests


# --- breakers -------------------------------------------------------------------------------------


def test_an_open_breaker_goes_to_the_next_model_without_a_request(practice, other, lms, run):
    own = CircuitBreaker(failures=1, open_seconds=60)
    practice.script(Fault(status=500))
    other.respond(lambda request: WHOLE)
    config = StreamConfig(max_retries=0, breaker=own, fallbacks=[lms[1]])
    falls_over(run, config)
    assert own.state == "open"
    falls_over(run, config)  # one's own breaker is of the program's LM alone
    assert (len(practice.requests), len(other.requests)) == (1, 2)


def test_a_retry_does_not_wait_for_a_breaker_where_another_model_can_be_asked(
    practice, other, lms, run
):
    own = CircuitBreaker(failures=2, open_seconds=30)
    practice.script(Fault(status=500), Fault(status=500))
    other.script(WHOLE)
    config = StreamConfig(max_retries=5, retry_delay=0.01, breaker=own, fallbacks=[lms[1]])
    outcome = falls_over(run, config)
    assert len(practice.requests) == 2
    assert all(event.delay < 1 for event in outcome.of("lm.waiting") if event.reason == "retry")


# --- where else it holds --------------------------------------------------------------------------


def test_calls_in_dspy_parallel_fall_over_each_for_itself(practice, other, lms):
    class Fan(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        def forward(self, question):
            pairs = [(self.predict, {"question": f"{question} {i}"}) for i in range(4)]
            answers = dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)
            return dspy.Prediction(answers=[answer.answer for answer in answers])

    practice.script(Fault(status=401), Fault(status=401))
    practice.respond(lambda request: WHOLE)
    other.respond(lambda request: WHOLE)
    outcome = run_sync(StreamConfig(fallbacks=[lms[1]]), program=Fan())
    assert outcome.prediction.answers == [TEXT] * 4
    assert (len(practice.requests), len(other.requests)) == (4, 2)
    assert sorted(e.model for e in outcome.of("lm.end")) == [SECOND] * 2 + [FIRST] * 2


def test_readers_of_text_are_told_to_drop_it(practice, other, lms):
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=9)))
    other.script(WHOLE)
    stream = SafeDSpyStream("Why?", max_retries=0, fallbacks=[lms[1]])
    names = [type(event).__name__ for event in stream]
    assert names.count("Reset") == 1
    assert names[-1] == "Done"


def test_without_a_config_nothing_falls_over(practice, other, lms):
    practice.script(Fault(status=401))
    outcome = run_sync(None)
    assert isinstance(outcome.error, dspy.LMAuthError)


@pytest.mark.parametrize("nothing", [StreamConfig, {"timeout": 3}, 100])
def test_a_config_that_is_none_is_refused(nothing):
    with pytest.raises(ConfigurationError, match="config is a StreamConfig"):
        streamll.stream(AsyncQA(), config=nothing)
    with pytest.raises(ConfigurationError, match="config is a StreamConfig"):
        streamll.iModel("openai/gpt-4o", api_key="-").invoke_stream("?", config=nothing)


@pytest.mark.parametrize(
    ("fallbacks", "says"),
    [
        (["openai/gpt-4o"], r"one is a str; write dspy.LM\('openai/gpt-4o'\)"),
        ("openai/gpt-4o", "a list of dspy.LM objects, not a str"),
        ([object()], "fallbacks must be LMs, and one is a object"),
    ],
)
def test_a_fallback_that_is_no_lm_is_refused(fallbacks, says):
    with pytest.raises(ConfigurationError, match=says):
        streamll.stream(AsyncQA(), config=StreamConfig(fallbacks=fallbacks))
