"""X6, X8: every fault of the practice server, sync and async, under every policy: what comes of it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError, LMError, LMInvalidRequestError
from outcomes import LIMITS_S, TEXT, WHOLE, continuation, script_anew
from profiles import THOROUGH, in_turn

from streamll import FirstTokenTimeout, IdleTimeout, StreamConfig
from streamll.testing import Fault, Reply

pytestmark = pytest.mark.since_3_4

POLICIES = ("fail", "restart", "continue")
CALM = StreamConfig(retry_delay=0.01)
AFTER = 9  # chunks: the header and two words


class Expected(NamedTuple):
    """``error``: of what type, else the answer is whole. ``requests``: in all."""

    error: type[BaseException] | None
    requests: int
    superseded: int = 0
    begun: bool = False  # some text is there when the error comes


AGAIN = Expected(None, 2, superseded=1)
"""Before the first token every policy tries again."""
WHOLE_AT_ONCE = Expected(None, 1)

# What befalls the first reply; the second is whole, or continues where it is asked to. As no policy
# matters yet, each is played under one of them, in turn, unless the run is thorough.
UNBEGUN: dict[str, tuple[Fault, Expected]] = {
    "500": (Fault(status=500), AGAIN),
    "503": (Fault(status=503), AGAIN),
    "529 overloaded": (Fault(status=529), AGAIN),
    "429": (Fault(status=429), AGAIN),
    "429 with Retry-After": (Fault(status=429, retry_after=0.05), AGAIN),
    "429 with a Retry-After beyond reason": (
        Fault(status=429, retry_after=3600), Expected(LMError, 1)),
    "408": (Fault(status=408), AGAIN),
    "400": (Fault(status=400), Expected(LMInvalidRequestError, 1)),
    "401": (Fault(status=401), Expected(LMAuthError, 1)),
    "403": (Fault(status=403), Expected(LMAuthError, 1)),
    "404": (Fault(status=404), Expected(LMInvalidRequestError, 1)),
    "content filter": (
        Fault(status=400, error_type="content_filter", message="flagged"),
        Expected(LMInvalidRequestError, 1)),
    "stream_options refused": (Fault(refuse_stream_options=True), Expected(None, 2)),
    "plain JSON": (Fault(plain_json=True), WHOLE_AT_ONCE),
    "another content type": (Fault(content_type="text/html"), WHOLE_AT_ONCE),
    "closed at once": (Fault(disconnect_after=0), AGAIN),
    "reset at once": (Fault(disconnect_after=0, reset=True), AGAIN),
    "closed after a few bytes": (Fault(disconnect_after_bytes=20), AGAIN),
    "error frame at once": (Fault(error_after=0, error_type="server_error"), AGAIN),
    "silent": (Fault(silent=True), Expected(FirstTokenTimeout, 1)),
    "only keep-alives": (Fault(keepalive=0.05), Expected(FirstTokenTimeout, 1)),
    "stalls at once": (Fault(stall_after=0), Expected(FirstTokenTimeout, 1)),
    "CR LF": (Fault(crlf=True), WHOLE_AT_ONCE),
    "split characters": (Fault(split_characters=True), WHOLE_AT_ONCE),
    "long lines": (Fault(line_length=200_000), WHOLE_AT_ONCE),
    "open after the end": (Fault(open_end=True), WHOLE_AT_ONCE),
}  # fmt: skip

# After text has come: by policy fail, restart, continue.
TRANSIENT = (
    Expected(LMError, 1, begun=True),
    Expected(None, 2, superseded=1),
    Expected(None, 2),
)
FINAL = (Expected(LMError, 1, begun=True),) * 3
ASKED_PLAINLY = (AGAIN, AGAIN, AGAIN)
"""It may mean anything, so the plain reply counts, whatever the policy for partial text."""
SILENCE = (Expected(IdleTimeout, 1, begun=True),) * 3
BEGUN: dict[str, tuple[Fault, tuple[Expected, Expected, Expected]]] = {
    "closed": (Fault(disconnect_after=AFTER), TRANSIENT),
    "reset": (Fault(disconnect_after=AFTER, reset=True), TRANSIENT),
    "error frame": (Fault(error_after=AFTER, error_type="server_error"), TRANSIENT),
    "overloaded": (Fault(error_after=AFTER, error_type="overloaded_error"), TRANSIENT),
    "error frame that is final": (
        Fault(error_after=AFTER, error_type="invalid_request_error"), FINAL),
    "malformed frame": (Fault(malformed_after=AFTER), ASKED_PLAINLY),
    "stalls": (Fault(stall_after=AFTER), SILENCE),
    "stalls with keep-alives": (Fault(stall_after=AFTER, keepalive=0.05), SILENCE),
}  # fmt: skip

PLAYED = [
    (f"{name}-{policy}", fault, policy, expected)
    for number, (name, (fault, expected)) in enumerate(UNBEGUN.items())
    for policy in (POLICIES if THOROUGH else [POLICIES[number % 3]])
] + [
    (f"{name} after text-{policy}", fault, policy, outcome)
    for name, (fault, outcomes) in BEGUN.items()
    for policy, outcome in zip(POLICIES, outcomes, strict=True)
]
CASES = [
    pytest.param(*case, way, id=f"{name}-{way}")
    for (name, *case), way in in_turn(PLAYED, ["sync", "async"])
]


@pytest.mark.parametrize(("fault", "policy", "expected", "run"), CASES, indirect=["run"])
def test_every_fault_has_its_outcome(lm, practice, run, fault, policy, expected):
    hold = AFTER if fault.reset and fault.disconnect_after else ()

    def release(event):
        """A reset destroys what was sent and not yet read: it has to wait for the reader."""
        if hold and getattr(event, "token", "") == " two":
            practice.release()

    quiet = fault.silent or fault.stall_after is not None or fault.keepalive is not None
    setting = "idle_timeout" if fault.stall_after else "first_token_timeout"
    configs = [StreamConfig(**{setting: limit}) for limit in LIMITS_S] if quiet else [CALM]
    for config in configs:
        script_anew(
            practice, Reply(WHOLE, fault=fault, packets=True, hold_after=hold), continuation
        )
        outcome = run(dataclasses.replace(config, on_partial=policy), on_event=release)
        # Otherwise the limit was too short for a busy machine: for a request, or for what is sent.
        if len(practice.requests) == expected.requests and bool(outcome.text) == expected.begun:
            break

    if expected.error is None:
        assert outcome.error is None
        assert outcome.text == outcome.prediction.answer == TEXT
        assert outcome.types[-1] == "run.end"
    else:
        assert isinstance(outcome.error, expected.error), repr(outcome.error)
        assert outcome.types[-1] == "run.error"
        assert TEXT.startswith(outcome.text)
        assert bool(outcome.text) == expected.begun
        assert outcome.of("run.error")[0].partial.get("answer", outcome.text) == outcome.text
    assert len(practice.requests) == expected.requests
    assert len(outcome.of("lm.superseded")) == expected.superseded
    waits = [event for event in outcome.of("lm.waiting") if event.reason == "retry"]
    assert all(event.delay is not None for event in waits)
    if isinstance(outcome.error, TimeoutError):
        practice.requests[0].wait_closed()


def test_the_table_has_every_fault():
    """A fault that is added to the practice server needs an outcome here."""
    used = set()
    for fault, _ in [*UNBEGUN.values(), *BEGUN.values()]:
        used |= {
            each.name for each in dataclasses.fields(Fault)
            if getattr(fault, each.name) != each.default
        }  # fmt: skip
    assert used == {each.name for each in dataclasses.fields(Fault)}


def test_without_a_config_the_lms_own_retries_stand(practice, run):
    practice.script(Fault(status=500), {"answer": TEXT})
    with dspy.context(lm=practice.lm(num_retries=1), adapter=dspy.ChatAdapter()):
        outcome = run(None)
    assert outcome.text == TEXT
    assert len(practice.requests) == 2


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
@pytest.mark.parametrize("wire", ["openai", "responses", "anthropic"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=429, retry_after=0), {"LMRateLimitError"}),
        (Fault(disconnect_after_bytes=0), {"LMTransportError", "LMServerError"}),
    ],
    ids=["429", "closed"],
)
def test_attempts_are_never_multiplied(practice, run, wire, engine, fault, error):
    """X6: the config's attempts, in place of the LM's own ``num_retries`` and the library's."""
    practice.script(*[fault] * 12)
    lm = practice.lm(wire, engine=engine, num_retries=5)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        outcome = run(StreamConfig(max_retries=2, retry_delay=0.01))
    assert type(outcome.error).__name__ in error
    assert len(practice.requests) == 3
