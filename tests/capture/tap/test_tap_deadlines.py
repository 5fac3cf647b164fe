"""An async read's time limit inside a captured call: as lm15's own, without its task."""

from __future__ import annotations

import asyncio
import sys

import dspy
import pytest
from dspy.clients import execution
from scenarios import TEXT
from tapping import Notes, tapped

from streamll.testing import Fault, Reply

pytestmark = pytest.mark.since_3_4

SLOWLY = Reply(TEXT, packets=True, pace=0.002)
STALLED = Reply(TEXT, packets=True, fault=Fault(stall_after=3))


@pytest.fixture(autouse=True)
def no_retry_waits(monkeypatch):
    monkeypatch.setattr(execution, "_delay", lambda *_: 0)


def tasks_made(lm) -> int:
    """How many tasks one call makes besides its own."""
    made = []

    def counting(loop, coroutine, **options):
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(counting)
        await lm.acall("Hi")

    asyncio.run(main())
    return len(made)


def test_a_read_has_no_task_of_its_own(practice):
    practice.script(SLOWLY)
    with tapped() as listeners:
        made = tasks_made(practice.lm())
    (notes,) = listeners
    assert notes.text_so_far == TEXT
    reads = len(notes.of("text"))
    assert reads > 10
    if sys.version_info >= (3, 11):
        assert made < reads / 2


def error_of(lm) -> BaseException:
    async def main() -> BaseException:
        with pytest.raises(dspy.LMError) as raised:
            await lm.acall("Hi")
        await asyncio.sleep(
            0
        )  # the connection that lm15 has given up closes in the loop's next turn
        return raised.value

    return asyncio.run(main())


@pytest.mark.parametrize("fault", [Fault(silent=True), Fault(stall_after=3)])
def test_a_read_that_lasts_too_long_ends_as_it_does_uncaptured(practice, fault):
    lm = practice.lm(num_retries=0, timeout=0.3)
    practice.script(*[Reply(TEXT, packets=True, fault=fault)] * 2)
    uncaptured = error_of(lm)
    with tapped() as listeners:
        captured = error_of(lm)
    assert type(captured) is type(uncaptured)
    assert "timed out" in str(captured)
    assert listeners[0].failures
    for request in practice.requests:
        request.wait_closed()


def test_cancelling_the_caller_ends_the_read(practice):
    """The caller's own cancellation comes back as that, and the connection is closed."""
    practice.script(STALLED)

    class Telling(Notes):
        def hear(self, delta) -> None:
            super().hear(delta)
            if len(self.texts) == 3:
                came.set()

    async def main() -> None:
        nonlocal came
        came = asyncio.Event()
        call = asyncio.create_task(practice.lm().acall("Hi"))
        await asyncio.wait_for(came.wait(), 60)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()

    came: asyncio.Event
    with tapped(Telling):
        asyncio.run(main())
    (request,) = practice.requests
    request.wait_closed()


def test_outside_a_captured_call_lm15_waits_its_own_way(practice, monkeypatch):
    from dspy._vendor.lm15.transports import _async

    theirs, awaited = _async.wait_for, []

    async def counting(awaitable, timeout, **more):
        awaited.append(timeout)
        return await theirs(awaitable, timeout, **more)

    monkeypatch.setattr(_async, "wait_for", counting)
    lm = practice.lm()
    with tapped():
        assert (_async.wait_for is not counting) == (sys.version_info >= (3, 11))
        asyncio.run(_uncaptured(lm))
    assert len(awaited) > 1
    assert _async.wait_for is counting


async def _uncaptured(lm) -> None:
    """A call of the engine itself, around DSPy and so around the tap."""
    from dspy.lm15 import AsyncLMRouter, Message, Request, RouterConfig

    url = lm.kwargs["api_base"]
    config = RouterConfig(api_keys={"openai-chat": "none"}, base_urls={"openai-chat": url})
    request = Request(model="openai-chat:practice", messages=(Message.user("Hi"),))
    await AsyncLMRouter(config).complete(request)
