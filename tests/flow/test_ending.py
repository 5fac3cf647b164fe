"""A task ends though its first cancellation is lost, as ``asyncio.wait_for`` may lose it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from streamll.flow import ending

BOUND = 60


async def deaf(calls: list[str]) -> None:
    """Goes on after one cancellation."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    calls.append("lost")
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(ending, "AGAIN_S", 0.01)


def test_tasks_are_cancelled_until_they_have_ended():
    async def main() -> None:
        calls: list[str] = []
        done = asyncio.ensure_future(asyncio.sleep(0))
        tasks = [done, *(asyncio.ensure_future(deaf(calls)) for _ in range(2))]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(ending.end(*tasks), BOUND)
        assert [task.cancelled() for task in tasks] == [False, True, True]
        assert calls == ["lost", "lost"]

    asyncio.run(main())


def test_an_event_loop_ends_though_it_cancels_but_once():
    """As the loop of a server does with what its routes have begun."""
    calls: list[str] = []

    async def main() -> None:
        main.kept = asyncio.ensure_future(ending.endable(deaf(calls)))
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert calls == ["lost"]


def test_the_error_of_endable_work_is_raised():
    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ending.endable(fails()))
