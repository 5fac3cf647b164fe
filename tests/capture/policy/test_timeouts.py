"""X8: first token, idle, total: each ends the stream when it says, sync and async."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time

import dspy
import pytest
import warm
from outcomes import LIMITS_S, TEXT, WHOLE, AsyncQA, run_async, script_anew
from patience import BOUND, Stopwatch
from profiles import THOROUGH

import streamll
from streamll import FirstTokenTimeout, IdleTimeout, StreamConfig, TotalTimeout
from streamll.capture import running
from streamll.capture.policy import call
from streamll.testing import Fault, PracticeServer, Reply

pytestmark = pytest.mark.since_3_4

AFTER = 8  # chunks: the header and two words
SETTINGS = (1.0, 5.0, 25.0)
"""Seconds until a timeout; the later ones are for a machine that has sent nothing by then."""


def test_a_silent_provider_ends_in_a_first_token_timeout_in_time(lm, practice, run):
    """Within 10 % (at least 50 ms) of the setting, measured where the reader is."""
    run(None)  # what is loaded on first use takes its time before
    for setting in SETTINGS:
        script_anew(practice, Fault(silent=True))
        sent: list[float] = []
        seen = lambda event: event.event_type == "lm.start" and sent.append(time.monotonic())  # noqa: E731, B023
        watch = Stopwatch()
        outcome = run(StreamConfig(first_token_timeout=setting), on_event=seen)
        ended = time.monotonic()
        kept_waiting = ended - watch.began - watch.until(ended)  # by this machine
        late = max(0.05, setting / 10) + kept_waiting
        assert isinstance(outcome.error, FirstTokenTimeout)
        assert ended - watch.began >= setting
        assert ended - sent[0] <= setting + late
        assert outcome.error.limit == setting
        assert setting - 0.02 <= outcome.error.elapsed <= setting + late
        assert outcome.error.received == 0
        if practice.requests:  # otherwise the time was over before the request had arrived
            break
    practice.requests[0].wait_closed()


@pytest.mark.parametrize(
    ("setting", "fault", "kind", "text"),
    [
        ("first_token_timeout", Fault(silent=True), FirstTokenTimeout, ""),
        ("idle_timeout", Fault(stall_after=AFTER), IdleTimeout, "one two"),
        ("timeout", Fault(stall_after=AFTER), TotalTimeout, "one two"),
        ("timeout", Fault(silent=True), TotalTimeout, ""),
    ],
    ids=["first token", "idle", "total", "total before the first byte"],
)
@pytest.mark.parametrize("keepalive", [None, 0.03], ids=["silence", "keep-alives"])
def test_a_timeout_error_tells_its_limit_the_elapsed_time_and_the_partial_text(
    lm, practice, run, setting, fault, kind, text, keepalive, monkeypatch
):
    for module in (
        call,
        running,
    ):  # a stream does not wait for its program, and tells no cause then
        monkeypatch.setattr(module, "grace", lambda limit: BOUND)
    if keepalive is not None:
        fault = Fault(stall_after=fault.stall_after, keepalive=keepalive)
    for limit in LIMITS_S:
        script_anew(practice, Reply(WHOLE, fault=fault, packets=True))
        outcome = run(StreamConfig(**{setting: limit}))
        if outcome.text == text and practice.requests:
            break
    error = outcome.error
    assert type(error) is kind
    assert isinstance(error, TimeoutError)
    assert isinstance(error, streamll.StreamllError)
    assert f"within {limit:g} s" in str(error)
    assert (f"{error.received} characters" if text else "nothing") in str(error)
    assert "".join(error.partial.values()) == text == outcome.text
    assert outcome.types[-1] == "run.error"
    (end,) = outcome.of("run.error")
    assert end.error_type in {kind.__name__, "LMTimeoutError"}
    practice.requests[0].wait_closed()
    assert len(practice.requests) == 1
    if kind is not TotalTimeout:
        assert type(error.__cause__).__name__ == "LMTimeoutError"


def test_except_timeout_error_catches_all_three(lm, practice):
    faults = [Fault(silent=True), Fault(stall_after=AFTER), Fault(stall_after=AFTER)]
    configs = [
        StreamConfig(first_token_timeout=0.1), StreamConfig(idle_timeout=0.1),
        StreamConfig(timeout=0.1),
    ]  # fmt: skip
    for config, fault in zip(configs, faults, strict=True):
        # Not scripted: a request that is too late for its own stream would take the next one's.
        practice.respond(lambda _, fault=fault: Reply(WHOLE, fault=fault))
        with pytest.raises(TimeoutError):
            with streamll.stream(dspy.Predict("question -> answer"), config=config)(
                question="?"
            ) as events:
                events.result()


@pytest.mark.parametrize("blocks", [False, True], ids=["waits", "blocks its event loop"])
def test_the_readers_own_delay_is_not_the_models_silence(practice, run, lm, blocks):
    def slowly(event):
        if event.event_type != "field.start":
            return None
        late = 2 * limit
        return asyncio.sleep(late) if run is run_async and not blocks else time.sleep(late)

    for limit in (1.0, 5.0, 25.0):  # what a busy machine keeps the model waiting counts as silence
        script_anew(practice, Reply(WHOLE, chunk=2))
        outcome = run(StreamConfig(buffer_size=1, idle_timeout=limit), on_event=slowly)
        if outcome.error is None:
            break
    assert outcome.error is None
    assert outcome.text == TEXT


def test_tokens_that_keep_coming_reset_the_idle_timeout(practice, run, lm):
    for limit in (1.0, 5.0, 25.0):  # all of it takes longer
        script_anew(practice, Reply(WHOLE, pace=0.15 * limit, packets=True))
        outcome = run(StreamConfig(first_token_timeout=60, idle_timeout=limit))
        if outcome.error is None:
            break
    assert outcome.text == TEXT


def test_retry_timeouts_retries_after_a_timeout(practice, run, lm):
    for limit in LIMITS_S:
        script_anew(
            practice, Reply(WHOLE, fault=Fault(stall_after=AFTER)), Fault(silent=True), WHOLE
        )
        config = StreamConfig(
            first_token_timeout=limit, idle_timeout=limit, retry_timeouts=True, retry_delay=0.01
        )
        outcome = run(config)
        reasons = [event.reason for event in outcome.of("lm.superseded")]
        as_scripted = len(practice.requests) == 3 and reasons[:1] == ["IdleTimeout"]
        if as_scripted and outcome.error is None:
            break
    assert outcome.text == TEXT
    assert reasons == ["IdleTimeout", "FirstTokenTimeout"]
    assert len(practice.requests) == 3


def test_time_between_attempts_counts_for_the_whole(practice, run, lm):
    for limit in LIMITS_S[1:]:
        script_anew(practice, *[Fault(status=500)] * 3)
        outcome = run(StreamConfig(timeout=limit, retry_delay=3600))
        if len(practice.requests) == 1 and outcome.of("lm.waiting"):
            break
    assert isinstance(outcome.error, TotalTimeout)
    assert len(practice.requests) == 1


def test_a_program_that_carries_on_after_errors_ends_all_the_same(practice, lm):
    practice.script(*[Reply(WHOLE, fault=Fault(stall_after=AFTER))] * 9)
    best = dspy.BestOfN(
        module=dspy.Predict("question -> answer"), N=5, threshold=2.0,
        reward_fn=lambda inputs, prediction: 0.0,
    )  # fmt: skip
    with pytest.raises(TotalTimeout):
        with streamll.stream(best, config=StreamConfig(timeout=0.5))(question="?") as events:
            events.result()
    assert len(practice.requests) <= 1  # none, where the machine takes that long to begin


class Tool(dspy.Module):
    """Blocks where nothing can be interrupted."""

    def __init__(self, go_on):
        super().__init__()
        self.go_on = go_on

    def forward(self, question):
        self.go_on.wait(60)
        return dspy.Prediction(answer="late")


class AsyncTool(dspy.Module):
    async def aforward(self, question):
        await asyncio.sleep(20)


def test_a_blocking_tool_does_not_hold_its_reader(lm, run):
    go_on = threading.Event()
    watch = Stopwatch()
    outcome = run(StreamConfig(timeout=0.2), program=Tool(go_on), fields=[])
    assert isinstance(outcome.error, TotalTimeout)
    assert watch.seconds < 3
    assert outcome.types[-1] == "run.error"
    go_on.set()


def test_an_async_tool_is_cancelled(lm):
    watch = Stopwatch()
    outcome = run_async(StreamConfig(timeout=0.2), program=AsyncTool(), fields=[])
    assert isinstance(outcome.error, TotalTimeout)
    assert watch.seconds < 3


def test_a_server_that_never_answers_the_connection(run):
    """Connecting cannot be interrupted in a thread: the stream ends without its program."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = []
        for _ in range(4):  # fill the backlog, so that the next connection hangs
            client = socket.socket()
            client.settimeout(0)
            client.connect_ex(address)
            waiting.append(client)
        lm = dspy.LM(
            "openai/x", api_base=f"http://127.0.0.1:{address[1]}/v1", api_key="k", cache=False
        )
        watch = Stopwatch()
        with dspy.context(lm=lm):
            outcome = run(StreamConfig(first_token_timeout=0.3))
        assert isinstance(outcome.error, FirstTokenTimeout)
        assert watch.seconds < 3
        for client in waiting:
            client.close()


@pytest.mark.parametrize("wire", ["openai", "responses", "anthropic"])
@pytest.mark.parametrize("engine", ["lm15", "litellm"])
def test_every_wire_and_engine(run, wire, engine):
    with PracticeServer() as practice:
        with dspy.context(lm=practice.lm(wire, engine=engine), adapter=dspy.ChatAdapter()):
            run(None)  # the first use of an engine loads it
            practice.requests.clear()
            practice.respond(lambda request: Fault(silent=True))
            for limit in LIMITS_S:
                outcome = run(StreamConfig(first_token_timeout=limit))
                assert isinstance(outcome.error, FirstTokenTimeout)
                if practice.requests:
                    break
            practice.requests[0].wait_closed()
            if (wire, engine) != ("responses", "litellm"):
                practice.requests.clear()
                practice.respond(lambda request: Reply(WHOLE, fault=Fault(stall_after=AFTER)))
                outcome = run(StreamConfig(idle_timeout=0.3))
                assert isinstance(outcome.error, IdleTimeout)
                assert outcome.error.received > 0
                practice.requests[0].wait_closed()


def test_all_timeouts_share_one_timer_thread(practice, lm, new_threads):
    practice.pace = 0.01

    async def main():
        config = StreamConfig(timeout=30, first_token_timeout=30, idle_timeout=30)
        streams = [streamll.stream(AsyncQA(), config=config)(question="?") for _ in range(20)]
        entered = [await stream.__aenter__() for stream in streams]
        for events in entered:
            await events.__anext__()
        # Another test's may serve these, too, or be about to end, with one of their own in its place.
        timers = new_threads("streamll timers")
        others = [thread for thread in new_threads("streamll") if thread not in timers]
        for stream in streams:
            await stream.__aexit__(None, None, None)
        return timers, others

    timers, others = asyncio.run(main())
    assert len(timers) <= 1
    assert others == []


class Streamified(dspy.Module):
    """DSPy itself streams inside: its attempts stand, the timeouts hold."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question):
        last = None
        async for item in dspy.streamify(self.predict, is_async_program=True)(question=question):
            last = item
        return last


@pytest.mark.parametrize(
    ("setting", "fault", "kind"),
    [
        ("first_token_timeout", Fault(silent=True), FirstTokenTimeout),
        ("idle_timeout", Fault(stall_after=AFTER), IdleTimeout),
        ("timeout", Fault(stall_after=AFTER), TotalTimeout),
    ],
    ids=["first token", "idle", "total"],
)
def test_timeouts_hold_where_dspy_itself_streams(lm, practice, setting, fault, kind):
    practice.respond(lambda request: Reply(WHOLE, fault=fault))  # also to one that comes too late
    for limit in LIMITS_S:
        outcome = run_async(StreamConfig(**{setting: limit}), program=Streamified())
        assert type(outcome.error) is kind
        if practice.requests:
            break
    practice.requests[0].wait_closed()


def test_a_streamified_program_inside_ends_well(lm, practice):
    practice.script(WHOLE)
    outcome = run_async(StreamConfig(first_token_timeout=30, idle_timeout=30), Streamified())
    assert outcome.error is None
    assert outcome.prediction.answer == TEXT


COLD = """
import asyncio, importlib.abc, sys, time
import dspy, streamll
from streamll.testing import PracticeServer

class SlowDisk(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "litellm.main":
            time.sleep(limit + 2)

limit = float(sys.argv[2])
assert "litellm" not in sys.modules
sys.meta_path.insert(0, SlowDisk())

class QA(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question):
        return await self.predict.acall(question=question)

async def main(streaming):
    async with streaming(question="?") as events:
        return [event async for event in events]

with PracticeServer() as server:
    server.script({"answer": "Paris is nice"})
    dspy.configure(lm=server.lm(engine="litellm"))
    config = streamll.StreamConfig(first_token_timeout=limit, max_retries=0)
    program = QA() if sys.argv[1] == "async" else dspy.Predict("question -> answer")
    streaming = streamll.stream(program, config=config)
    if sys.argv[1] == "async":
        events = asyncio.run(main(streaming))
    else:
        with streaming(question="?") as reading:
            events = list(reading)
    assert "litellm.main" in sys.modules
    [end] = [event for event in events if event.event_type == "lm.end"]
    assert end.error_type is None
    assert 0 < end.time_to_first_token < limit + 2 < events[-1].duration
"""


@pytest.mark.parametrize("way", ["sync", "async"] if THOROUGH else ["async"])
def test_importing_litellm_is_not_the_models_silence(way):
    """X8: time starts when the request leaves."""
    for limit in ("10", "50"):  # what a busy machine keeps the model waiting counts as silence
        command = [sys.executable, "-c", COLD, way, limit]
        done = warm.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
