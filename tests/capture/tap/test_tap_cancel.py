"""X7: a cancelled call ends at its next chunk or request, and out of a blocked read."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import dspy
import pytest
from dspy.clients import execution
from patience import Stopwatch
from scenarios import TEXT
from tapping import Notes, tapped

from streamll.capture.tap import interrupt
from streamll.capture.tap.listener import Guarded
from streamll.core.errors import Unwind
from streamll.testing import Fault, Reply

pytestmark = pytest.mark.since_3_4

SOON = 0.1  # seconds, between cancelling and the provider's noticing
TRIES = 5
"""A machine may hold a process up without its counting as such; what is slow by itself always is."""
ROUTES = [
    ("openai", "lm15"),
    ("anthropic", "lm15"),
    ("openai", "litellm"),
    ("anthropic", "litellm"),
]
every_route = pytest.mark.parametrize(("wire", "engine"), ROUTES)
LONG = Reply(TEXT * 20, packets=True, hold_after=range(1, 40))
"""Goes on when it is told to."""


@pytest.fixture(autouse=True)
def no_retry_waits(monkeypatch):
    monkeypatch.setattr(execution, "_delay", lambda *_: 0)


class InThread:
    """A call in a thread of its own; ``raised`` is what came out of it."""

    def __init__(self, call) -> None:
        self.raised: BaseException | None = None
        self.thread = threading.Thread(target=contextvars.copy_context().run, args=(self.run, call))
        self.thread.start()

    def run(self, call) -> None:
        try:
            call()
        except BaseException as error:
            self.raised = error

    def join(self) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive()


def stop_after(count, practice):
    """A listener that is cancelled, by itself, when it has heard so many pieces.

    With each of them the next one is sent, so that all of them come one by one.
    """

    class Stopping(Notes):
        def hear(self, delta) -> None:
            super().hear(delta)
            self.cancelled = len(self.texts) >= count
            practice.requests[-1].release()

    return Stopping


@every_route
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_cancelled_call_reads_at_most_one_more_chunk(practice, wire, engine, asynchronous):
    practice.script(LONG)
    lm = practice.lm(wire, engine=engine, num_retries=3)
    with tapped(stop_after(3, practice)) as listeners, pytest.raises(Unwind):
        if asynchronous:
            asyncio.run(lm.acall("Hi"))
        else:
            lm("Hi")
    (request,) = practice.requests
    request.wait_closed()
    assert request.finished_at is None
    (notes,) = listeners
    assert 3 <= len(notes.texts) <= 4
    assert [type(failure) for failure in notes.failures] == [Unwind]
    assert not lm.history


@every_route
def test_a_cancelled_call_sends_nothing(practice, wire, engine):
    class Cancelled(Notes):
        def __init__(self):
            super().__init__()
            self.cancelled = True

    with tapped(Cancelled), pytest.raises(Unwind):
        practice.lm(wire, engine=engine)("Hi")
    assert practice.requests == []


@every_route
@pytest.mark.parametrize(
    "fault",
    [Fault(silent=True), Fault(stall_after=2), Fault(keepalive=0.01), Fault(stall_after=0)],
    ids=["before the head", "in the middle", "keep-alives", "before the first chunk"],
)
def test_a_blocked_read_ends_from_another_thread(practice, wire, engine, fault):
    """A provider that has fallen silent keeps nobody: not retried, closed at once."""
    lm = practice.lm(wire, engine=engine, num_retries=3)

    def took() -> float:
        practice.requests.clear()
        practice.script(Reply(TEXT, fault=fault))
        with tapped() as listeners:
            running = InThread(lambda: lm("Hi"))
            (request,) = practice.wait_for_requests(1)
            request.wait_held()
            began = Stopwatch()
            listeners[0].cancel()
            running.join()
            ended = request.wait_closed()
        assert isinstance(running.raised, Unwind)
        assert len(practice.requests) == 1
        return began.until(ended)

    assert any(took() < SOON for _ in range(TRIES))


@pytest.mark.parametrize("wire", ["openai", "responses", "anthropic"])
@pytest.mark.parametrize("how", ["the line", "the task"])
def test_an_awaited_read_ends(practice, wire, how):
    lm = practice.lm(wire, num_retries=3)

    async def main(listeners):
        task = asyncio.ensure_future(lm.acall("Hi"))
        await asyncio.to_thread(lambda: practice.wait_for_requests(1)[0].wait_held())
        began = Stopwatch()
        if how == "the line":
            listeners[0].cancel()
        else:
            task.cancel()
        with pytest.raises((Unwind, asyncio.CancelledError)):
            await task
        return began

    def took() -> float:
        practice.requests.clear()
        practice.script(Reply(TEXT, fault=Fault(stall_after=2)))
        with tapped() as listeners:
            began = asyncio.run(asyncio.wait_for(main(listeners), 60))
        ended = practice.requests[0].wait_closed()
        assert len(practice.requests) == 1
        assert len(listeners[0].failures) == 1
        return began.until(ended)

    assert any(took() < SOON for _ in range(TRIES))


def test_an_awaited_litellm_call_ends_with_its_task(practice):
    lm = practice.lm(engine="litellm", num_retries=3)

    async def main():
        task = asyncio.ensure_future(lm.acall("Hi"))
        await asyncio.to_thread(lambda: practice.wait_for_requests(1)[0].wait_held())
        began = Stopwatch()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return began

    def took() -> float:
        practice.requests.clear()
        practice.script(Reply(TEXT, fault=Fault(stall_after=2)))
        with tapped() as listeners:
            began = asyncio.run(asyncio.wait_for(main(), 60))
        assert len(listeners[0].failures) == 1
        return began.until(practice.requests[0].wait_closed())

    assert any(took() < SOON for _ in range(TRIES))


@pytest.mark.parametrize("streaming", [True, False])
def test_a_call_that_is_not_streamed_ends_too(practice, streaming):
    practice.script(Reply(TEXT, fault=Fault(silent=True)))
    lm = practice.lm(num_retries=3)
    with tapped(lambda: Notes(streaming=streaming)) as listeners:
        running = InThread(lambda: lm("Hi"))
        practice.wait_for_requests(1)[0].wait_held()
        listeners[0].cancel()
        running.join()
    assert isinstance(running.raised, Unwind)


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
def test_a_line_is_cut_when_its_call_is_over(practice, engine):
    """The connection serves the next call; an interruption that comes late ends nobody's read."""

    class Late(Notes):
        def connected(self, shutdown):
            super().connected(shutdown)
            self.kept = shutdown

    practice.script(TEXT, Reply(TEXT, hold_after=2))
    lm = practice.lm(engine=engine, num_retries=0)
    with tapped(Late) as listeners:
        lm("Hi")
        running = InThread(lambda: lm("Hi"))
        second = practice.wait_for_requests(2)[1]
        second.wait_held()
        listeners[0].kept()
        second.release()
        running.join()
    assert running.raised is None
    assert listeners[0].shutdown is None


def test_a_read_can_only_be_ended_before_its_interrupt_is_disarmed():
    ended = []
    notes = Notes()
    inside = interrupt.InterruptScope(Guarded(notes))
    with inside:
        end = interrupt._current.get().connected(lambda: ended.append(1))
        notes.shutdown()
        inside.disconnected()
        end()
    assert ended == [1]
    assert interrupt._current.get() is None


def test_a_cancellation_before_the_connection_is_not_forgotten(practice):
    """Between begin and connected nobody could be told; then nothing is sent."""

    class Early(Notes):
        def connected(self, shutdown):
            self.cancelled = True

    with tapped(Early), pytest.raises(Unwind):
        practice.lm(num_retries=3)("Hi")
    assert practice.requests == []


def test_waiting_for_a_connection_is_announced(practice):
    """lm15 allows so many connections per LM; the next call waits, and says so."""
    practice.script(Reply(TEXT, hold_after=1), TEXT)
    lm = practice.lm()
    lm_engine = execution._select_engine(
        lm, execution.prepare(lm, "Hi", None, {}), asynchronous=False
    )[0]
    provider, _ = lm_engine._target(
        dspy.lm15.Request(model=lm.model, messages=(dspy.lm15.Message.user("Hi"),))
    )
    pool = provider.transport._pool
    pool._slot = threading.Semaphore(1)
    with tapped() as listeners:
        first = InThread(lambda: lm("Hi"))
        (request,) = practice.wait_for_requests(1)
        request.wait_held()
        second = InThread(lambda: lm("Hi"))
        deadline = time.monotonic() + 60
        while len(listeners) < 2 or not listeners[1].of("waiting"):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        request.release()
        first.join()
        second.join()
    assert listeners[0].of("waiting") == []
    assert listeners[1].of("waiting") == ["connection"]
    assert listeners[1].text_so_far == TEXT
